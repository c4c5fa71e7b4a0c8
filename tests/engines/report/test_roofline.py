"""The projection follows the formula of docs/roofline.md, checked with numbers that are easy to do in the head."""

from __future__ import annotations

from pathlib import Path

import pytest

from swiftvr_trt.engines.compile.log import ATTENTION, CONV, GEMM, MOVE
from swiftvr_trt.engines.compile.report import CompiledKernel, CompiledStage
from swiftvr_trt.engines.report.roofline import CARDS, Card, cards_for, kernel_seconds, project

CARD = Card("card", "SM0", fp32=1e12, fp16=10e12, fp8=20e12, fp4=40e12, bandwidth=1e12)
DOCS = Path(__file__).parents[3] / "docs" / "roofline.md"


def kernel(kind: str, precision: str, flops: float, nbytes: float) -> CompiledKernel:
    return CompiledKernel("k", kind, precision, int(flops), int(nbytes), (), (), (), ())


def stage(name: str, *kernels: CompiledKernel) -> CompiledStage:
    return CompiledStage(name, 0, 0, {}, kernels)


@pytest.mark.parametrize(
    ("precision", "seconds"), [("Float", 1.0), ("Half", 0.1), ("BFloat16", 0.1), ("FP8", 0.05), ("FP4", 0.025)]
)
def test_a_kernel_with_much_arithmetic_is_bound_by_its_precision(precision: str, seconds: float) -> None:
    assert kernel_seconds(kernel(GEMM, precision, 1e12, 1e3), CARD) == pytest.approx(seconds)


def test_a_kernel_that_moves_much_data_is_bound_by_bandwidth() -> None:
    assert kernel_seconds(kernel(MOVE, "Half", 0, 5e11), CARD) == pytest.approx(0.5)


def test_a_chunk_encodes_and_decodes_every_latent_and_runs_the_transformer_once() -> None:
    stages = [
        stage("encode", kernel(CONV, "Half", 1e12, 0)),
        stage("dit", kernel(GEMM, "FP8", 20e12, 0), kernel(ATTENTION, "FP8", 10e12, 0)),
        stage("dit_edge", kernel(GEMM, "FP8", 9e99, 0)),
        stage("decode", kernel(CONV, "Half", 2e12, 0), kernel(MOVE, "Half", 0, 1e11)),
    ]
    projected = project(stages, latents=6, frames=24, card=CARD)
    assert projected.stages == pytest.approx({"encode": 0.6, "dit": 1.5, "decode": 6 * 0.3})
    assert projected.kinds == pytest.approx({ATTENTION: 0.5, GEMM: 1.0, CONV: 0.6 + 1.2, MOVE: 0.6})
    assert projected.frames_per_second == pytest.approx(24 / 3.9)


def test_engines_are_projected_for_the_cards_that_run_them() -> None:
    assert {card.name for card in cards_for("SM120")} >= {"RTX 5090"}
    assert {card.sm for card in cards_for("SM89")} == {"SM89"}
    assert cards_for(None) == ()


@pytest.mark.parametrize("card", CARDS, ids=lambda card: card.name)
def test_rates_match_the_documentation(card: Card) -> None:
    [row] = [line for line in DOCS.read_text(encoding="utf-8").splitlines() if line.startswith(f"| {card.name} ")]
    cells = [cell.strip() for cell in row.strip("|").split("|")]
    assert cells[1] == card.sm
    rates = [card.fp32 / 1e12, card.fp16 / 1e12, card.fp8 / 1e12, card.fp4 / 1e12, card.bandwidth / 1e9]
    shown = [float(cell) if cell != "-" else None for cell in cells[2:7]]
    # A dash: the card has no unit for the format, which runs at the rate of the next wider one.
    for position, cell in enumerate(shown):
        assert rates[position] == pytest.approx(cell if cell is not None else rates[position - 1])
