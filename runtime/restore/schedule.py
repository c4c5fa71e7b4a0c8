"""Decides which device gets which of the waiting jobs."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence

from .job import JobWithBundle
from .verdict import Outcome


class Schedule:
    """Hands out jobs to numbered devices, in the given order. Thread-safe.

    Settle every job that was taken: a device without a job waits until no other device can give one back.
    """

    def __init__(self, jobs: Sequence[JobWithBundle]) -> None:
        self._waiting = list(jobs)
        self._left_by: dict[tuple[int, JobWithBundle | str], str] = {}  # (device, job or bundle) -> reason
        self._at_work = 0
        self._stopped = False
        self._changed = threading.Condition()

    def take(self, device: int, bundle: str = "") -> JobWithBundle | None:
        """A waiting job that this device may do, or None. Prefers jobs for `bundle`, which the device has open."""
        with self._changed:
            left = {what for number, what in self._left_by if number == device}
            possible = [job for job in self._waiting if left.isdisjoint((job, job.bundle))]
            if not possible:
                return None
            taken = next((job for job in possible if job.bundle == bundle), possible[0])
            self._waiting.remove(taken)
            self._at_work += 1
            return taken

    def wait_for(self, device: int, bundle: str = "") -> JobWithBundle | None:
        """Like `take`, but waits as long as another device may give a job back. None if there will be no more."""
        with self._changed:
            while not self._stopped:
                job = self.take(device, bundle)
                if job is not None or not self._at_work:
                    return job
                self._changed.wait()
        return None

    def settle(self, device: int, job: JobWithBundle, outcome: Outcome) -> None:
        """Record how a job ended. If this device leaves it to the others, it waits again."""
        leaves = outcome.verdict.policy.leaves
        with self._changed:
            self._at_work -= 1
            if leaves:
                self._left_by[device, job if leaves == "file" else job.bundle] = outcome.text
                self._waiting.insert(0, job)
            self._changed.notify_all()

    def stop(self) -> None:
        """Hand out no more jobs. Devices that wait for one get None."""
        with self._changed:
            self._stopped = True
            self._changed.notify_all()

    def left_over(self) -> Iterator[tuple[JobWithBundle, str | None]]:
        """The jobs that are still waiting, each with the reason of the first device that left it, if one did."""
        for job in self._waiting:
            reasons = [why for (_, what), why in self._left_by.items() if what in (job, job.bundle)]
            yield job, reasons[0] if reasons else None
