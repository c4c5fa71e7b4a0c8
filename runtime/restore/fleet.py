"""Restores several files on several devices: one process per device, and each takes the next file when it is free.

    failures = run_fleet(jobs, ["cuda:0", "cuda:1"], display)

A file that fails does not stop the others. If a process dies, or its device fails in the middle of a file, that file
has failed and a new process takes over; after two such files in a row the device gets no more. A device that cannot
open a bundle, or cannot begin a file, leaves it to the other devices. A file that every device has left has failed. An
interrupt in the calling thread ends all processes.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from ...child import Child
from ...errors import MisuseError, message_of
from ..budget import NOTICE_S, PROCESS_S
from ..devices.gpu import gpu_index, require_driver
from .display import Display
from .job import Failure, JobWithBundle
from .messages import JobProgress, Line, LogLine, Order, decode_answer
from .restorer import OpenOptions
from .schedule import Parts, Schedule
from .segments.store import tidy
from .verdict import MAX_STRIKES, Outcome, Verdict

_log = logging.getLogger(__name__)

MAX_DEVICES = 64

_WORKER = "swiftvr_trt.runtime.restore.worker"
_FAREWELL_S = 30.0
"""How long an idle process has to end: it may have up to 256 MB of compiled kernels to store."""


def parse_devices(text: str) -> tuple[str, ...]:
    """`0,1` -> cuda:0, cuda:1; `cpu,cpu` -> two processes on the CPU.

    Raises `MisuseError` for anything else, `MachineError` for a GPU on a machine without its driver.
    """
    names = tuple(f"cuda:{name}" if name.isdecimal() else name for name in text.replace(" ", "").split(","))
    if not all(names):
        where = "has an empty name" if any(names) else "names no device"
        raise MisuseError(f"--devices is {text!r}, which {where}, expected names such as 0,1 or cuda:0,cuda:1 or cpu")
    if len(names) > MAX_DEVICES:
        raise MisuseError(f"--devices names {len(names)} devices, expected up to {MAX_DEVICES}: leave some out")
    for name in names:
        if name != "cpu":
            gpu_index(name)
            require_driver()
    return names


def run_fleet(
    jobs: Sequence[JobWithBundle],
    devices: Sequence[str | None],
    display: Display,
    options: OpenOptions | None = None,
    parts: Parts | None = None,
) -> list[Failure]:
    """Restore every file. Returns the failures in the order in which they happened.

    devices: each gets a process of its own; None is the device that a bundle was built for. parts: as for `Schedule`.
    """
    fleet = _Fleet(Schedule(jobs, parts), devices, display, options or OpenOptions())
    try:
        return fleet.run()
    finally:
        fleet.stop()


class _Fleet:
    """One thread per device, which drives the process of that device."""

    def __init__(
        self,
        schedule: Schedule,
        devices: Sequence[str | None],
        display: Display,
        options: OpenOptions,
    ) -> None:
        self._schedule = schedule
        self._display, self._options = display, options
        self._begun = 0
        self._failures: list[Failure] = []
        self._lossy: list[str] = []
        self._children: set[Child] = set()
        self._stopped = False
        self._lock = threading.Lock()
        self._threads = [
            threading.Thread(
                target=self._drive,
                # Take the first files now: if there are fewer files than devices, the devices named first get them.
                args=(number, device, self._schedule.take(number)),
                name=f"swiftvr-device-{number}",
                daemon=True,
            )
            for number, device in enumerate(devices)
        ]

    def run(self) -> list[Failure]:
        for thread in self._threads:
            thread.start()
        for thread in self._threads:
            while thread.is_alive():
                thread.join(NOTICE_S)
        for job, reason in self._schedule.left_over():
            self._fail(job, reason or "not started: no device was left to restore it")
        if self._lossy:
            names = ", ".join(self._lossy)
            self._display.warn(
                f"{len(self._lossy)} of {self._schedule.total} outputs lack streams of their inputs: {names}"
            )
        return self._failures

    def stop(self) -> None:
        """End every process, by force if it takes too long."""
        with self._lock:
            self._stopped = True
            children = list(self._children)
        self._schedule.stop()
        for child in children:
            child.hang_up()
        deadline = time.monotonic() + PROCESS_S
        for child in children:
            child.end(deadline)
        for thread in self._threads:
            if thread.is_alive():
                thread.join(PROCESS_S)

    def _drive(self, number: int, device: str | None, first: JobWithBundle | None) -> None:
        """Restore files on one device until there are none left for it."""
        child: Child | None = None
        strikes, job = 0, first or self._schedule.wait_for(number)
        while job is not None:
            try:
                child = child or self._start()
                outcome = self._restore(child, job, device) if child else None
            except OSError as error:
                outcome = Outcome(Verdict.DIED, f"its process could not be started ({error.strerror or error})")
            except Exception as error:  # noqa: BLE001 (else the other devices would wait forever for this file)
                outcome = Outcome(Verdict.DIED, message_of(error))
            if outcome is None:
                return
            self._settle(number, device, job, outcome)
            policy = outcome.verdict.policy
            if policy.replaces:
                self._end(child, PROCESS_S if policy.strikes else _FAREWELL_S)
                child = None
            strikes = policy.strikes_after(strikes)
            if strikes == MAX_STRIKES and not self._stopped:
                self._display.warn(
                    f"{device or 'the default device'} is left out, because it failed {strikes} times in a row: "
                    f"{outcome.text}"
                )
            job = self._schedule.wait_for(number, job.bundle) if strikes < MAX_STRIKES else None
        self._end(child, _FAREWELL_S)

    def _restore(self, child: Child, job: JobWithBundle, device: str | None) -> Outcome:
        """Have one file restored by the process of a device."""
        name = job.job.name
        if self._schedule.total > 1:
            with self._lock:
                self._begun += 1
                number = self._begun
            self._display.say(f"[{number}/{self._schedule.total}] {name}: on {device or 'the default device'}")
        child.send(
            Order(replace(job.job, device=device), job.bundle, self._options, _log.getEffectiveLevel()).to_message()
        )
        while (message := child.receive()) is not None:
            answer = decode_answer(message)
            if isinstance(answer, Line):
                (self._display.warn if answer.warning else self._display.say)(answer.text, name)
            elif isinstance(answer, LogLine):
                logging.getLogger(answer.logger).log(answer.level, "%s: %s", name, answer.text)
            elif isinstance(answer, JobProgress):
                self._display.update(name, answer.done, answer.total, answer.remaining)
            else:
                return answer
        return Outcome(Verdict.DIED, f"its process ended unexpectedly ({child.ending(PROCESS_S)})")

    def _settle(self, number: int, device: str | None, job: JobWithBundle, outcome: Outcome) -> None:
        """Show how a file ended, and tell the schedule, which gives it to another device if this one leaves it."""
        policy = outcome.verdict.policy
        try:
            self._display.finish(job.job.name)
            if self._stopped:
                return
            if policy.leaves:
                with self._lock:
                    self._begun -= 1
                self._display.say(f"not on {device or 'this device'} ({outcome.text})", job.job.name)
            elif policy.fails:
                tidy(Path(job.job.output))  # of a process that could not do it itself
                self._fail(job, outcome.text, full=outcome.full)
            else:
                result = job.job.result("done", outcome.text, outcome.frames, outcome.seconds)
                self._lossy += [job.job.output] if outcome.lost else []
                self._display.result(replace(result, lost=outcome.lost, kept=outcome.kept), job.job.name)
        finally:
            self._schedule.settle(number, job, outcome)

    def _fail(self, job: JobWithBundle, reason: str, *, full: bool = False) -> None:
        with self._lock:
            self._failures.append(Failure(job.job, reason, full))
        self._display.result(job.job.result("failed", reason), job.job.name)

    def _start(self) -> Child | None:
        """A new process; None once the fleet is stopped."""
        with self._lock:
            if self._stopped:
                return None
            child = Child(_WORKER, patience_s=PROCESS_S)
            self._children.add(child)
            return child

    def _end(self, child: Child | None, patience_s: float) -> None:
        """End one process. `patience_s` counts as long as the fleet is not stopped."""
        if child is None:
            return
        child.end(time.monotonic() + (PROCESS_S if self._stopped else patience_s))
        with self._lock:
            self._children.discard(child)
