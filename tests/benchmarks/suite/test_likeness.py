"""How close frames are: known by construction, and by an independent implementation."""

from __future__ import annotations

import math
import os
import shutil
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from numpy.lib.stride_tricks import sliding_window_view

from swiftvr_trt.benchmarks.suite.clips import moving
from swiftvr_trt.benchmarks.suite.likeness import (
    MOST_DB,
    frame_psnrs,
    frame_ssims,
    frame_vmafs,
    psnr,
    temporal_errors,
)
from swiftvr_trt.errors import MachineError

FRAMES = moving(4, 48, 64)
NOISY = [
    np.clip(frame + np.random.default_rng(number).integers(-9, 10, frame.shape), 0, 255).astype(np.uint8)
    for number, frame in enumerate(FRAMES)
]


def test_agreement_is_measured_against_white() -> None:
    black, white = np.zeros((4, 6, 3), np.uint8), np.full((4, 6, 3), 255, np.uint8)
    assert psnr([black], [white]) == 0
    assert math.isclose(psnr([black, black], [black, white]), 10 * math.log10(2))
    assert math.isclose(psnr([black], [black + np.uint8(1)]), 20 * math.log10(255))
    assert psnr([white], [white]) == math.inf


def test_psnr_is_that_of_each_frame() -> None:
    brighter = [frame // 2 + np.uint8(number) for number, frame in enumerate(FRAMES)]
    darker = [frame // 2 for frame in FRAMES]
    assert frame_psnrs(brighter, darker) == pytest.approx(
        [MOST_DB, *(20 * np.log10(255 / level) for level in (1, 2, 3))]
    )


def ssim(shown: np.ndarray, clean: np.ndarray) -> float:
    """The textbook's formula on the luma of video, in windows of 8x8 pixels, every four pixels."""
    x, y = (16 + frame @ (0.299, 0.587, 0.114) * 219 / 255 for frame in (shown, clean))
    x, y = (sliding_window_view(luma, (8, 8))[::4, ::4] for luma in (x, y))
    mx, my = x.mean((2, 3)), y.mean((2, 3))
    cov = ((x - mx[..., None, None]) * (y - my[..., None, None])).mean((2, 3))
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    parts = ((2 * mx * my + c1) * (2 * cov + c2)) / ((mx**2 + my**2 + c1) * (x.var((2, 3)) + y.var((2, 3)) + c2))
    return float(parts.mean())


def test_ssim_is_one_for_equal_frames_and_like_the_textbook_for_others() -> None:
    assert frame_ssims(FRAMES, FRAMES) == pytest.approx([1.0] * 4)
    expected = [ssim(noisy, frame) for noisy, frame in zip(NOISY, FRAMES, strict=True)]
    assert frame_ssims(NOISY, FRAMES) == pytest.approx(expected, abs=0.01)


def test_the_temporal_error_sees_flicker_and_nothing_else() -> None:
    still = [np.full((8, 8, 3), 100, np.uint8)] * 4
    flicker = [np.full((8, 8, 3), 100 + 6 * (number % 2), np.uint8) for number in range(4)]
    offset = [np.full((8, 8, 3), 120, np.uint8)] * 4
    assert temporal_errors(flicker, still) == pytest.approx([6.0] * 3, rel=1e-4)
    assert temporal_errors(offset, still) == [0.0] * 3


def stand_in(folder: Path, filters: str, then: str = "exit 1") -> str:
    """A shell script in place of ffmpeg, which lists these filters and otherwise does what it is told."""
    folder.mkdir(exist_ok=True)
    program = folder / "ffmpeg"
    program.write_text(f"#!/bin/sh\ncase \"$*\" in *-filters*) echo '{filters}';; *)\n{then};; esac\n")
    program.chmod(0o755)
    return str(program)


def programs(monkeypatch: pytest.MonkeyPatch, on_path: str | None, packaged: str | None) -> None:
    monkeypatch.setattr(shutil, "which", lambda _name: on_path)
    package = SimpleNamespace(get_ffmpeg_exe=lambda: packaged) if packaged else None
    monkeypatch.setitem(sys.modules, "imageio_ffmpeg", package)


WITHOUT = " ... vmafmotion  V->V  Calculate the VMAF Motion score"
WITH = " .. libvmaf  VV->V  Calculate the VMAF"
LOG = """test -s ours.mkv && test -s theirs.mkv || exit 1
echo '{"frames": [{"metrics": {"vmaf": 91.5}}, {"metrics": {"vmaf": 93}}]}' > log.json"""
"""In the form of libvmaf's."""
posix = pytest.mark.skipif(os.name != "posix", reason="the stand-in is a shell script")


@posix
def test_without_libvmaf_the_remedy_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    programs(monkeypatch, None, None)
    with pytest.raises(
        MachineError, match="there is no ffmpeg; pip install imageio-ffmpeg, which brings one that has it"
    ):
        frame_vmafs(NOISY, FRAMES)
    one, other = (stand_in(tmp_path / name, WITHOUT) for name in "ab")
    programs(monkeypatch, one, None)
    with pytest.raises(MachineError, match=f"{one} has no libvmaf; pip install"):
        frame_vmafs(NOISY, FRAMES)
    programs(monkeypatch, one, other)
    with pytest.raises(MachineError, match=f"{one} and {other} have no libvmaf; pip install"):
        frame_vmafs(NOISY, FRAMES)


@posix
@pytest.mark.parametrize("place", ["path", "package"])
def test_vmaf_is_taken_from_the_log_of_the_program_that_has_it(
    place: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    has, lacks = stand_in(tmp_path / "a", WITH, LOG), stand_in(tmp_path / "b", WITHOUT)
    programs(monkeypatch, *((has, lacks) if place == "path" else (lacks, has)))
    assert frame_vmafs(NOISY, FRAMES) == [91.5, 93.0]


@posix
def test_a_vmaf_that_fails_is_no_silence(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    programs(monkeypatch, stand_in(tmp_path, WITH, "echo 'no model' >&2; exit 3"), None)
    with pytest.raises(MachineError, match="ffmpeg failed: no model"):
        frame_vmafs(NOISY, FRAMES)
