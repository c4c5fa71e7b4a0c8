"""The transformer as it is traced is the plain one, whichever rewrites are on and however a chunk is cut."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import onnxruntime
import pytest
import torch
from torch import Tensor, nn

from swiftvr_trt import Resolution
from swiftvr_trt.engines.bundle.calibration import Int8Scales
from swiftvr_trt.engines.bundle.manifest import Role
from swiftvr_trt.export.graph.dit_stage import DitStage, cut_chunk
from swiftvr_trt.export.graph.layers import LayerFactory
from swiftvr_trt.export.graph.precision import FP32, Precision
from swiftvr_trt.export.graph.rewrites import ALL, Rewrites
from swiftvr_trt.export.graph.stages import Stage
from swiftvr_trt.export.graph.to_onnx import write_stages
from swiftvr_trt.export.network.dit import without_blocks
from tests.export.small import DIT, GRIDS, assert_same, small_dit, small_prompt


@pytest.fixture(autouse=True)
def _deterministic() -> Iterator[None]:
    torch.manual_seed(3)
    with torch.no_grad():
        yield


def latents(count: int, size: Resolution) -> Tensor:
    return torch.randn(count, DIT.latent_channels, size.latent_height, size.latent_width, dtype=torch.float64)


@pytest.mark.parametrize("size", GRIDS, ids=str)
@pytest.mark.parametrize(
    "rewrites",
    [ALL, ALL.without(Rewrites.names()), *(ALL.without([name]) for name in Rewrites.names())],
    ids=["all", "none", *(f"without-{name}" for name in Rewrites.names())],
)
def test_the_traced_transformer_is_the_plain_one(rewrites: Rewrites, size: Resolution) -> None:
    dit, rows = small_dit(), small_prompt(distinct=3)
    z = latents(2, size)
    assert_same(DitStage(dit, rows, size, 2, rewrites)(z), dit(z, rows))


@pytest.mark.parametrize("distinct", [1, 2, 8, 9])
def test_any_number_of_distinct_prompt_rows_gives_the_plain_result(distinct: int) -> None:
    dit, rows, size = small_dit(), small_prompt(distinct), GRIDS[0]
    z = latents(1, size)
    assert_same(DitStage(dit, rows, size, 1, ALL)(z), dit(z, rows))


@pytest.mark.parametrize("count", [5, 6, 7])
def test_a_stage_for_seven_latents_takes_fewer(count: int) -> None:
    dit, rows, size = small_dit(), small_prompt(2), GRIDS[0]
    z = latents(count, size)
    assert_same(DitStage(dit, rows, size, 7, ALL)(z), dit(z, rows))


@pytest.mark.parametrize(
    "precision",
    [replace(FP32, joint_inputs=True), replace(FP32, ffn_parts=2), replace(FP32, ffn_parts=3)],
    ids=["joint inputs", "two parts", "three parts"],
)
@pytest.mark.parametrize("count", [6, 7])
def test_forms_that_only_the_compiler_tells_apart_compute_the_same(precision: Precision, count: int) -> None:
    dit, rows, size = small_dit(), small_prompt(2), GRIDS[3]
    z = latents(count, size)
    assert_same(DitStage(dit, rows, size, 7, ALL, LayerFactory(precision))(z), dit(z, rows))


def test_blocks_may_come_from_elsewhere_one_by_one() -> None:
    """As calibration runs them: a stage without blocks embeds, and passes the stream through one block at a time."""
    dit, rows, size = small_dit(), small_prompt(2), GRIDS[0]
    whole, bare = DitStage(dit, rows, size, 2, ALL), DitStage(without_blocks(dit), rows, size, 2, ALL)
    z = latents(2, size)
    x, seen = bare.embedded(z), []
    for block in whole.blocks:
        block.register_forward_hook(lambda _module, _inputs, result: seen.append(result))
    whole(z)
    for layer, block in enumerate(list(whole.blocks)):
        x = bare.through(block, layer, x)
        assert torch.equal(x, seen[layer])


@pytest.mark.parametrize(("name", "dtype"), [("bf16", torch.bfloat16), ("fp16", torch.float16)])
def test_the_stream_of_unquantised_precisions_is_float32(name: str, dtype: torch.dtype) -> None:
    dit, rows, size = small_dit(1).float(), small_prompt(2).float(), GRIDS[3]
    stage = DitStage(dit, rows, size, 1, ALL, LayerFactory(Precision.named(name)))
    z = latents(1, size).float()
    products: list[torch.dtype] = []
    for module in stage.modules():
        if isinstance(module, nn.Linear):
            module.register_forward_hook(lambda _module, inputs, _result: products.append(inputs[0].dtype))
    x = stage.through(stage.blocks[0], 0, stage.embedded(z))
    assert x.dtype == stage(z).dtype == torch.float32
    assert set(products) == {dtype}


@pytest.mark.parametrize("latents", range(1, 15))
def test_the_last_part_of_a_chunk_is_never_a_single_latent(latents: int) -> None:
    """Its length is the free one of the two; the tracer takes a length of one for a constant, and refuses."""
    starts = (0, *cut_chunk(latents, 2))
    assert latents < 5 or len(starts) == 2
    assert len(starts) == 1 or latents - 1 - starts[-1] > 1


@pytest.mark.parametrize(("latents", "parts", "cuts"), [(7, 1, ()), (7, 2, (3,)), (7, 3, (2, 4)), (4, 2, ())])
def test_a_chunk_is_cut_into_equal_parts(latents: int, parts: int, cuts: tuple[int, ...]) -> None:
    assert cut_chunk(latents, parts) == cuts


OFF = [Rewrites.names(), *((name,) for name in Rewrites.names())]


class AnyLargest(dict[str, float]):
    """A calibration that knows every product."""

    def __getitem__(self, _name: str) -> float:
        return 4.0


class AnyInt8(dict[str, Int8Scales]):
    """A calibration that has every linear of a small transformer in INT8."""

    def __getitem__(self, name: str) -> Int8Scales:
        return Int8Scales(8, 40.0, 4.0, (0,) * (DIT.ffn_dim if name.endswith(".down") else DIT.dim))


def narrow_stage(precision: str, off: tuple[str, ...]) -> tuple[DitStage, Tensor]:
    """A stage of one block in a precision, e.g. `fp8` or `fp8 on 12.0`, and float32 latents for it."""
    dit, rows, size = small_dit(1).float(), small_prompt(3).float(), GRIDS[3]
    name, _, capability = precision.partition(" on ")
    factory = LayerFactory(Precision.named(name).on(capability or None), AnyLargest(), AnyInt8())
    return DitStage(dit, rows, size, 1, ALL.without(off), factory), latents(1, size).float()


@pytest.mark.parametrize("off", OFF, ids="-".join)
@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16", "fp8", "fp8 on 12.0", "int8", "nvfp4", "nvfp4 on 12.0"])
def test_every_product_gets_one_dtype_whichever_rewrite_is_off(precision: str, off: tuple[str, ...]) -> None:
    """Torch refuses a product of two dtypes, and so do our quantisers. Otherwise, rewrites change no result."""
    torch.manual_seed(3)
    reference, same = narrow_stage(precision, ())
    torch.manual_seed(3)
    stage, z = narrow_stage(precision, off)
    assert torch.equal(z, same)
    restored, expected = stage(z), reference(z)
    assert restored.dtype == torch.float32
    assert restored.isfinite().all()
    tolerance = {"fp32": 1e-4, "bf16": 0.05, "fp16": 0.01}.get(precision)
    if tolerance is not None:  # made-up scales say nothing about values
        assert float((restored - expected).abs().max()) <= tolerance * float((expected - z).abs().max())


@pytest.mark.parametrize("precision", ["fp16", "fp8"])
def test_onnx_runtime_loads_a_graph_without_any_rewrite(precision: str, tmp_path: Path) -> None:
    stage, z = narrow_stage(precision, Rewrites.names())
    names = (("latents", Role.LATENTS),), (("restored", Role.LATENTS),)
    list(write_stages([Stage("dit", stage, (z,), *names)], tmp_path))
    session = onnxruntime.InferenceSession(str(tmp_path / "dit.onnx"), providers=["CPUExecutionProvider"])
    (restored,) = session.run(None, {"latents": z.numpy()})
    assert restored.shape == tuple(z.shape)
