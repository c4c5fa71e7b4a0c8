"""NVFP4: 4-bit values, an 8-bit scale for every 16 of them along the last axis, one float32 scale per tensor.

    value = e2m1 * block scale * tensor scale        e2m1 in +-{0, 0.5, 1, 1.5, 2, 3, 4, 6}, block scale in E4M3

The tensor scale maps the largest magnitude to the end of both formats, 6 * 448. Weights are quantised here. Inputs are
quantised by the engine, block by block; calibration fixes only their tensor scale. In the graph, values are dequantised
in two steps, the form in which the compiler recognises an FP4 product (docs/nvfp4.md):

    fake_quantize_nvfp4(x, scale)                TRT_FP4DynamicQuantize, DequantizeLinear of the scales, then of values
    dequantize_nvfp4(packed, scales, scale)      DequantizeLinear of the scales, then of the values

`TRT_FP4DynamicQuantize` is an operator of TensorRT's own; ONNX has none that finds a scale per block.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from onnx.defs import OpSchema
from onnxscript import opset23 as op
from onnxscript.values import Op, Opset
from torch import Tensor

from .fp8 import E4M3, E4M3_MAX

BLOCK = 16
E2M1 = torch.float4_e2m1fn_x2
"""Two values per byte, the first in the low bits."""
E2M1_MAX = 6.0
DOMAIN = "trt"
_ONNX_E4M3 = 17
_ROWS = 2048
"""Rows of a weight quantised at a time; intermediate tensors are several times as large."""
_SIGN = 8
_MAGNITUDES = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0)


def nvfp4_scale(largest: float) -> Tensor:
    """The float32 tensor scale for a largest magnitude, at least the smallest normal one; 1 for a tensor of zeros."""
    smallest = torch.finfo(torch.float32).tiny
    return torch.tensor(max(largest / (E2M1_MAX * E4M3_MAX), smallest) if largest > 0 else 1.0)


def round_to_e2m1(x: Tensor) -> Tensor:
    """x rounded to the nearest E2M1 value in its own dtype. Ties go to the even code; +-6 saturates."""
    size = x.abs()
    step = 0.5 + 0.5 * (size >= 2) + (size >= 4)
    return torch.copysign((torch.round(size / step) * step).clamp(max=E2M1_MAX), x)


def block_scales(x: Tensor, scale: Tensor) -> Tensor:
    """x float32 [.., K] -> E4M3 [.., K / 16]: scales that map the largest magnitude of each block to 6."""
    largest = x.unflatten(-1, (-1, BLOCK)).abs().amax(-1)
    scales: Tensor = (largest / E2M1_MAX / scale).clamp(max=E4M3_MAX).to(E4M3)
    return scales


def to_blocks(x: Tensor, scales: Tensor, scale: Tensor) -> Tensor:
    """x float32 [.., K] divided by its scales and rounded: E2M1 values as float32 [.., K]; zeros where a scale is 0."""
    unit = (scales.float() * scale).unsqueeze(-1)
    blocks = x.unflatten(-1, (-1, BLOCK))
    values: Tensor = torch.where(unit > 0, blocks / unit, 0.0)
    return round_to_e2m1(values).flatten(-2)


def from_blocks(values: Tensor, scales: Tensor, scale: Tensor) -> Tensor:
    """Undo `to_blocks`, except for its rounding."""
    unit = (scales.float() * scale).unsqueeze(-1)
    x: Tensor = (values.unflatten(-1, (-1, BLOCK)) * unit).flatten(-2)
    return x


def pack_e2m1(values: Tensor) -> Tensor:
    """E2M1 values as float32 [.., K] -> E2M1 [.., K / 2]."""
    size = values.abs()
    codes = torch.where(size < 2, size * 2, torch.where(size < 4, size + 2, size / 2 + 4)).to(torch.uint8)
    codes |= torch.signbit(values).to(torch.uint8) * _SIGN
    packed: Tensor = codes[..., 0::2] | codes[..., 1::2] << 4
    return packed.view(E2M1)


def unpack_e2m1(packed: Tensor) -> Tensor:
    """E2M1 [.., K / 2] -> float32 [.., K]."""
    codes = packed.view(torch.uint8)
    both = torch.stack([codes & 0xF, codes >> 4], dim=-1).flatten(-2)
    return torch.tensor((*_MAGNITUDES, *(-size for size in _MAGNITUDES)))[both.int()]


def quantize_nvfp4(weight: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """weight float32 [N, K] -> E2M1 [N, K / 2], block scales E4M3 [N, K / 16], tensor scale."""
    scale = nvfp4_scale(float(weight.abs().max()))
    packed, scales = [], []
    for rows in weight.split(_ROWS):
        scales.append(block_scales(rows, scale))
        packed.append(pack_e2m1(to_blocks(rows, scales[-1], scale)).view(torch.uint8))
    return torch.cat(packed).view(E2M1), torch.cat(scales), scale


@torch.library.custom_op("swiftvr::nvfp4_round_trip", mutates_args=())
def fake_quantize_nvfp4(x: Tensor, scale: Tensor) -> Tensor:
    """x [.., K] in any float dtype, K a multiple of 16, scale float32 -> x rounded to NVFP4 and back, float32."""
    wide = x.float()
    scales = block_scales(wide, scale)
    return from_blocks(to_blocks(wide, scales, scale), scales, scale)


@fake_quantize_nvfp4.register_fake
def _(x: Tensor, scale: Tensor) -> Tensor:
    return torch.empty_like(x, dtype=scale.dtype)


@torch.library.custom_op("swiftvr::nvfp4_dequantize", mutates_args=())
def dequantize_nvfp4(packed: Tensor, scales: Tensor, scale: Tensor) -> Tensor:
    """packed E2M1 [.., K / 2], scales E4M3 [.., K / 16], scale float32 -> float32 [.., K]."""
    return from_blocks(unpack_e2m1(packed), scales, scale)


@dequantize_nvfp4.register_fake
def _(packed: Tensor, scales: Tensor, scale: Tensor) -> Tensor:  # noqa: ARG001
    return torch.empty(*packed.shape[:-1], packed.shape[-1] * 2, dtype=scale.dtype, device=packed.device)


def _schema() -> OpSchema:
    """TensorRT's operator, described for the tracer."""
    value = OpSchema.FormalParameter
    return OpSchema(
        "TRT_FP4DynamicQuantize",
        DOMAIN,
        1,
        inputs=[value("x", "T"), value("scale", "tensor(float)")],
        outputs=[value("y", "tensor(float4e2m1)"), value("y_scale", "tensor(float8e4m3fn)")],
        type_constraints=[
            ("T", ["tensor(float)", "tensor(float16)", "tensor(bfloat16)"], "Float types that can be quantised.")
        ],
        attributes=[
            OpSchema.Attribute(name, OpSchema.AttrType.INT, "", required=True)
            for name in ("axis", "block_size", "scale_type")
        ],
    )


_DYNAMIC_QUANTIZE = Op(Opset(DOMAIN, 1), "TRT_FP4DynamicQuantize", _schema())


def _onnx_fake_quantize_nvfp4(x: Any, scale: Any) -> Any:
    values, scales = _DYNAMIC_QUANTIZE(x, scale, axis=-1, block_size=BLOCK, scale_type=_ONNX_E4M3)
    return _onnx_dequantize_nvfp4(values, scales, scale)


def _onnx_dequantize_nvfp4(values: Any, scales: Any, scale: Any) -> Any:
    units: Any = op.DequantizeLinear(scales, scale)
    return op.DequantizeLinear(values, units, axis=-1, block_size=BLOCK)


TRANSLATIONS: dict[Callable[..., Any], Callable[..., Any]] = {
    torch.ops.swiftvr.nvfp4_round_trip.default: _onnx_fake_quantize_nvfp4,
    torch.ops.swiftvr.nvfp4_dequantize.default: _onnx_dequantize_nvfp4,
}
"""What `torch.onnx.export` writes for the operators above (`custom_translation_table`)."""
