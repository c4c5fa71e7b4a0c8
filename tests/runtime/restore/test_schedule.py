"""Which job goes to which device, without any process."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path

import pytest

from swiftvr_trt.runtime.restore.job import Job, JobWithBundle
from swiftvr_trt.runtime.restore.schedule import Schedule
from swiftvr_trt.runtime.restore.verdict import Outcome, Verdict
from tests.patience import PATIENCE_S

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
    thread.join(PATIENCE_S)
    assert got == [only]


def test_waiting_ends_when_the_last_job_is_done() -> None:
    (only,) = waiting = jobs("a")
    schedule = Schedule(waiting)
    assert schedule.take(0) == only
    thread, got = waiter(schedule, 1)
    schedule.settle(0, only, DONE)
    thread.join(PATIENCE_S)
    assert got == [None]


def test_waiting_ends_when_the_schedule_is_stopped() -> None:
    (only,) = waiting = jobs("a")
    schedule = Schedule(waiting)
    assert schedule.take(0) == only
    thread, got = waiter(schedule, 1)
    schedule.stop()
    thread.join(PATIENCE_S)
    assert got == [None]
    schedule.settle(0, only, DONE)
    assert schedule.wait_for(0) is None


class Fixed:
    """Parts that are there from the beginning."""

    def __init__(self, *parts: JobWithBundle, rests: Sequence[JobWithBundle] = ()) -> None:
        self.parts, self.rests = list(parts), list(rests)
        self.offered: list[list[JobWithBundle]] = []

    def split(self, at_work: Sequence[JobWithBundle]) -> JobWithBundle | None:
        self.offered.append(list(at_work))
        return self.parts.pop() if self.parts else None

    def rest(self, order: JobWithBundle) -> JobWithBundle | None:
        assert order.job.name
        return self.rests.pop() if self.rests else None


def part(name: str) -> JobWithBundle:
    return JobWithBundle(Job(Path(name), "out"), "a")


def test_a_device_that_finds_nothing_takes_a_part_of_what_is_at_work() -> None:
    (whole,) = waiting = jobs("a")
    parts = Fixed(part("part"))
    schedule = Schedule(waiting, parts)
    assert schedule.take(0) == whole
    assert schedule.take(1) is None  # only of what waits
    assert schedule.wait_for(1) == part("part")
    assert parts.offered == [[whole]]
    assert schedule.total == 2
    schedule.settle(0, whole, DONE)
    thread, got = waiter(schedule, 0)
    schedule.settle(1, part("part"), DONE)
    thread.join(5.0)
    assert got == [None]
    assert parts.offered == [[whole], [part("part")], []]


def test_no_part_of_what_a_device_has_left_to_others() -> None:
    (whole,) = waiting = jobs("a")
    parts = Fixed(part("part"))
    schedule = Schedule(waiting, parts)
    assert schedule.take(0) == whole
    schedule.settle(0, whole, Outcome(Verdict.UNFIT, "no such GPU"))
    assert schedule.take(1) == whole
    thread, got = waiter(schedule, 0)
    schedule.settle(1, whole, DONE)
    thread.join(5.0)
    assert got == [None]
    assert whole not in [job for at_work in parts.offered for job in at_work]


@pytest.mark.parametrize("verdict", [Verdict.DIED, Verdict.BROKEN, Verdict.FAILED, Verdict.UNBEGUN])
def test_a_device_that_has_failed_takes_no_part_until_it_has_finished_a_job(verdict: Verdict) -> None:
    first, second, third = jobs("a", "a", "a")
    parts = Fixed(part("one"))
    schedule = Schedule([first, second], parts)
    assert [schedule.take(0), schedule.take(1)] == [first, second]
    schedule.settle(0, first, Outcome(verdict, "bad luck"))
    thread, got = waiter(schedule, 0)
    thread.join(0.05)
    assert got == []
    schedule.settle(1, second, Outcome(Verdict.UNFIT, "no such GPU"))
    thread.join(5.0)
    assert got == [second]
    assert parts.offered == []
    schedule.settle(0, second, DONE)
    schedule._at_work.append(third)
    assert schedule.wait_for(0) == part("one")


@pytest.mark.parametrize("verdict", [Verdict.DIED, Verdict.BROKEN])
def test_what_is_left_of_a_job_waits_again_where_the_device_is_to_blame(verdict: Verdict) -> None:
    (whole,) = waiting = jobs("a")
    schedule = Schedule(waiting, Fixed(rests=[part("rest")]))
    assert schedule.take(0) == whole
    schedule.settle(0, whole, Outcome(verdict, "bad luck"))
    assert schedule.take(1) == part("rest")
    schedule.settle(1, part("rest"), Outcome(verdict, "bad luck"))
    assert schedule.wait_for(0) is None


def test_a_faulty_input_is_not_tried_again() -> None:
    (whole,) = waiting = jobs("a")
    schedule = Schedule(waiting, Fixed(rests=[part("rest")]))
    assert schedule.take(0) == whole
    schedule.settle(0, whole, Outcome(Verdict.FAILED, "it is damaged"))
    assert schedule.wait_for(1) is None
