"""What a live run counts, and what it says of it."""

from __future__ import annotations

import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swiftvr_trt.runtime.restore.live.counts import Delays, LiveStatistics


@given(st.lists(st.floats(0.002, 150), min_size=1), st.sampled_from([0.01, 0.5, 0.95, 0.99, 1.0]))
def test_percentiles_are_right_to_two_percent(values: list[float], share: float) -> None:
    delays = Delays()
    for value in values:
        delays.add(value)
    exact = sorted(values)[-(-int(share * 1000) * len(values) // 1000) - 1]
    found = delays.percentile(share)
    assert found == pytest.approx(exact, rel=0.02)
    assert delays.at_most(200) == len(values)


def test_there_is_no_percentile_of_nothing() -> None:
    assert Delays().percentile(0.5) is None


def test_threads_lose_no_counts() -> None:
    statistics = LiveStatistics()

    def count() -> None:
        for _ in range(500):
            statistics.add(frames_in=1, gap_s=0.5)
            statistics.add_delay(0.1)

    threads = [threading.Thread(target=count) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    counts = statistics.report().counts
    assert (counts.frames_in, counts.gap_s, counts.working) == (2000, 1000.0, 2000)


def test_a_line_names_what_happened_and_nothing_else() -> None:
    statistics = LiveStatistics()
    assert statistics.report().line() == "0 frames in, 0 out"
    statistics.add(frames_in=100, frames_out=80, dropped=16, gaps=2, gap_s=3.5, reconnects_in=1)
    statistics.add_delay(0.5)
    line = "100 frames in, 80 out, 16 dropped, 2 gaps (3.5 s), 1 reconnection to the source, delay 0.50 s"
    assert statistics.report().line().startswith(line)
    assert statistics.report().counts.working == 4


def test_a_line_says_how_far_behind_it_is() -> None:
    statistics = LiveStatistics()
    statistics.set(behind_s=0.04)
    assert statistics.report().line() == "0 frames in, 0 out"
    statistics.set(behind_s=2.34)
    assert statistics.report().line() == "0 frames in, 0 out, 2.3 s behind the source"
    assert statistics.report().as_dict()["behind_s"] == 2.34


def test_recent_delays_are_those_since_the_last_look() -> None:
    statistics = LiveStatistics()
    statistics.add_delay(4.0)
    assert statistics.recent().p50 == pytest.approx(4.0, rel=0.02)
    assert statistics.recent().p50 is None
    statistics.add_delay(1.0)
    assert statistics.recent().p50 == pytest.approx(1.0, rel=0.02)
    assert statistics.report().p99 == pytest.approx(4.0, rel=0.02)


def test_events_hold_every_count_and_the_delays() -> None:
    found = LiveStatistics().report().as_dict()
    assert found["frames_in"] == 0
    assert found["delay_p95_s"] is None
