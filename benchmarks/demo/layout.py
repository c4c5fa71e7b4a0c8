"""Which channel of the demonstration network holds what."""

from __future__ import annotations

import torch
from torch import Tensor, nn

KEPT = 68
"""Components kept of the 88 signals of a place at an eighth of the size."""
LUMA_LIFT = 0.25
COLOUR_LIFT = 0.75
"""Added to signals that may be negative, because features (after a ReLU) cannot be."""
OVERSHOOT = 0.375
"""Added to lumas as well where they are sharpened for the last convolution."""
COLOUR_WEIGHT = 4.3
"""Weight of a colour's squared error against a luma's: a colour serves four pixels and counts 1.07 times as much in
red, green and blue. At an eighth of the size it is a mean of four and serves sixteen pixels, so the weight is equal."""
FRAME = 6
"""Signals of a frame at a quarter of the size: 4 lumas, 2 colours."""
PAIR = 2 * FRAME
LARGE_FRAME = 22
"""Signals of a frame at an eighth of the size: 16 lumas, then for each colour its mean and two slopes."""
PIXELS = 16 + 3
"""Channels before the last convolution: a gated luma for each of sixteen pixels, two colours, a constant one."""
SIDES = ((1, False), (1, True), (0, False), (0, True))
"""Left, right, top, bottom: the axis, and whether it is the far side."""
BORDER = 4 + 2 + 1
"""Channels that are open only along one side of the picture: the lumas there, two colours, a constant one."""
SHOWN = PIXELS + len(SIDES) * BORDER
"""All of these channels."""
STRONGEST = 0.5
"""Standard deviation of the strongest component, among the features at a sixteenth of the size."""
BICUBIC = (-1 / 8, 5 / 4, -1 / 8)
"""Bicubic enlargement needs five small pixels in a row, but the last convolution sees three. So it is split into this
filter, along both axes, and one over three pixels."""
SHARPEN = (-5 / 32, 21 / 16, -5 / 32)
"""The filter of the convolution before the last: `BICUBIC` and a little sharper. A pixel of a halved picture is the
mean of two in a row, a blur of variance 1/16 (in halved pixels). This filter's variance is smaller than `BICUBIC`'s by
just that, so the enlarged picture is as sharp as the original was before halving (to second order)."""
AXES = (0, 1)
MIX = torch.tensor([[0.299, 0.587, 0.114], [-0.25, -0.25, 0.5], [0.5, -0.4, -0.1]])
"""Red, green and blue to luma and two colour differences."""
SLOPES = torch.tensor([[0.25] * 4, [0.25, -0.25, 0.25, -0.25], [0.25, 0.25, -0.25, -0.25]])
"""[3, 4]: mean and slopes of four neighbours (row by row)."""


def kernel_of(layer: nn.Module) -> Tensor:
    """The weight of a layer that has one."""
    return layer.get_parameter("weight")


def bias_of(layer: nn.Module) -> Tensor:
    """The bias of a layer that has one."""
    return layer.get_parameter("bias")


def convolutions(block: nn.Module) -> tuple[nn.Conv2d, nn.Conv2d, nn.Conv2d]:
    """The three convolutions of a MemBlock, or of a branch of the denoiser."""
    first, second, last = (module for module in block.modules() if isinstance(module, nn.Conv2d))
    return first, second, last


def as_stored(x: Tensor) -> Tensor:
    """Rounded to F16 as in the checkpoint. Sums that cancel large offsets must use the rounded numbers."""
    return x.half().to(x)


def rows_of(x: Tensor) -> Tensor:
    """[N, C, h, w] -> [N * h * w, C]."""
    return x.permute(0, 2, 3, 1).flatten(0, 2)


def least_squares(rows: Tensor, wanted: Tensor, doubt: float) -> Tensor:
    """Regularised least squares, [n, a], [n, b] -> [a, b]: as if rows had noise of `doubt` times their variance."""
    spread = doubt * len(rows) * rows.var(0).mean()
    exact = rows.double()
    gram = exact.T @ exact + spread.double() * torch.eye(rows.shape[1], dtype=torch.float64)
    solution: Tensor = torch.linalg.solve(gram, exact.T @ wanted.double())
    return solution.float()
