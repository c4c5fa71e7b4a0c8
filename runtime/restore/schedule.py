"""Which waiting job goes to which device."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence

from .job import JobWithBundle
from .messages import Outcome


class Schedule:
    """Jobs in the order in which they were given, handed out to numbered devices from any thread.

    Every job that a device gets must be settled, since a device that finds nothing waits for those at work.
    """

    def __init__(self, jobs: Sequence[JobWithBundle]) -> None:
        self._waiting = list(jobs)
        self._left: dict[tuple[int, JobWithBundle | str], str] = {}  # (device, job or bundle) -> why not there
        self._at_work = 0
        self._stopped = False
        self._changed = threading.Condition()

    def take(self, device: int, bundle: str = "") -> JobWithBundle | None:
        """A job for this device, one for `bundle`, which it has open, if possible; None if none waits for it now."""
        with self._changed:
            left = {what for number, what in self._left if number == device}
            possible = [job for job in self._waiting if left.isdisjoint((job, job.bundle))]
            if not possible:
                return None
            taken = next((job for job in possible if job.bundle == bundle), possible[0])
            self._waiting.remove(taken)
            self._at_work += 1
            return taken

    def wait_for(self, device: int, bundle: str = "") -> JobWithBundle | None:
        """As `take`, but waits while another device may still give a job back; None if no more will come."""
        with self._changed:
            while not self._stopped:
                job = self.take(device, bundle)
                if job is not None or not self._at_work:
                    return job
                self._changed.wait()
        return None

    def settle(self, device: int, job: JobWithBundle, outcome: Outcome) -> None:
        """Note what came of a job; one that this device leaves to others waits again."""
        leaves = outcome.verdict.policy.leaves
        with self._changed:
            self._at_work -= 1
            if leaves:
                self._left[device, job if leaves == "file" else job.bundle] = outcome.text
                self._waiting.insert(0, job)
            self._changed.notify_all()

    def stop(self) -> None:
        """Hand out no more jobs; whoever waits for one gets None."""
        with self._changed:
            self._stopped = True
            self._changed.notify_all()

    def left_over(self) -> Iterator[tuple[JobWithBundle, str | None]]:
        """The jobs that no device took, each with the first reason why a device did not, if there is one."""
        for job in self._waiting:
            reasons = [why for (_, what), why in self._left.items() if what in (job, job.bundle)]
            yield job, reasons[0] if reasons else None
