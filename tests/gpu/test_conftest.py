"""What the GPU tests build for a GPU, and how a build that fails is reported."""

from __future__ import annotations

import sys

import pytest

from swiftvr_trt.engines.bundle.targets import PRECISIONS, RTX, TARGETS, TRT
from swiftvr_trt.runtime.devices.driver import Driver

from . import conftest
from .conftest import engine_target, run_build, why_not


@pytest.mark.parametrize(
    ("capability", "compilers", "target"),
    [
        ("12.0", {RTX, TRT}, "rtx5090"),
        ("9.0", {RTX, TRT}, "h100"),
        ("9.0", {RTX}, None),
        ("8.0", {RTX, TRT}, "sm80"),
        ("8.9", {TRT}, "local"),
        ("10.0", {RTX, TRT}, "local"),
        ("12.0", set(), None),
    ],
)
def test_a_gpu_gets_the_target_of_its_card_or_local(capability: str, compilers: set[str], target: str | None) -> None:
    assert engine_target(capability, compilers) == target


def test_every_target_of_a_card_is_tested_on_that_card() -> None:
    for target in TARGETS:
        if target.compute_capability is not None:
            assert engine_target(target.compute_capability, {RTX, TRT}) == target.name


@pytest.mark.parametrize(
    ("target", "capability", "tested"),
    [
        ("h100", "9.0", {"bf16", "fp16", "fp8", "int8"}),
        ("local", "9.0", {"bf16", "fp16", "fp8", "int8"}),
        ("local", "10.0", {"bf16", "fp16", "fp8", "int8", "nvfp4"}),
        ("local", "7.5", {"fp16", "int8"}),
        ("rtx3090", "8.6", {"bf16", "fp16", "int8"}),
    ],
)
def test_a_precision_that_a_gpu_lacks_is_skipped_with_the_reason(
    target: str, capability: str, tested: set[str]
) -> None:
    reasons = {precision: why_not(target, precision, capability) for precision in PRECISIONS}
    assert {precision for precision, reason in reasons.items() if reason is None} == tested
    assert all(precision in reason for precision, reason in reasons.items() if reason is not None)


def test_graphs_are_skipped_where_the_driver_is_too_old_for_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """With cuda-bindings 12.9 engines run there all the same."""
    monkeypatch.setattr(conftest, "find_driver", lambda: Driver("12.8", "8.9"))
    with pytest.raises(
        pytest.skip.Exception, match=r"need an NVIDIA driver of version 580 .*, this one is for CUDA 12\.8"
    ):
        conftest._need_cuda_provider()


def test_a_build_that_fails_gives_its_reason() -> None:
    code = "import sys; print('first'); print('error: no memory for it', file=sys.stderr); sys.exit(3)"
    with pytest.raises(pytest.fail.Exception, match="the build failed, exit code 3: error: no memory for it"):
        run_build([sys.executable, "-c", code], 120)
    with pytest.raises(pytest.fail.Exception, match="Fatal Python error: Aborted"):
        run_build([sys.executable, "-c", "import os; os.abort()"], 120)
    with pytest.raises(pytest.fail.Exception, match="the build failed, ended at its time limit"):
        run_build([sys.executable, "-c", "import time; time.sleep(600)"], 2)
    run_build([sys.executable, "-c", ""], 120)
