"""The recipe of the demonstration checkpoint computes what the exported network computes."""

from __future__ import annotations

import torch

from benchmarks.demo import batch
from benchmarks.demo.muon import Muon, orthogonalise
from swiftvr_trt.export.reae import Reae

from ..mini import NARROW


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


def test_a_step_is_nearly_orthogonal_and_quiet_along_the_mean() -> None:
    torch.manual_seed(3)
    steep = torch.randn(6, 20) * torch.logspace(0, -2, 6)[:, None]
    values = torch.linalg.svdvals(orthogonalise(steep))
    assert 0.3 < float(values.min()) <= float(values.max()) < 1.3
    kernel = torch.nn.Parameter(torch.zeros(4, 5, 3, 3))
    muon = Muon([kernel], lr=1.0)
    muon.means = {kernel: torch.ones(5)}
    kernel.grad = torch.randn(4, 5, 3, 3)
    muon.step()
    along = kernel.detach().flatten(1).sum(1) / 45**0.5
    assert float(along.norm()) < 0.2 < float(kernel.detach().norm())
