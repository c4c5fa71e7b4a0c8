"""Decides which device gets which of the waiting jobs."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from typing import Protocol

from .job import JobWithBundle
from .verdict import Outcome


class Parts(Protocol):
    """Jobs that have parts, which another device may do."""

    def split(self, at_work: Sequence[JobWithBundle]) -> JobWithBundle | None:
        """Make a job of what one of these, which are at work, has yet to begin; None if nothing can be taken over."""

    def rest(self, order: JobWithBundle) -> JobWithBundle | None:
        """What is left of a job whose device failed, to be tried again; None if that is of no use."""


class Indivisible:
    """The `Parts` of jobs that have none."""

    def split(self, at_work: Sequence[JobWithBundle]) -> None:
        """No device takes over anything."""

    def rest(self, order: JobWithBundle) -> None:
        """A job that failed has failed."""


class Schedule:
    """Hands out jobs to numbered devices, in the given order. Thread-safe.

    Settle every job that was taken: a device without a job waits until no other device can give one back.
    total: how many jobs there are so far. parts: of the jobs. A device that finds none waiting takes over a part of
    another one's, unless it has failed since it last finished a job.
    """

    def __init__(self, jobs: Sequence[JobWithBundle], parts: Parts | None = None) -> None:
        self.total = len(jobs)
        self._waiting, self._parts = list(jobs), parts or Indivisible()
        self._failing: set[int] = set()
        self._left_by: dict[tuple[int, JobWithBundle | str], str] = {}  # (device, job or bundle) -> reason
        self._at_work: list[JobWithBundle] = []
        self._stopped = False
        self._changed = threading.Condition()

    def take(self, device: int, bundle: str = "") -> JobWithBundle | None:
        """A waiting job that this device may do, or None. Prefers jobs for `bundle`, which the device has open."""
        with self._changed:
            possible = self._possible(device, self._waiting)
            if not possible:
                return None
            taken = next((job for job in possible if job.bundle == bundle), possible[0])
            self._waiting.remove(taken)
            self._at_work.append(taken)
            return taken

    def wait_for(self, device: int, bundle: str = "") -> JobWithBundle | None:
        """Like `take`, but splits a job that is at work, or else waits as long as another device may give one back.

        None if there will be no more.
        """
        with self._changed:
            while not self._stopped:
                job = self.take(device, bundle) or self._part(device)
                if job is not None or not self._at_work:
                    return job
                self._changed.wait()
        return None

    def settle(self, device: int, job: JobWithBundle, outcome: Outcome) -> None:
        """Record how a job ended. If this device leaves it to the others, it waits again; so does a rest of it."""
        policy = outcome.verdict.policy
        leaves = policy.leaves
        with self._changed:
            self._at_work.remove(job)
            if policy.fails or leaves:
                self._failing.add(device)
            else:
                self._failing.discard(device)
            if policy.strikes and (rest := self._parts.rest(job)):
                self._waiting.insert(0, rest)
                self.total += 1
            if leaves:
                self._left_by[device, job if leaves == "file" else job.bundle] = outcome.text
                self._waiting.insert(0, job)
            self._changed.notify_all()

    def stop(self) -> None:
        """Hand out no more jobs. Devices that wait for one get None."""
        with self._changed:
            self._stopped = True
            self._changed.notify_all()

    def _possible(self, device: int, jobs: Sequence[JobWithBundle]) -> list[JobWithBundle]:
        """Those that this device has not left to others."""
        left = {what for number, what in self._left_by if number == device}
        return [job for job in jobs if left.isdisjoint((job, job.bundle))]

    def _part(self, device: int) -> JobWithBundle | None:
        part = None if device in self._failing else self._parts.split(self._possible(device, self._at_work))
        if part is not None:
            self._at_work.append(part)
            self.total += 1
        return part

    def left_over(self) -> Iterator[tuple[JobWithBundle, str | None]]:
        """The jobs that are still waiting, each with the reason of the first device that left it, if one did."""
        for job in self._waiting:
            reasons = [why for (_, what), why in self._left_by.items() if what in (job, job.bundle)]
            yield job, reasons[0] if reasons else None
