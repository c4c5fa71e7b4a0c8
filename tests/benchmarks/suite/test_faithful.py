"""Quality against float32 and against clean frames, and the pictures in the record."""

from __future__ import annotations

import base64
import io
from dataclasses import replace
from pathlib import Path

import av
import numpy as np
import pytest

from swiftvr_trt.benchmarks.suite.clips import moving, write_lossless
from swiftvr_trt.benchmarks.suite.faithful import CLEAN, FLOAT32, measure_quality
from swiftvr_trt.errors import MisuseError
from swiftvr_trt.runtime.media.colour import converted
from tests.conftest import BundleFactory

from .lab import order_for, trial_bundle


def decoded(uri: str) -> np.ndarray:
    kind, _, data = uri.partition(",")
    assert kind == "data:image/webp;base64"
    with av.open(io.BytesIO(base64.b64decode(data)), "r") as picture:
        return converted(next(picture.decode(video=0)), format="rgb24").to_ndarray()


def test_a_float32_bundle_agrees_with_the_network(
    mini_bundle: BundleFactory, mini_checkpoint: Path, tmp_path: Path
) -> None:
    findings = measure_quality(order_for(mini_bundle(), tmp_path, "quality", checkpoint=mini_checkpoint))
    figures = {figure.name: figure for figure in findings.figures}
    assert set(figures) == {"psnr", "ssim", "temporal_error"}
    assert {figure.note for figure in findings.figures} == {FLOAT32}
    assert len(figures["psnr"].samples) == 12
    assert figures["psnr"].value > 55
    assert [shown.number for shown in findings.frames] == [0, 6, 11]
    for shown in findings.frames:
        assert decoded(shown.before).shape == decoded(shown.after).shape == (132, 100, 3)
        assert {one.name for one in shown.figures} == {"psnr", "ssim"}


def test_clean_frames_show_what_was_gained(tmp_path: Path) -> None:
    order = order_for(trial_bundle(), tmp_path, "quality")
    write_lossless(tmp_path / "clean.mkv", moving(12, 64, 96))
    findings = measure_quality(replace(order, clean=str(tmp_path / "clean.mkv"), first=False))
    names = {figure.name for figure in findings.figures if figure.note == CLEAN}
    assert names - {"vmaf_clean"} == {
        f"{name}_{which}" for name in ("psnr", "ssim", "temporal_error") for which in ("clean", "before")
    }
    assert findings.frames == ()
    without, *others = findings.notes
    assert without == "PSNR to float32 is not measured: no --checkpoint was named"
    assert [note[:20] for note in others] == ([] if "vmaf_clean" in names else ["VMAF is not measured"])


@pytest.mark.parametrize(
    ("count", "height", "width", "words"),
    [
        (1, 64, 96, "1 frame, expected 12 or more"),
        (5, 64, 96, "5 frames, expected 12 or more"),
        (12, 32, 48, "frames of 48x32, expected 96x64"),
        (5, 32, 48, "frames of 48x32, expected 96x64"),
    ],
)
def test_other_frames_are_no_clean_ones(tmp_path: Path, count: int, height: int, width: int, words: str) -> None:
    order = order_for(trial_bundle(), tmp_path, "quality")
    write_lossless(tmp_path / "clean.mkv", moving(count, height, width))
    with pytest.raises(MisuseError, match=f"--clean clean.mkv has {words}: the frames of the clip, undamaged"):
        measure_quality(replace(order, clean=str(tmp_path / "clean.mkv")))
