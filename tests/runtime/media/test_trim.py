"""Which frames a wish in seconds and frames selects: cases with answers by hand."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swiftvr_trt import MisuseError
from swiftvr_trt.runtime.media.base import Colour, SourceInfo
from swiftvr_trt.runtime.media.trim import Clock, Excerpt, Trim, find_excerpt, needed_stamps

TICK = Fraction(1, 1000)
STAMPS = [(500 + 40 * number, 40) for number in range(10)]
"""Ten frames at 25 per second of a video that begins half a second after its sound."""


def found(trim: Trim, origin: str = "0.5") -> Excerpt:
    return find_excerpt(trim, STAMPS, Clock(TICK, Fraction(origin)), Path("in.mkv"))


@pytest.mark.parametrize(
    ("trim", "whole", "shown"),
    [
        (Trim(), 20, Fraction(39, 2)),
        (Trim(Fraction("0.1")), 20, Fraction(20) - Fraction("0.62")),
        (Trim(frames=3), 20, Fraction("0.12")),
        (Trim(duration=Fraction(30)), 20, Fraction(39, 2)),
        (Trim(), None, None),
        (Trim(), Fraction("0.1"), None),
    ],
)
def test_a_part_is_shown_until_its_end_or_that_of_the_file(
    trim: Trim, whole: Fraction | None, shown: Fraction | None
) -> None:
    info = SourceInfo(Path("in.mkv"), 64, 48, 10, Fraction(25), TICK, Colour(), None, "", shown_s=whole)
    assert found(trim).of_info(info).shown_s == shown


def test_the_whole_is_left_as_it_is() -> None:
    whole = found(Trim())
    assert Trim().is_whole
    assert Trim(Fraction(0)).is_whole
    assert (whole.frames, whole.begin, whole.stop, whole.zero, whole.until) == (10, 500, None, None, None)
    assert whole.wants_more


@pytest.mark.parametrize(
    ("start", "duration", "frames", "begin", "stop", "until"),
    [
        ("0.04", None, None, 540, None, None),
        ("0.0404", None, None, 540, None, None),  # to the nearest tick
        ("0.041", None, None, 580, None, None),
        ("0.04", "0.08", None, 540, 620, "0.62"),
        ("0.04", "0.09", None, 540, 660, "0.63"),
        ("0.04", "0.09", 2, 540, 620, "0.62"),
        ("0.04", None, 2, 540, 620, "0.62"),
        ("0.2", "100", None, 700, None, "100.7"),
        ("0.2", None, 100, 700, None, None),
    ],
)
def test_frames_are_chosen_by_the_time_when_they_are_shown(
    start: str, duration: str | None, frames: int | None, begin: int, stop: int | None, until: str | None
) -> None:
    excerpt = found(Trim(Fraction(start), None if duration is None else Fraction(duration), frames))
    assert (excerpt.begin, excerpt.stop, excerpt.zero) == (begin, stop, begin)
    assert excerpt.until == (None if until is None else Fraction(until))
    assert excerpt.frames == sum(pts in excerpt for pts, _ in STAMPS)


def test_time_counts_from_the_beginning_of_the_file() -> None:
    assert found(Trim(Fraction("0.54")), origin="0").begin == 540
    assert found(Trim(Fraction("0.04")), origin="0.5").begin == 540


@pytest.mark.parametrize(("duration", "more"), [("0.4", False), ("0.41", True), ("0.39", False)])
def test_a_part_that_is_there_needs_no_more(duration: str, more: bool) -> None:
    assert found(Trim(duration=Fraction(duration))).wants_more == more


@pytest.mark.parametrize(
    ("start", "duration", "frames", "said"),
    [
        ("-1", None, None, "--start is -1 s, expected 0 or more"),
        (None, "0", None, "--duration is 0 s, expected a length above 0"),
        (None, "-0.5", None, "--duration is -0.5 s"),
        (None, None, 0, "--frames is 0, expected 1 or more"),
        (str(10**400), None, None, "--start is more than 1000000000 s"),
    ],
)
def test_empty_and_negative_parts_are_refused(
    start: str | None, duration: str | None, frames: int | None, said: str
) -> None:
    with pytest.raises(MisuseError, match=said):
        Trim(None if start is None else Fraction(start), None if duration is None else Fraction(duration), frames)


@given(st.integers(0, 400), st.integers(1, 400))
def test_neighbouring_parts_share_no_frame_and_leave_none_out(first: int, length: int) -> None:
    def chosen(start: int, duration: int) -> set[int]:
        try:
            excerpt = found(Trim(Fraction(start, 1000), Fraction(duration, 1000)))
        except MisuseError:
            return set()
        return {pts for pts, _ in STAMPS if pts in excerpt}

    assert chosen(first, length) | chosen(first + length, length) == chosen(first, 2 * length)
    assert not chosen(first, length) & chosen(first + length, length)


@given(st.integers(0, 390), st.none() | st.integers(1, 500), st.none() | st.integers(1, 12))
def test_the_stamps_behind_a_part_are_not_needed(start: int, duration: int | None, frames: int | None) -> None:
    trim = Trim(Fraction(start, 1000), None if duration is None else Fraction(duration, 1000), frames)
    clock, path = Clock(TICK, Fraction("0.5")), Path("in.mkv")
    try:
        expected = find_excerpt(trim, STAMPS, clock, path)
    except MisuseError:
        return
    assert find_excerpt(trim, needed_stamps(trim, STAMPS, clock), clock, path) == expected


@given(st.none() | st.fractions(0, 1000), st.none() | st.fractions(Fraction(1, 9), 1000), st.none() | st.just(7))
def test_a_wish_survives_json(start: Fraction | None, duration: Fraction | None, frames: int | None) -> None:
    assert Trim.from_dict(Trim(start, duration, frames).to_dict()) == Trim(start, duration, frames)
