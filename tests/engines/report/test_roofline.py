"""The projection is the formula of docs/roofline.md, checked with numbers that can be done in one's head."""

from __future__ import annotations

from pathlib import Path

import pytest

from swiftvr_trt.engines.compile.log import ATTENTION, CONV, GEMM, MOVE
from swiftvr_trt.engines.compile.report import KernelFacts, StageFacts
from swiftvr_trt.engines.report.roofline import GPUS, Gpu, gpus_for, kernel_seconds, project

CARD = Gpu("card", "SM0", fp32=1e12, fp16=10e12, fp8=20e12, fp4=40e12, bandwidth=1e12)
DOCS = Path(__file__).parents[3] / "docs" / "roofline.md"


def kernel(kind: str, precision: str, flops: float, nbytes: float) -> KernelFacts:
    return KernelFacts("k", kind, precision, int(flops), int(nbytes), (), (), (), ())


def stage(name: str, *kernels: KernelFacts) -> StageFacts:
    return StageFacts(name, 0, 0, {}, kernels)


@pytest.mark.parametrize(
    ("precision", "seconds"), [("Float", 1.0), ("Half", 0.1), ("BFloat16", 0.1), ("FP8", 0.05), ("FP4", 0.025)]
)
def test_a_kernel_that_multiplies_much_is_bound_by_its_precision(precision: str, seconds: float) -> None:
    assert kernel_seconds(kernel(GEMM, precision, 1e12, 1e3), CARD) == pytest.approx(seconds)


def test_a_kernel_that_moves_much_is_bound_by_the_memory() -> None:
    assert kernel_seconds(kernel(MOVE, "Half", 0, 5e11), CARD) == pytest.approx(0.5)


def test_a_chunk_is_every_latent_in_and_out_and_one_pass_of_the_transformer() -> None:
    stages = [
        stage("encode", kernel(CONV, "Half", 1e12, 0)),
        stage("dit", kernel(GEMM, "FP8", 20e12, 0), kernel(ATTENTION, "FP8", 10e12, 0)),
        stage("dit_edge", kernel(GEMM, "FP8", 9e99, 0)),
        stage("decode", kernel(CONV, "Half", 2e12, 0), kernel(MOVE, "Half", 0, 1e11)),
    ]
    projected = project(stages, latents=6, frames=24, gpu=CARD)
    assert projected.stages == pytest.approx({"encode": 0.6, "dit": 1.5, "decode": 6 * 0.3})
    assert projected.kinds == pytest.approx({ATTENTION: 0.5, GEMM: 1.0, CONV: 0.6 + 1.2, MOVE: 0.6})
    assert projected.frames_per_second == pytest.approx(24 / 3.9)


def test_engines_are_projected_for_cards_that_run_them() -> None:
    assert {gpu.name for gpu in gpus_for("SM120")} >= {"RTX 5090"}
    assert {gpu.sm for gpu in gpus_for("SM89")} == {"SM89"}
    assert gpus_for(None) == ()


@pytest.mark.parametrize("gpu", GPUS, ids=lambda gpu: gpu.name)
def test_the_rates_are_those_of_the_documentation(gpu: Gpu) -> None:
    [row] = [line for line in DOCS.read_text(encoding="utf-8").splitlines() if line.startswith(f"| {gpu.name} ")]
    cells = [cell.strip() for cell in row.strip("|").split("|")]
    assert cells[1] == gpu.sm
    rates = [gpu.fp32 / 1e12, gpu.fp16 / 1e12, gpu.fp8 / 1e12, gpu.fp4 / 1e12, gpu.bandwidth / 1e9]
    shown = [float(cell) if cell != "-" else None for cell in cells[2:7]]
    # a dash stands for a format without a unit of its own: it runs at the next wider one
    for position, cell in enumerate(shown):
        assert rates[position] == pytest.approx(cell if cell is not None else rates[position - 1])
