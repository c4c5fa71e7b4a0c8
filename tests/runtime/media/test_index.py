"""The index of a video: frames by number and by time, from packets with answers known by construction."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import pytest

from swiftvr_trt.runtime.media import open_source
from swiftvr_trt.runtime.media.index import Shown, VideoIndex, build_index, index_video
from tests.clips import write_clip

TICK, RATE = Fraction(1, 100), Fraction(25)


def shown(text: str) -> list[Shown]:
    """`8k 16 12 h4`: a packet shown at 8 that is a key frame, two others, and a hidden one; decoded in this order."""
    packets = []
    for dts, word in enumerate(text.split()):
        time = word.strip("kh")
        packets.append(Shown(int(time) if time != "-" else None, dts, 4, "k" in word, "h" in word))
    return packets


def built(text: str) -> VideoIndex:
    index = build_index(shown(text), TICK, RATE)
    assert isinstance(index, VideoIndex)
    return index


def test_frames_are_numbered_as_they_are_shown() -> None:
    index = built("8k 20 12 16 32k 24 28")
    assert index.times == (8, 12, 16, 20, 24, 28, 32)
    assert index.keys == (0, 6)
    assert [list(index.entries(n)) for n in (0, 5, 6)] == [[0], [0], [6, 0]]


def test_hidden_frames_have_no_number() -> None:
    assert built("h-8k h-4 0k 4").times == (0, 4)


def test_stamps_are_those_of_the_timeline() -> None:
    """A missing duration becomes a step of the frame rate."""
    packets = [Shown(10, 0, 0, True), Shown(15, 1, 7, False)]
    index = build_index(packets, TICK, RATE)
    assert isinstance(index, VideoIndex)
    assert index.stamps == ((10, 4), (15, 7))


@pytest.mark.parametrize(
    ("seconds", "frame"), [("-1", 0), ("0", 0), ("0.01", 1), ("0.04", 1), ("0.05", 2), ("0.24", 6), ("0.25", 7)]
)
def test_a_time_counts_from_the_first_frame(seconds: str, frame: int) -> None:
    assert built("8k 20 12 16 32k 24 28").frame_at(Fraction(seconds)) == frame


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "no frames"),
        ("h0k h4", "no frames"),
        ("0k 4 - 12", "no time stamp"),
        ("0k 4 4 8", "the same time stamp"),
    ],
)
def test_packets_that_allow_no_index_are_refused_with_a_reason(text: str, reason: str) -> None:
    index = build_index(shown(text), TICK, RATE)
    assert isinstance(index, str)
    assert reason in index


def test_a_clock_that_jumps_back_allows_no_index() -> None:
    packets = [*shown("0k 4 8"), Shown(100, 0, 4, True)]
    assert build_index(packets, TICK, RATE) == "its clock jumps back"


def test_a_file_is_indexed_as_it_is_read(clip: Path) -> None:
    with open_source(clip) as source:
        stamps = [(item.stamp.pts, item.stamp.duration) for item in source if hasattr(item, "stamp")]
        index = index_video(source.info)
    assert isinstance(index, VideoIndex)
    assert list(index.stamps) == stamps


def test_sound_that_ends_within_the_last_frame_is_no_shortfall(tmp_path: Path) -> None:
    """Whole or resumed, a run must judge the same file in the same way."""
    clip = write_clip(tmp_path / "a.mkv", frames=400)
    with open_source(clip) as source:
        list(source)
        assert source.shortfall is None
        index = index_video(source.info)
    assert isinstance(index, VideoIndex)
    assert index.shortfall is None
