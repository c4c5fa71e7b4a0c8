"""Exact rewrites: the same function, cheaper. Each is a small pure function of weights, with a proof in
`docs/rewrites.md` and a float64 test; `stages.py` applies them, `Rewrites` switches each on or off.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor, nn

from ..errors import MisuseError
from .reae import Decoder, TGrow

# Row t holds, for tap t of a transposed convolution (kernel 4, stride 2, padding 1), the taps of a 3-tap convolution
# that reach the same input pixel when they are applied after nearest upsampling by 2.
_NEAREST_X2 = ((0, 0, 1), (0, 1, 1), (1, 1, 0), (1, 0, 0))


@dataclass(frozen=True)
class Rewrites:
    """Which rewrites to apply; the numbers are those of `docs/rewrites.md`. All by default."""

    modulation: bool = True
    """3: shifts, scales, gates and the affine parts of norms go into the linears beside them."""
    prompt: bool = True
    """4: cross-attention sees each distinct prompt row once, and its values are already projected."""
    halves: bool = True
    """5: rotary pairs are the two halves of a head instead of neighbours."""
    growth: bool = True
    """6: upsampling, growth and convolution are one transposed convolution."""
    owned: bool = True
    """8: a window asks only for the tokens whose results it keeps."""
    order: bool = True
    """9: tokens are stored in the order in which even layers attend to them."""
    logits: bool = True
    """10: cross-attention's logits come straight from the normed input (with `prompt` only)."""

    @classmethod
    def names(cls) -> tuple[str, ...]:
        return tuple(field.name for field in fields(cls))

    def without(self, names: Iterable[str]) -> Rewrites:
        """These rewrites less some, by name."""
        for name in names:
            if name not in self.names():
                raise MisuseError(f"there is no rewrite {name!r}, expected one of {', '.join(self.names())}")
        return replace(self, **dict.fromkeys(names, False))


ALL = Rewrites()


@dataclass(frozen=True)
class Affine:
    """y = W x + b: weight [out, in], bias [out]."""

    weight: Tensor
    bias: Tensor

    @classmethod
    def of(cls, linear: nn.Module) -> Affine:
        if not isinstance(linear, nn.Linear):
            raise TypeError(f"expected a linear, got {type(linear).__name__}")
        return cls(linear.weight, linear.bias)

    def after(self, gain: Tensor, shift: Tensor) -> Affine:
        """This applied to `x * gain + shift` (rewrite 3)."""
        return Affine(self.weight * gain, self.bias + self.weight @ shift)

    def gated(self, gate: Tensor) -> Affine:
        """This times `gate` (rewrite 3)."""
        return Affine(self.weight * gate[:, None], self.bias * gate)

    def rows(self, order: Tensor) -> Affine:
        """Outputs in another order."""
        return Affine(self.weight[order], self.bias[order])

    def beside(self, other: Affine) -> Affine:
        """Both applied to one input, outputs one after the other."""
        return Affine(torch.cat([self.weight, other.weight]), torch.cat([self.bias, other.bias]))

    def module(self) -> nn.Linear:
        linear = nn.Linear(self.weight.shape[1], self.weight.shape[0], device="meta")
        linear.weight = nn.Parameter(self.weight, requires_grad=False)
        linear.bias = nn.Parameter(self.bias, requires_grad=False)
        return linear


def halves(heads: int, head_dim: int) -> Tensor:
    """Order of a projection's rows that turns each head's interleaved pairs into two halves (rewrite 5)."""
    one = torch.cat([torch.arange(0, head_dim, 2), torch.arange(1, head_dim, 2)])
    return (torch.arange(heads)[:, None] * head_dim + one).flatten()


def distinct_rows(prompt: Tensor) -> tuple[Tensor, Tensor]:
    """The distinct rows of prompt [L, d] and the logarithm of how often each occurs (rewrite 4)."""
    rows, counts = torch.unique(prompt, dim=0, return_counts=True)
    return rows, counts.to(prompt.dtype).log()


def projected_values(values: Tensor, output: Affine) -> Tensor:
    """values [heads, u, head_dim] through the output projection: [heads * u, dim], bias left out (rewrite 4)."""
    heads, _, head_dim = values.shape
    weight = output.weight.reshape(-1, heads, head_dim)
    return torch.einsum("hud,ohd->huo", values, weight).flatten(0, 1)


def prompt_logits(query: Affine, norm: Tensor, keys: Tensor) -> Affine:
    """x -> logits [heads * u] before the division by q's root mean square (rewrite 10).

    query: the q projection; norm [dim]: the weight of its RMSNorm; keys [heads, u, head_dim].
    """
    heads, count, head_dim = keys.shape
    scaled = (keys * head_dim**-0.5).unsqueeze(2) * norm.view(heads, 1, 1, head_dim)
    weight = torch.einsum("huzd,hdi->hui", scaled, query.weight.view(heads, head_dim, -1))
    bias = torch.einsum("huzd,hd->hu", scaled, query.bias.view(heads, head_dim))
    return Affine(weight.reshape(heads * count, -1), bias.flatten())


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
