"""What counts as missing and what as damaged."""

from __future__ import annotations

import dataclasses
import re
from fractions import Fraction

import pytest

from swiftvr_trt.runtime.media.damage import Promise, Reading, damage, part_line, shortfall

FRAME = Fraction(1, 25)


def read(count: int, **given: int) -> Reading:
    """A complete reading of so many frames at 25 per second."""
    reading = Reading(count, frames=count, ends={0: count * FRAME}, longest=FRAME)
    return dataclasses.replace(reading, **given)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("promise", "reading"),
    [
        (Promise(), read(10)),
        (Promise(packets=10), read(10)),
        (Promise(packets=10), read(10, packets=10, hidden=6, frames=4)),  # an edit list shows four
        (Promise(packets=10), read(5, packets=10)),  # packets of VP8 without a picture of their own
        (Promise(packets=10), read(10, troubled=3)),
        (Promise(packets=10), read(8, packets=10, troubled=2, early=2)),  # cut between key frames
        (Promise(stream_end=Fraction(2)), read(50)),
        (Promise(stream_end=Fraction(2) + FRAME), read(50)),  # the last frame lasts twice as long
        (Promise(file_end=Fraction(2)), read(50)),
        (Promise(sound_ends={1: Fraction(1, 10)}), read(50)),
    ],
)
def test_what_is_complete(promise: Promise, reading: Reading) -> None:
    assert shortfall(promise, reading, 0) is None


@pytest.mark.parametrize(
    ("promise", "reading", "said"),
    [
        (Promise(packets=1000), read(999), "promises 1000 frames, but only 999"),
        (Promise(packets=10), read(9, packets=10, troubled=1, refused=1), "promises 10 frames, but only 9"),
        (Promise(), read(9, packets=10, troubled=1), "promises 10 frames, but only 9"),  # an error, and no frame
        (Promise(packets=10), read(4, packets=9, troubled=1, refused=1), "promises 6 frames, but only 4"),
        (Promise(stream_end=Fraction(2)), read(47), r"the input promises 2\.0 s, but ends after 1\.9 s"),
        (Promise(file_end=Fraction(2)), read(47), r"the input promises 2\.0 s, but ends after 1\.9 s"),
        (Promise(sound_ends={1: Fraction(2)}), read(50), r"^audio stream 1 promises 2\.0 s, but ends after 0\.0 s"),
        (Promise(stream_end=Fraction(2093, 1000)), read(50), r"promises 2\.093 s, but ends after 2\.000 s"),
        (Promise(), Reading(packets=3, frames=3, ended="broken"), "ends early, after 3 frames: broken"),
    ],
)
def test_what_is_missing(promise: Promise, reading: Reading, said: str) -> None:
    line = shortfall(promise, reading, 0)
    assert line is not None
    assert re.search(said, line)


@pytest.mark.parametrize(
    ("promised", "found", "lost", "said"),
    [
        (25, 25, 3, None),  # lost before the part
        (25, 24, 0, None),  # the decoder makes fewer frames than packets of an intact file
        (25, 24, 1, "this part of the input promises 25 frames, but only 24 could be read"),
        (25, 23, 1, "this part of the input promises 24 frames, but only 23 could be read"),
    ],
)
def test_what_is_missing_in_a_part(promised: int, found: int, lost: int, said: str | None) -> None:
    assert part_line(promised, found, lost) == said


def test_every_kind_of_damage_is_a_line() -> None:
    assert damage(Reading(packets=5, frames=5), 0, None) == ()
    reading = Reading(packets=20, frames=14, early=2, refused=1, troubled=5, concealed=3, broken=4)
    assert damage(reading, 9, "error while decoding MB 3 1") == (
        "the input begins with 2 video packets that could not be decoded: left out",
        "3 damaged video packets were skipped",
        "3 frames are damaged in the input and were restored as they are",
        "the container marks 4 packets of the input as damaged",
        "errors that FFmpeg reported while reading the input: 9, the first: error while decoding MB 3 1",
    )
