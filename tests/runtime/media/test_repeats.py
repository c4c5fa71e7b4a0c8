"""Animations are shown as often as before. The oracle is the bytes of the files."""

from __future__ import annotations

import re
import struct
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from swiftvr_trt.runtime.media.colour import converted
from swiftvr_trt.runtime.media.repeats import ENDLESS, plays_of

from .videos import EVEN, make_video, transcode

OPTIONS = {".apng": {0: {"plays": "0"}, 1: {"plays": "1"}, 3: {"plays": "3"}}}
OPTIONS[".gif"] = {0: {"loop": "0"}, 1: {"loop": "-1"}, 3: {"loop": "2"}}
"""FFmpeg's words for how often a file is shown."""


def make_animation(path: Path, plays: int) -> Path:
    codec, pix_fmt = ("apng", "rgb24") if path.suffix == ".apng" else ("gif", "bgr8")
    with av.open(str(path), "w", container_options=OPTIONS[path.suffix][plays]) as container:
        stream: Any = container.add_stream(codec, rate=10)
        stream.width, stream.height, stream.pix_fmt = 32, 24, pix_fmt
        for index in range(3):
            frame = av.VideoFrame.from_ndarray(np.full((24, 32, 3), 60 * index, np.uint8), "rgb24")
            container.mux(stream.encode(converted(frame, format=pix_fmt)))
        container.mux(stream.encode(None))
    return path


def shown(path: Path) -> int:
    """How often the bytes of a file say; 0 is without end."""
    data = path.read_bytes()
    if path.suffix == ".apng":
        return int(struct.unpack_from(">I", data, data.index(b"acTL") + 8)[0])
    found = re.search(rb"NETSCAPE2\.0\x03\x01(..)\x00", data, re.DOTALL)
    if found is None:
        return 1
    (again,) = struct.unpack("<H", found[1])
    return again + 1 if again else 0


@pytest.mark.parametrize("plays", [0, 1, 3])
@pytest.mark.parametrize("after", [".gif", ".apng"])
@pytest.mark.parametrize("before", [".gif", ".apng"])
def test_an_animation_is_shown_as_often_as_before(tmp_path: Path, before: str, after: str, plays: int) -> None:
    source = make_animation(tmp_path / f"in{before}", plays)
    assert (shown(source), plays_of(source)) == (plays, plays)
    transcode(source, tmp_path / f"out{after}")
    assert shown(tmp_path / f"out{after}") == plays


def test_videos_become_animations_as_ffmpeg_makes_them(tmp_path: Path) -> None:
    video = make_video(tmp_path / "in.mp4", EVEN[:3])
    for suffix, plays in ((".gif", 0), (".apng", 1)):
        transcode(video, tmp_path / f"out{suffix}")
        assert shown(tmp_path / f"out{suffix}") == plays


@pytest.mark.parametrize("suffix", [".gif", ".apng"])
def test_a_file_that_ends_early_is_shown_without_end(tmp_path: Path, suffix: str) -> None:
    data = make_animation(tmp_path / f"in{suffix}", 3).read_bytes()
    for size in range(0, 30):
        (tmp_path / "part").write_bytes(data[:size])
        assert plays_of(tmp_path / "part") == ENDLESS
    assert plays_of(tmp_path / "none.gif") == ENDLESS
