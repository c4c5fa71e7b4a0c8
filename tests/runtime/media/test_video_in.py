"""Videos as sources: pictures, their stamps, and the packets between them."""

from __future__ import annotations

import itertools
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from swiftvr_trt.errors import MediaError
from swiftvr_trt.runtime.media import CopiedPacket, Picture, open_source
from swiftvr_trt.runtime.media.video_in import _PacketClock
from tests.clips import seconds

from .videos import CLIP, UNEVEN, frames_of, make_noise, make_video, needs_clip, one_line, read, still


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


def test_a_change_of_size_names_the_frame_and_both_sizes(tmp_path: Path) -> None:
    for index, size in enumerate([(64, 48), (96, 64)]):
        make_noise(tmp_path / f"{index}.h264", 3, size)
    joined = (tmp_path / "0.h264").read_bytes() + (tmp_path / "1.h264").read_bytes()
    (tmp_path / "in.h264").write_bytes(joined)
    with pytest.raises(MediaError, match=r"frame 3 of .* is 96x64, expected 64x48") as error:
        read(tmp_path / "in.h264")
    assert one_line(error)


def test_copied_packets_go_on_when_the_clock_of_the_file_restarts() -> None:
    clock, times = _PacketClock(), []
    for pts in (9000, 9040, 0, 40):
        packet = av.Packet(b"sound")
        packet.pts, packet.dts, packet.duration, packet.time_base = pts, pts, 40, Fraction(1, 1000)
        clock.correct(packet)
        times.append((packet.pts, packet.dts))
    assert times == [(9000, 9000), (9040, 9040), (9080, 9080), (9120, 9120)]


def test_a_closed_source_yields_nothing_more(clip: Path) -> None:
    source = open_source(clip)
    next(iter(source))
    source.close()
    assert list(source) == []
