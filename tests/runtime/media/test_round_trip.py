"""Videos from a source to a sink: what comes out is compared with what went in."""

from __future__ import annotations

import itertools
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from swiftvr_trt.runtime.media import Picture, open_sink, open_source
from swiftvr_trt.runtime.media.colour import converted

from .videos import (
    CLIP,
    CLOCK,
    EVEN,
    UNEVEN,
    add_tone,
    make_video,
    mux_tone,
    needs_clip,
    packets,
    still,
    times,
    transcode,
)


@pytest.mark.parametrize("suffix", [".mp4", ".mov"])
@pytest.mark.parametrize("pts", [EVEN, UNEVEN, [9000], [7200, 7201, 90000, 900_000]])
def test_every_time_stamp_is_kept(tmp_path: Path, pts: list[int], suffix: str) -> None:
    make_video(tmp_path / f"in{suffix}", pts)
    transcode(tmp_path / f"in{suffix}", tmp_path / f"out{suffix}", scale=2)
    assert times(tmp_path / f"in{suffix}") == [moment * CLOCK for moment in pts]
    assert times(tmp_path / f"out{suffix}") == times(tmp_path / f"in{suffix}")


def test_matroska_keeps_its_milliseconds(tmp_path: Path) -> None:
    make_video(tmp_path / "in.mkv", UNEVEN)
    transcode(tmp_path / "in.mkv", tmp_path / "out.mkv")
    assert times(tmp_path / "out.mkv") == times(tmp_path / "in.mkv")


@needs_clip
def test_the_clip_comes_through_whole(tmp_path: Path) -> None:
    with open_source(CLIP) as source, open_sink(tmp_path / "o.mp4", source.info, 320, 180) as sink:
        for item in source:
            sink.write(item.with_pixels(item.pixels[::4, ::4]) if isinstance(item, Picture) else item)
        sink.commit()
    assert times(tmp_path / "o.mp4") == times(CLIP)
    assert packets(tmp_path / "o.mp4", "audio") == packets(CLIP, "audio")


@pytest.mark.parametrize(("degrees", "turns"), [(0, 0), (-90, 3), (90, 1), (180, 2)])
def test_a_turned_video_comes_out_upright_without_a_tag(tmp_path: Path, degrees: int, turns: int) -> None:
    make_video(tmp_path / "in.mp4", [0, 3600], prepare=lambda _, stream: stream.set_display_rotation(degrees))
    info, _ = transcode(tmp_path / "in.mp4", tmp_path / "out.mp4", scale=2)
    upright = np.rot90(still(0, 64, 48), turns)
    assert (info.height, info.width) == upright.shape[:2]
    with av.open(str(tmp_path / "out.mp4")) as container:
        frame = next(container.decode(video=0))
        assert frame.rotation == 0
        shown = converted(frame, format="rgb24").to_ndarray()[::2, ::2]
    assert np.abs(shown.astype(int) - upright).mean() < 4


def test_names_may_contain_colons_and_percent_signs(tmp_path: Path) -> None:
    make_video(tmp_path / "in.mp4", [0, 3600]).rename(tmp_path / "a:50%d ü.mp4")
    transcode(tmp_path / "a:50%d ü.mp4", tmp_path / "b:50%d ü.mp4")
    assert len(times(tmp_path / "b:50%d ü.mp4")) == 2


@pytest.mark.parametrize("after", [".ts", ".mp4", ".mkv"])
def test_transport_streams_are_read_and_written(tmp_path: Path, after: str) -> None:
    make_video(tmp_path / "in.ts", UNEVEN, prepare=lambda container, _: add_tone(container), extra=mux_tone)
    _, notes = transcode(tmp_path / "in.ts", tmp_path / f"out{after}")
    offset = times(tmp_path / f"out{after}")[0] - times(tmp_path / "in.ts")[0]
    limit = Fraction(1, 1000) if after == ".mkv" else 0
    for old, new in zip(times(tmp_path / "in.ts"), times(tmp_path / f"out{after}"), strict=True):
        assert abs(new - old - offset) <= limit
    assert len(packets(tmp_path / f"out{after}", "audio")) == len(packets(tmp_path / "in.ts", "audio"))
    assert notes == ()


def test_joined_files_play_on(tmp_path: Path) -> None:
    make_video(tmp_path / "one.ts", [3600 * i for i in range(50)])
    (tmp_path / "in.ts").write_bytes((tmp_path / "one.ts").read_bytes() * 2)
    transcode(tmp_path / "in.ts", tmp_path / "out.mp4")
    steps = {after - before for before, after in itertools.pairwise(times(tmp_path / "out.mp4"))}
    assert len(times(tmp_path / "out.mp4")) == 100
    assert steps == {Fraction(1, 25)}
