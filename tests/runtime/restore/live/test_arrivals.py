"""When packets came, until their frames do."""

from __future__ import annotations

from swiftvr_trt.runtime.restore.live.arrivals import Arrivals


def test_a_moment_is_known_once_and_by_its_time_stamp() -> None:
    arrivals = Arrivals()
    arrivals.note(7, 1.5)
    arrivals.note(3, 2.5)
    assert [arrivals.take(pts) for pts in (3, 7, 7, None)] == [2.5, 1.5, None, None]


def test_packets_that_become_no_frame_are_forgotten() -> None:
    arrivals = Arrivals()
    for pts in range(1000):
        arrivals.note(pts, float(pts))
    assert len(arrivals) == 512
    assert [arrivals.take(pts) for pts in (0, 999)] == [None, 999.0]
    arrivals.forget()
    assert len(arrivals) == 0
