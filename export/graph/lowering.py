"""How the parts of a transformer block become modules of one precision.

A `Lowering` is handed down to whoever builds a part. It knows the precision, the name of the part, such as
`blocks.3.attention`, and for quantised precisions what calibration found for each name, or who wants to find it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from . import nvfp4
from .precision import FP32, Precision
from .quantize import E4M3_MAX, dequantize, fake_quantize, fp8_scale, quantize
from .rewrites import Affine

Observe = Callable[[str, Tensor], None]


@dataclass(frozen=True)
class Lowering:
    """largest: by name of a product's input, the largest magnitude to represent (see `calibrate.py`). observe: gets
    every tensor that would be quantised, and nothing is.
    """

    precision: Precision
    largest: Mapping[str, float] = field(default_factory=dict)
    name: str = ""
    observe: Observe | None = None

    def inside(self, part: str) -> Lowering:
        """For a part of this part."""
        return replace(self, name=self._named(part))

    def plain(self, affine: Affine) -> nn.Module:
        """A linear that is not quantised in any precision."""
        return self.precision.converted(affine.module())

    def linear(self, affine: Affine, part: str) -> nn.Module:
        """A linear of a block, quantised if the precision says so."""
        if self.precision.linears is None:
            return self.plain(affine)
        if self.observe is not None:
            return Observed(self.plain(affine), [self._named(part)], self.observe)
        largest = self.largest[self._named(part)]
        if self.precision.linears == "nvfp4" and affine.weight.shape[1] % nvfp4.BLOCK == 0:
            return Nvfp4Linear(affine, largest, self.precision)
        return Fp8Linear(affine, largest, self.precision)

    def attention(self) -> nn.Module:
        """softmax(q k^T) v, q already scaled."""
        if self.precision.attention is None:
            return DenseAttention()
        names = [self._named(part) for part in ("q", "k", "v")]
        if self.observe is not None:
            return Observed(DenseAttention(), names, self.observe)
        q, k, v = (self.largest[name] for name in names)
        return Fp8Attention(q, k, v, self.precision)

    def _named(self, part: str) -> str:
        return f"{self.name}.{part}" if self.name else part


PLAIN = Lowering(FP32)


class Observed(nn.Module):
    """A module whose inputs somebody wants to see."""

    def __init__(self, module: nn.Module, names: Sequence[str], observe: Observe) -> None:
        super().__init__()
        self.module, self.names, self.observe = module, names, observe

    def forward(self, *inputs: Tensor) -> Tensor:
        for name, x in zip(self.names, inputs, strict=True):
            self.observe(name, x)
        out: Tensor = self.module(*inputs)
        return out


class DenseAttention(nn.Module):
    """q [.., L, d], k, v [.., M, d] -> [.., L, d]."""

    def forward(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return F.scaled_dot_product_attention(q, k, v, scale=1.0)


class Fp8Linear(nn.Module):
    """x W^T + b with x and W in E4M3, one scale each; the weight is stored quantised and transposed, [in, out]."""

    def __init__(self, affine: Affine, largest: float, precision: Precision) -> None:
        super().__init__()
        dtype = precision.compute or torch.float32
        weight = affine.weight.T.contiguous()
        self.weight_scale = nn.Buffer(fp8_scale(float(weight.abs().max()), dtype))
        self.weight = nn.Buffer(quantize(weight.to(dtype), self.weight_scale))
        self.input_scale = nn.Buffer(fp8_scale(largest, dtype))
        self.bias = nn.Buffer(affine.bias.to(dtype))

    def forward(self, x: Tensor) -> Tensor:
        weight: Tensor = dequantize(self.weight, self.weight_scale)
        return fake_quantize(x, self.input_scale) @ weight + self.bias


class Nvfp4Linear(nn.Module):
    """x W^T + b with x and W in NVFP4; the weight is stored quantised, [out, in / 2] bytes."""

    def __init__(self, affine: Affine, largest: float, precision: Precision) -> None:
        super().__init__()
        self.dtype = precision.compute or torch.float32
        self.weight, self.scales, self.scale = map(nn.Buffer, nvfp4.quantized(affine.weight.float()))
        self.input_scale = nn.Buffer(nvfp4.tensor_scale(largest))
        self.bias = nn.Buffer(affine.bias.to(self.dtype))

    def forward(self, x: Tensor) -> Tensor:
        """Tokens lie on one axis: with two of them the compiler leaves the bias out of what follows the product."""
        rows = nvfp4.round_trip(x.flatten(0, -2), self.input_scale).to(self.dtype)
        weight = nvfp4.dequantize(self.weight, self.scales, self.scale).to(self.dtype)
        out: Tensor = (rows @ weight.T + self.bias).unflatten(0, x.shape[:-1])
        return out


class Fp8Attention(nn.Module):
    """softmax(q k^T) v in E4M3, in the one form that TensorRT turns into a single kernel: products and softmax written
    out, every operand of a product quantised, the softmax too (it lies in [0, 1], so its scale is 1/448).
    """

    def __init__(self, q: float, k: float, v: float, precision: Precision) -> None:
        super().__init__()
        dtype = precision.compute or torch.float32
        self.q, self.k, self.v = (nn.Buffer(fp8_scale(largest, dtype)) for largest in (q, k, v))
        self.chosen = nn.Buffer(torch.tensor(1 / E4M3_MAX, dtype=dtype))

    def forward(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        scores = fake_quantize(q, self.q) @ fake_quantize(k, self.k).transpose(-1, -2)
        chosen = fake_quantize(torch.softmax(scores, dim=-1), self.chosen)
        return chosen @ fake_quantize(v, self.v)
