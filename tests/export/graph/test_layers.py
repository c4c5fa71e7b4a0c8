"""Layers of each precision: which one is made, in which dtype it computes, and what it computes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto
from torch import Tensor, nn

from swiftvr_trt import MisuseError
from swiftvr_trt.engines.bundle.calibration import Int8Scales
from swiftvr_trt.engines.bundle.manifest import Role
from swiftvr_trt.export.graph.layers import (
    FLOAT32,
    DenseAttention,
    Fp8Attention,
    Fp8Linear,
    Int8Linear,
    LayerFactory,
    Observed,
    fixed_eps,
    rms_factor,
)
from swiftvr_trt.export.graph.precision import Precision
from swiftvr_trt.export.graph.rewrites import Affine
from swiftvr_trt.export.graph.stages import Stage
from swiftvr_trt.export.graph.to_onnx import write_stages

Array = np.ndarray[Any, Any]

FP8_IN_FLOAT32 = Precision("fp8 in float32", linears="fp8", attention="fp8")
INT8_IN_FLOAT32 = Precision("int8 in float32", linears="int8", attention="fp8")
INT8 = {"part.linear": Int8Scales(8, 30.0, 3.0, (0,) * 8)}
LARGEST = {"part.linear": 3.0, "part.q": 2.0, "part.k": 3.0, "part.v": 4.0}


@pytest.fixture(autouse=True)
def _deterministic() -> Iterator[None]:
    torch.manual_seed(3)
    with torch.no_grad():
        yield


def affine(outputs: int = 6, inputs: int = 8) -> Affine:
    return Affine(torch.randn(outputs, inputs), torch.randn(outputs))


def e4m3(x: Array, largest: float) -> Array:
    """x rounded to E4M3 and back, by ml_dtypes."""
    scale = np.float32(largest / 448)
    return np.clip(x / scale, -448, 448).astype(ml_dtypes.float8_e4m3fn).astype(np.float32) * scale


@pytest.mark.parametrize(
    ("name", "capability", "dtype"),
    [
        ("fp32", None, torch.float32),
        ("bf16", None, torch.bfloat16),
        ("fp16", "12.0", torch.float16),
        ("fp8", None, torch.float16),
        ("fp8", "8.9", torch.bfloat16),
        ("nvfp4", "12.0", torch.bfloat16),
    ],
)
def test_a_plain_linear_is_the_affine_map_in_the_dtype_of_products(
    name: str, capability: str | None, dtype: torch.dtype
) -> None:
    given, x = affine(), torch.randn(2, 8)
    linear = LayerFactory(Precision.named(name).on(capability)).plain(given)
    assert type(linear) is nn.Linear
    assert {parameter.dtype for parameter in linear.parameters()} == {dtype}
    assert torch.equal(
        linear(x.to(dtype)), nn.functional.linear(x.to(dtype), given.weight.to(dtype), given.bias.to(dtype))
    )
    assert given.weight.dtype == torch.float32, "the weights of the checkpoint are not changed"


@pytest.mark.parametrize(
    ("name", "linear", "attention"),
    [
        ("fp32", nn.Linear, DenseAttention),
        ("fp16", nn.Linear, DenseAttention),
        ("fp8", Fp8Linear, Fp8Attention),
        ("int8", Int8Linear, Fp8Attention),
    ],
)
def test_the_precision_decides_which_layer_is_made(name: str, linear: type, attention: type) -> None:
    factory = LayerFactory(Precision.named(name), LARGEST, INT8).inside("part")
    assert type(factory.linear(affine(), "linear")) is linear
    assert type(factory.attention()) is attention


def test_parts_are_named_from_the_outside_in() -> None:
    factory = (
        LayerFactory(Precision.named("fp8"), {"blocks.3.attention.out": 2.0}).inside("blocks.3").inside("attention")
    )
    linear = factory.linear(affine(), "out")
    assert isinstance(linear, Fp8Linear)
    assert float(linear.input_scale) == pytest.approx(2 / 448, rel=1e-3)


@pytest.mark.parametrize("name", ["part.linear", "part.q", "part.k", "part.v"])
def test_a_number_that_an_edited_calibration_lacks_is_named(name: str) -> None:
    largest = {key: value for key, value in LARGEST.items() if key != name}
    factory = LayerFactory(Precision.named("fp8"), largest).inside("part")
    with pytest.raises(MisuseError, match=f"the calibration has no number for {name}; calibrate again"):
        _ = factory.linear(affine(), "linear"), factory.attention()


def test_an_observer_sees_every_input_that_would_be_quantised_and_changes_none() -> None:
    seen: list[tuple[str, Tensor]] = []
    factory = LayerFactory(FP8_IN_FLOAT32, observe=lambda *found: seen.append(found)).inside("part")
    given, x = affine(), torch.randn(4, 8)
    linear, attention = factory.linear(given, "linear"), factory.attention()
    assert isinstance(linear, Observed)
    assert torch.equal(linear(x), FLOAT32.plain(given)(x))
    q, k, v = (torch.randn(1, 2, 5, 4) for _ in range(3))
    assert torch.equal(attention(q, k, v), DenseAttention()(q, k, v))
    assert [name for name, _ in seen] == ["part.linear", "part.q", "part.k", "part.v"]
    assert all(ours is theirs for (_, ours), theirs in zip(seen, (x, q, k, v), strict=True))


def test_dense_attention_does_not_scale_q() -> None:
    q, k, v = (torch.randn(1, 2, 5, 4, dtype=torch.float64) for _ in range(3))
    expected = torch.softmax(q @ k.transpose(-1, -2), dim=-1) @ v
    torch.testing.assert_close(DenseAttention()(q, k, v), expected, rtol=1e-12, atol=1e-12)


def test_an_fp8_linear_computes_what_an_independent_simulation_says() -> None:
    given, x = affine(), torch.randn(3, 8) * 2  # some exceed 3 and saturate
    weight = given.weight.numpy()
    expected = e4m3(x.numpy(), 3.0) @ e4m3(weight, float(np.abs(weight).max())).T + given.bias.numpy()
    np.testing.assert_allclose(Fp8Linear(given, 3.0, FP8_IN_FLOAT32)(x), expected, rtol=1e-5, atol=1e-5)


def int8(x: Array, largest: float) -> Array:
    """x rounded to INT8 and back."""
    scale = np.float32(largest / 127)
    return np.clip(np.rint(x / scale), -128, 127).astype(np.float32) * scale


def test_an_int8_linear_computes_what_an_independent_simulation_says() -> None:
    given, x = affine(), torch.randn(3, 8) * 2  # some exceed 3 and saturate
    given = Affine(given.weight * torch.tensor([0.05, 1.0, 5.0, 0.2, 30.0, 0.0])[:, None], given.bias)
    rows = np.stack([int8(row, float(np.abs(row).max()) or 1.0) for row in given.weight.numpy()])
    expected = int8(x.numpy(), 3.0) @ rows.T + given.bias.numpy()
    np.testing.assert_allclose(
        Int8Linear(given, Int8Scales(8, 0.0, 3.0, (0,) * 8), INT8_IN_FLOAT32)(x), expected, rtol=1e-5, atol=1e-5
    )


def test_shifts_divide_the_input_and_multiply_the_weight() -> None:
    given, x, shifts = affine(), torch.randn(3, 8), (0, 1, -2, 12, 0, 0, -12, 3)
    divisor = 2.0 ** np.array(shifts, np.float32)
    weight = given.weight.numpy() * divisor
    rows = np.stack([int8(row, float(np.abs(row).max())) for row in weight])
    largest = float(np.abs(x.numpy() / divisor).max())
    expected = int8(x.numpy() / divisor, largest) @ rows.T + given.bias.numpy()
    np.testing.assert_allclose(
        Int8Linear(given, Int8Scales(8, 0.0, largest, shifts), INT8_IN_FLOAT32)(x), expected, rtol=1e-4, atol=1e-4
    )


def test_fp8_attention_quantises_the_softmax_too() -> None:
    q, k, v = (torch.randn(1, 2, 5, 4) for _ in range(3))
    scores = e4m3(q.numpy(), 2.0) @ e4m3(k.numpy(), 3.0).swapaxes(-1, -2)
    weights = e4m3(torch.softmax(torch.from_numpy(scores), dim=-1).numpy(), 1.0)
    expected = weights @ e4m3(v.numpy(), 4.0)
    ours = Fp8Attention(2.0, 3.0, 4.0, FP8_IN_FLOAT32)(q, k, v)
    np.testing.assert_allclose(ours, expected, rtol=1e-5, atol=1e-5)


def test_the_root_mean_square_is_that_of_a_norm_without_weights() -> None:
    x = torch.randn(2, 5, 8, dtype=torch.float64)
    norm = nn.RMSNorm(8, 1e-3, elementwise_affine=False)
    torch.testing.assert_close(x * rms_factor(x, 1e-3), norm(x), rtol=1e-12, atol=1e-12)
    assert fixed_eps(norm) == 1e-3


def test_a_norm_whose_epsilon_depends_on_the_dtype_is_refused() -> None:
    with pytest.raises(TypeError, match="fixed epsilon"):
        fixed_eps(nn.RMSNorm(8))


class _Both(nn.Module):
    """A quantised linear and the attention of its outputs, cast as a block casts."""

    def __init__(self, factory: LayerFactory) -> None:
        super().__init__()
        self.precision, self.linear, self.attend = (
            factory.precision,
            factory.linear(affine(), "linear"),
            factory.attention(),
        )

    def forward(self, x: Tensor) -> Tensor:
        y = self.linear(self.precision.narrow(x)).unsqueeze(0)
        out: Tensor = self.precision.widen(self.attend(y, y, y))
        return out


def test_a_traced_fp8_layer_computes_in_float16_between_its_casts(tmp_path: Path) -> None:
    factory = LayerFactory(Precision.named("fp8"), LARGEST).inside("part")
    ports = ((("x", Role.LATENTS),), (("y", Role.LATENTS),))
    list(write_stages([Stage("both", _Both(factory), (torch.zeros(2, 5, 8),), *ports)], tmp_path))
    graph = onnx.shape_inference.infer_shapes(onnx.load(tmp_path / "both.onnx")).graph
    types = {value.name: value.type.tensor_type.elem_type for value in (*graph.value_info, *graph.input, *graph.output)}
    types |= {tensor.name: tensor.data_type for tensor in graph.initializer}
    operators = Counter(node.op_type for node in graph.node)
    assert (operators["QuantizeLinear"], operators["DequantizeLinear"]) == (5, 6)  # the weight is stored quantised
    for node in graph.node:
        if node.op_type in ("QuantizeLinear", "DequantizeLinear"):
            wide, narrow = (node.input[0], node.output[0])[:: 1 if node.op_type == "QuantizeLinear" else -1]
            assert (types[wide], types[narrow]) == (TensorProto.FLOAT16, TensorProto.FLOAT8E4M3FN)
        if node.op_type == "MatMul":
            assert {types[name] for name in node.input} == {TensorProto.FLOAT16}
    assert (types["x"], types["y"]) == (TensorProto.FLOAT, TensorProto.FLOAT)
