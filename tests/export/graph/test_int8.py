"""INT8 in torch, against NumPy and the definition of the ONNX operators."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from swiftvr_trt.export.graph.int8 import dequantize_int8, fake_quantize_int8, int8_scale, quantize_int8

ONE = torch.tensor(1.0)


def test_values_round_half_to_even_and_saturate() -> None:
    x = torch.tensor([0.5, 1.5, -0.5, -2.5, 126.5, 127.4, 1e6, -1e6, float("inf"), -float("inf")])
    expected = np.clip(np.rint(x.numpy()), -128, 127)
    assert quantize_int8(x, ONE).tolist() == expected.tolist()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16], ids=str)
def test_results_have_the_dtype_of_the_scale(dtype: torch.dtype) -> None:
    scale = torch.tensor(0.5, dtype=dtype)
    x = torch.tensor([0.0, 0.5, -3.0, 63.5], dtype=dtype)  # representable, in units of the scale
    back = dequantize_int8(quantize_int8(x, scale), scale)
    assert back.dtype == dtype
    assert torch.equal(back, x)
    assert torch.equal(fake_quantize_int8(x, scale), x)


def test_a_scale_per_slice_of_axis_0() -> None:
    weight = torch.randn(5, 3, 2, 2, generator=torch.Generator().manual_seed(1)) * torch.logspace(-3, 3, 5).reshape(
        5, 1, 1, 1
    )
    scale = int8_scale(weight.abs().amax((1, 2, 3)), torch.float32)
    back = fake_quantize_int8(weight, scale)
    alone = torch.stack([fake_quantize_int8(one, s) for one, s in zip(weight, scale, strict=True)])
    assert torch.equal(back, alone)
    assert bool(((back - weight).abs() <= scale.reshape(5, 1, 1, 1) / 2 * 1.001).all())


def test_another_dtype_than_the_scale_has_is_refused() -> None:
    with pytest.raises(TypeError, match=r"expected torch\.float32"):
        quantize_int8(torch.ones(2, dtype=torch.float16), ONE)


def test_the_scale_maps_the_largest_magnitude_to_the_end_of_the_range() -> None:
    scale = int8_scale(torch.tensor([7.0, 0.0]), torch.float32)
    assert quantize_int8(torch.tensor([[7.0, -3.5], [0.0, 0.0]]), scale).tolist() == [[127, -64], [0, 0]]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16], ids=str)
def test_a_scale_is_a_positive_number_of_its_dtype(dtype: torch.dtype) -> None:
    scale: Tensor = int8_scale(torch.tensor([0.0, 1e-44, 1e-30, 1e-6, 1.0, 1e6, 1e37]), dtype)
    assert scale.dtype == dtype
    assert torch.isfinite(scale).all()
    assert (scale > 0).all()
    assert torch.isfinite(fake_quantize_int8(torch.ones(7, 2, dtype=dtype), scale)).all()
