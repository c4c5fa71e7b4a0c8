"""Videos as sources: pictures, their stamps, and the packets between them."""

from __future__ import annotations

import itertools
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from swiftvr_trt.runtime.media import CopiedPacket, Picture, SinkOptions, open_source
from swiftvr_trt.runtime.media.index import VideoIndex, index_video
from tests.clips import seconds

from .videos import CLIP, EVEN, UNEVEN, frames_of, make_noise, make_video, needs_clip, still, transcode


def test_pictures_and_stamps_arrive_in_order_with_b_frames(tmp_path: Path) -> None:
    path = make_video(tmp_path / "in.mp4", UNEVEN, bf="3", preset="medium")
    with av.open(str(path)) as container:
        order = [seconds(packet) for packet in container.demux(video=0) if packet.size]
    assert order != sorted(order)
    with open_source(path) as source:
        found = [item for item in source if isinstance(item, Picture)]
    assert [picture.stamp.pts for picture in found] == UNEVEN
    assert [picture.stamp.index for picture in found] == list(range(30))
    assert [abs(int(picture.pixels[40, 50, 0]) - 40 - 5 * i) <= 4 for i, picture in enumerate(found)] == [True] * 30


def test_pixels_are_contiguous_uint8(tmp_path: Path) -> None:
    with open_source(make_video(tmp_path / "in.mp4", [0], prepare=frames_of(50, 38))) as source:
        (picture,) = (item for item in source if isinstance(item, Picture))
    assert picture.pixels.shape == (38, 50, 3)
    assert picture.pixels.dtype == np.uint8
    assert picture.pixels.flags.c_contiguous


@needs_clip
def test_copied_packets_keep_their_place_between_the_pictures() -> None:
    with open_source(CLIP) as source:
        kinds = [type(item) for item in source]
    runs = [len(list(group)) for kind, group in itertools.groupby(kinds) if kind is CopiedPacket]
    assert kinds.count(Picture) == 132
    assert kinds.count(CopiedPacket) == 249
    assert max(runs) < 60


def test_grey_video_stays_grey(tmp_path: Path) -> None:
    make_video(tmp_path / "in.mkv", [0], codec="ffv1", prepare=frames_of(pix_fmt="gray"))
    with open_source(tmp_path / "in.mkv") as source:
        (picture,) = (item for item in source if isinstance(item, Picture))
    assert np.abs(picture.pixels.astype(int) - still(0, 64, 48)).max() <= 2


def test_the_frames_of_an_avi_are_evenly_spaced(tmp_path: Path) -> None:
    def counted(_: Any, stream: Any) -> None:
        stream.time_base = stream.codec_context.time_base = Fraction(1, 25)

    make_video(tmp_path / "in.avi", [3600 * i for i in range(20)], bf="3", preset="medium", prepare=counted)
    with open_source(tmp_path / "in.avi") as source:
        stamps = [item.stamp.pts for item in source if isinstance(item, Picture)]
        assert source.notes == ()
    assert [after - before for before, after in itertools.pairwise(stamps)] == [1] * 19


@pytest.mark.parametrize("codec", ["libx264", "mpeg4", "ffv1"])
def test_an_avi_without_reordered_frames_begins_at_0(tmp_path: Path, codec: str) -> None:
    make_video(tmp_path / "in.mkv", EVEN)
    transcode(tmp_path / "in.mkv", tmp_path / "out.avi", options=SinkOptions(codec=codec))
    with open_source(tmp_path / "out.avi") as source:
        stamps = [(item.stamp.pts, item.stamp.duration) for item in source if isinstance(item, Picture)]
    index = index_video(source.info)
    assert isinstance(index, VideoIndex)
    assert stamps == list(index.stamps) == [(number, 1) for number in range(len(EVEN))]


def test_frames_of_another_size_are_fitted_into_the_first(tmp_path: Path) -> None:
    for index, size in enumerate([(64, 48), (96, 54), (64, 48)]):
        make_noise(tmp_path / f"{index}.h264", 3, size)
    (tmp_path / "in.h264").write_bytes(b"".join((tmp_path / f"{index}.h264").read_bytes() for index in range(3)))
    with open_source(tmp_path / "in.h264") as source:
        found = [item.pixels for item in source if isinstance(item, Picture)]
        assert source.notes == ("from frame 3 on, frames are 96x54, not 64x48: they are fitted into that",)
    assert [pixels.shape for pixels in found] == [(48, 64, 3)] * 9
    assert [bool(pixels[0].any()) for pixels in found] == [True] * 3 + [False] * 3 + [True] * 3
    assert all(pixels[6:42].any(axis=(1, 2)).all() for pixels in found)


def test_a_change_of_the_pixel_shape_is_said(tmp_path: Path) -> None:
    for index, aspect in enumerate([Fraction(16, 15), Fraction(64, 45)]):

        def shaped(_: Any, stream: Any, aspect: Fraction = aspect) -> None:
            stream.codec_context.sample_aspect_ratio = aspect

        make_video(tmp_path / f"{index}.h264", EVEN[:5], prepare=shaped, bf="0")
    (tmp_path / "in.h264").write_bytes((tmp_path / "0.h264").read_bytes() + (tmp_path / "1.h264").read_bytes())
    with open_source(tmp_path / "in.h264") as source:
        assert sum(isinstance(item, Picture) for item in source) == 10
        (note,) = source.notes
    assert note.startswith("from frame 5 on, pixels are 64:45 instead of 16:15 wide")


def test_a_closed_source_yields_nothing_more(clip: Path) -> None:
    source = open_source(clip)
    next(iter(source))
    source.close()
    assert list(source) == []
