"""Queues between the threads of a live run: bounded, and with an end."""

from __future__ import annotations

import threading
import time
from typing import Any

import numpy as np
import pytest

from swiftvr_trt.errors import Cancelled
from swiftvr_trt.runtime.media import Picture, Stamp
from swiftvr_trt.runtime.restore.live.backlog import Backlog, Fate
from swiftvr_trt.runtime.restore.live.counts import LiveStatistics
from swiftvr_trt.runtime.restore.live.items import Intake, LiveCut, LiveFrame, Outbox
from tests.patience import PATIENCE_S

from .lab import CLOCK


def frame(number: int = 0) -> LiveFrame:
    return LiveFrame(Picture(np.zeros((2, 2, 3), np.uint8), Stamp(number, number, 1, CLOCK)), time.monotonic())


def intake(when_late: str, late_s: float = 60.0) -> tuple[Intake, LiveStatistics]:
    statistics = LiveStatistics()
    return Intake(Backlog(2, 4, late_s, when_late), statistics), statistics


def test_what_is_put_is_taken_in_order_until_the_end() -> None:
    queue, statistics = intake("drop")
    queue.put(first := frame())
    queue.put(cut := LiveCut())
    assert statistics.report().counts.waiting == 1
    queue.end()
    assert not queue.is_over
    assert queue.take(0.0) == (first, Fate.RESTORE)
    assert queue.take(0.0) == (cut, Fate.PASS)
    assert queue.take(0.0) is None
    assert queue.is_over


def test_what_is_dropped_is_counted() -> None:
    queue, statistics = intake("drop")
    for number in range(9):
        queue.put(frame(number))
    counts = statistics.report().counts
    assert (counts.dropped, counts.waiting) == (6, 3)


def test_a_source_that_has_to_wait_goes_on_when_there_is_room_and_ends_when_told() -> None:
    queue, _ = intake("wait")
    done: list[Any] = []

    def put() -> None:
        try:
            for number in range(9):
                queue.put(frame(number))
                done.append(number)
        except Cancelled:
            done.append("cancelled")

    thread = threading.Thread(target=put)
    thread.start()
    for _ in range(3):
        assert queue.take(PATIENCE_S) is not None
    deadline = time.monotonic() + PATIENCE_S
    while len(done) < 7 and time.monotonic() < deadline:
        time.sleep(0.01)
    queue.stop()
    thread.join(PATIENCE_S)
    assert done == [*range(7), "cancelled"]
    assert queue.is_over


def test_stopping_a_box_cancels_who_waits_at_either_end() -> None:
    """The threads of a live run end quietly on `Cancelled`."""
    box = Outbox(1)
    box.put(frame())
    cancelled: list[bool] = []

    def put_the_end() -> None:
        try:
            box.put(None)
        except Cancelled:
            cancelled.append(True)

    thread = threading.Thread(target=put_the_end)
    thread.start()
    box.stop()
    thread.join(PATIENCE_S)
    assert cancelled == [True]
    with pytest.raises(Cancelled):
        box.get(0.1)
