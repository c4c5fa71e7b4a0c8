"""A clip of VapourSynth, restored. Needs VapourSynth, whose wheels are for Python 3.12 and newer."""

from __future__ import annotations

import gc
import sys
from typing import Any

import numpy as np
import pytest

import swiftvr_trt
from swiftvr_trt import Bundle, MisuseError, Restorer
from swiftvr_trt.cli import trial
from swiftvr_trt.errors import MissingPackageError
from swiftvr_trt.runtime.restore.vapoursynth import restore

COUNT = 30


def test_it_is_found_in_the_package() -> None:
    assert swiftvr_trt.vapoursynth.restore is restore


def test_without_vapoursynth_the_command_to_install_it_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "vapoursynth", None)
    with pytest.raises(MissingPackageError, match=r"'vapoursynth', which is not installed: pip install"):
        restore(None, "bundle")


@pytest.fixture(scope="module")
def vs() -> Any:
    return pytest.importorskip("vapoursynth", reason="VapourSynth is not installed: no wheel for this Python")


@pytest.fixture(scope="module")
def bundle(vs: Any) -> Bundle:
    del vs
    return Bundle.open(trial.BUNDLE)  # needs no torch: these tests run where VapourSynth has wheels


def moving(vs: Any, pix_fmt: Any) -> Any:
    """A clip whose frames differ."""

    def drawn(n: int, f: Any) -> Any:
        frame = f.copy()
        for plane in range(3):
            picture = np.asarray(frame[plane])
            rows, columns = np.indices(picture.shape)
            picture[:] = (rows * 3 + columns * 5 + 9 * n + 40 * plane) % 220
        return frame

    blank = vs.core.std.BlankClip(width=64, height=48, format=pix_fmt, length=COUNT, fpsnum=30000, fpsden=1001)
    return blank.std.ModifyFrame(blank, drawn)


def pixels(frame: Any) -> np.ndarray:
    return np.dstack([np.asarray(frame[plane]) for plane in range(3)])


@pytest.mark.parametrize("order", [range(COUNT), (29, 3, 17, 16, 0)])
def test_a_clip_is_restored_in_any_order(vs: Any, bundle: Bundle, order: Any) -> None:
    clip = moving(vs, vs.RGB24)
    with Restorer.open(bundle, threads=1) as restorer:
        expected = list(restorer.restore(pixels(frame) for frame in clip.frames()))
    node = restore(clip, bundle.path, threads=1)
    recipe = bundle.manifest.recipe
    assert (node.width, node.height, node.num_frames) == (recipe.width, recipe.height, COUNT)
    assert (node.fps.numerator, node.fps.denominator) == (30000, 1001)
    for number in order:
        frame = node.get_frame(number)
        assert (pixels(frame) == expected[number]).all()
        assert (frame.props["_DurationNum"], frame.props["_DurationDen"]) == (1001, 30000)


def test_other_filters_may_follow(vs: Any, bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    """The script keeps its last clip only. The bundle is released when no filter needs it any more."""
    closed: list[Restorer] = []
    close = Restorer.close

    def noted(restorer: Restorer) -> None:
        closed.append(restorer)
        close(restorer)

    monkeypatch.setattr(Restorer, "close", noted)
    clip = restore(moving(vs, vs.RGB24), bundle.path, threads=1)
    clip = clip.resize.Bicubic(format=vs.YUV420P10, matrix=1)
    gc.collect()
    assert clip.get_frame(5).format.id == vs.YUV420P10
    assert closed == []
    del clip
    gc.collect()
    assert len(closed) == 1


def test_frames_may_be_asked_for_at_the_same_time(vs: Any, bundle: Bundle) -> None:
    node = restore(moving(vs, vs.RGB24), bundle.path, threads=1)
    assert sum(1 for _ in node.frames(prefetch=8)) == COUNT


@pytest.mark.parametrize("name", ["YUV420P8", "YUV420P10", "RGB30"])
def test_other_formats_are_converted(vs: Any, bundle: Bundle, name: str) -> None:
    assert restore(moving(vs, getattr(vs, name)), bundle.path, threads=1).get_frame(5).format.id == vs.RGB24


def test_a_clip_that_varies_is_refused(vs: Any, bundle: Bundle) -> None:
    small, large = (vs.core.std.BlankClip(width=width, height=48, format=vs.RGB24, length=2) for width in (64, 32))
    with pytest.raises(MisuseError, match="changes its format or size"):
        restore(vs.core.std.Splice([small, large], mismatch=True), bundle.path)
    with pytest.raises(MisuseError, match=r"expected a vapoursynth\.VideoNode"):
        restore("old.mkv", bundle.path)
