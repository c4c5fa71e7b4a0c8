"""The rows of the matrix of engines, for compiled networks whose figures are known by construction."""

from __future__ import annotations

from dataclasses import replace

import pytest

from benchmarks.compiled_network import CompiledNetwork
from benchmarks.engine_matrix import CARDS, LAYERS, PRECISIONS, TARGETS, describe
from swiftvr_trt.engines.bundle.card_names import named_card
from swiftvr_trt.engines.bundle.cards import Card
from swiftvr_trt.engines.bundle.targets import find_target
from swiftvr_trt.engines.compile.log import ATTENTION, CONV, GEMM
from swiftvr_trt.engines.compile.report import CompiledKernel, CompiledStage
from tests.engines.fakes import RECIPE, fake_stages

CARD = Card("card", "SM0", 8, fp32=1e12, fp16=10e12, fp8=20e12, fp4=40e12, int8=40e12, bandwidth=1e12)


def _kernel(kind: str, precision: str, flops: float, constants: str) -> CompiledKernel:
    return CompiledKernel("k", kind, precision, int(flops), 0, (), (constants,), ("Half 9x4",), ())


def _network(layers: int, no_blocks: CompiledNetwork | None = None) -> CompiledNetwork:
    """Outside the blocks 1 ms; a block takes 2 ms in INT8 and 3 ms in FP8. The autoencoder's stages take 4 and 5 ms."""
    block = (_kernel(GEMM, "Int8", 80e9, "Int8 4x4"), _kernel(ATTENTION, "FP8", 60e9, ""))
    dit = (_kernel(GEMM, "Half", 10e9, "Half 4x4"), *layers * block)
    kernels = {
        "encode": (_kernel(CONV, "Half", 40e9, ""),),
        "dit": dit,
        "dit_edge": dit,
        "decode": (_kernel(CONV, "Half", 50e9, ""),),
    }
    stages = {name: CompiledStage(name, 1000 + len(found), 2, {}, found) for name, found in kernels.items()}
    return CompiledNetwork(RECIPE, 4, layers, 300, stages, tuple(fake_stages()), no_blocks=no_blocks)


def test_the_roofline_of_a_chunk_counts_all_blocks_and_every_latent() -> None:
    row = describe(_network(2, _network(0)), CARD)
    assert (row.dit, row.encode, row.decode) == (1 + 5 * LAYERS, 4, 5)
    assert row.chunk == pytest.approx(1 + 5 * LAYERS + RECIPE.latents * (4 + 5), abs=0.1)
    assert row.products == {"Int8": 1}
    assert (row.kernels_per_block, row.fused, row.attentions) == (2, 2, 2)
    assert (row.arena, row.decoder_arena) == (1005, 1001)


def test_a_network_of_one_size_needs_no_other() -> None:
    assert describe(replace(_network(LAYERS), no_blocks=None), CARD).dit == 1 + 5 * LAYERS


@pytest.mark.parametrize("name", TARGETS)
def test_every_target_is_stood_for_by_a_card_of_its_series(name: str) -> None:
    target = find_target(name)
    assert named_card(CARDS.get(name, name)).sm == target.sm
    assert set(PRECISIONS) & set(target.precisions)
