"""Sizes, durations, versions and messages as people read them."""

from __future__ import annotations

from fractions import Fraction

import pytest

from swiftvr_trt.text import (
    counted,
    first_line,
    format_bytes,
    format_duration,
    last_line,
    parse_seconds,
    parse_version,
    printable,
    with_article,
)


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(0, "0:00"), (0.4, "0:00"), (59.6, "1:00"), (61, "1:01"), (3599, "59:59"), (3600, "1:00:00"), (90061, "25:01:01")],
)
def test_durations(seconds: float, said: str) -> None:
    assert format_duration(seconds) == said


@pytest.mark.parametrize(
    ("count", "said"),
    [(0, "0.0 MB"), (49_999, "0.0 MB"), (70_000_000, "70.0 MB"), (10**9, "1.00 GB"), (5_853_000_000, "5.85 GB")],
)
def test_sizes(count: float, said: str) -> None:
    assert format_bytes(count) == said


@pytest.mark.parametrize(
    ("message", "line"),
    [
        ("one", "one"),
        ("\n first\nsecond", "first"),
        ("x" * 400, "x" * 300),
        (OSError("disk full\nsorry"), "disk full"),
        (MemoryError(), "MemoryError"),
    ],
)
def test_the_first_line_of_a_message(message: object, line: str) -> None:
    assert first_line(message) == line


@pytest.mark.parametrize(("text", "line"), [("one", "one"), ("one\n two \n\n", "two"), ("\n \n", ""), ("", "")])
def test_the_last_line_that_is_not_blank(text: str, line: str) -> None:
    assert last_line(text) == line


def test_versions_compare_as_numbers() -> None:
    assert parse_version("12.8") == (12, 8)
    assert parse_version("9.10") > parse_version("9.9") > parse_version("9")


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain, ünïcode 中文 ½", "plain, ünïcode 中文 ½"),
        ("a\x1b[31mb", r"a\x1b[31mb"),
        ("a\nb\r\tc", r"a\nb\r\tc"),
        ("\x9b2J\u202e\udcff\U000e0001", r"\x9b2J\u202e\udcff\U000e0001"),
    ],
)
def test_what_a_terminal_would_obey_is_shown_as_an_escape(text: str, shown: str) -> None:
    assert printable(text) == shown


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("10", 10),
        ("10s", 10),
        ("1:30", 90),
        ("0:01:30.5", Fraction(181, 2)),
        ("2:00:00", 7200),
        ("0.04", Fraction(1, 25)),
        ("500ms", Fraction(1, 2)),
        ("40000us", Fraction(1, 25)),
        ("1:30s", 90),
        ("1.5ms", Fraction(3, 2000)),
        ("90:59.5", Fraction(10919, 2)),
    ],
)
def test_times_are_read_as_people_write_them(text: str, seconds: Fraction | int) -> None:
    assert parse_seconds(text) == seconds


@pytest.mark.parametrize(
    "text",
    [
        "",
        "s",
        "ten",
        "-1",
        "1:",
        ":1",
        "1:2:3:4",
        "1e3",
        "1.5:00",
        "1/2",
        "nan",
        "1:30ms",
        "9" * 5000,
        "5 ms",
        "ms",
        "1:75",
        "1:60:00",
        "0:0:60.0",
    ],
)
def test_other_times_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r".*"):
        parse_seconds(text)


def test_one_is_no_plural() -> None:
    assert [counted(number, "frame") for number in (0, 1, 2)] == ["0 frames", "1 frame", "2 frames"]
    assert [counted(number, "frame is", "frames are") for number in (1, 2)] == ["1 frame is", "2 frames are"]


@pytest.mark.parametrize(
    "words",
    ["an avi file", "an mp4 file", "an mkv file", "an mpegts file", "an h264 video", "an asf file", "an ogg file",
     "a webm file", "a matroska file", "a mov file", "a wav file", "a vp9 video", "a gif", "a 3gp file", "a nut file"],
)  # fmt: skip
def test_articles_are_spoken(words: str) -> None:
    assert with_article(words.split(" ", 1)[1]) == words
