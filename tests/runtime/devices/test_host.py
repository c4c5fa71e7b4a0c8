"""What `--target auto` sees of a machine, with the emulated driver as one of several GPUs, and without one."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from swiftvr_trt import MachineError
from swiftvr_trt.engines.bundle.auto import choose_for
from swiftvr_trt.engines.bundle.geometry import Resolution
from swiftvr_trt.engines.bundle.pipeline_memory import PUBLISHED_PARAMETERS, gpu_bytes_by_target
from swiftvr_trt.installing import PACKAGES
from swiftvr_trt.runtime.devices import host
from swiftvr_trt.runtime.devices.gpu import Gpu
from swiftvr_trt.runtime.devices.host import look_at_host
from tests.cuda_emulator import emulated

from .cuda_lab import driverless

FULL_HD = Resolution(1920, 1080)


@driverless
def test_a_machine_without_a_driver() -> None:
    found = look_at_host()
    assert (found.gpu, found.why_cpu) == (None, "no NVIDIA driver was found")
    assert "cpu" in found.extras


@pytest.mark.cuda_emulator
@pytest.mark.parametrize(
    ("capability", "gigabytes", "chosen"),
    [
        (75, 8, "rtx2080 int8"),
        (75, 12, "rtx2080 fp16"),
        (86, 8, "rtx3090 int8"),
        (86, 12, "rtx3090 fp16"),
        (86, 24, "rtx3090 fp16"),
        (89, 8, "rtx4090 fp8"),
        (89, 24, "rtx4090 fp8"),
        (90, 80, "h100 fp8"),
        (120, 8, "rtx5090 fp8"),
        (120, 32, "rtx5090 fp8"),
    ],
)
def test_the_choice_on_emulated_gpus(
    capability: int, gigabytes: int, chosen: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At 1920x1080, with the published weights and every package."""
    monkeypatch.setattr(host, "installed_extras", lambda: frozenset(PACKAGES))
    with emulated() as emulator, ThreadPoolExecutor(1) as another_thread:
        emulator.limit_bytes(gigabytes * 10**9)
        emulator.set_capability(capability)
        found = another_thread.submit(look_at_host).result()
    assert found.compute_capability == f"{capability // 10}.{capability % 10}"
    assert found.free_bytes is not None
    assert 0.99 * gigabytes * 1e9 < found.free_bytes <= gigabytes * 1e9
    best = choose_for(found, None, gpu_bytes_by_target(PUBLISHED_PARAMETERS, FULL_HD, 24))[0]
    assert f"{best.target.name} {best.precision}" == chosen


@pytest.mark.cuda_emulator
def test_a_gpu_that_cannot_be_used_leaves_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    def too_old(_index: int) -> Gpu:
        raise MachineError("the driver is too old")

    with emulated():
        found = look_at_host(7)
        assert (found.gpu, found.why_cpu) == (None, "the NVIDIA driver finds no GPU 7")
        monkeypatch.setattr(host, "Gpu", too_old)
        found = look_at_host()
        assert (found.gpu, found.why_cpu) == (None, "the NVIDIA GPU cannot be used (the driver is too old)")


@pytest.mark.cuda_emulator
def test_without_the_packages_only_the_driver_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host, "installed_extras", lambda: frozenset({"cpu"}))
    with emulated() as emulator:
        emulator.set_capability(86)
        found = look_at_host()
        assert emulator.calls("cuMemGetInfo") == 0
    assert (found.gpu, found.compute_capability, found.free_bytes) == ("NVIDIA GPU", "8.6", None)
    assert found.driver_cuda == "13.0"
    assert found.packages["cuda-core"]
