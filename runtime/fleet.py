"""Several files on several devices: one process per device, files handed out as devices become free.

    jobs, failed = ...                                       # see batch.py
    failed += run_fleet([(job, bundle path), ...], ["cuda:0", "cuda:1"], board)

A file that fails is noted, and the others go on. A process that dies takes its file with it and is replaced; after two
deaths in a row its device gets no more files. A device that cannot run a bundle leaves it to the others. What no device
is left for has failed, too. Whoever interrupts the caller ends all processes.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any, Protocol

from ..errors import MisuseError
from .job import Job

_DEATHS = 2
_PATIENCE_S = 0.8
"""How long a process may take to clean up when its pipe is closed, before it is ended less politely: as long as its
pipeline takes, at most, to notice (0.2 s), to leave a stuck thread behind (0.4 s) and to close its file (0.2 s)."""

MAX_DEVICES = 64


class Board(Protocol):
    """Where lines and progress go; called from several threads."""

    def say(self, line: str) -> None: ...

    def update(self, name: str, done: int, total: int | None, left: float | None) -> None: ...

    def finish(self, name: str) -> None: ...


@dataclass(frozen=True)
class Task:
    """A job and the bundle that does it."""

    job: Job
    bundle: str


@dataclass(frozen=True)
class Failure:
    """A job that was not done, and why, in one line."""

    job: Job
    reason: str


def parse_devices(text: str) -> tuple[str, ...]:
    """`0,1` -> cuda:0, cuda:1; `cpu,cpu` -> two processes on the CPU. `MisuseError` for anything else.

    `MachineError` if there is a GPU among them and no driver for it.
    """
    from .gpu import gpu_index, require_driver

    names = tuple(f"cuda:{name}" if name.isdecimal() else name for name in text.replace(" ", "").split(","))
    if not all(names) or len(names) > MAX_DEVICES:
        raise MisuseError(f"--devices is {text!r}, expected up to {MAX_DEVICES} devices, e.g. 0,1 or cuda:0,cuda:1")
    for name in names:
        if name != "cpu":
            gpu_index(name)
            require_driver()
    return names


def run_fleet(
    tasks: Sequence[Task],
    devices: Sequence[str | None],
    board: Board,
    *,
    threads: int | None = None,
    ort_graphs: bool = False,
) -> list[Failure]:
    """Restore everything; what failed, in the order in which it did. None as a device: the one the bundle is for.

    threads, ort_graphs: as in `Restorer.open`.
    """
    fleet = _Fleet(tasks, devices, board, {"threads": threads, "ort_graphs": ort_graphs})
    try:
        return fleet.run()
    finally:
        fleet.stop()


class _Fleet:
    """The files that wait, and one thread per device that drives its process."""

    def __init__(
        self, tasks: Sequence[Task], devices: Sequence[str | None], board: Board, opening: dict[str, Any]
    ) -> None:
        """opening: what `Restorer.open` takes besides bundle and device."""
        self._waiting = list(tasks)
        self._count, self._begun = len(tasks), 0
        self._busy = 0
        self._unfit: dict[tuple[int, str], str] = {}
        self._failures: list[Failure] = []
        self._changed = threading.Condition()
        self._stopped = threading.Event()
        self._workers: set[_Worker] = set()
        self._board, self._opening = board, opening
        self._seats = [
            threading.Thread(target=self._drive, args=(seat, device), name=f"swiftvr-device-{seat}", daemon=True)
            for seat, device in enumerate(devices[: len(tasks)])
        ]

    def run(self) -> list[Failure]:
        for seat in self._seats:
            seat.start()
        for seat in self._seats:
            while seat.is_alive():  # a wait without a limit would not see Ctrl-C on Windows
                seat.join(0.2)
        for task in self._waiting:
            reasons = [why for (_, bundle), why in self._unfit.items() if bundle == task.bundle]
            self._fail(task, reasons[0] if reasons else "not begun: no device was left for it")
        return self._failures

    def stop(self) -> None:
        """End every process: by closing its pipe, so that it cleans up, and then by force."""
        with self._changed:
            self._stopped.set()
            self._changed.notify_all()
            workers = list(self._workers)
        for worker in workers:
            worker.hang_up()
        deadline = time.monotonic() + _PATIENCE_S
        for worker in workers:
            worker.end(deadline)
        for seat in self._seats:
            if seat.is_alive():
                seat.join(_PATIENCE_S)

    def _drive(self, seat: int, device: str | None) -> None:
        """Hand files to one device until there are no more for it."""
        worker: _Worker | None = None
        deaths, bundle = 0, ""
        while deaths < _DEATHS and (task := self._next(seat, bundle)) is not None:
            bundle = task.bundle
            try:
                worker = worker or self._hire()
                if worker is None:
                    break
                verdict, text = self._serve(worker, task, device)
            except OSError as error:
                verdict, text = "died", f"its process could not be started or reached ({error.strerror or error})"
            deaths = deaths + 1 if verdict == "died" else 0
            if verdict == "died":
                self._dismiss(worker)
                worker = None
            self._note(seat, device, task, verdict, text)
        self._dismiss(worker)
        with self._changed:
            self._changed.notify_all()

    def _next(self, seat: int, bundle: str) -> Task | None:
        """A waiting file for this device, with the bundle that it has open if possible; None if none will come."""
        with self._changed:
            while not self._stopped.is_set():
                fitting = [task for task in self._waiting if (seat, task.bundle) not in self._unfit]
                if fitting:
                    task = next((task for task in fitting if task.bundle == bundle), fitting[0])
                    self._waiting.remove(task)
                    self._busy += 1
                    return task
                if not self._busy:
                    return None
                self._changed.wait()  # a device at work may yet give its file back
        return None

    def _serve(self, worker: _Worker, task: Task, device: str | None) -> tuple[str, str]:
        """Have one file restored; what came of it: done, failed, unfit or died, and a line."""
        name = task.job.name
        if self._count > 1:
            with self._changed:
                self._begun += 1
                number = self._begun
            self._board.say(f"[{number}/{self._count}] {name}: on {device or 'the usual device'}")
        job = replace(task.job, device=device).to_dict()
        worker.send({"job": job, "bundle": task.bundle, "opening": self._opening})
        while (message := worker.receive()) is not None:
            ((kind, content),) = message.items()
            if kind == "say":
                self._board.say(f"{name}: {content}")
            elif kind == "progress":
                self._board.update(name, *content)
            else:
                return kind, content
        return "died", f"its process ended unexpectedly ({worker.fate()})"

    def _note(self, seat: int, device: str | None, task: Task, verdict: str, text: str) -> None:
        self._board.finish(task.job.name)
        if self._stopped.is_set():
            return
        with self._changed:
            if verdict == "unfit":
                self._unfit[seat, task.bundle] = text
                self._waiting.insert(0, task)
                self._begun -= 1
            self._busy -= 1
            self._changed.notify_all()
        if verdict == "unfit":
            self._board.say(f"{task.job.name}: not on {device or 'this device'} ({text})")
        elif verdict == "done":
            self._board.say(f"{task.job.name}: {text}")
        else:
            self._fail(task, text)

    def _fail(self, task: Task, reason: str) -> None:
        with self._changed:
            self._failures.append(Failure(task.job, reason))
        self._board.say(f"{task.job.name}: failed: {reason}")

    def _hire(self) -> _Worker | None:
        """A new process; None if all are being ended."""
        with self._changed:
            if self._stopped.is_set():
                return None
            worker = _Worker()
            self._workers.add(worker)
            return worker

    def _dismiss(self, worker: _Worker | None) -> None:
        if worker is None:
            return
        worker.hang_up()
        worker.end(time.monotonic() + _PATIENCE_S)
        with self._changed:
            self._workers.discard(worker)


class _Worker:
    """A process of `worker.py` and the two pipes to it. Used by one thread; another may end it."""

    def __init__(self) -> None:
        environment = {**os.environ, "PYTHONUTF8": "1", "PYTHONIOENCODING": "utf-8"}
        self._process = subprocess.Popen(
            [sys.executable, "-m", "swiftvr_trt.runtime.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment,
            text=True,
            encoding="utf-8",
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._orders, self._answers = self._process.stdin, self._process.stdout

    def send(self, order: dict[str, Any]) -> None:
        with suppress(BrokenPipeError):  # then there will be no answer, either
            self._orders.write(json.dumps(order) + "\n")
            self._orders.flush()

    def receive(self) -> dict[str, Any] | None:
        """The next answer; None when there will be no more."""
        line = self._answers.readline()
        try:
            return json.loads(line) if line.endswith("\n") else None
        except ValueError:
            return None

    def fate(self) -> str:
        """How the process ended."""
        try:
            code = self._process.wait(_PATIENCE_S)
        except subprocess.TimeoutExpired:
            return "it closed its pipe"
        return f"killed by signal {-code}" if code < 0 else f"exit code {code}"

    def hang_up(self) -> None:
        """Tell the process to clean up and end."""
        with suppress(OSError):
            self._orders.close()

    def end(self, deadline: float) -> None:
        """Wait for the end until `deadline` (of `time.monotonic`), then bring it about."""
        for impatience in (self._process.terminate, self._process.kill):
            try:
                self._process.wait(max(deadline - time.monotonic(), 0.05))
                break
            except subprocess.TimeoutExpired:
                impatience()
        self._process.wait()
        self._answers.close()
