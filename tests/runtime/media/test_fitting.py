"""Frames of another size than the first one keep their shape."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from swiftvr_trt.runtime.media import Picture, open_source
from swiftvr_trt.runtime.media.colour import converted
from swiftvr_trt.runtime.media.fitting import Fitter, inner_size
from swiftvr_trt.runtime.media.index import VideoIndex, index_video
from swiftvr_trt.runtime.media.video_range import VideoRange

from .videos import make_noise

ONE = Fraction(1)


@pytest.mark.parametrize(
    ("size", "aspect", "outer", "outer_aspect", "expected"),
    [
        ((128, 72), ONE, (160, 90), ONE, (160, 90)),
        ((640, 480), ONE, (1920, 1080), ONE, (1440, 1080)),
        ((1920, 1080), ONE, (640, 480), ONE, (640, 360)),
        ((90, 160), ONE, (160, 90), ONE, (51, 90)),
        ((1920, 1080), ONE, (720, 576), Fraction(64, 45), (720, 576)),
        ((1920, 1080), ONE, (720, 576), Fraction(16, 15), (720, 432)),
        ((720, 576), Fraction(16, 15), (1280, 720), ONE, (960, 720)),
        ((9000, 1), ONE, (16, 16), ONE, (16, 1)),
    ],
)
def test_the_shape_is_kept(
    size: tuple[int, int], aspect: Fraction, outer: tuple[int, int], outer_aspect: Fraction, expected: tuple[int, int]
) -> None:
    assert inner_size(size, aspect, outer, outer_aspect) == expected


def grey(width: int, height: int) -> Any:
    frame = av.VideoFrame.from_ndarray(np.full((height, width, 3), 200, np.uint8), format="rgb24")
    frame.pts, frame.time_base = 7, Fraction(1, 25)
    return frame


def test_frames_of_the_first_size_are_not_touched() -> None:
    fitter, frame = Fitter((64, 36), None), grey(64, 36)
    assert fitter.fit(frame, 0, None) is frame
    assert fitter.notes == ()


@pytest.mark.parametrize("pix_fmt", ["rgb24", "yuv420p", "yuv422p10le", "gray"])
def test_what_lies_beside_the_picture_is_black(pix_fmt: str) -> None:
    fitter = Fitter((64, 36), ONE)
    fitted = fitter.fit(converted(grey(40, 40), format=pix_fmt), 12, None)
    assert (fitted.width, fitted.height, fitted.format.name, fitted.pts) == (64, 36, pix_fmt, 7)
    found = converted(fitted, format="rgb24").to_ndarray().astype(int)
    assert found[:, :13].max() <= 2
    assert found[:, 51:].max() <= 2
    assert abs(found[:, 15:49] - 200).max() <= 2
    assert fitter.notes == ("from frame 12 on, frames are 40x40, not 64x36: they are fitted into that",)


def test_a_part_from_the_middle_is_fitted_alike(tmp_path: Path) -> None:
    for index, size in enumerate([(64, 48), (96, 54)]):
        make_noise(tmp_path / f"{index}.ts", 6, size)
    path = tmp_path / "in.ts"
    first, second = ((tmp_path / f"{index}.ts").read_bytes() for index in range(2))
    path.write_bytes(first + second)
    with open_source(path) as source:
        whole = [item.pixels for item in source if isinstance(item, Picture)]
    assert len(whole) == 12
    found = index_video(source.info)
    if isinstance(found, VideoIndex):
        with VideoRange(source.info, found, 8, 12) as part:
            assert all(np.array_equal(one.pixels, other) for one, other in zip(part, whole[8:], strict=True))
    else:
        assert found == "its clock jumps"
