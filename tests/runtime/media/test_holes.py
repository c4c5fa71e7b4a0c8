"""Where frames are missing in the middle of a video: steps between packets by hand, and damaged files."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import pytest

from swiftvr_trt.runtime.media import Picture, open_source
from swiftvr_trt.runtime.media.holes import Hole, HoleFinder, hole_line
from swiftvr_trt.runtime.media.index import VideoIndex, index_video
from swiftvr_trt.runtime.media.trim import Trim
from swiftvr_trt.runtime.media.trimmed import open_trimmed

from .videos import make_holed

STEP = Fraction(1, 25)


def found(steps: list[int], trouble: tuple[int, ...] = (), joints: tuple[int, ...] = ()) -> list[tuple[int, int]]:
    """Begin and length of the holes, in frames. steps: between packets, in frames. trouble: packets with damage."""
    finder, last = HoleFinder(), 0
    for number, step in enumerate(steps, 1):
        finder.step(last * STEP, (last + step) * STEP, joint=number in joints)
        last += step
        if number in trouble:
            finder.trouble()
    return [(int(hole.begin / STEP), int(hole.length / STEP)) for hole in finder.holes]


EVEN = [1] * 20


@pytest.mark.parametrize("trouble", [21, 15, 30])
def test_a_pause_beside_damage_is_a_hole(trouble: int) -> None:
    assert found([*EVEN, 6, *EVEN], (trouble,)) == [(21, 5)]


def test_one_frame_is_enough() -> None:
    assert found([*EVEN, 2, *EVEN], (21,)) == [(21, 1)]


@pytest.mark.parametrize(
    ("steps", "trouble"),
    [
        ([*EVEN, 6, *EVEN], ()),  # a pause
        ([*EVEN, *EVEN, 6, *EVEN], (2,)),  # far away
        ([*EVEN, *EVEN], (20,)),
        ([*EVEN, 6, *EVEN, *EVEN, 6, *EVEN], (21,)),  # it pauses as often where nothing is damaged
        ([1, 2, 4, 1, 3, 2, 1, 1, 1, 9, *EVEN], (10,)),  # not steady
        ([1, 6, *EVEN], (2,)),  # what is usual is not known yet
        ([3, 2] * 10, (12,)),  # pulldown
    ],
)
def test_what_is_no_hole(steps: list[int], trouble: tuple[int, ...]) -> None:
    assert found(steps, trouble) == []


def test_a_place_where_recordings_are_joined_is_no_hole() -> None:
    assert found([*EVEN, 6, *EVEN], (21,), joints=(21,)) == []


@pytest.mark.parametrize(("torn", "joint", "holes"), [(True, False, 1), (False, False, 0), (True, True, 0)])
def test_a_pause_where_data_are_missing_is_a_hole(torn: bool, joint: bool, holes: int) -> None:
    """The file is asked at pauses only."""
    finder, asked = HoleFinder(), list[int]()
    for number in range(40):
        step = 5 if number == 20 else 1

        def answer(at: int = number) -> bool:
            asked.append(at)
            return torn

        finder.step(number * STEP, (number + step) * STEP, joint=joint and step > 1, torn=answer)
    assert (len(finder.holes), asked) == (holes, [] if joint else [20])


def test_damage_that_is_reported_when_a_file_is_opened_is_near_its_beginning() -> None:
    finder = HoleFinder()
    for number in range(20):
        finder.step(number * STEP, (number + 1) * STEP)
    finder.trouble_at_open(Fraction(0))
    finder.step(20 * STEP, 30 * STEP)
    assert finder.holes == (Hole(21 * STEP, 9 * STEP),)


def test_holes_in_words() -> None:
    assert hole_line(()) is None
    one = Hole(Fraction(1), Fraction(2))
    assert hole_line((one,)) == "frames are missing in the input: 2.00 s, at 1.00 s"
    assert hole_line((one, one)) == "frames are missing in the input: 4.00 s, in 2 places, the first at 1.00 s"


@pytest.fixture(scope="module", params=[".mkv", ".nut"])
def damaged(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_holed(tmp_path_factory.mktemp("holes") / f"in{request.param}")


def test_frames_that_are_missing_in_the_middle_are_a_shortfall(damaged: Path) -> None:
    with open_source(damaged) as source:
        frames = sum(isinstance(item, Picture) for item in source)
        assert frames < 75
        assert any(" s of the video are missing in the input, " in line for line in source.damage)
        index = index_video(source.info)
    assert isinstance(index, VideoIndex)  # what resumed, divided and distributed runs know
    assert index.lacks is not None
    assert index.lacks.startswith("frames are missing in the input: ")
    assert index.lacks in (source.shortfall or "")


@pytest.mark.parametrize(
    ("begin", "duration", "lacks"), [(None, 0.5, False), (2.5, None, False), (0.25, 2.5, True), (0.25, None, True)]
)
def test_an_excerpt_lacks_only_what_it_should_hold(
    damaged: Path, begin: float | None, duration: float | None, lacks: bool
) -> None:
    trim = Trim(None if begin is None else Fraction(begin), None if duration is None else Fraction(duration))
    with open_trimmed(damaged, trim) as source:
        assert sum(isinstance(item, Picture) for item in source)
        assert (source.shortfall is not None) == lacks
