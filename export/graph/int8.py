"""INT8 as two torch operators, each exact on the CPU and one ONNX operator in the graph.

    quantize_int8(x, scale)      round x / scale to an integer, saturating at -128 and 127    QuantizeLinear
    dequantize_int8(x, scale)    x * scale in the dtype of the scale                          DequantizeLinear

A scale is one number per tensor, or one per slice along axis 0, such as the output channels of a convolution. There is
no zero point, because TensorRT takes none.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from onnxscript import opset23 as op
from torch import Tensor

INT8_MAX = 127.0
_INT8_MIN = -128.0
_ONNX_INT8 = 3


@torch.library.custom_op("swiftvr::quantize_int8", mutates_args=())
def quantize_int8(x: Tensor, scale: Tensor) -> Tensor:
    """x in any float dtype, scale of that dtype, a scalar or [n] for n slices along axis 0 -> x in int8."""
    _check_dtypes(x, scale)
    return (x.float() / _along_axis_0(scale, x)).round().clamp(_INT8_MIN, INT8_MAX).to(torch.int8)


@quantize_int8.register_fake
def _(x: Tensor, scale: Tensor) -> Tensor:
    _check_dtypes(x, scale)
    return torch.empty_like(x, dtype=torch.int8)


def _check_dtypes(x: Tensor, scale: Tensor) -> None:
    """Raise where torch would convert in silence, but QuantizeLinear takes one dtype only."""
    if x.dtype != scale.dtype:
        raise TypeError(f"the value is {x.dtype}, expected {scale.dtype}, the dtype of its scale")


@torch.library.custom_op("swiftvr::dequantize_int8", mutates_args=())
def dequantize_int8(x: Tensor, scale: Tensor) -> Tensor:
    """x in int8, scale a scalar or [n] for n slices along axis 0 -> x * scale, in the dtype of the scale."""
    return (x.float() * _along_axis_0(scale, x)).to(scale.dtype)


@dequantize_int8.register_fake
def _(x: Tensor, scale: Tensor) -> Tensor:
    return torch.empty_like(x, dtype=scale.dtype)


def _along_axis_0(scale: Tensor, x: Tensor) -> Tensor:
    """The scale in float32, in a shape that multiplies x slice by slice."""
    return scale.float().reshape(-1, *[1] * (x.ndim - 1)) if scale.ndim else scale.float()


def _onnx_quantize_int8(x: Any, scale: Any) -> Any:
    return op.QuantizeLinear(x, scale, axis=0, output_dtype=_ONNX_INT8)


def _onnx_dequantize_int8(x: Any, scale: Any) -> Any:
    return op.DequantizeLinear(x, scale, axis=0)


TRANSLATIONS: dict[Callable[..., Any], Callable[..., Any]] = {
    torch.ops.swiftvr.quantize_int8.default: _onnx_quantize_int8,
    torch.ops.swiftvr.dequantize_int8.default: _onnx_dequantize_int8,
}
"""What `torch.onnx.export` writes for the operators above (`custom_translation_table`)."""


def int8_scale(largest: Tensor, dtype: torch.dtype) -> Tensor:
    """The scales that map magnitudes `largest` to 127, within what `dtype` can hold; 1 for zeros."""
    limits = torch.finfo(dtype)
    scale = (largest.double() / INT8_MAX).clamp(limits.tiny, limits.max).to(dtype)
    return torch.where(largest > 0, scale, torch.ones_like(scale))


def fake_quantize_int8(x: Tensor, scale: Tensor) -> Tensor:
    """x rounded to INT8 and back, in the dtype of the scale."""
    restored: Tensor = dequantize_int8(quantize_int8(x, scale), scale)
    return restored
