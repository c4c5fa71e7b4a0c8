"""The GPU through cuda-core: which one, what it needs, and how its errors read."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from swiftvr_trt import Bundle, MachineError, MissingPackageError, MisuseError, Restorer
from swiftvr_trt.installing import install_command
from swiftvr_trt.runtime.devices import gpu
from swiftvr_trt.runtime.devices.cuda import CudaDevice
from swiftvr_trt.runtime.devices.gpu import Gpu, explain_cuda_errors, gpu_index, is_out_of_memory
from swiftvr_trt.runtime.devices.tensorrt import TensorRTProvider
from tests.clips import write_clip
from tests.conftest import BundleFactory
from tests.cuda_emulator import emulated

from .cuda_lab import NO_CACHE, UNKNOWN, Lab, driverless, error_of
from .fake_trt import FakeTensorRT


@driverless
@pytest.mark.parametrize("device", [None, "cuda", "cuda:0", "cuda:7"])
def test_engines_without_a_driver(engines: Bundle, device: str | None) -> None:
    with pytest.raises(MachineError, match=r"no NVIDIA driver was found.*install it from https://\S+nvidia"):
        Restorer.open(engines, device=device)


@driverless
@pytest.mark.parametrize("device", [[], ["--device", "cuda:0"]])
def test_the_command_line_reports_a_missing_driver(engines: Bundle, tmp_path: Path, device: list[str]) -> None:
    clip, output = write_clip(tmp_path / "in.mp4", frames=5), tmp_path / "out.mp4"
    arguments = [str(clip), str(output), "--bundle", str(engines.path), "-q", *device]
    command = [sys.executable, "-m", "swiftvr_trt.cli.run", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert done.stderr.startswith("error: no NVIDIA driver was found")
    assert not output.exists()


@pytest.mark.parametrize("device", ["gpu", "cuda:", "cuda:x", "cuda:-1", "CUDA", "cpu:0", ""])
def test_other_names_of_devices_are_refused(engines: Bundle, device: str) -> None:
    with pytest.raises(MisuseError, match=r"expected cpu, cuda, or cuda:N"):
        gpu_index(device)
    if device:
        with pytest.raises(MisuseError, match=r"expected cpu, cuda, or cuda:N"):
            Restorer.open(engines, device=device)


def test_the_number_of_a_gpu_follows_its_name() -> None:
    assert [gpu_index(device) for device in ("cuda", "cuda:0", "cuda:12")] == [0, 0, 12]


def test_a_missing_cuda_core(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cuda.core", None)
    with pytest.raises(MissingPackageError, match="cuda-core.*" + re.escape(install_command("cuda"))):
        Gpu(0)


def test_graphs_on_a_gpu_without_a_driver(mini_bundle: BundleFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu, "has_driver", lambda: False)
    with pytest.raises(MachineError, match="no NVIDIA driver was found"):
        Restorer.open(mini_bundle(), device="cuda:1")


@pytest.mark.cuda_emulator
def test_a_gpu_that_is_not_there_is_refused_by_number(lab: Lab) -> None:
    with emulated() as emulator, pytest.raises(MachineError, match=r"GPU 3 was asked for, this machine has 1; choose"):
        CudaDevice(lab.engines, TensorRTProvider(FakeTensorRT(emulator), NO_CACHE), index=3)


@pytest.mark.cuda_emulator
def test_if_a_gpu_cannot_be_opened_the_message_names_a_driver_that_is_too_old(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    from cuda.bindings import driver

    monkeypatch.setattr(driver, "CUDA_VERSION", 14000)
    for name in ("cuDeviceGetCount", "cuCtxSetCurrent", "cuDeviceGetName"):  # cuda-core caches some answers
        with emulated(clean=False) as emulator:
            emulator.fail(name, 1, UNKNOWN)
            error = error_of(lab, emulator, FakeTensorRT(emulator))
            if error is not None and "could not be opened" in str(error):
                assert "is for CUDA 13.0, cuda-bindings is made for 14; update the driver to one for" in str(error)
                return
            del error
    raise AssertionError("the GPU was opened although a call of the driver failed")


@pytest.mark.cuda_emulator
def test_a_driver_that_is_too_old_for_cuda_bindings_is_said_in_one_line(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """cuda-core would warn in its own words, over several lines; in tests, warnings are errors."""
    from cuda.bindings import driver

    with emulated():
        Gpu(0)
        assert not caplog.messages
        monkeypatch.setattr(driver, "CUDA_VERSION", 14000)
        Gpu(0)
    (said,) = caplog.messages
    assert re.match(
        r"the GPU may fail: the NVIDIA driver is for CUDA 13\.0, cuda-bindings is made for 14; update", said
    )
    assert said.endswith(install_command("cuda12"))


class DriverError(Exception):
    """As cuda-core has them: not a RuntimeError."""

    __module__ = "cuda.core._utils"


@pytest.mark.parametrize("error", [RuntimeError("CUDA_ERROR_UNKNOWN: x\nmore"), DriverError("CUDA_ERROR_UNKNOWN: x")])
def test_errors_of_the_driver_get_a_message_of_ours_and_keep_their_first_line(error: Exception) -> None:
    with (
        pytest.raises(MachineError, match=r"^the copy failed \(CUDA_ERROR_UNKNOWN: x\)$") as caught,
        explain_cuda_errors("the copy failed", MachineError),
    ):
        raise error
    assert caught.value.__cause__ is error


@pytest.mark.parametrize("error", [MisuseError("ours"), KeyError("a bug"), KeyboardInterrupt()])
def test_other_errors_pass_unchanged(error: BaseException) -> None:
    with pytest.raises(type(error)) as caught, explain_cuda_errors("the copy failed"):
        raise error
    assert caught.value is error


def test_only_the_driver_runs_out_of_memory() -> None:
    assert is_out_of_memory(RuntimeError("CUDA_ERROR_OUT_OF_MEMORY: The API call failed"))
    assert not is_out_of_memory(RuntimeError("CUDA_ERROR_UNKNOWN"))
