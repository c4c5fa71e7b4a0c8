"""Kernel classes and their roofline, by hand."""

from __future__ import annotations

import pytest

from swiftvr_trt.benchmarks.suite.projection import efficiency
from swiftvr_trt.benchmarks.suite.record import How, Roofline
from swiftvr_trt.benchmarks.suite.roof import kernel_classes, roofline_figures, roofline_of
from swiftvr_trt.engines.bundle.card_names import named_card
from swiftvr_trt.engines.compile.report import CompiledKernel, CompiledStage

from .lab import trial_bundle

CARD = named_card("RTX 5090")


def kernel(kind: str, precision: str, flops: int, nbytes: int) -> CompiledKernel:
    return CompiledKernel("k", kind, precision, flops, nbytes, (), (), (), ())


def test_classes_add_up_the_runs_of_a_chunk() -> None:
    second_flops, second_bytes = int(CARD.rate("Half")), int(CARD.bandwidth)
    kernels = (
        kernel("conv", "Half", second_flops, 1),
        kernel("conv", "Half", 1, second_bytes),
        kernel("move", "Half", 0, 10),
    )
    stages = [CompiledStage("encode", 0, 0, {}, kernels), CompiledStage("dit_edge", 0, 0, {}, kernels)]
    conv, move = kernel_classes(stages, 6, CARD)
    assert (conv.stage, conv.kind, conv.precision, conv.count) == ("encode", "conv", "FP16", 12)
    assert conv.flops == 6 * (second_flops + 1)
    assert conv.roof_ms == pytest.approx(12_000)
    assert conv.compute_bound == pytest.approx(0.5)
    assert (move.count, move.compute_bound) == (6, 0.0)


def test_the_expected_speed_is_what_kernels_reach_times_the_factor() -> None:
    classes = tuple(
        kernel_classes([CompiledStage("dit", 0, 0, {}, (kernel("gemm", "FP8", int(CARD.rate("FP8")), 1),))], 6, CARD)
    )
    figures = {
        one.name: one for one in roofline_figures(Roofline(CARD.name, {}, CARD.bandwidth, classes), 2000, 24, "hearsay")
    }
    assert figures["roof_fps"].value == pytest.approx(24)
    assert figures["projected_fps"].value == pytest.approx(12 * efficiency().value)
    assert figures["projected_fps"].note.endswith("on the RTX 5090, by hearsay")
    assert figures["projected_fps"].how is figures["roof_fps"].how is How.PROJECTED
    assert figures["kernels"].how is How.COMPILED


def test_graphs_have_no_kernels() -> None:
    assert roofline_of(trial_bundle(), "cpu") == (None, [])
