"""The transformer as it is traced is the plain one, whichever rewrites are on and however a chunk is cut."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from swiftvr_trt import Resolution
from swiftvr_trt.export.graph.dit_stage import DitStage, cut_chunk
from swiftvr_trt.export.graph.layers import LayerFactory
from swiftvr_trt.export.graph.precision import FP32, Precision
from swiftvr_trt.export.graph.rewrites import ALL, Rewrites
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
def test_the_stream_is_float32_where_products_are_narrow(name: str, dtype: torch.dtype) -> None:
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
