"""FP8 as two torch operators, each exact on the CPU and one ONNX operator in the graph.

    quantize_fp8(x, scale)      round x / scale to E4M3, saturating at +-448    QuantizeLinear
    dequantize_fp8(x, scale)    x * scale in the dtype of the scale             DequantizeLinear

A scale is one number per tensor. With a scale per channel, TensorRT-RTX 1.7.1 applies it after the product, and the
float16 product may already have overflowed. E4M3 is the OCP 8-bit format (OFP8, revision 1.0): no infinities, largest
value 448.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from onnxscript import opset23 as op
from torch import Tensor

E4M3 = torch.float8_e4m3fn
E4M3_MAX = 448.0
_ONNX_E4M3 = 17


@torch.library.custom_op("swiftvr::quantize", mutates_args=())
def quantize_fp8(x: Tensor, scale: Tensor) -> Tensor:
    """x in any float dtype, scale a scalar of that dtype -> E4M3 in the shape of x."""
    _check_dtypes(x, scale)
    return (x.float() / scale.float()).clamp(-E4M3_MAX, E4M3_MAX).to(E4M3)


@quantize_fp8.register_fake
def _(x: Tensor, scale: Tensor) -> Tensor:
    _check_dtypes(x, scale)
    return torch.empty_like(x, dtype=E4M3)


def _check_dtypes(x: Tensor, scale: Tensor) -> None:
    """Raise where torch would convert in silence, but QuantizeLinear takes one dtype only."""
    if x.dtype != scale.dtype:
        raise TypeError(f"the value is {x.dtype}, expected {scale.dtype}, the dtype of its scale")


@torch.library.custom_op("swiftvr::dequantize", mutates_args=())
def dequantize_fp8(x: Tensor, scale: Tensor) -> Tensor:
    """x in E4M3, scale a scalar -> x * scale, in the dtype of the scale."""
    return (x.float() * scale.float()).to(scale.dtype)


@dequantize_fp8.register_fake
def _(x: Tensor, scale: Tensor) -> Tensor:
    return torch.empty_like(x, dtype=scale.dtype)


def _onnx_quantize_fp8(x: Any, scale: Any) -> Any:
    return op.QuantizeLinear(x, scale, output_dtype=_ONNX_E4M3)


def _onnx_dequantize_fp8(x: Any, scale: Any) -> Any:
    return op.DequantizeLinear(x, scale)


TRANSLATIONS: dict[Callable[..., Any], Callable[..., Any]] = {
    torch.ops.swiftvr.quantize.default: _onnx_quantize_fp8,
    torch.ops.swiftvr.dequantize.default: _onnx_dequantize_fp8,
}
"""What `torch.onnx.export` writes for the operators above (`custom_translation_table`)."""


def fp8_scale(largest: float, dtype: torch.dtype) -> Tensor:
    """The scale that maps magnitude `largest` to 448, within what `dtype` can hold; 1 for a tensor of zeros."""
    limits = torch.finfo(dtype)
    return torch.tensor(min(max(largest / E4M3_MAX, limits.tiny), limits.max) if largest > 0 else 1.0, dtype=dtype)


def fake_quantize_fp8(x: Tensor, scale: Tensor) -> Tensor:
    """x rounded to E4M3 and back, in the dtype of the scale."""
    restored: Tensor = dequantize_fp8(quantize_fp8(x, scale), scale)
    return restored
