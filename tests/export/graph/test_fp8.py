"""E4M3 in torch, against the format as ml_dtypes has it."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest
import torch

from swiftvr_trt.export.graph.fp8 import E4M3, dequantize_fp8, fake_quantize_fp8, fp8_scale, quantize_fp8

ONE = torch.tensor(1.0)


def test_rounding_agrees_with_an_independent_implementation() -> None:
    x = torch.cat([torch.linspace(-448, 448, 5001), torch.linspace(-0.1, 0.1, 5001)])
    ours = quantize_fp8(x, ONE)
    assert ours.dtype == E4M3
    assert np.array_equal(ours.float().numpy(), x.numpy().astype(ml_dtypes.float8_e4m3fn).astype(np.float32))


@pytest.mark.parametrize("value", [449.0, 1e6, float("inf")])
def test_values_out_of_range_saturate(value: float) -> None:
    both = torch.tensor([value, -value])
    assert quantize_fp8(both, ONE).float().tolist() == [448, -448]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16], ids=str)
def test_results_have_the_dtype_of_the_scale(dtype: torch.dtype) -> None:
    scale = torch.tensor(0.5, dtype=dtype)
    x = torch.tensor([0.0, 1.0, -3.0, 224.0], dtype=dtype)  # representable, in units of the scale
    back = dequantize_fp8(quantize_fp8(x, scale), scale)
    assert back.dtype == dtype
    assert torch.equal(back, x)
    assert torch.equal(fake_quantize_fp8(x, scale), x)


def test_the_scale_maps_the_largest_magnitude_to_the_end_of_the_range() -> None:
    scale = fp8_scale(7.0, torch.float32)
    assert quantize_fp8(torch.tensor([7.0, -3.5]), scale).float().tolist() == [448, -224]
    assert fp8_scale(7.0, torch.float16).dtype == torch.float16


def test_a_tensor_of_zeros_has_a_scale_to_divide_by() -> None:
    assert fp8_scale(0.0, torch.float32).item() == 1


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("largest", [0.0, 1e-44, 1e-30, 1e-6, 1.0, 1e6, 1e37])
def test_a_scale_is_a_positive_number_of_its_dtype(largest: float, dtype: torch.dtype) -> None:
    scale = fp8_scale(largest, dtype)
    assert torch.isfinite(scale)
    assert scale > 0
    assert torch.isfinite(fake_quantize_fp8(torch.tensor([0.0, 1.0], dtype=dtype), scale)).all()
