"""The layers of a transformer block in each precision: linears and attention.

    fp32, bf16, fp16    plain modules in that dtype
    int8                `Int8Linear`; `Fp8Attention`, or `DenseAttention` on GPUs without FP8
    fp8                 `Fp8Linear`, `Fp8Attention`
    nvfp4               `Nvfp4Linear` (`Fp8Linear` where inputs do not divide by 16), `Fp8Attention`

The stages ask a `LayerFactory` for them and need not know the precision.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...engines.bundle.calibration import Int8Scales
from ...errors import MisuseError
from . import nvfp4
from .fp8 import E4M3_MAX, dequantize_fp8, fake_quantize_fp8, fp8_scale, quantize_fp8
from .int8 import dequantize_int8, fake_quantize_int8, int8_scale, quantize_int8
from .precision import FP32, Precision
from .rewrites import Affine, balanced, rows_alike

Observe = Callable[[str, Tensor], None]
Number = TypeVar("Number")


@dataclass(frozen=True)
class LayerFactory:
    """Makes the layers of one part of the network, in one precision.

    name: of the part, e.g. `blocks.3.attention`. largest: by name of a product's input, the largest magnitude to
    represent, as calibration found it; needed if the precision is quantised. int8: by name, how a linear is computed in
    the precision int8. observe: called with the name and value of each tensor that would be quantised; nothing is
    quantised then.
    """

    precision: Precision
    largest: Mapping[str, float] = field(default_factory=dict)
    int8: Mapping[str, Int8Scales] = field(default_factory=dict)
    name: str = ""
    observe: Observe | None = None

    def inside(self, part: str) -> LayerFactory:
        """The factory of a part of this part."""
        return replace(self, name=self._named(part))

    def plain(self, affine: Affine) -> nn.Module:
        """A linear that no precision quantises."""
        return self.precision.converted(affine.module())

    def linear(self, affine: Affine, part: str) -> nn.Module:
        """A linear of a block, quantised if the precision says so."""
        if self.precision.linears is None:
            return self.plain(affine)
        if self.observe is not None:
            return Observed(self.plain(affine), [self._named(part)], self.observe)
        if self.precision.linears == "int8":
            scales = _found(self.int8, self._named(part))
            return Int8Linear(affine, scales, self.precision) if scales.bits == 8 else self.plain(affine)
        largest = _found(self.largest, self._named(part))
        if self.precision.linears == "nvfp4" and affine.weight.shape[1] % nvfp4.BLOCK == 0:
            return Nvfp4Linear(affine, largest, self.precision)
        return Fp8Linear(affine, largest, self.precision)

    def attention(self) -> nn.Module:
        """softmax(q k^T) v for a q that is already scaled."""
        if self.precision.attention is None:
            return DenseAttention()
        names = [self._named(part) for part in ("q", "k", "v")]
        if self.observe is not None:
            return Observed(DenseAttention(), names, self.observe)
        q, k, v = (_found(self.largest, name) for name in names)
        return Fp8Attention(q, k, v, self.precision)

    def int8_scales(self, name: str) -> Int8Scales:
        """How the linear or convolution of this full name is computed. Raises `MisuseError` if nobody has measured."""
        return _found(self.int8, name)

    def _named(self, part: str) -> str:
        return f"{self.name}.{part}" if self.name else part


def _found(numbers: Mapping[str, Number], name: str) -> Number:
    try:
        return numbers[name]
    except KeyError as error:
        problem = f"the calibration has no number for {name}"
        raise MisuseError(f"{problem}; calibrate again: omit --calibration") from error


FLOAT32 = LayerFactory(FP32)


class Observed(nn.Module):
    """A module that shows its inputs to `observe` before it computes."""

    def __init__(self, module: nn.Module, names: Sequence[str], observe: Observe) -> None:
        """names: one per input."""
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
    """x W^T + b with x and W in E4M3, one scale each. The weight is stored quantised and transposed: [in, out]."""

    def __init__(self, affine: Affine, largest: float, precision: Precision) -> None:
        super().__init__()
        dtype = precision.compute or torch.float32
        weight = affine.weight.T.contiguous()
        self.weight_scale = nn.Buffer(fp8_scale(float(weight.abs().max()), dtype))
        self.weight = nn.Buffer(quantize_fp8(weight.to(dtype), self.weight_scale))
        self.input_scale = nn.Buffer(fp8_scale(largest, dtype))
        self.bias = nn.Buffer(affine.bias.to(dtype))

    def forward(self, x: Tensor) -> Tensor:
        """x [.., in] -> [.., out]."""
        weight: Tensor = dequantize_fp8(self.weight, self.weight_scale)
        return fake_quantize_fp8(x, self.input_scale) @ weight + self.bias


class Int8Linear(nn.Module):
    """x W^T + b with x and W in INT8, one scale each. Channels of x are divided by powers of two before they are
    quantised, and the rows of W have a factor each, multiplied after the product (rewrites 14 and 15).

    The weight is stored quantised and transposed: [in, out].
    """

    def __init__(self, affine: Affine, scales: Int8Scales, precision: Precision) -> None:
        super().__init__()
        dtype = precision.compute or torch.float32
        gain, affine = balanced(affine, scales.shifts)
        self.gain = nn.Buffer(gain.to(dtype)) if any(scales.shifts) else None
        weight, factors = rows_alike(affine.weight, dtype)
        self.weight_scale = nn.Buffer(int8_scale(weight.abs().max(), dtype))
        self.weight = nn.Buffer(quantize_int8(weight.T.contiguous(), self.weight_scale.to(weight.dtype)))
        self.input_scale = nn.Buffer(int8_scale(torch.tensor(scales.largest), dtype))
        self.factors, self.bias = nn.Buffer(factors), nn.Buffer(affine.bias.to(dtype))

    def forward(self, x: Tensor) -> Tensor:
        """x [.., in] -> [.., out]."""
        x = x if self.gain is None else x * self.gain
        weight: Tensor = dequantize_int8(self.weight, self.weight_scale)
        return fake_quantize_int8(x, self.input_scale) @ weight * self.factors + self.bias


class Nvfp4Linear(nn.Module):
    """x W^T + b with x and W in NVFP4. The weight is stored quantised, two values a byte: [out, in / 2]."""

    def __init__(self, affine: Affine, largest: float, precision: Precision) -> None:
        super().__init__()
        self.dtype = precision.compute or torch.float32
        self.weight, self.scales, self.scale = map(nn.Buffer, nvfp4.quantize_nvfp4(affine.weight.float()))
        self.input_scale = nn.Buffer(nvfp4.nvfp4_scale(largest))
        self.bias = nn.Buffer(affine.bias.to(self.dtype))

    def forward(self, x: Tensor) -> Tensor:
        """x [.., in] -> [.., out]. Tokens go on one axis: with two, the compiler gives the bias its own kernel."""
        rows = nvfp4.fake_quantize_nvfp4(x.flatten(0, -2), self.input_scale).to(self.dtype)
        weight = nvfp4.dequantize_nvfp4(self.weight, self.scales, self.scale).to(self.dtype)
        out: Tensor = (rows @ weight.T + self.bias).unflatten(0, x.shape[:-1])
        return out


class Fp8Attention(nn.Module):
    """softmax(q k^T) v in E4M3, in the one form that TensorRT fuses into a single kernel.

    Products and softmax are written out, and every operand of a product is quantised. So is the softmax, which lies in
    [0, 1]: its scale is 1/448.
    """

    def __init__(self, q: float, k: float, v: float, precision: Precision) -> None:
        """q, k, v: the largest magnitude of each. The attributes are scales."""
        super().__init__()
        dtype = precision.compute or torch.float32
        self.q, self.k, self.v = (nn.Buffer(fp8_scale(largest, dtype)) for largest in (q, k, v))
        self.softmax = nn.Buffer(torch.tensor(1 / E4M3_MAX, dtype=dtype))

    def forward(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        scores = fake_quantize_fp8(q, self.q) @ fake_quantize_fp8(k, self.k).transpose(-1, -2)
        weights = fake_quantize_fp8(torch.softmax(scores, dim=-1), self.softmax)
        return weights @ fake_quantize_fp8(v, self.v)


def rms_factor(x: Tensor, eps: float) -> Tensor:
    """What an RMSNorm multiplies x [.., dim] by: [.., 1]."""
    return torch.rsqrt(x.square().mean(-1, keepdim=True) + eps)


def fixed_eps(norm: nn.RMSNorm) -> float:
    """The norm's epsilon. Raises `TypeError` if it is left to torch, which would take that of the dtype."""
    if norm.eps is None:
        raise TypeError("expected an RMSNorm with a fixed epsilon, got one without")
    return norm.eps
