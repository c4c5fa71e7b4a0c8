"""The management library, which this machine lacks: nothing is known then, and nothing fails."""

from __future__ import annotations

import os
import sys
from types import SimpleNamespace

import pytest

from swiftvr_trt.benchmarks.suite.nvml import Nvml


def test_without_the_library_nothing_is_known() -> None:
    nvml = Nvml(None)
    assert not nvml.found
    assert nvml.memory_bytes() is nvml.own_bytes() is nvml.clock_mhz() is nvml.is_throttled() is None


def library(reasons: int) -> SimpleNamespace:
    """Stands in for pynvml with the functions that are used, under their names; power and heat are refused."""

    def refuse(*_: object) -> None:
        raise RuntimeError("NVML_ERROR_NOT_SUPPORTED")

    return SimpleNamespace(
        NVML_CLOCK_SM=1,
        NVML_TEMPERATURE_GPU=0,
        nvmlInit=lambda: None,
        nvmlDeviceGetHandleByPciBusId=lambda bus: ("handle", bus),
        nvmlDeviceGetMemoryInfo=lambda _handle: SimpleNamespace(total=32 << 30, used=5 << 30),
        nvmlDeviceGetComputeRunningProcesses=lambda _handle: [
            SimpleNamespace(pid=1, usedGpuMemory=9),
            SimpleNamespace(pid=os.getpid(), usedGpuMemory=7),
        ],
        nvmlDeviceGetClockInfo=lambda _handle, _kind: 2500,
        nvmlDeviceGetMaxClockInfo=lambda _handle, _kind: 3090,
        nvmlDeviceGetPowerUsage=refuse,
        nvmlDeviceGetEnforcedPowerLimit=lambda _handle: 575_000,
        nvmlDeviceGetTemperature=refuse,
        nvmlDeviceGetCurrentClocksEventReasons=lambda _handle: reasons,
    )


@pytest.mark.parametrize(
    ("reasons", "throttled"), [(0, False), (0x1, False), (0x2, False), (0x4, True), (0x9, True), (0x100, False)]
)
def test_what_the_library_says_is_told(monkeypatch: pytest.MonkeyPatch, reasons: int, throttled: bool) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", library(reasons))
    nvml = Nvml("0000:01:00.0")
    assert nvml.found
    assert (nvml.memory_bytes(), nvml.used_bytes(), nvml.own_bytes()) == (32 << 30, 5 << 30, 7)
    assert (nvml.clock_mhz(), nvml.max_clock_mhz(), nvml.power_limit_w()) == (2500.0, 3090.0, 575.0)
    assert nvml.power_w() is nvml.temperature_c() is None
    assert nvml.is_throttled() is throttled


def test_what_is_not_known_about_a_gpu_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    assert Nvml(None).notes() == ()
    monkeypatch.setitem(sys.modules, "pynvml", None)
    assert "pip install nvidia-ml-py" in Nvml("0000:01:00.0").notes()[0]
    assert "not known: CUDA does not say at which place" in Nvml("").notes()[0]
    known = library(0)
    monkeypatch.setitem(sys.modules, "pynvml", known)
    assert Nvml("0000:01:00.0").notes() == ()
    known.nvmlDeviceGetComputeRunningProcesses = lambda _handle: [SimpleNamespace(pid=-1, usedGpuMemory=9)]
    assert "does not say how much GPU memory" in Nvml("0000:01:00.0").notes()[0]


def test_a_library_that_cannot_be_opened_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> None:
        raise RuntimeError("Driver/library version mismatch")

    broken = library(0)
    broken.nvmlInit = refuse
    monkeypatch.setitem(sys.modules, "pynvml", broken)
    nvml = Nvml("0000:01:00.0")
    assert nvml.notes() == ("GPU memory, clocks and throttling are not known: Driver/library version mismatch",)
    assert not nvml.found
    assert nvml.memory_bytes() is None
    assert Nvml(None).notes() == ()


def test_the_names_are_those_of_the_package() -> None:
    pynvml = pytest.importorskip("pynvml")
    assert [name for name in vars(library(0)) if not hasattr(pynvml, name)] == []
