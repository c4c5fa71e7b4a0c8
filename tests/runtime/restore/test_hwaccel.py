"""Which GPU decodes and encodes video: what can be known without one."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from swiftvr_trt import Bundle, MisuseError
from swiftvr_trt.runtime.devices.driver import has_driver
from swiftvr_trt.runtime.media import Picture, SinkOptions, open_source
from swiftvr_trt.runtime.restore import hwaccel
from swiftvr_trt.runtime.restore.hwaccel import on_gpu, video_gpu
from tests.cli.test_run import run
from tests.clips import write_clip
from tests.conftest import BundleFactory


@pytest.mark.parametrize(
    ("mode", "device", "driver", "gpu", "lines"),
    [
        ("none", "cuda:1", True, None, 0),
        ("auto", None, True, 0, 0),
        ("auto", "cpu", True, 0, 0),
        ("cuda", "cuda:3", True, 3, 0),
        ("auto", "cuda:3", False, None, 0),
        ("cuda", None, False, None, 1),
        ("surfaces", "cuda:3", True, 3, 0),
        ("surfaces", None, False, None, 1),
    ],
)
def test_the_gpu_that_restores_does_the_video_too(
    monkeypatch: pytest.MonkeyPatch, mode: str, device: str | None, driver: bool, gpu: int | None, lines: int
) -> None:
    monkeypatch.setattr(hwaccel, "has_driver", lambda: driver)
    said: list[str] = []
    assert video_gpu(mode, device, said.append) == gpu
    assert len(said) == lines


def test_an_unknown_mode_is_refused() -> None:
    with pytest.raises(MisuseError, match="expected one of none, auto, cuda, surfaces"):
        video_gpu("quick", None, print)


@pytest.mark.parametrize(
    ("mode", "driver", "package", "gpu", "surfaces", "said"),
    [
        ("none", True, True, None, False, []),
        ("cuda", True, True, 1, False, []),
        ("surfaces", True, True, 1, True, []),
        ("surfaces", True, False, 1, False, ["frames go through the host: --hwaccel surfaces needs cuda-core, pip"]),
        ("surfaces", False, True, None, False, ["video is decoded and encoded in software: no NVIDIA"]),
    ],
)
def test_surfaces_are_asked_for_where_they_can_be(  # many parameters: one for each column
    monkeypatch: pytest.MonkeyPatch,
    mode: str,
    driver: bool,
    package: bool,
    gpu: int | None,
    surfaces: bool,
    said: list[str],
) -> None:
    monkeypatch.setattr(hwaccel, "has_driver", lambda: driver)
    monkeypatch.setattr(hwaccel, "_has_cuda_core", lambda: package)
    lines: list[str] = []
    sink = on_gpu(SinkOptions(crf=7), mode, "cuda:1", lines.append)
    assert sink == SinkOptions(crf=7, gpu=gpu, surfaces=surfaces)
    assert [line[: len(start)] for line, start in zip(lines, said, strict=True)] == said


@pytest.fixture(scope="module")
def bundle(mini_bundle: BundleFactory) -> Bundle:
    return mini_bundle()


def pixels(path: Path) -> list[np.ndarray]:
    with open_source(path) as source:
        return [item.pixels for item in source if isinstance(item, Picture)]


@pytest.mark.skipif(has_driver(), reason="this machine has a driver")
def test_the_command_falls_back_with_one_line_and_the_same_output(bundle: Bundle, tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "in.mp4")
    for mode, lines in (("none", 0), ("auto", 0), ("cuda", 1), ("surfaces", 1)):
        outcome = run(clip, tmp_path / f"{mode}.mp4", "--bundle", bundle.path, "--hwaccel", mode, "--crf", 0)
        assert outcome.returncode == 0, outcome.stderr
        assert len([line for line in outcome.stderr.splitlines() if "--hwaccel" in line]) == lines
    none, *others = (pixels(tmp_path / f"{mode}.mp4") for mode in ("none", "auto", "cuda", "surfaces"))
    assert all(np.array_equal(none, other) for other in others)


def test_cuda_is_not_loaded_before_a_gpu_is_wanted() -> None:
    code = "import sys, swiftvr_trt.runtime.restore.hwaccel; print('av' in sys.modules, 'cuda' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]
