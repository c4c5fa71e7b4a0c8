"""Frames from any number on: those of a reading from the beginning, for the codecs and containers that people have."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from swiftvr_trt import MediaError
from swiftvr_trt.runtime.media import Picture, open_source
from swiftvr_trt.runtime.media.index import VideoIndex, index_video
from swiftvr_trt.runtime.media.video_range import IndexMismatchError, VideoRange

from .videos import one_line

FRAMES = 80


@dataclass(frozen=True)
class Kind:
    """A way to write a video. b: frames between two references. gaps: milliseconds between frames; None for 25 fps."""

    suffix: str
    codec: str
    options: Mapping[str, str] = field(default_factory=dict)
    pix_fmt: str = "yuv420p"
    b: int | None = None
    gaps: tuple[int, ...] | None = None


X264 = {"bf": "3", "preset": "ultrafast"}
KINDS = {
    "h264 b frames": Kind(".mp4", "libx264", {**X264, "x264-params": "keyint=12"}),
    "h264 open gop": Kind(".mp4", "libx264", {**X264, "x264-params": "keyint=12:open_gop=1:b_pyramid=2"}),
    "h264 open gop mkv": Kind(".mkv", "libx264", {**X264, "x264-params": "keyint=12:open_gop=1"}),
    "h264 open gop ts": Kind(".ts", "libx264", {**X264, "x264-params": "keyint=12:open_gop=1"}),
    "h264 vfr": Kind(".mp4", "libx264", {**X264, "x264-params": "keyint=12"}, gaps=(40, 17, 90, 33)),
    "h264 one key frame": Kind(".mp4", "libx264", {**X264, "x264-params": "keyint=1000:scenecut=0"}),
    "h264 intra refresh": Kind(".mkv", "libx264", {"preset": "ultrafast", "x264-params": "keyint=12:intra-refresh=1"}),
    "hevc open gop": Kind(".mp4", "libx265", {"x265-params": "keyint=12:open-gop=1:log-level=error"}),
    "hevc ts": Kind(".ts", "libx265", {"x265-params": "keyint=12:open-gop=1:log-level=error"}),
    "vp9": Kind(".webm", "libvpx-vp9", {"g": "12", "deadline": "realtime", "auto-alt-ref": "1", "lag-in-frames": "8"}),
    "mpeg2 ts": Kind(".ts", "mpeg2video", {"g": "12", "b": "2000k"}, b=2),
    "mpeg2 mpg": Kind(".mpg", "mpeg2video", {"g": "12", "b": "2000k"}, b=2),
    "mpeg4 avi": Kind(".avi", "mpeg4", {"g": "12", "b": "2000k"}),
    "ffv1": Kind(".mkv", "ffv1"),
    "mjpeg": Kind(".mov", "mjpeg", pix_fmt="yuvj420p"),
}


def write(path: Path, kind: Kind) -> Path:
    scene = np.random.default_rng(1).integers(0, 256, (48, 64, 3), np.uint8)
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream(kind.codec, rate=25, options=dict(kind.options))
        stream.width, stream.height, stream.pix_fmt = 64, 48, kind.pix_fmt
        if kind.b is not None:
            stream.codec_context.max_b_frames = kind.b
        if kind.gaps:
            stream.codec_context.time_base = Fraction(1, 1000)
        moment = 0
        for number in range(FRAMES):
            frame = av.VideoFrame.from_ndarray(np.roll(scene, 3 * number, axis=1), format="rgb24")
            if kind.gaps:
                frame.pts, frame.time_base = moment, Fraction(1, 1000)
                moment += kind.gaps[number % len(kind.gaps)]
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def same(one: Picture, other: Picture) -> bool:
    return one.stamp == other.stamp and np.array_equal(one.pixels, other.pixels)


@pytest.mark.parametrize("name", KINDS)
def test_a_range_has_the_frames_and_stamps_of_the_whole(tmp_path: Path, name: str) -> None:
    path = write(tmp_path / f"in{KINDS[name].suffix}", KINDS[name])
    with open_source(path) as source:
        whole = [item for item in source if isinstance(item, Picture)]
        info = source.info
    index = index_video(info)
    assert isinstance(index, VideoIndex), index
    assert len(index) == len(whole) == FRAMES
    for begin in (0, 1, 11, 12, 13, 30, 47, 61, FRAMES - 1):
        end = min(begin + 4, FRAMES)
        with VideoRange(info, index, begin, end) as found:
            assert all(map(same, found, whole[begin:end])), begin
    with VideoRange(info, index, 25, FRAMES) as found:
        assert all(map(same, found, whole[25:]))


def opened(path: Path) -> VideoIndex:
    with open_source(path) as source:
        index = index_video(source.info)
        assert isinstance(index, VideoIndex)
        return index


def test_a_frame_that_does_not_come_is_noticed(tmp_path: Path) -> None:
    path = write(tmp_path / "in.mkv", KINDS["ffv1"])
    with open_source(path) as source:
        info = source.info
    index = opened(path)
    invented = replace(index, times=(*index.times[:20], index.times[20] - 1, *index.times[20:]))
    for begin in (18, 20):
        with (
            VideoRange(info, invented, begin, 24) as found,
            pytest.raises(IndexMismatchError, match=r"frame 20 of .* should have the time stamp") as error,
        ):
            list(found)
        assert one_line(error)


def test_a_number_beyond_the_end_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "in.mkv", KINDS["ffv1"])
    with open_source(path) as source, pytest.raises(MediaError, match="has 80 frames, expected one with the number 80"):
        VideoRange(source.info, opened(path), 80, 81)
