"""The matrix of videos: a part of it here, and its comparison can fail."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import pytest

from benchmarks.media_matrix import Case, Seen, cases, differences, run_case

TIMES = tuple(Fraction(number, 25) for number in range(12))
SEEN = Seen(TIMES, (("aac", Fraction(0), ("a", "b")),), (1, 1, 1), Fraction(4, 3), 8, Fraction(1, 12800))


@pytest.mark.parametrize("case", cases()[::60], ids=str)
def test_nothing_is_lost(tmp_path: Path, case: Case) -> None:
    word, faults = run_case(case, tmp_path)
    assert (word, faults) == ("restored", [])


@pytest.mark.parametrize(
    ("after", "fault"),
    [
        (SEEN, None),
        (replace(SEEN, times=TIMES[:-1]), "12 frames became 11"),
        (replace(SEEN, times=(*TIMES[:-1], TIMES[-1] + Fraction(1, 100))), "frames moved by up to 0.0100 s"),
        (replace(SEEN, sound=()), "1 tracks of sound became 0"),
        (replace(SEEN, sound=(("mp3", Fraction(0), ("a", "b")),)), "aac became mp3"),
        (replace(SEEN, sound=(("aac", Fraction(0), ("a",)),)), "packets of aac changed"),
        (replace(SEEN, sound=(("aac", Fraction(1, 10), ("a", "b")),)), "sound moved by 0.1000 s"),
        (replace(SEEN, tags=(1, 1, 6)), "colour tags"),
        (replace(SEEN, shape=Fraction(16, 9)), "a picture of 1.333 became 1.778 wide"),
    ],
)
def test_a_difference_is_a_fault(after: Seen, fault: str | None) -> None:
    found = list(differences(SEEN, after, ()))
    assert len(found) == (fault is not None)
    assert all(fault is not None and fault in each for each in found)


def test_a_shift_of_everything_is_none() -> None:
    later = tuple(moment + 1 for moment in TIMES)
    sound = (("aac", Fraction(1), ("a", "b")),)
    assert list(differences(SEEN, replace(SEEN, times=later, sound=sound), ())) == []


def test_fewer_bits_have_to_be_said() -> None:
    deep = replace(SEEN, bits=10)
    assert list(differences(deep, SEEN, ())) == ["10 bits became 8"]
    assert list(differences(deep, SEEN, ("the encoder takes 8 bits",))) == []
