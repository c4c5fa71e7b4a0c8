"""Missing numbers: of sequences, not of photographs."""

from __future__ import annotations

from pathlib import Path

import pytest

from swiftvr_trt.runtime.media.number_gaps import gap_note


def note(*numbers: int, name: str = "shot2_f{:03}.png") -> str | None:
    return gap_note([Path(name.format(number)) for number in numbers])


@pytest.mark.parametrize(
    ("numbers", "words"),
    [
        ((1, 2, 3, 5, 6, 8, 9, 10), "numbers 4 and 7 are missing between shot2_f001.png and shot2_f010.png"),
        ((1, 2, 4), "number 3 is missing"),
        ((*range(1, 11), *range(100, 111)), "numbers 11 to 99 are missing"),
        ((0, 2, 4, 8, 10), "number 6 is missing"),
        ((1, 2, 4, 5, 7, 8, 10, 11, 13, 14, 15, 17, 18, 19, 20), "numbers 3, 6, 9 and 2 more are missing"),
    ],
)
def test_gaps_are_named(numbers: tuple[int, ...], words: str) -> None:
    assert words in (note(*numbers) or "")


@pytest.mark.parametrize("numbers", [(), (7,), (1, 5), (1, 2, 3), (0, 10, 20), (3012, 3055, 3060, 3100)])
def test_whole_sequences_and_photographs_are_none(numbers: tuple[int, ...]) -> None:
    assert note(*numbers) is None


@pytest.mark.parametrize("names", ["01 1 2", "1 01 2 02", "a1 a2 b4 b5 b6", "a b c", "1_1 1_2 2_4 2_5", "a1 a2b a4 a5"])
def test_other_names_are_no_sequence(names: str) -> None:
    assert gap_note([Path(f"{name}.png") for name in names.split()]) is None
