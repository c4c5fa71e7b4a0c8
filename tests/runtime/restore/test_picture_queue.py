"""Queues that hold less the larger the pictures are."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from typing import Any

import numpy as np
import pytest

from swiftvr_trt.runtime.media import Picture, Stamp
from swiftvr_trt.runtime.restore.picture_queue import MOST_BYTES, StoppableQueue, Stopped
from tests.patience import PATIENCE_S


@dataclass(frozen=True)
class Holder:
    """An item with a picture in it."""

    picture: Picture


def picture(megabytes: int) -> Picture:
    return Picture(np.empty((megabytes, 1_000_000, 1), np.uint8), Stamp(0, 0, 1, Fraction(1, 25)))


def held_up(call: Callable[[], object]) -> tuple[threading.Thread, list[object]]:
    """A thread that makes this call, and what becomes of it: its result, or what it raised."""
    outcome: list[object] = []

    def run() -> None:
        try:
            outcome.append(call())
        except Stopped as stopped:
            outcome.append(type(stopped))

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    return thread, outcome


def noted_waits(waiting: StoppableQueue[Any], monkeypatch: pytest.MonkeyPatch) -> list[float | None]:
    """The time limits of the waits in a queue; grows as threads begin to wait."""
    waits: list[float | None] = []
    wait = waiting._changed.wait

    def noted(timeout: float | None = None) -> bool:
        waits.append(timeout)
        return wait(timeout)

    monkeypatch.setattr(waiting._changed, "wait", noted)
    return waits


@pytest.mark.parametrize("held", [False, True])
@pytest.mark.parametrize(("megabytes", "fit"), [(0, 8), (1, 8), (10, 7), (40, 2), (100, 1)])
def test_it_is_full_by_number_or_by_size(held: bool, megabytes: int, fit: int, monkeypatch: pytest.MonkeyPatch) -> None:
    waiting: StoppableQueue[object] = StoppableQueue(8)
    waits = noted_waits(waiting, monkeypatch)
    one = picture(megabytes)
    items: list[object] = [Holder(one) if held else one for _ in range(fit + 1)]
    for item in items[:fit]:
        waiting.put(item)
    assert waits == []
    thread, outcome = held_up(lambda: waiting.put(items[fit]))
    while not waits:
        assert thread.is_alive()
        time.sleep(0.001)
    assert [waiting.get() for _ in items] == items  # the last one comes from the thread
    thread.join()
    assert outcome == [None]
    assert (fit - 1) * megabytes * 1_000_000 < MOST_BYTES


def test_other_items_have_no_size() -> None:
    waiting: StoppableQueue[Any] = StoppableQueue(2)
    items = [np.empty(2 * MOST_BYTES, np.uint8) for _ in range(2)]
    for item in items:
        waiting.put(item)
    assert all(waiting.get() is item for item in items)


def test_who_waits_with_a_limit_gets_the_next_item_or_a_timeout(monkeypatch: pytest.MonkeyPatch) -> None:
    waiting: StoppableQueue[str] = StoppableQueue(2)
    with pytest.raises(TimeoutError):
        waiting.get(0.01)
    waits = noted_waits(waiting, monkeypatch)
    thread, outcome = held_up(lambda: waiting.get(PATIENCE_S))
    while not waits:
        assert thread.is_alive()
        time.sleep(0.001)
    waiting.put("one")
    thread.join(PATIENCE_S / 2)  # woken up: at its limit it would look at the queue again
    assert outcome == ["one"]
    assert waits == [PATIENCE_S]
    waiting.put("two")
    assert waiting.get(0.0) == "two"


@pytest.mark.parametrize("full", [False, True])
def test_stopping_wakes_who_waits_at_either_end(full: bool) -> None:
    waiting: StoppableQueue[str] = StoppableQueue(1)
    if full:
        waiting.put("one")
    call: Callable[[], object] = partial(waiting.put, "two") if full else waiting.get
    threads = [held_up(call) for _ in range(2)]
    waiting.stop()
    for thread, outcome in threads:
        thread.join(PATIENCE_S)
        assert outcome == [Stopped]
    for late in (waiting.get, lambda: waiting.put("three")):
        with pytest.raises(Stopped):
            late()


def test_every_item_arrives_once_and_in_order() -> None:
    waiting: StoppableQueue[int] = StoppableQueue(2)
    thread, _ = held_up(lambda: deque(map(waiting.put, range(1000))))
    assert [waiting.get() for _ in range(1000)] == list(range(1000))
    thread.join()


def test_who_waits_does_not_wake_up_meanwhile(monkeypatch: pytest.MonkeyPatch) -> None:
    """At one wake-up per 50 ms, a slow network made the waiting cost as much as the conversion of its frames."""
    waiting: StoppableQueue[str] = StoppableQueue(1)
    waits = noted_waits(waiting, monkeypatch)
    thread, outcome = held_up(waiting.get)
    while not waits:
        time.sleep(0.001)
    thread.join(0.1)
    waiting.put("one")
    thread.join()
    assert (outcome, waits) == (["one"], [None])
