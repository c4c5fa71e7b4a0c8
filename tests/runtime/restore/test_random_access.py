"""Frames by number are those of the uninterrupted stream, in whatever order they are asked for."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from swiftvr_trt import MisuseError, Restorer
from swiftvr_trt.errors import StageError
from swiftvr_trt.export.moving_picture import synthetic_frame
from swiftvr_trt.runtime.restore.random_access import RandomAccess
from swiftvr_trt.runtime.stream.open_stream import OpenStream
from tests.conftest import BundleFactory

COUNT = 61


def picture(number: int) -> np.ndarray:
    return synthetic_frame(number, 24, 32)


@pytest.fixture(scope="module")
def restorer(mini_bundle: BundleFactory) -> Iterator[Restorer]:
    with Restorer.open(mini_bundle(clip_len=4), threads=1) as opened:
        yield opened


class Access:
    """Frames by number, those that they should be, and which frames of the source were taken."""

    def __init__(self, restorer: Restorer, count: int = COUNT) -> None:
        self.expected = list(restorer.restore(picture(number) for number in range(count)))
        self.taken: list[int] = []
        self.failing: set[int] = set()
        self.frames = RandomAccess(restorer, self._take, count)

    def _take(self, number: int) -> np.ndarray:
        if number in self.failing:
            self.failing.remove(number)
            raise OSError("the disk is busy")
        self.taken.append(number)
        return picture(number)

    def check(self, number: int) -> None:
        assert (self.frames.frame(number) == self.expected[number]).all(), number

    def check_from(self, number: int) -> None:
        for each in range(number, COUNT):
            self.check(each)


@pytest.fixture(scope="module")
def access(restorer: Restorer) -> Access:
    return Access(restorer)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(0, COUNT - 1), min_size=1, max_size=4))
def test_any_order_gives_the_frames_of_the_stream(access: Access, order: list[int]) -> None:
    for number in order:
        access.check(number)


@pytest.mark.parametrize("count", [1, 3, 4, 5, 8, 9, 12])
def test_short_videos_are_complete(restorer: Restorer, count: int) -> None:
    access = Access(restorer, count)
    for number in (*reversed(range(count)), *range(count)):
        access.check(number)


def test_frames_in_order_are_taken_once(restorer: Restorer) -> None:
    access = Access(restorer)
    for number in range(COUNT):
        access.check(number)
    assert access.taken == list(range(COUNT))


def test_a_little_back_costs_nothing_and_a_jump_what_the_network_needs(restorer: Restorer) -> None:
    access = Access(restorer)
    access.check(10)
    before = len(access.taken)
    access.check(7)
    assert len(access.taken) == before
    access.check(58)
    needed = access.taken[before:]
    assert needed == list(range(needed[0], needed[-1] + 1))
    assert needed[0] > 0


@pytest.mark.parametrize(("asked", "failing"), [(40, 36), (40, 41), (60, 60)])
def test_a_source_that_fails_once_costs_one_request(restorer: Restorer, asked: int, failing: int) -> None:
    """On the way to a frame after a jump, and at any later one."""
    access = Access(restorer)
    access.check(12)
    access.failing = {failing}
    with pytest.raises(OSError, match="the disk is busy"):
        access.check_from(asked)
    for number in (18, asked, COUNT - 1):
        access.check(number)


def test_a_stage_that_fails_once_costs_one_request(restorer: Restorer, monkeypatch: pytest.MonkeyPatch) -> None:
    access = Access(restorer)
    access.check(12)
    with monkeypatch.context() as patch:
        patch.setattr(OpenStream, "advance", fail)
        with pytest.raises(StageError, match="out of memory"):
            access.check(20)
    access.check(20)


def fail(stream: OpenStream, *, ended: bool) -> None:
    del ended
    stream.broken = True
    raise RuntimeError("out of memory")


@pytest.mark.parametrize("number", [-1, COUNT, COUNT + 100])
def test_there_is_no_other_frame(access: Access, number: int) -> None:
    with pytest.raises(MisuseError, match=f"frame {number} was asked for, expected 0 to {COUNT - 1}"):
        access.frames.frame(number)
