"""Sizes, durations, versions and messages as people read them."""

from __future__ import annotations

import pytest

from swiftvr_trt.text import first_line, format_bytes, format_duration, last_line, parse_version


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
