"""What `doctor` finds on machines with and without packages and a driver, and what it advises."""

from __future__ import annotations

import json
import platform
import subprocess
import sys
from pathlib import Path

import pytest

from swiftvr_trt.cli import doctor
from swiftvr_trt.cli.doctor import Purpose, diagnose
from swiftvr_trt.engines.bundle.targets import TARGETS
from swiftvr_trt.installing import PACKAGES, install_command
from swiftvr_trt.runtime.devices.driver import Driver

EVERYTHING = {name for extra in PACKAGES.values() for group in extra for name in group[:1]} - {"onnxruntime"}


def purposes(monkeypatch: pytest.MonkeyPatch, installed: set[str], *, driver: bool) -> dict[str, Purpose]:
    monkeypatch.setattr(doctor, "installed_version", lambda name: "1.0" if name in installed else None)
    monkeypatch.setattr(doctor, "has_driver", lambda: driver)
    monkeypatch.setattr(doctor, "load_library", lambda _names: object() if driver else None)
    return {purpose.name: purpose for purpose in diagnose(Path()).purposes}


def test_an_empty_machine_is_told_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    found = purposes(monkeypatch, set(), driver=False)
    assert not any(purpose.ready for purpose in found.values())
    assert found["target cpu"].missing == ("onnxruntime",)
    assert found["target cpu"].remedy == install_command("cpu")
    assert found["export a checkpoint"].remedy == install_command("export")
    needed = {"torch", "onnx", "onnxscript", "safetensors", "filelock", "huggingface_hub"}
    assert set(found["export a checkpoint"].missing) == needed
    assert found["target rtx5090"].remedy == install_command("rtx", "cuda")
    assert "NVIDIA driver, version 580 or newer, or 570 with cuda12 (to run)" in found["target rtx5090"].missing
    assert not any("driver" in part for part in found["target cpu"].missing)


@pytest.mark.parametrize(
    ("offered", "versions", "target", "missing", "remedy"),
    [
        ("12.8", {"cuda-bindings": "13.1.1"}, "rtx4090", "580", install_command("cuda12")),
        ("12.8", {"cuda-bindings": "12.9.4"}, "rtx4090", "", ""),
        ("12.8", {"cuda-bindings": "12.9.4"}, "cuda", "580", "https://www.nvidia.com/drivers"),
        ("13.0", {"cuda-bindings": "13.1.1"}, "cuda", "", ""),
        ("13.0", {"cuda-bindings": "12.9.4"}, "h100", "", ""),
        ("12.2", {"cuda-bindings": "12.9.4"}, "h100", "", ""),
        ("12.0", {"cuda-bindings": "12.9.4"}, "h100", "535", "https://www.nvidia.com/drivers"),
        ("12.0", {"cuda-bindings": "13.1.1"}, "h100", "580", "https://www.nvidia.com/drivers"),
        ("12.0", {"cuda-bindings": "12.9.4"}, "rtx3090", "", ""),
        ("12.0", {"cuda-bindings": "13.1.1"}, "rtx3090", "580", install_command("cuda12")),
        (None, {"cuda-bindings": "13.1.1"}, "rtx4090", "", ""),
        ("12.8", {"cuda-bindings": None}, "rtx5090", "", install_command("cuda12")),
        ("12.0", {"cuda-bindings": None}, "rtx5090", "570", install_command("cuda12")),
        ("13.0", {"cuda-bindings": None}, "rtx5090", "", install_command("cuda")),
    ],
)
def test_a_driver_that_is_too_old_for_a_target_is_named(  # one argument per column
    monkeypatch: pytest.MonkeyPatch,
    offered: str | None,
    versions: dict[str, str | None],
    target: str,
    missing: str,
    remedy: str,
) -> None:
    purposes(monkeypatch, EVERYTHING, driver=True)
    monkeypatch.setattr(
        doctor, "installed_version", lambda name: versions.get(name, "1.0") if name in EVERYTHING else None
    )
    monkeypatch.setattr(doctor, "find_driver", lambda: Driver(offered, None))
    found = {purpose.name: purpose for purpose in diagnose(Path()).purposes}[f"target {target}"]
    assert "".join(found.missing).count(f"version {missing} or newer (this one is for CUDA {offered})") == bool(missing)
    assert found.remedy.startswith(remedy)
    assert bool(found.remedy) == bool(remedy)


@pytest.mark.parametrize(
    ("bindings", "rtx3090", "rtx5090", "h100"),
    [
        (
            None,
            "580 or newer, or 525 with cuda12",
            "580 or newer, or 570 with cuda12",
            "580 or newer, or 535 with cuda12",
        ),
        ("12.9.4", "525 or newer", "570 or newer", "535 or newer"),
        ("13.1.1", "580 or newer", "580 or newer", "580 or newer"),
    ],
)
def test_the_driver_that_each_target_takes_is_named(
    monkeypatch: pytest.MonkeyPatch, bindings: str | None, rtx3090: str, rtx5090: str, h100: str
) -> None:
    """Without bindings, the one for those that the remedy installs."""
    versions = {**dict.fromkeys(EVERYTHING, "1.0"), "cuda-bindings": bindings}
    purposes(monkeypatch, set(), driver=False)
    monkeypatch.setattr(doctor, "installed_version", versions.get)
    found = {purpose.name: purpose.driver for purpose in diagnose(Path()).purposes}
    drivers = {name: found[f"target {name}"] for name in ("cpu", "cuda", "rtx3090", "rtx5090", "h100")}
    wanted = {"cuda": "580 or newer", "rtx3090": rtx3090, "rtx5090": rtx5090, "h100": h100}
    assert drivers == {"cpu": "", **{name: f"version {driver}" for name, driver in wanted.items()}}


def test_engines_for_cards_are_built_without_one(monkeypatch: pytest.MonkeyPatch) -> None:
    found = purposes(monkeypatch, EVERYTHING, driver=False)
    assert (found["target rtx5090"].ready, found["target rtx5090"].note) == (False, "to build")
    assert found["target h100"].note == ""
    assert purposes(monkeypatch, EVERYTHING - {"torch"}, driver=False)["target rtx5090"].note == ""


def test_a_machine_with_everything_lacks_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    found = purposes(monkeypatch, EVERYTHING, driver=True)
    assert [(purpose.missing, purpose.remedy) for purpose in found.values()] == [((), "")] * len(found)
    for target in TARGETS:
        assert found[f"target {target.name}"].ready == target.ready
        assert found[f"target {target.name}"].note == ("" if target.ready else "not yet")


def test_onnxruntime_for_the_cpu_must_be_uninstalled_for_the_one_for_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    found = purposes(monkeypatch, EVERYTHING | {"onnxruntime"}, driver=True)
    assert not found["target cuda"].ready
    assert found["target cuda"].remedy == f"pip uninstall onnxruntime, then {install_command('gpu', 'cuda')}"
    assert found["target cpu"].ready


def test_missing_video_libraries_are_not_taken_for_a_missing_driver(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As in a container started without the `video` capability."""
    without = purposes(monkeypatch, EVERYTHING, driver=False)["encode video on the GPU (--hwaccel)"]
    assert (without.missing, without.remedy) == (("NVIDIA driver (to run)",), "https://www.nvidia.com/drivers")
    monkeypatch.setattr(doctor, "load_library", lambda _names: None)
    monkeypatch.setattr(doctor, "has_driver", lambda: True)
    found = {purpose.name: purpose for purpose in diagnose(Path()).purposes}
    for name, library in (("encode", doctor._ENCODER), ("decode", doctor._DECODER)):
        purpose = found[f"{name} video on the GPU (--hwaccel)"]
        assert purpose.missing == (f"{library.get(platform.system(), library['Linux'])} of the NVIDIA driver",)
        assert "NVIDIA_DRIVER_CAPABILITIES" in purpose.remedy


def test_any_package_of_a_compiler_is_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    other = EVERYTHING - {"tensorrt-rtx-cu12"} | {"tensorrt-rtx-cu13"}
    assert purposes(monkeypatch, other, driver=True)["target rtx4090"].missing == ()


def test_a_half_installed_extra_names_only_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    found = purposes(monkeypatch, EVERYTHING - {"polygraphy", "onnxscript"}, driver=True)
    assert found["target h100"].missing == ("polygraphy",)
    assert found["target h100"].remedy == install_command("tensorrt")
    assert found["export a checkpoint"].missing == ("onnxscript",)


def test_this_machine_is_described_as_json(tmp_path: Path) -> None:
    cache = tmp_path / "not" / "there" / "yet"
    said = json.loads(json.dumps(diagnose(cache).to_dict()))
    assert said["python"] == ".".join(map(str, sys.version_info[:3]))
    assert said["packages"]["numpy"]
    assert said["cache"] == str(cache)
    assert said["cache_free_bytes"] > 0
    assert not (tmp_path / "not").exists()


def test_a_diagnosis_loads_no_framework() -> None:
    script = (
        "import sys; from pathlib import Path; from swiftvr_trt.cli.doctor import diagnose; diagnose(Path()); "
        "print({'torch', 'onnx', 'onnxruntime', 'polygraphy'} & set(sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", script], capture_output=True, text=True).stdout == "set()\n"
