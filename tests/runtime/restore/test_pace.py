"""The time to go: judged by chunks, so that it falls while the speed is steady."""

from __future__ import annotations

import random
from itertools import pairwise

import pytest

from swiftvr_trt.runtime.restore.pace import Pace


def shown(chunks: list[tuple[int, float]], total: int, step: float = 0.2) -> list[float]:
    """What a display shows, looking every `step` seconds. chunks: frames and seconds of each."""
    pace, now, looked, seen = Pace(total, 0.0), 0.0, 0.0, list[float]()
    for frames, seconds in chunks:
        now += seconds
        while looked + step <= now:
            looked += step
            remaining = pace.remaining(looked)
            seen += [] if remaining is None else [remaining]
        pace.advance(frames, now)
    seen.append(pace.remaining(now) or 0.0)
    return seen


def test_nothing_is_known_before_the_first_chunk_or_without_a_total() -> None:
    assert Pace(100, 0.0).remaining(5.0) is None
    endless = Pace(None, 0.0)
    endless.advance(24, 1.0)
    assert endless.remaining(2.0) is None


@pytest.mark.parametrize("first", [4.0, 9.0, 3.5])
def test_the_time_to_go_never_rises_at_a_steady_speed(first: float) -> None:
    seen = shown([(25, first), *[(24, 3.0)] * 40], 25 + 24 * 40)
    assert all(later <= earlier for earlier, later in pairwise(seen))
    assert seen[-1] == pytest.approx(0, abs=1e-6)


def test_from_the_second_chunk_on_it_is_exact() -> None:
    pace = Pace(25 + 24 * 10, 0.0)
    pace.advance(25, 60.0)  # compiles kernels, say
    pace.advance(24, 62.0)
    assert pace.remaining(62.0) == pytest.approx(9 * 2.0)
    assert pace.remaining(63.0) == pytest.approx(9 * 2.0 - 1)


def test_jitter_does_not_make_it_rise() -> None:
    dice = random.Random(7)
    for _ in range(20):
        seen = shown([(25, 3.0), *((24, dice.uniform(0.97, 1.03)) for _ in range(200))], 25 + 24 * 200)
        rises = [later - earlier for earlier, later in pairwise(seen[20:]) if later > earlier]
        assert sum(rises) <= 0.05 * seen[20]


def test_a_machine_that_becomes_slower_is_noticed() -> None:
    pace = Pace(2400, 0.0)
    for second in range(10):
        pace.advance(24, 1.0 + second)
    for second in range(10):
        pace.advance(24, 10.0 + 4.0 * (second + 1))
    left = 2400 - 20 * 24
    assert pace.remaining(50.0) == pytest.approx(left / 24 * 4.0, rel=0.05)


def test_more_frames_than_expected_are_no_negative_time() -> None:
    pace = Pace(10, 0.0)
    pace.advance(24, 1.0)
    pace.advance(24, 2.0)
    assert pace.remaining(3.0) == 0.0
