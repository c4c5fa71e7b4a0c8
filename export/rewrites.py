"""Exact rewrites: the same function, cheaper. Each is a small pure function with a proof in `docs/rewrites.md` and a
float64 test; `stages.py` applies them.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from .reae import Decoder, TGrow

# Row t holds, for tap t of a transposed convolution (kernel 4, stride 2, padding 1), the taps of a 3-tap convolution
# that reach the same input pixel when they are applied after nearest upsampling by 2.
_NEAREST_X2 = ((0, 0, 1), (0, 1, 1), (1, 1, 0), (1, 0, 0))


def grow_kernel(grow: Sequence[Tensor], convolution: Tensor) -> Tensor:
    """Nearest upsampling x2, TGrow, and a 3x3 convolution as one transposed convolution (rewrite 6).

    grow: TGrow's 1x1 kernels [M, C, 1, 1], one per frame that comes out. convolution: [O, M, 3, 3].
    Returns the kernel [C, frames * O, 4, 4] of a transposed convolution with stride 2 and padding 1; its output
    channels are the frames in order, O channels each.
    """
    spread = convolution.new_tensor(_NEAREST_X2)
    kernels = [torch.einsum("omyx,mc,ty,ux->cotu", convolution, tap[:, :, 0, 0], spread, spread) for tap in grow]
    return torch.cat(kernels, dim=1)


class Grow(nn.Module):
    """One level's upsampling: x [T, C, h, w] -> [frames * T, O, 2h, 2w]."""

    @torch.no_grad()
    def __init__(self, grow: TGrow, convolution: nn.Conv2d) -> None:
        super().__init__()
        self.channels = convolution.out_channels
        self.kernel = nn.Buffer(grow_kernel(grow.taps(), convolution.weight))

    def forward(self, x: Tensor) -> Tensor:
        y = nn.functional.conv_transpose2d(x, self.kernel, stride=2, padding=1)
        return y.reshape(-1, self.channels, *y.shape[2:])


def fold_growth(decoder: Decoder) -> nn.ModuleList:
    """The decoder's layers with every {upsample, TGrow, convolution} replaced by one `Grow`."""
    layers, folded = list(decoder), nn.ModuleList()
    while layers:
        layer = layers.pop(0)
        if isinstance(layer, nn.Upsample):
            grow, convolution = layers.pop(0), layers.pop(0)
            if not (isinstance(grow, TGrow) and isinstance(convolution, nn.Conv2d)):
                raise TypeError("an upsampling is not followed by TGrow and a convolution")
            layer = Grow(grow, convolution)
        folded.append(layer)
    return folded
