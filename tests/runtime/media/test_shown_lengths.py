"""No frame lasts beyond the end of its video, whatever order it is decoded in."""

from __future__ import annotations

from itertools import accumulate, pairwise
from pathlib import Path

import av
import pytest
from hypothesis import given
from hypothesis import strategies as st

from swiftvr_trt.runtime.media import Picture, open_source
from swiftvr_trt.runtime.media.index import VideoIndex, index_video
from swiftvr_trt.runtime.media.shown_lengths import ShownLengths, misplaces_lengths

from .videos import STEP, make_video, transcode

PAUSED = [*(STEP * index for index in range(20)), *(STEP * (100 + index) for index in range(20))]
"""Frames with a pause in the middle; the last one ends at `END`."""
END = STEP * 120


def as_in_mp4(lengths: list[int], group: int) -> list[tuple[int, int, int]]:
    """Time stamp, decoding time and duration of frames of these lengths. group: one is decoded before those between."""
    *shown, end = accumulate(lengths, initial=1000)
    order = [0]
    for first in range(1, len(shown), group):
        members = range(first, min(first + group, len(shown)))
        order += [members[-1], *members[:-1]]
    delay = 1 if group > 1 else 0
    decoded = [*(shown[0] - delay + index for index in range(delay)), *shown][: len(shown)]
    durations = [after - before for before, after in pairwise(decoded)]
    durations.append(end - shown[0] - (decoded[-1] - decoded[0]))
    return [(shown[number], dts, length) for number, dts, length in zip(order, decoded, durations, strict=True)]


@given(st.lists(st.integers(1, 500), min_size=1, max_size=30), st.integers(2, 5), st.integers(1, 100))
def test_the_last_frame_lasts_until_the_end_and_no_other_longer(lengths: list[int], group: int, step: int) -> None:
    packets, found = as_in_mp4(lengths, group), ShownLengths(misplaced=True)
    for packet in packets:
        found.note(*packet)
    shown = {pts: found.of(pts, duration, step) for pts, _, duration in packets}
    end = 1000 + sum(lengths)
    last = max(shown)
    assert shown.pop(last) >= end - last
    assert all(0 < length <= step for length in shown.values())


def test_a_pause_is_the_duration_of_a_later_frame_otherwise() -> None:
    packets, found = as_in_mp4([10, 10, 10, 300, 10, 10, 10], 3), ShownLengths(misplaced=True)
    for packet in packets:
        found.note(*packet)
    late = next(pts for pts, _, duration in packets if duration == 300)
    assert late > 1030
    assert max(found.of(*packet[::2], 10) for packet in packets) == 10


def test_other_lengths_are_taken_as_they_are() -> None:
    found = ShownLengths(misplaced=False)
    found.note(0, 0, 300)
    assert found.of(0, 300, 10) == 300
    assert ShownLengths(misplaced=True).of(None, 300, 10) == 300


@pytest.mark.parametrize(
    ("suffix", "reordered", "misplaced"),
    [(".mp4", "3", True), (".mov", "3", True), (".mkv", "3", False), (".mp4", "0", False)],
)
def test_a_pause_makes_no_video_longer(tmp_path: Path, suffix: str, reordered: str, misplaced: bool) -> None:
    path = make_video(tmp_path / f"in{suffix}", PAUSED, bf=reordered)
    with av.open(str(path)) as container:
        assert misplaces_lengths(container, container.streams.video[0]) == misplaced
    with open_source(path) as source:
        index = index_video(source.info)
        assert isinstance(index, VideoIndex)
        assert max(sum(stamp) for stamp in index.stamps) * index.time_base * 90000 == pytest.approx(END, abs=200)
        assert [(item.stamp.pts, item.stamp.duration) for item in source if isinstance(item, Picture)] == [
            *index.stamps
        ]
    transcode(path, tmp_path / "out.mp4")
    with av.open(str(tmp_path / "out.mp4")) as container:
        stream = container.streams.video[0]
        assert stream.duration is not None
        assert stream.time_base is not None
        assert float(stream.duration * stream.time_base) == pytest.approx(END / 90000, abs=0.002)
