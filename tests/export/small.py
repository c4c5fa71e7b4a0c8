"""Networks small enough to compute by hand or by a slow loop: float64, random weights that depend on torch's seed."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor, nn

from swiftvr_trt import Resolution
from swiftvr_trt.export.network.dit import Dit, DitConfig
from swiftvr_trt.export.network.reae import ReaeConfig

DIT = DitConfig(
    heads=3,
    head_dim=12,
    layers=3,
    ffn_dim=40,
    latent_channels=5,
    text_dim=7,
    freq_dim=16,
    eps=1e-6,
    window=(4, 4),
)
REAE = ReaeConfig(latent_channels=5, encoder=(6, 7, 8, 9), decoder=(12, 10, 8, 6))
# Token grids (32x32 pixels each): windows that overlap in both axes, in one, in none; a grid smaller than a window.
GRIDS = [Resolution(32 * columns, 32 * rows) for columns, rows in ((6, 7), (9, 4), (8, 8), (3, 2), (13, 5))]
RELATIVE = 1e-9


def small_dit(layers: int = 3) -> Dit:
    dit = Dit(replace(DIT, layers=layers)).double()
    for parameter in dit.parameters():
        nn.init.normal_(parameter, std=0.3)
    return dit.eval()


def small_prompt(distinct: int, rows: int = 9) -> Tensor:
    """[rows, text_dim] with `distinct` different rows; the last one fills up, as padding does."""
    prompt = torch.zeros(rows, DIT.text_dim, dtype=torch.float64)
    prompt[: distinct - 1] = torch.randn(distinct - 1, DIT.text_dim, dtype=torch.float64)
    return prompt


def assert_same(ours: Tensor, theirs: Tensor) -> None:
    """Equal up to rounding in float64."""
    assert ours.shape == theirs.shape
    assert float((ours - theirs).abs().max()) <= RELATIVE * float(theirs.abs().max())
