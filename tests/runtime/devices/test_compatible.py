"""Which bundles of engines may run on which machine, and what the refusal says."""

from __future__ import annotations

from dataclasses import replace

import pytest

from swiftvr_trt import Bundle, BundleError, MachineError, MisuseError
from swiftvr_trt.engines.bundle.targets import find_target
from swiftvr_trt.runtime.devices import compatible as module
from swiftvr_trt.runtime.devices.compatible import Environment, check_compatible, check_target
from swiftvr_trt.runtime.devices.driver import Driver
from tests.cuda_emulator import emulated

from .fake_trt import VERSION


def _changed(bundle: Bundle, **fields: object) -> Bundle:
    toolchain = replace(bundle.manifest.toolchain, **fields)  # type: ignore[arg-type]
    return replace(bundle, manifest=replace(bundle.manifest, toolchain=toolchain))


HERE = Environment("RTX 5090", "12.0", "13.0", "tensorrt_rtx", VERSION, "13")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"compute_capability": "8.9"}, r"capability 8.9 \(target rtx5090\), but RTX 5090 has 12.0; choose"),
        ({"compiler_version": "1.6"}, r"TensorRT-RTX 1.6, but \S+ is installed, .* install that version"),
        ({"cuda": "14"}, r"for CUDA 14, but the installed package is for CUDA 13; install tensorrt-rtx-cu14, or"),
        (
            {"driver_cuda": "13.1"},
            r"built with a driver for CUDA 13.1, but the driver here is for CUDA 13.0, .*; update the",
        ),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_a_bundle_for_another_machine_is_refused_with_the_difference_and_a_remedy(
    engines: Bundle, change: dict[str, object], message: str
) -> None:
    check_compatible(engines, HERE)
    with pytest.raises(BundleError, match=message) as caught:
        check_compatible(_changed(engines, **change), HERE)
    assert engines.manifest.recipe.command() in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("library", "driver", "update"),
    [("13", "12.9", "version 580 or newer"), ("12", "11.8", "version 525 or newer"), ("15", "14.9", "one for CUDA 15")],
)
def test_a_driver_that_is_too_old_for_the_library_is_refused(
    engines: Bundle, library: str, driver: str, update: str
) -> None:
    any_minor_version = replace(HERE, library_cuda=library, driver_cuda=f"{library}.0")
    check_compatible(engines, any_minor_version)
    with pytest.raises(MachineError, match=f"driver is for CUDA {driver}, tensorrt-rtx-cu{library} needs .*{update}"):
        check_compatible(engines, replace(HERE, library_cuda=library, driver_cuda=driver))


@pytest.mark.parametrize(
    ("change", "here"),
    [
        ({"compute_capability": None}, HERE),
        ({"cuda": None, "driver_cuda": None}, HERE),
        ({"cuda": "12", "driver_cuda": "12.8"}, HERE),
        ({"cuda": "13", "driver_cuda": "13.0"}, HERE),
        ({"cuda": "14", "driver_cuda": "14.0"}, replace(HERE, driver_cuda=None, library_cuda=None)),
    ],
    ids=["no capability", "an older format", "older versions", "the same versions", "an unknown driver and package"],
)
def test_unknown_and_older_versions_are_accepted(engines: Bundle, change: dict[str, object], here: Environment) -> None:
    check_compatible(_changed(engines, **change), here)


@pytest.mark.parametrize(
    ("target", "here", "said"),
    [
        ("rtx4070", "8.9", None),
        (
            "rtx5090",
            "8.6",
            "target rtx5090 is for GPUs of compute capability 12.0, but cuda:1 has 8.6: take",
        ),
        ("rtx3060", "8.9", "take --target rtx4090$"),
        ("rtx2080", "6.1", "take --target cuda$"),
        ("cuda", "6.1", None),
        ("local", "6.1", None),
        ("rtx5090", None, None),
    ],
)
def test_a_target_for_another_gpu_is_refused_with_the_one_that_fits(
    monkeypatch: pytest.MonkeyPatch, target: str, here: str | None, said: str | None
) -> None:
    monkeypatch.setattr(module, "find_driver", lambda gpu: Driver("13.0", here) if gpu == 1 else None)
    if said is None:
        check_target(find_target(target), "cuda:1")
    else:
        with pytest.raises(MisuseError, match=said):
            check_target(find_target(target), "cuda:1")
    check_target(find_target(target), "cuda:0")  # this one has no driver to ask


@pytest.mark.cuda_emulator
def test_the_driver_is_asked_about_the_gpu() -> None:
    with emulated():
        check_target(find_target("rtx5070"), "cuda")
        with pytest.raises(MisuseError, match=r"12\.0: take --target rtx5090$"):
            check_target(find_target("rtx4070"), "cuda")
