"""Which job goes to which device, without any process."""

from __future__ import annotations

import threading
from pathlib import Path

from swiftvr_trt.runtime.restore.job import Job, JobWithBundle
from swiftvr_trt.runtime.restore.schedule import Schedule
from swiftvr_trt.runtime.restore.verdict import Outcome, Verdict

DONE = Outcome(Verdict.DONE, "")


def jobs(*bundles: str) -> list[JobWithBundle]:
    """A job for each bundle, named by its number."""
    return [JobWithBundle(Job(Path(f"{number}.mp4"), "out"), bundle) for number, bundle in enumerate(bundles)]


def test_jobs_are_taken_in_order_and_the_open_bundle_comes_first() -> None:
    first, second, third = waiting = jobs("a", "b", "b")
    schedule = Schedule(waiting)
    assert schedule.take(0) == first
    assert schedule.take(0, "b") == second
    assert schedule.take(1, "a") == third
    assert schedule.take(0) is None


def test_what_a_device_leaves_goes_to_the_others_and_is_the_next_one() -> None:
    first, second, third = waiting = jobs("a", "a", "b")
    schedule = Schedule(waiting)
    assert schedule.take(0) == first
    schedule.settle(0, first, Outcome(Verdict.UNBEGUN, "no memory"))
    assert schedule.take(0) == second  # the file alone is left, not its bundle
    assert schedule.take(1) == first
    schedule.settle(0, second, Outcome(Verdict.UNFIT, "no such GPU"))
    assert schedule.take(0) == third
    assert schedule.take(1) == second


def test_a_bundle_that_a_device_cannot_open_is_not_offered_again() -> None:
    first, second = waiting = jobs("a", "a")
    schedule = Schedule(waiting)
    assert schedule.take(0) == first
    schedule.settle(0, first, Outcome(Verdict.UNFIT, "no such GPU"))
    assert schedule.take(0) is None
    assert list(schedule.left_over()) == [(first, "no such GPU"), (second, "no such GPU")]


def test_what_nobody_tried_is_left_over_without_a_reason() -> None:
    (only,) = waiting = jobs("a")
    assert list(Schedule(waiting).left_over()) == [(only, None)]


def waiter(schedule: Schedule, device: int) -> tuple[threading.Thread, list[JobWithBundle | None]]:
    got: list[JobWithBundle | None] = []
    thread = threading.Thread(target=lambda: got.append(schedule.wait_for(device)), daemon=True)
    thread.start()
    return thread, got


def test_an_idle_device_waits_for_what_a_busy_one_may_give_back() -> None:
    (only,) = waiting = jobs("a")
    schedule = Schedule(waiting)
    assert schedule.take(0) == only
    thread, got = waiter(schedule, 1)
    thread.join(0.05)
    assert got == []
    schedule.settle(0, only, Outcome(Verdict.UNBEGUN, "no memory"))
    thread.join(10)
    assert got == [only]


def test_waiting_ends_when_the_last_job_is_done() -> None:
    (only,) = waiting = jobs("a")
    schedule = Schedule(waiting)
    assert schedule.take(0) == only
    thread, got = waiter(schedule, 1)
    schedule.settle(0, only, DONE)
    thread.join(10)
    assert got == [None]


def test_waiting_ends_when_the_schedule_is_stopped() -> None:
    (only,) = waiting = jobs("a")
    schedule = Schedule(waiting)
    assert schedule.take(0) == only
    thread, got = waiter(schedule, 1)
    schedule.stop()
    thread.join(10)
    assert got == [None]
    schedule.settle(0, only, DONE)
    assert schedule.wait_for(0) is None
