"""The rows of the engine table, for compiled networks whose counts are known by construction."""

from __future__ import annotations

from dataclasses import replace

import pytest

from benchmarks.comparison import Comparison, compare, fp8_share, kernels_per_block, not_in_fp8
from benchmarks.compiled_network import CompiledNetwork
from swiftvr_trt.engines.compile.log import ATTENTION
from swiftvr_trt.engines.compile.report import CompiledKernel, CompiledStage
from tests.engines.fakes import RECIPE, fake_stages


def test_a_row_is_confirmed_if_both_recounts_are_within_the_tolerance() -> None:
    row = Comparison("", "", plain=200.0, rewritten=100.0, plain_recount=201.0, rewritten_recount=99.0, tolerance=0.01)
    assert row.ratio == 0.5
    assert row.confirmed
    assert not replace(row, tolerance=0.0).confirmed
    assert not replace(row, plain_recount=203.0).confirmed
    assert replace(row, plain=None, tolerance=0.02).confirmed
    assert replace(row, plain=None).ratio is None


def _kernel(kind: str, precision: str, constants: str, outputs: str) -> CompiledKernel:
    return CompiledKernel("k", kind, precision, 0, 0, (), (constants,), (outputs,), ())


def _network(
    kernels: tuple[CompiledKernel, ...], layers: int, no_blocks: CompiledNetwork | None = None
) -> CompiledNetwork:
    sizes = {"encode": 8_000_000, "dit": 16_000_000, "dit_edge": 32_000_000, "decode": 64_000_000}
    stages = {name: CompiledStage(name, arena, 0, {"fp16": 2 * arena}, kernels) for name, arena in sizes.items()}
    specs = tuple(replace(spec, arena_bytes=1000, weight_bytes=5000) for spec in fake_stages())
    return CompiledNetwork(RECIPE, 4, layers, 300, stages, specs, no_blocks=no_blocks)


PATCH = _kernel("gemm", "Half", "Half 8x4", "Half 9x4")
UP, DOWN = _kernel("gemm", "FP8", "FP8 4x16", "Half 9x16"), _kernel("gemm", "FP8", "FP8 16x4", "Half 9x4")
VALUES, NORM = _kernel("gemm", "Half", "Half 2x4", "Half 9x4"), _kernel("norm and elementwise", "Half", "", "FP8 9x4")


def test_blocks_cost_the_difference_to_a_network_without_them() -> None:
    network = _network((PATCH, *2 * (NORM, UP, DOWN, VALUES)), 2, _network((PATCH,), 0))
    assert kernels_per_block(network) == 4
    assert len(network.block_gemms()) == 6
    assert fp8_share(network) == pytest.approx(4 / 6)
    assert not_in_fp8(network) == "2 x Half product with Half 2x4"


def test_the_table_holds_the_figures_of_both_networks() -> None:
    kernels = (PATCH, UP, _kernel(ATTENTION, "Half", "", "Half 9x4"))
    network = _network(kernels, 1, _network((PATCH,), 0))
    stages = {name: replace(stage, attentions=2) for name, stage in network.stages.items()}
    network = replace(network, stages=stages)
    plain = replace(network, frames=8, torch_flops={name: stage.total_flops for name, stage in network.stages.items()})
    table: dict[str, tuple[float | None, ...]] = {
        row.what: (row.plain, row.rewritten, row.plain_recount, row.rewritten_recount)
        for row in compare(plain, network)
    }
    assert table["decoder: activations"] == (64.0, 64.0, None, None)
    assert table["encoder: operations per frame"] == (0.002, 0.004, 0.002, None)
    assert table["DiT: operations per chunk of n latents"] == (3.2e-5, 3.2e-5, 3.2e-5, None)
    assert table["DiT: kernels per block"] == (2.0, 2.0, None, None)
    assert table["DiT: attention calls fused"] == (0.5, 0.5, None, None)
    assert [row.confirmed for row in compare(plain, network)] == [True] * len(table)
