"""The recipe of the demonstration checkpoint computes what the exported network computes, and starts where it says."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.demo import batch, outer
from benchmarks.demo.batch import LAG
from benchmarks.demo.init import initialise
from benchmarks.demo.layout import frozen
from benchmarks.demo.model import Model
from benchmarks.demo.muon import Muon, orthogonalise
from swiftvr_trt.export.reae import Reae

from ..mini import NARROW

_CLIPS, _FRAMES, _SIDE = 4, 8, 64


def test_a_batch_of_clips_is_each_clip_alone() -> None:
    torch.manual_seed(3)
    reae = Reae(NARROW).double()
    frames = torch.rand(16, 3, 32, 64, dtype=torch.float64)
    latents = batch.encode(reae, frames, 2)
    shown = batch.decode(reae, latents, 2)
    for clip in range(2):
        alone, _ = reae.encoder(frames[8 * clip : 8 * clip + 8], reae.encoder.initial_state(2, 4))
        torch.testing.assert_close(latents[2 * clip : 2 * clip + 2], alone, rtol=0, atol=1e-12)
        restored, _ = reae.decoder(alone, reae.decoder.initial_state(2, 4))
        torch.testing.assert_close(shown[8 * clip : 8 * clip + 8].clamp(0, 1), restored, rtol=0, atol=1e-12)


def test_a_step_is_nearly_orthogonal_and_in_proportion() -> None:
    torch.manual_seed(3)
    steep = torch.randn(6, 20) * torch.logspace(0, -2, 6)[:, None]
    values = torch.linalg.svdvals(orthogonalise(steep))
    assert 0.3 < float(values.min()) <= float(values.max()) < 1.3
    moved = []
    for scale, size in ((0.5, 7.0), (None, 7.0), (None, 14.0)):
        before = size * torch.ones(4, 5, 3, 3)
        kernel = torch.nn.Parameter(before.clone())
        muon = Muon([{"params": [kernel], "scale": scale}], lr=0.01)
        kernel.grad = torch.randn(4, 5, 3, 3, generator=torch.Generator().manual_seed(1))
        muon.step()
        moved.append(float((kernel.detach() - before).norm()))
    assert 0.5 < moved[0] / (0.01 * 0.5 * 4**0.5) < 1.3
    assert moved[2] == pytest.approx(2 * moved[1], rel=1e-3)


@pytest.fixture(scope="module")
def frames() -> Tensor:
    """Clean pictures [clips * T, 3, H, W] that drift: smooth noise, mostly grey, another for every clip."""
    random = torch.Generator().manual_seed(5)
    grey, colour = torch.rand(_CLIPS, 1, 24, 24, generator=random), torch.rand(_CLIPS, 3, 6, 6, generator=random)
    wide = 0.7 * F.interpolate(grey, 96, mode="bicubic") + 0.3 * F.interpolate(colour, 96, mode="bicubic")
    cut = [wide[:, :, t : t + _SIDE, 2 * t : 2 * t + _SIDE] for t in range(_FRAMES)]
    return torch.stack(cut, 1).flatten(0, 1)


@pytest.fixture(scope="module")
def enlarged(frames: Tensor) -> Tensor:
    return F.interpolate(F.avg_pool2d(frames, 2), scale_factor=2, mode="bilinear", align_corners=False)


@pytest.fixture(scope="module")
def started(frames: Tensor, enlarged: Tensor) -> Model:
    torch.manual_seed(4)
    model = Model()
    initialise(model.reae, model.dit, enlarged, frames, _CLIPS)
    return model


@torch.no_grad()
def _whole(model: Model, damaged: Tensor) -> Tensor:
    latents = batch.encode(model.reae, damaged, _CLIPS)
    latents = batch.restore(model.dit, latents, model.get_buffer("prompt"), _CLIPS, [_FRAMES // 4])
    return _shown(batch.decode(model.reae, latents, _CLIPS))


def _shown(frames: Tensor) -> Tensor:
    return frames.view(_CLIPS, _FRAMES, 3, _SIDE, _SIDE)[:, LAG:]


def _psnr(shown: Tensor, frames: Tensor) -> Tensor:
    clean = frames.view(_CLIPS, _FRAMES, 3, _SIDE, _SIDE)[:, :-LAG]
    return -10 * torch.log10((shown - clean).square().mean((2, 3, 4)))


def test_the_start_passes_the_picture_through_and_is_right_from_the_first_frame(
    started: Model, frames: Tensor, enlarged: Tensor
) -> None:
    ours = _psnr(_whole(started, enlarged), frames)
    plain = _psnr(enlarged.view(_CLIPS, _FRAMES, 3, _SIDE, _SIDE)[:, :-LAG], frames)
    assert ours.shape == plain.shape
    assert float((ours - plain).min()) > -1.0, (ours, plain)


def test_without_the_transformer_there_is_no_picture(started: Model, frames: Tensor, enlarged: Tensor) -> None:
    bare = Model()
    bare.load_state_dict(started.state_dict())
    torch.nn.init.zeros_(bare.dit.proj_out.bias)
    assert float((_psnr(_whole(started, enlarged), frames) - _psnr(_whole(bare, enlarged), frames)).mean()) > 5


def test_the_outer_levels_alone_are_the_whole_network(started: Model, enlarged: Tensor) -> None:
    centred = outer.Centred(started.reae, enlarged)
    through = outer.bottleneck(started.reae)
    centred.fold(started.reae, 1)
    with torch.no_grad():
        alone = _shown(outer.restore(started.reae, enlarged, _CLIPS, centred, through))
    centred.fold(started.reae, -1)
    difference = (alone - _whole(started, enlarged)).abs()
    assert float(difference[:, 1:].max()) < 0.02  # tanh on the latents is all that lies between
    assert float(difference.square().mean().sqrt()) < 0.002


def test_what_learns_does_not_touch_what_copies(started: Model, enlarged: Tensor) -> None:
    """All that may learn inside the branches is shaken; what the branches add is still nothing."""
    shaken = Model()
    shaken.load_state_dict(started.state_dict())
    masks = frozen(shaken.reae)
    with torch.no_grad():
        for name, parameter in shaken.reae.named_parameters():
            if ".conv.0." in name or ".conv.2." in name:
                parameter.add_(masks[parameter] * torch.randn_like(parameter))
    torch.testing.assert_close(_whole(shaken, enlarged), _whole(started, enlarged), rtol=0, atol=1e-5)
