"""The demonstration model that ships: its size, and that it restores the sample clip."""

from __future__ import annotations

import itertools
from pathlib import Path

import av
import numpy as np
import pytest
from numpy.typing import NDArray

from benchmarks.make_demo import DEMO, FRAME, SAMPLE
from benchmarks.metrics import luma, mean_psnr, mean_ssim
from benchmarks.quality import enlarge
from swiftvr_trt.engines.bundle.geometry import Resolution
from swiftvr_trt.export.network.checkpoint import load_checkpoint
from swiftvr_trt.export.network.reference import Reference
from swiftvr_trt.runtime.media.colour import converted

CLEAN = Path(__file__).resolve().parents[2] / "docs" / "demo" / "sample-clean.jpg"
"""Frame `FRAME` of the sample at twice its size, without noise."""
_SIDE = 256
_FIRST, _FRAMES = FRAME - 12, 16

Frames = NDArray[np.uint8]


def test_it_is_small() -> None:
    assert sum(path.stat().st_size for path in DEMO.rglob("*") if path.is_file()) < 8_000_000


def _read(path: Path, first: int, count: int, side: int) -> Frames:
    """The middle of some frames, [count, side, side, 3]."""
    with av.open(path) as source:
        frames = itertools.islice(source.decode(video=0), first, first + count)
        pictures = [converted(frame, format="rgb24").to_ndarray() for frame in frames]
    shown = np.stack(pictures).astype(np.uint8, copy=False)
    top, left = (shown.shape[1] - side) // 2, (shown.shape[2] - side) // 2
    return shown[:, top : top + side, left : left + side]


@pytest.fixture(scope="module")
def clean() -> Frames:
    return _read(CLEAN, 0, 1, _SIDE)


@pytest.fixture(scope="module")
def bicubic() -> Frames:
    return enlarge(_read(SAMPLE, _FIRST, _FRAMES, _SIDE // 2), Resolution(_SIDE, _SIDE))


@pytest.fixture(scope="module")
def restored() -> Frames:
    reference = Reference(load_checkpoint(DEMO), Resolution(_SIDE, _SIDE), clip_len=12)
    return np.stack(list(reference.restore(list(_read(SAMPLE, _FIRST, _FRAMES, _SIDE // 2)))))


def test_it_removes_the_noise_of_the_sample(clean: Frames, bicubic: Frames, restored: Frames) -> None:
    at = slice(FRAME - _FIRST, FRAME - _FIRST + 1)
    assert mean_psnr(restored[at], clean) > mean_psnr(bicubic[at], clean) + 3.0
    assert mean_ssim(restored[at], clean) > mean_ssim(bicubic[at], clean) + 0.1


def test_it_flickers_less_than_the_sample(bicubic: Frames, restored: Frames) -> None:
    ours, theirs = (float(np.abs(np.diff(luma(clip), axis=0)).mean()) for clip in (restored, bicubic))
    assert ours < 0.5 * theirs
