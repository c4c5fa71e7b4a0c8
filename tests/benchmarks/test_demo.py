"""The training recipe of the demonstration checkpoint: it computes what the network computes, and starts at bicubic."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.demo import batch
from benchmarks.demo.batch import LAG
from benchmarks.demo.denoiser import Denoiser, picture, recover, signals
from benchmarks.demo.init import initialise
from benchmarks.demo.layout import COLOUR_LIFT, LUMA_LIFT
from benchmarks.demo.model import Model
from benchmarks.demo.start_encoder import most_worth_keeping
from benchmarks.demo.train import rate
from swiftvr_trt.export.network.reae import UNSHUFFLE, MemBlock, Reae
from tests.mini import NARROW

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


@pytest.fixture(scope="module")
def frames() -> Tensor:
    """Clean pictures [clips * T, 3, H, W] that drift: smooth noise, mostly grey, different in each clip."""
    random = torch.Generator().manual_seed(5)
    grey, colour = torch.rand(_CLIPS, 1, 24, 24, generator=random), torch.rand(_CLIPS, 3, 6, 6, generator=random)
    wide = 0.7 * F.interpolate(grey, 96, mode="bicubic") + 0.3 * F.interpolate(colour, 96, mode="bicubic")
    cut = [wide[:, :, t : t + _SIDE, 2 * t : 2 * t + _SIDE] for t in range(_FRAMES)]
    return torch.stack(cut, 1).flatten(0, 1)


@pytest.fixture(scope="module")
def enlarged(frames: Tensor) -> Tensor:
    return F.interpolate(F.avg_pool2d(frames, 2), scale_factor=2, mode="bilinear", align_corners=False)


@pytest.fixture(scope="module")
def silent(enlarged: Tensor) -> Denoiser:
    """A denoiser that corrects nothing yet."""
    torch.manual_seed(3)
    module = Denoiser()
    module.measure(enlarged, _CLIPS)
    return module


@pytest.fixture(scope="module")
def started(frames: Tensor, enlarged: Tensor, silent: Denoiser) -> Model:
    torch.manual_seed(4)
    model = Model()
    initialise(model.reae, model.dit, silent, enlarged, frames, _CLIPS)
    return model


@torch.no_grad()
def _whole(model: Model, damaged: Tensor) -> Tensor:
    latents = batch.encode(model.reae, damaged, _CLIPS)
    latents = batch.restore(model.dit, latents, model.get_buffer("prompt"), _CLIPS, [_FRAMES // 4])
    return _shown(batch.decode(model.reae, latents, _CLIPS))


def _shown(frames: Tensor) -> Tensor:
    return frames.view(_CLIPS, _FRAMES, 3, _SIDE, _SIDE)[:, LAG:]


def _clean(frames: Tensor) -> Tensor:
    return frames.view(_CLIPS, _FRAMES, 3, _SIDE, _SIDE)[:, :-LAG]


def _psnr(shown: Tensor, frames: Tensor) -> Tensor:
    return -10 * torch.log10((shown - _clean(frames)).square().mean((2, 3, 4)))


def test_initial_weights_pass_the_picture_through_from_the_first_frame(
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


@pytest.fixture(scope="module")
def loud(silent: Denoiser) -> Denoiser:
    """A denoiser that corrects something."""
    torch.manual_seed(6)
    module = Denoiser()
    module.load_state_dict(silent.state_dict())
    torch.nn.init.normal_(module.get_parameter("branches.2.4.weight"), 0, 0.05)
    return module


def test_the_installed_denoiser_corrects_as_it_does_alone(started: Model, loud: Denoiser, enlarged: Tensor) -> None:
    model = Model()
    model.load_state_dict(started.state_dict())
    loud.install(model.reae)
    given = recover(enlarged)
    with torch.no_grad():
        alone = loud(given, _CLIPS)
        x = F.pixel_unshuffle(enlarged, UNSHUFFLE)
        for layer in list(model.reae.encoder)[:7]:
            x = batch.memory(layer, x, _CLIPS) if isinstance(layer, MemBlock) else layer(x)
    lifts = torch.tensor(2 * ([LUMA_LIFT] * 4 + [COLOUR_LIFT] * 2))[:, None, None]
    late = torch.cat([part[[0, *range(len(part) - 1)]] for part in given.chunk(_CLIPS)])
    assert float((alone - late).square().mean().sqrt()) > 0.01
    torch.testing.assert_close(x[:, : len(lifts)], F.relu(alone + lifts), rtol=0, atol=1e-3)  # kernels are rounded


def test_a_denoiser_is_taken_from_a_network_as_it_was_installed(
    started: Model, loud: Denoiser, frames: Tensor, enlarged: Tensor
) -> None:
    model = Model()
    model.load_state_dict(started.state_dict())
    loud.install(model.reae)
    again = Denoiser()
    again.measure(frames, _CLIPS)  # another whitening
    again.take(model.reae)
    given = recover(enlarged)
    with torch.no_grad():
        torch.testing.assert_close(again(given, _CLIPS), loud(given, _CLIPS), rtol=0, atol=1e-3)  # kernels are rounded


def test_the_denoiser_is_trained_on_the_picture_that_the_network_shows(
    started: Model, frames: Tensor, enlarged: Tensor
) -> None:
    shown = _whole(started, enlarged)
    assert float((shown - _clean(frames)).square().mean()) > 0.01**2  # halving blurs
    meant = picture(recover(enlarged)).view(_CLIPS, _FRAMES, 3, _SIDE, _SIDE)[:, :-LAG]
    assert float((shown - meant)[..., 8:-8, 8:-8].square().mean()) < 0.005**2  # the latents lose a little


def test_signals_are_recovered_from_the_enlarged_picture(frames: Tensor, enlarged: Tensor) -> None:
    again, meant = recover(enlarged), signals(F.avg_pool2d(frames, 2))
    lumas = [0, 1, 2, 3, 6, 7, 8, 9]
    torch.testing.assert_close(again[:, lumas], meant[:, lumas], rtol=0, atol=1e-5)
    torch.testing.assert_close(again[:, :, 1:-1, 1:-1], meant[:, :, 1:-1, 1:-1], rtol=0, atol=1e-5)


def test_patches_are_white_in_their_strong_directions(silent: Denoiser, enlarged: Tensor) -> None:
    pairs = recover(enlarged)
    x = pairs - pairs.new_tensor(2 * ([0.45] * 4 + [0.0] * 2))[:, None, None]
    rows = F.unfold(torch.cat([x, batch.past(x, _CLIPS)], 1), 3).transpose(1, 2).flatten(0, 1)
    spread = torch.linalg.eigvalsh((rows.T @ rows / len(rows)).double())
    white = rows @ silent.get_buffer("whiten")
    values = torch.linalg.eigvalsh((white.T @ white / len(white)).double())
    loud = spread > 0.1 * spread.mean()
    assert float(values.max()) <= 1.001
    assert float(values[loud].min()) > 0.98


def _enlarged(x: Tensor, sharpen: tuple[float, float, float]) -> Tensor:
    """Bicubic enlargement of rows [..., W] whose first factor, (-1/8, 5/4, -1/8), is `sharpen` instead."""
    impulse = torch.eye(9)[4].view(1, 1, 1, 9)
    bicubic = F.interpolate(impulse, scale_factor=(1, 2), mode="bicubic").flatten()
    first = torch.tensor(
        [[-1 / 8, 0, 0], [5 / 4, -1 / 8, 0], [-1 / 8, 5 / 4, -1 / 8], [0, -1 / 8, 5 / 4], [0, 0, -1 / 8]]
    )
    second = [torch.linalg.lstsq(first, bicubic[[2 * (4 - k) + p for k in range(-2, 3)]][:, None])[0] for p in (0, 1)]
    rows = F.pad(x.reshape(-1, 1, x.shape[-1]), (2, 2), mode="replicate")
    sharp = F.conv1d(rows, torch.tensor(sharpen).view(1, 1, 3))
    shown = [F.conv1d(sharp, taps.view(1, 1, 3)) for taps in second]
    return torch.stack(shown, -1).reshape(*x.shape[:-1], -1)


def _both(x: Tensor, sharpen: tuple[float, float, float]) -> Tensor:
    return _enlarged(_enlarged(x, sharpen).mT, sharpen).mT


def test_initial_weights_enlarge_as_sharply_as_before_halving_up_to_the_border(started: Model, frames: Tensor) -> None:
    grey = frames.mean(1, keepdim=True).expand(-1, 3, -1, -1)  # colours are kept at half the size
    small = F.avg_pool2d(grey, 2)
    bicubic = F.interpolate(small, scale_factor=2, mode="bicubic", align_corners=False)
    torch.testing.assert_close(_both(small, (-1 / 8, 5 / 4, -1 / 8)), bicubic, rtol=0, atol=0.004)
    sharp = _both(small, (-5 / 32, 21 / 16, -5 / 32))
    assert float((sharp - grey).square().mean()) < float((bicubic - grey).square().mean())
    shown = _whole(started, F.interpolate(small, scale_factor=2, mode="bilinear", align_corners=False))
    error = (shown - sharp.view(_CLIPS, _FRAMES, 3, _SIDE, _SIDE)[:, :-LAG]).square()
    sides = (error[..., :2], error[..., -2:], error[..., :2, :], error[..., -2:, :])
    assert float(error[..., 8:-8, 8:-8].mean()) < 0.002**2  # the product is not quite bicubic
    assert max(float(side.mean()) for side in sides) < 0.005**2


def test_directions_are_chosen_by_the_loss_in_decibels() -> None:
    random = torch.Generator().manual_seed(7)
    loud, calm = (size * torch.randn(300, 88, generator=random) for size in (1.0, 0.02))
    loud[:, :40], calm[:, 48:] = 0, 0  # neither moves where the other does, and 68 of 88 directions are kept
    rows = torch.stack([loud, calm])
    kept = most_worth_keeping(rows.transpose(1, 2) @ rows / 300)
    torch.testing.assert_close(kept.T @ kept, torch.eye(kept.shape[1]), rtol=0, atol=1e-4)
    principal = torch.linalg.eigh(rows.flatten(0, 1).T @ rows.flatten(0, 1))[1][:, -kept.shape[1] :]
    lost = [(rows - rows @ v @ v.T).square().view(2, 300, 4, 22).sum(3).mean(1) for v in (kept, principal)]
    ours, theirs = (10 * torch.log10(part + 3.2e-4).mean() for part in lost)
    assert float(ours) < float(theirs) - 0.5


def test_the_rate_rises_and_falls_in_every_round() -> None:
    rounds = ((1000, 1e-3), (400, 5e-4))
    rates = [rate(step, rounds) for step in range(1401)]
    assert rates[0] == pytest.approx(1e-5)
    assert rates[100:500] == [1e-3] * 400
    assert rates[999] == pytest.approx(1e-3 / 450)
    assert rates[1100:1200] == [5e-4] * 100
    assert max(rates[1000:]) == 5e-4
    assert rates[1400] == 0
