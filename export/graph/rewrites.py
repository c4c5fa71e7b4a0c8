"""Exact rewrites: the same function, cheaper.

Each is a small pure function of weights, with a proof in `docs/rewrites.md` and a float64 test. `Rewrites` switches
each on or off; the stages apply them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor, nn

from ...errors import MisuseError
from ..network.reae import Decoder, Encoder, TGrow, TPool

# Row t: which taps of a 3-tap convolution after nearest upsampling x2 read the same input pixel as tap t of a
# transposed convolution (kernel 4, stride 2, padding 1).
_NEAREST_X2 = ((0, 0, 1), (0, 1, 1), (1, 1, 0), (1, 0, 0))
_LEAST_USUAL = 1 / 32
"""Rows are made as large as the median of their magnitudes, so that sums are about as large as results; but not smaller
than this, whose INT8 scale is a normal number in float16."""


@dataclass(frozen=True)
class Rewrites:
    """Which rewrites to apply: all by default. Numbers are those of `docs/rewrites.md`."""

    modulation: bool = True
    """3: shifts, scales, gates and the affine parts of norms fold into adjacent linears."""
    prompt: bool = True
    """4: cross-attention sees each distinct prompt row once, with values already projected."""
    halves: bool = True
    """5: RoPE pairs are the two halves of a head instead of neighbours."""
    growth: bool = True
    """6: upsampling, growth and convolution are one transposed convolution."""
    pooling: bool = True
    """13: TPool and the strided convolution after it are one convolution per frame, summed."""
    owned: bool = True
    """8: a window computes only the tokens whose results it keeps."""
    order: bool = True
    """9: tokens are stored in the order in which even layers use them."""
    logits: bool = True
    """10: the logits of cross-attention come straight from the normed input (needs `prompt`)."""

    @classmethod
    def names(cls) -> tuple[str, ...]:
        return tuple(field.name for field in fields(cls))

    def without(self, names: Iterable[str]) -> Rewrites:
        """These rewrites with some switched off. Raises `MisuseError` for an unknown name."""
        for name in names:
            if name not in self.names():
                raise MisuseError(f"unknown rewrite {name!r}, expected one of {', '.join(self.names())}")
        return replace(self, **dict.fromkeys(names, False))


ALL = Rewrites()


@dataclass(frozen=True)
class Affine:
    """y = W x + b: weight [out, in], bias [out]."""

    weight: Tensor
    bias: Tensor

    @classmethod
    def of(cls, linear: nn.Module) -> Affine:
        """Raises `TypeError` for any other module."""
        if not isinstance(linear, nn.Linear):
            raise TypeError(f"expected a linear, got {type(linear).__name__}")
        return cls(linear.weight, linear.bias)

    def after(self, gain: Tensor, shift: Tensor) -> Affine:
        """This map applied to `x * gain + shift`, as one map of x (rewrite 3)."""
        return Affine(self.weight * gain, self.bias + self.weight @ shift)

    def gated(self, gate: Tensor) -> Affine:
        """This map times `gate` (rewrite 3)."""
        return Affine(self.weight * gate[:, None], self.bias * gate)

    def rows(self, order: Tensor) -> Affine:
        """The outputs in another order."""
        return Affine(self.weight[order], self.bias[order])

    def concat(self, other: Affine) -> Affine:
        """Both maps of the same input; the outputs of `other` follow those of this one."""
        return Affine(torch.cat([self.weight, other.weight]), torch.cat([self.bias, other.bias]))

    def parts(self, rows: int) -> tuple[Affine, Affine]:
        """The first `rows` outputs, and the rest."""
        return Affine(self.weight[:rows], self.bias[:rows]), Affine(self.weight[rows:], self.bias[rows:])

    def module(self) -> nn.Linear:
        linear = nn.Linear(self.weight.shape[1], self.weight.shape[0], device="meta")
        linear.weight = nn.Parameter(self.weight, requires_grad=False)
        linear.bias = nn.Parameter(self.bias, requires_grad=False)
        return linear


def rows_alike(weight: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """weight [out, in] -> the weight with rows of the same largest magnitude, and the factor of each row: [out].

    Each row is divided by its factor, a number that `dtype` represents (rewrite 14).
    """
    largest = weight.abs().amax(1)
    used = largest[largest > 0]
    usual = max(float(used.median()), _LEAST_USUAL) if len(used) else 1.0
    limits = torch.finfo(dtype)
    factors = (largest / usual).clamp(limits.tiny, limits.max).to(dtype)
    return weight / factors.to(weight.dtype)[:, None], factors


def balanced(affine: Affine, shifts: Sequence[int]) -> tuple[Tensor, Affine]:
    """The gain [in] and the map to apply to `x * gain`: input channel k is divided by 2 ** shifts[k] (rewrite 15).

    Raises `MisuseError` if there are not as many shifts as inputs.
    """
    inputs = affine.weight.shape[1]
    if len(shifts) != inputs:
        raise MisuseError(f"the calibration has {len(shifts)} shifts for a linear of {inputs} inputs; calibrate again")
    divisor = torch.exp2(torch.tensor(shifts, dtype=affine.weight.dtype))
    return 1 / divisor, Affine(affine.weight * divisor, affine.bias)


def halves(heads: int, head_dim: int) -> Tensor:
    """Order of a projection's rows that turns a head's interleaved pairs into two halves: int64 [dim] (rewrite 5)."""
    one = torch.cat([torch.arange(0, head_dim, 2), torch.arange(1, head_dim, 2)])
    return (torch.arange(heads)[:, None] * head_dim + one).flatten()


def distinct_rows(prompt: Tensor) -> tuple[Tensor, Tensor]:
    """The distinct rows of prompt [L, d] as [u, d], and the logarithm of each one's count: [u] (rewrite 4)."""
    rows, counts = torch.unique(prompt, dim=0, return_counts=True)
    return rows, counts.to(prompt.dtype).log()


def projected_values(values: Tensor, output: Affine) -> Tensor:
    """values [heads, u, head_dim] through the output projection, without its bias: [heads * u, dim] (rewrite 4)."""
    heads, _, head_dim = values.shape
    weight = output.weight.reshape(-1, heads, head_dim)
    return torch.einsum("hud,ohd->huo", values, weight).flatten(0, 1)


def value_differences(values: Tensor, output: Affine) -> Affine:
    """The map from softmax weights [heads * (u - 1)] to the result of cross-attention [dim] (rewrites 4 and 12).

    The weights p of a head sum to 1, so sum p_i V_i = V_last + sum p_i (V_i - V_last): the last row needs no weight.
    values: [heads, u, head_dim]. output: the output projection.
    """
    last = values[:, -1:]
    bias = projected_values(last, output).sum(0) + output.bias
    return Affine(projected_values(values[:, :-1] - last, output).T, bias)


def prompt_logits(query: Affine, norm: Tensor, keys: Tensor) -> Affine:
    """The map from the normed input to logits [heads * u], not yet divided by q's root mean square (rewrite 10).

    query: the q projection. norm: weight of its RMSNorm, [dim]. keys: [heads, u, head_dim].
    """
    heads, count, head_dim = keys.shape
    scaled = (keys * head_dim**-0.5).unsqueeze(2) * norm.view(heads, 1, 1, head_dim)
    weight = torch.einsum("huzd,hdi->hui", scaled, query.weight.view(heads, head_dim, -1))
    bias = torch.einsum("huzd,hd->hu", scaled, query.bias.view(heads, head_dim))
    return Affine(weight.reshape(heads * count, -1), bias.flatten())


def grow_kernels(grow: Sequence[Tensor], convolution: Tensor) -> list[Tensor]:
    """Nearest upsampling x2, TGrow, and a 3x3 convolution as transposed convolutions (rewrite 6).

    grow: TGrow's 1x1 kernels [M, C, 1, 1], one per output frame. convolution: [O, M, 3, 3].
    Returns one kernel [C, O, 4, 4] per output frame, for a transposed convolution with stride 2 and padding 1.
    """
    spread = convolution.new_tensor(_NEAREST_X2)
    return [torch.einsum("omyx,mc,ty,ux->cotu", convolution, tap[:, :, 0, 0], spread, spread) for tap in grow]


class Grow(nn.Module):
    """One level's upsampling: x [T, C, h, w] -> [frames * T, O, 2h, 2w].

    Frames are made one by one, each in its own memory. `after` is applied to each before they are concatenated.
    """

    @torch.no_grad()
    def __init__(self, grow: TGrow, convolution: nn.Conv2d, after: nn.Sequential | None = None) -> None:
        super().__init__()
        self.kernels = _constants(grow_kernels(grow.taps(), convolution.weight))
        self.after = after or nn.Sequential()

    def forward(self, x: Tensor) -> Tensor:
        frames = [self.frame(one, kernel) for one in x.split(1) for kernel in self.kernels]
        return torch.cat(frames) if len(frames) > 1 else frames[0]

    def frame(self, x: Tensor, kernel: Tensor) -> Tensor:
        """x [1, C, h, w] -> one of its output frames."""
        y: Tensor = self.after(nn.functional.conv_transpose2d(x, kernel, stride=2, padding=1))
        return y


def fold_growth(decoder: Decoder) -> nn.ModuleList:
    """The decoder's layers with every {upsample, TGrow, convolution} replaced by one `Grow`.

    The last one includes the layers behind it. They work on the largest tensors, so they run one frame at a time.
    """
    layers, folded = list(decoder), nn.ModuleList()
    while layers:
        layer = layers.pop(0)
        if isinstance(layer, nn.Upsample):
            grow, convolution = layers.pop(0), layers.pop(0)
            if not (isinstance(grow, TGrow) and isinstance(convolution, nn.Conv2d)):
                raise TypeError("expected TGrow and a convolution after an upsampling")
            last = not any(isinstance(other, TGrow) for other in layers)
            layer = Grow(grow, convolution, nn.Sequential(*layers) if last else None)
            layers = [] if last else layers
        folded.append(layer)
    return folded


class Pool(nn.Module):
    """One level's merging of frames: x [stride * T, C, h, w] -> [T, O, h / 2, w / 2] (rewrite 13).

    A 1x1 convolution of concatenated frames is the sum of one 1x1 convolution per frame, and a 1x1 convolution before a
    3x3 one is again 3x3. Frames are taken one by one, so they need not be concatenated. `before` is applied to each.
    """

    @torch.no_grad()
    def __init__(self, pool: TPool, convolution: nn.Conv2d, before: nn.Sequential) -> None:
        super().__init__()
        weight, merged = convolution.weight, pool.conv.weight[:, :, 0, 0]
        kernels = [torch.einsum("omyx,mc->ocyx", weight, part) for part in merged.chunk(pool.stride, dim=1)]
        self.kernels, self.before = _constants(kernels), before

    def forward(self, x: Tensor) -> Tensor:
        merged = [self.merge(frames.split(1)) for frames in x.split(len(self.kernels))]
        return torch.cat(merged) if len(merged) > 1 else merged[0]

    def merge(self, frames: Sequence[Tensor]) -> Tensor:
        """`stride` frames [1, C, h, w] -> the one frame [1, O, h / 2, w / 2] they become."""
        parts = zip(frames, self.kernels, strict=True)
        first, *others = (nn.functional.conv2d(self.before(f), kernel, stride=2, padding=1) for f, kernel in parts)
        return sum(others, start=first)


def _constants(tensors: Iterable[Tensor]) -> nn.ParameterList:
    return nn.ParameterList([nn.Parameter(tensor, requires_grad=False) for tensor in tensors])


def fold_pooling(encoder: Encoder) -> nn.ModuleList:
    """The encoder's layers with every {TPool, strided convolution} replaced by one `Pool`.

    The first one includes the layers before it. They work on the largest tensors, so they run one frame at a time.
    """
    layers, folded = list(encoder), nn.ModuleList()
    while layers:
        layer = layers.pop(0)
        if isinstance(layer, TPool):
            convolution = layers.pop(0)
            if not isinstance(convolution, nn.Conv2d):
                raise TypeError("expected a convolution after TPool")
            first = not any(isinstance(other, Pool) for other in folded)
            layer = Pool(layer, convolution, nn.Sequential(*folded) if first else nn.Sequential())
            folded = nn.ModuleList() if first else folded
        folded.append(layer)
    return folded
