"""The driver and its CUDA version, read without any package; and the CUDA version of a package."""

from __future__ import annotations

import ctypes
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from swiftvr_trt.engines.bundle.targets import RTX, TENSORRT_MODULES
from swiftvr_trt.runtime.devices import driver
from swiftvr_trt.runtime.devices.driver import Driver, find_driver, format_cuda_version, leave_only, package_cuda
from swiftvr_trt.text import parse_version
from tests.cuda_emulator import emulated


def play(monkeypatch: pytest.MonkeyPatch, **answers: Any) -> None:
    """Install a driver whose functions write these numbers; a negative number is an error code instead."""

    def function(number: int) -> Any:
        def call(*arguments: Any) -> int:
            if number >= 0 and arguments and not isinstance(arguments[0], int):
                ctypes.cast(arguments[0], ctypes.POINTER(ctypes.c_int))[0] = number
            return max(-number, 0)

        return call

    monkeypatch.setattr(
        driver, "load_library", lambda _: SimpleNamespace(**{k: function(v) for k, v in answers.items()})
    )


def test_no_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(driver, "load_library", lambda _names: None)
    assert find_driver() is None


def test_a_driver_without_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    play(monkeypatch, cuDriverGetVersion=12080, cuInit=-100)
    assert find_driver() == Driver("12.8", None)


def test_a_driver_that_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    play(monkeypatch, cuDriverGetVersion=-3, cuInit=0, cuDeviceGet=0, cuDeviceGetAttribute=-1)
    assert find_driver() == Driver(None, None)


@pytest.mark.parametrize(
    ("before", "gpu", "after"),
    [
        (None, 0, None),
        ("2,3", 0, "2,3"),
        (None, 1, "1"),
        ("2, 3", 1, "3"),
        ("GPU-1f,GPU-2e,GPU-3d", 1, "GPU-2e"),
        ("2", 1, "-1"),  # there is none, so none is taken instead
        ("", 1, "-1"),
    ],
)
def test_one_of_the_visible_gpus_is_left(
    monkeypatch: pytest.MonkeyPatch, before: str | None, gpu: int, after: str | None
) -> None:
    monkeypatch.setattr(os, "environ", {} if before is None else {"CUDA_VISIBLE_DEVICES": before})
    leave_only(gpu)
    assert os.environ.get("CUDA_VISIBLE_DEVICES") == after


@pytest.mark.parametrize(("number", "words"), [(12080, "12.8"), (13000, "13.0"), (11040, "11.4"), (13010, "13.1")])
def test_the_drivers_number_becomes_a_version(number: int, words: str) -> None:
    assert format_cuda_version(number) == words
    assert parse_version(words) == (number // 1000, number % 1000 // 10)


@pytest.mark.parametrize(
    ("package", "cuda"),
    [("module_cu12", "12"), ("module_cu13", "13"), ("module", None)],
)
def test_the_name_of_a_package_ends_with_its_cuda_version(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, package: str, cuda: str | None
) -> None:
    place = tmp_path / f"{package}-1.2.3.dist-info"
    place.mkdir()
    (place / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.2.3\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert package_cuda("module") == cuda


def test_the_installed_package_has_such_a_name() -> None:
    pytest.importorskip(TENSORRT_MODULES[RTX])
    assert package_cuda(TENSORRT_MODULES[RTX]) in ("12", "13")


@pytest.mark.cuda_emulator
def test_a_driver_answers_through_its_library() -> None:
    with emulated():
        assert find_driver() == Driver("13.0", "12.0")
