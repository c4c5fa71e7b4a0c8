"""NVFP4: rounding follows the format, a linear matches an independent simulation, and the compiler multiplies in FP4.

The simulation uses ml_dtypes, which has its own casts to E2M1 and E4M3.
"""

from __future__ import annotations

import importlib.util
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

from swiftvr_trt import MisuseError, Resolution
from swiftvr_trt.engines.bundle.calibration import Calibration
from swiftvr_trt.engines.bundle.manifest import Recipe, Role, StageSpec
from swiftvr_trt.engines.bundle.targets import ONNX, PRECISIONS, find_target
from swiftvr_trt.engines.compile.compiler import compile_engine
from swiftvr_trt.engines.compile.counting import count_file
from swiftvr_trt.engines.compile.engines import EngineOptions, compile_job
from swiftvr_trt.engines.compile.log import GEMM, by_precision
from swiftvr_trt.export.graph.layers import Fp8Linear, LayerFactory, Nvfp4Linear
from swiftvr_trt.export.graph.nvfp4 import (
    E2M1,
    dequantize_nvfp4,
    fake_quantize_nvfp4,
    nvfp4_scale,
    pack_e2m1,
    quantize_nvfp4,
    round_to_e2m1,
    unpack_e2m1,
)
from swiftvr_trt.export.graph.precision import Precision
from swiftvr_trt.export.graph.rewrites import Affine
from swiftvr_trt.export.graph.stages import Stage, stages_of
from swiftvr_trt.export.graph.to_onnx import WEIGHTS, write_stages
from swiftvr_trt.export.network.checkpoint import load_checkpoint
from swiftvr_trt.export.write import write_bundle

Array = np.ndarray[Any, Any]

WIDE = Precision("nvfp4 in float32", linears="nvfp4")
real = pytest.mark.skipif(importlib.util.find_spec("tensorrt_rtx") is None, reason="needs TensorRT-RTX")


@pytest.fixture(autouse=True)
def _no_grad() -> Iterator[None]:
    with torch.no_grad():
        yield


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(
    ("value", "nearest"),
    [
        *((grid, grid) for grid in (0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0)),
        # between two values: the one whose mantissa bit is 0
        *((0.25, 0.0), (0.75, 1.0), (1.25, 1.0), (1.75, 2.0), (2.5, 2.0), (3.5, 4.0), (5.0, 4.0)),
        *((0.26, 0.5), (1.24, 1.0), (2.51, 3.0), (4.99, 4.0), (5.01, 6.0), (7.0, 6.0), (1e9, 6.0)),
    ],
)
def test_values_round_to_the_nearest_of_eight_magnitudes(value: float, nearest: float) -> None:
    both = round_to_e2m1(torch.tensor([value, -value]))
    assert both.tolist() == [nearest, -nearest]


def test_rounding_agrees_with_an_independent_implementation() -> None:
    x = torch.cat([normal(5000) * 3, torch.arange(-26, 27) / 4])
    assert np.array_equal(round_to_e2m1(x).numpy(), x.numpy().astype(ml_dtypes.float4_e2m1fn).astype(np.float32))


def test_two_values_share_a_byte_the_first_in_the_low_bits() -> None:
    packed = pack_e2m1(torch.tensor([[0.5, -6.0, 1.0, 3.0]]))
    assert packed.dtype == E2M1
    assert packed.view(torch.uint8).tolist() == [[0xF1, 0x52]]


def test_every_code_is_that_of_an_independent_implementation() -> None:
    codes = np.arange(16, dtype=np.uint8)
    values = torch.from_numpy(codes.view(ml_dtypes.float4_e2m1fn).astype(np.float32))
    packed = pack_e2m1(values)
    assert packed.view(torch.uint8).tolist() == [low | high << 4 for low, high in codes.reshape(-1, 2).tolist()]
    assert torch.equal(unpack_e2m1(packed), values)


def test_what_the_format_can_represent_comes_back_exactly() -> None:
    """Values of the grid, block scales that E4M3 has, and a largest block scale of 448: a tensor scale of 1/8."""
    grid = torch.tensor([0, 0.5, 1, 1.5, 2, 3, 4, 6, -0.5, -1, -1.5, -2, -3, -4, -6, 6])
    x = torch.cat([grid * 448, grid * 1.25, torch.zeros(16), grid / 64])[None] / 8
    assert torch.equal(fake_quantize_nvfp4(x, nvfp4_scale(6 * 448 / 8)), x)
    packed, scales, scale = quantize_nvfp4(x)
    assert (packed.shape, scales.tolist(), scale.item()) == ((1, 32), [[448, 1.25, 0, 1 / 64]], 1 / 8)
    assert torch.equal(dequantize_nvfp4(packed, scales, scale), x)


def test_zeros_stay_zeros() -> None:
    x = torch.zeros(2, 32)
    assert torch.equal(fake_quantize_nvfp4(x, nvfp4_scale(0.0)), x)
    assert torch.equal(dequantize_nvfp4(*quantize_nvfp4(x)), x)


@pytest.mark.parametrize("spread", [0.1, 1.0, 4.0])
def test_the_error_is_bounded_by_a_sixth_of_the_largest_of_the_block(spread: float) -> None:
    """Steps are at most 2 scales wide, so a value is at most one scale off; a scale is a sixth of the largest value of
    its block, and E4M3 keeps it to 1/16.
    """
    x = normal(64, 256) * (normal(64, 256, seed=1) * spread).exp()
    largest = x.unflatten(-1, (-1, 16)).abs().amax(-1, keepdim=True)
    scale = nvfp4_scale(float(x.abs().max()))
    bound = torch.maximum(largest / 6 * 17 / 16, scale * 2**-9 * 6)  # the least block scale, for tiny blocks
    for back in (fake_quantize_nvfp4(x, scale), dequantize_nvfp4(*quantize_nvfp4(x))):
        assert bool(((back - x).unflatten(-1, (-1, 16)).abs() <= bound * (1 + 1e-6)).all())


def test_an_input_beyond_what_calibration_saw_saturates() -> None:
    x = torch.full((1, 16), 100.0)
    assert torch.allclose(fake_quantize_nvfp4(x, nvfp4_scale(10.0)), torch.full((1, 16), 10.0))


def affine(outputs: int, inputs: int) -> Affine:
    return Affine(normal(outputs, inputs, seed=2) / inputs**0.5, normal(outputs, seed=3))


def simulated(x: Array, scale: np.float32) -> Array:
    """x [.., K] through NVFP4, with numpy's own formats."""
    blocks = x.reshape(-1, 16)
    largest = np.abs(blocks).max(1, keepdims=True)
    scales = np.minimum(largest / np.float32(6) / scale, np.float32(448)).astype(ml_dtypes.float8_e4m3fn)
    unit = scales.astype(np.float32) * scale
    values = np.divide(blocks, unit, out=np.zeros_like(blocks), where=unit > 0)
    rounded: Array = values.astype(ml_dtypes.float4_e2m1fn).astype(np.float32)
    restored: Array = (rounded * unit).reshape(x.shape)
    return restored


@pytest.mark.parametrize(
    ("form", "tolerance"), [(WIDE, 1e-5), (Precision.named("nvfp4"), 2e-3)], ids=["float32", "float16"]
)
def test_a_linear_computes_what_an_independent_simulation_says(form: Precision, tolerance: float) -> None:
    given, x = affine(40, 96), normal(2, 5, 96)
    x = x if form.compute is None else x.to(form.compute)
    largest = 0.75 * float(x.abs().max())  # some saturate
    weight = given.weight.numpy()
    products = simulated(x.float().numpy(), np.float32(largest / 2688))
    expected = products @ simulated(weight, np.abs(weight).max() / np.float32(2688)).T + given.bias.numpy()
    ours = Nvfp4Linear(given, largest, form)(x)
    assert ours.dtype == x.dtype
    assert np.allclose(ours.float().numpy(), expected, rtol=tolerance, atol=tolerance * 4)


def test_the_error_of_a_linear_is_that_of_two_rounded_operands() -> None:
    """Each operand is off by a tenth (rounding normal values to E2M1 with a scale per block); errors add in squares."""
    given, x = affine(256, 512), normal(64, 512)
    exact = x @ given.weight.T
    ours = Nvfp4Linear(given, float(x.abs().max()), WIDE)(x) - given.bias
    relative = float((ours - exact).norm() / exact.norm())
    assert relative < 0.1 * 2**0.5


def test_inputs_that_do_not_divide_into_blocks_stay_in_fp8() -> None:
    factory = LayerFactory(Precision.named("nvfp4"), {"even": 1.0, "odd": 1.0})
    assert isinstance(factory.linear(affine(8, 48), "even"), Nvfp4Linear)
    assert isinstance(factory.linear(affine(8, 24), "odd"), Fp8Linear)


class _Linear(nn.Module):
    def __init__(self, linear: nn.Module) -> None:
        super().__init__()
        self.linear = linear

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.linear(x)
        return out


def test_the_graph_holds_packed_weights_and_the_operators_that_the_compiler_knows(tmp_path: Path) -> None:
    linear = Nvfp4Linear(affine(40, 96), 3.0, WIDE)
    ports = ((("x", Role.LATENTS),), (("y", Role.LATENTS),))
    [traced] = write_stages([Stage("linear", _Linear(linear), (torch.zeros(2, 5, 96),), *ports)], tmp_path)
    path = tmp_path / traced.spec.file
    onnx.checker.check_model(path)
    model = onnx.load(path, load_external_data=False)
    assert {(entry.domain, entry.version) for entry in model.opset_import} == {("", 23), ("trt", 1)}
    operators = Counter((node.domain, node.op_type) for node in model.graph.node)
    assert operators["trt", "TRT_FP4DynamicQuantize"] == 1
    assert operators["", "DequantizeLinear"] == 4
    [stored] = [tensor for tensor in model.graph.initializer if tensor.data_type == TensorProto.FLOAT4E2M1]
    assert list(stored.dims) == [40, 96]
    place = {entry.key: entry.value for entry in stored.external_data}
    assert (place["location"], place["length"]) == (WEIGHTS, str(40 * 96 // 2))
    data = (tmp_path / WEIGHTS).read_bytes()[int(place["offset"]) :][: 40 * 96 // 2]
    assert data == bytes(linear.weight.view(torch.uint8).flatten().tolist())
    assert count_file(path).by_precision() == {"fp4": 2 * 10 * 40 * 96}


SIZE = Resolution(45, 37)


@pytest.fixture(scope="module")
def joint(mini_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[list[StageSpec], Path]:
    """A transformer of one block for both lengths (4 and 5 latents), as engines have it."""
    attention = [f"attention.{part}" for part in ("qkv", "q", "k", "v", "out")]
    parts = [*attention, "cross.query", "up", "down"]
    largest = {f"blocks.0.{part}": 8.0 for part in parts}
    checkpoint = load_checkpoint(mini_checkpoint)
    checkpoint.dit.blocks = checkpoint.dit.blocks[:1]
    recipe = Recipe("a" * 64, SIZE.width, SIZE.height, 16, "nvfp4", "rtx5090")
    made = stages_of(checkpoint, recipe, largest, joint=True, capability="12.0")
    graphs = tmp_path_factory.mktemp("nvfp4")
    [stage] = [stage for stage in made if stage.name == "dit"]
    return [traced.spec for traced in write_stages([stage], graphs)], graphs


def test_all_linears_of_the_blocks_are_counted_in_fp4_and_attention_in_fp8(
    joint: tuple[list[StageSpec], Path],
) -> None:
    specs, graphs = joint
    for spec in specs:
        shapes = {tensor.name: tuple(side or 1 for side in tensor.shape) for tensor in spec.inputs}
        counted = count_file(graphs / spec.file, shapes)
        tokens, dim, ffn, heads = 4 * spec.inputs[0].shape[0], 48, 64, 2  # type: ignore[operator]
        linears = 3 * dim * dim + dim * dim + (dim + heads) * dim + 2 * dim * ffn
        assert counted.by_precision()["fp4"] == 2 * tokens * linears
        assert counted.by_precision()["fp8"] == 2 * 2 * tokens * tokens * dim
        assert counted.attentions == 1


@real
def test_the_compiler_multiplies_in_fp4_for_sm120(joint: tuple[list[StageSpec], Path], tmp_path: Path) -> None:
    """qkv, out, query, and up and down for two parts of the chunk; in both profiles."""
    specs, graphs = joint
    made = compile_engine(compile_job(specs, graphs, tmp_path, EngineOptions(find_target("rtx5090"), SIZE))).made
    for profile in (0, 1):
        kernels = made.of_profile(profile)
        assert by_precision(kernels, GEMM)["FP4"] == 3 + 2 * 2


@pytest.mark.parametrize("place", ["onnx", "cpu"])
def test_graphs_with_an_operator_of_tensorrt_are_not_built_for_onnx_runtime(
    mini_checkpoint: Path, tmp_path: Path, place: str
) -> None:
    recipe = Recipe("a" * 64, SIZE.width, SIZE.height, 12, "nvfp4", place)
    expected = rf"^precision nvfp4 is not available for target {place} \(.* only TensorRT has: .*\); it takes: fp32"
    with pytest.raises(MisuseError, match=expected):
        write_bundle(mini_checkpoint, recipe, tmp_path / "b", calibration=Calibration("", "", 100.0, {}))
    assert not list(tmp_path.iterdir())


def test_every_other_precision_is_executed_by_onnx_runtime() -> None:
    assert set(ONNX.precisions) == set(PRECISIONS) - {"nvfp4"}
