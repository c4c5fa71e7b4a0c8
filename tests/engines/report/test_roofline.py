"""The projection follows the formula of docs/roofline.md, checked with numbers that are easy to do in the head."""

from __future__ import annotations

import pytest

from swiftvr_trt.engines.bundle.cards import Card
from swiftvr_trt.engines.compile.log import ATTENTION, CONV, GEMM, MOVE
from swiftvr_trt.engines.compile.report import CompiledKernel, CompiledStage
from swiftvr_trt.engines.report.roofline import kernel_seconds, project

CARD = Card("card", "SM0", 8, fp32=1e12, fp16=10e12, fp8=20e12, fp4=40e12, int8=50e12, bandwidth=1e12)


def kernel(kind: str, precision: str, flops: float, nbytes: float) -> CompiledKernel:
    return CompiledKernel("k", kind, precision, int(flops), int(nbytes), (), (), (), ())


def stage(name: str, *kernels: CompiledKernel) -> CompiledStage:
    return CompiledStage(name, 0, 0, {}, kernels)


@pytest.mark.parametrize(
    ("precision", "seconds"),
    [("Float", 1.0), ("Half", 0.1), ("BFloat16", 0.1), ("FP8", 0.05), ("FP4", 0.025), ("Int8", 0.02)],
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
