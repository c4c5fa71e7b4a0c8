"""Several files on several devices: one process per device, files handed out as devices become free.

    jobs, failed = ...                                       # see batch.py
    failed += run_fleet([(job, bundle path), ...], ["cuda:0", "cuda:1"], board)

A file that fails is noted, and the others go on. A process that dies, or whose device fails in the middle of a file,
takes that file with it and is replaced; after two in a row its device gets no more files. A device that cannot run a
bundle, or cannot begin a file, leaves it to the others. What no device is left for has failed, too. Whoever interrupts
the caller ends all processes.
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

from swiftvr_trt.errors import MisuseError

from .job import Job

_STRIKES = 2
_PATIENCE_S = 0.8
"""How long a process may take to clean up when its pipe is closed, before it is ended less politely: as long as its
pipeline takes, at most, to notice (0.2 s), to leave a stuck thread behind (0.4 s) and to close its file (0.2 s)."""
_FAREWELL_S = 30.0
"""The same for a process that has nothing left to do: it may have up to 256 MB of compiled kernels to keep."""

_KINDS = ("say", "progress", "done", "failed", "unfit", "unbegun", "broken")
_STRIKING = ("broken", "died")
"""Verdicts after which the device, not the file, is suspected. "died" is ours; the others are answers of `worker`."""
_LEFT = ("unfit", "unbegun")
"""Verdicts after which the file is left to the other devices."""

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
    from swiftvr_trt.runtime.devices.gpu import gpu_index, require_driver

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
        self._unfit: dict[tuple[int, str | Task], str] = {}  # seat and bundle, or seat and file
        self._failures: list[Failure] = []
        self._changed = threading.Condition()
        self._stopped = threading.Event()
        self._workers: set[_Worker] = set()
        self._board, self._opening = board, opening
        self._seats = [
            threading.Thread(
                target=self._drive,
                args=(seat, device, self._take(seat)),  # now, so that few files go to the devices that are named first
                name=f"swiftvr-device-{seat}",
                daemon=True,
            )
            for seat, device in enumerate(devices)
        ]

    def run(self) -> list[Failure]:
        for seat in self._seats:
            seat.start()
        for seat in self._seats:
            while seat.is_alive():  # a wait without a limit would not see Ctrl-C on Windows
                seat.join(0.2)
        for task in self._waiting:
            reasons = [why for (_, what), why in self._unfit.items() if what in (task, task.bundle)]
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

    def _drive(self, seat: int, device: str | None, first: Task | None) -> None:
        """Hand files to one device until there are no more for it."""
        worker: _Worker | None = None
        strikes, task = 0, first or self._next(seat)
        while task is not None:
            try:
                worker = worker or self._hire()
                if worker is None:
                    return
                verdict, text = self._serve(worker, task, device)
            except OSError as error:
                verdict, text = "died", f"its process could not be started or reached ({error.strerror or error})"
            except Exception as error:  # noqa: BLE001 (the other devices would wait for ever for what this one has)
                verdict, text = "died", f"internal error: {type(error).__name__}: {error}"
            self._note(seat, device, task, verdict, text)
            if verdict not in ("done", "failed"):  # an error of a GPU may stay for as long as the process does
                self._dismiss(worker, _PATIENCE_S if verdict in _STRIKING else _FAREWELL_S)
                worker = None
            if verdict not in _LEFT:
                strikes = strikes + 1 if verdict in _STRIKING else 0
            task = self._next(seat, task.bundle) if strikes < _STRIKES else None
        self._dismiss(worker, _FAREWELL_S)

    def _next(self, seat: int, bundle: str = "") -> Task | None:
        """A waiting file for this device, with the bundle that it has open if possible; None if none will come."""
        with self._changed:
            while not self._stopped.is_set():
                task = self._take(seat, bundle)
                if task is not None or not self._busy:
                    return task
                self._changed.wait()  # a device at work may yet give its file back
        return None

    def _take(self, seat: int, bundle: str = "") -> Task | None:
        """What is there for this device now. Whoever takes it calls `_note` in the end."""
        with self._changed:
            unfit = {what for other, what in self._unfit if other == seat}
            fitting = [task for task in self._waiting if unfit.isdisjoint((task, task.bundle))]
            if not fitting:
                return None
            taken = next((task for task in fitting if task.bundle == bundle), fitting[0])
            self._waiting.remove(taken)
            self._busy += 1
            return taken

    def _serve(self, worker: _Worker, task: Task, device: str | None) -> tuple[str, str]:
        """Have one file restored; what came of it: "died", or a verdict of `worker`; and a line."""
        name = task.job.name
        if self._count > 1:
            with self._changed:
                self._begun += 1
                number = self._begun
            self._board.say(f"[{number}/{self._count}] {name}: on {device or 'the usual device'}")
        job = replace(task.job, device=device).to_dict()
        worker.send({"job": job, "bundle": task.bundle, "opening": self._opening})
        while (received := worker.receive()) is not None:
            kind, content = received
            if kind == "say":
                self._board.say(f"{name}: {content}")
            elif kind == "progress":
                self._board.update(name, *content)
            else:
                return kind, str(content)
        return "died", f"its process ended unexpectedly ({worker.fate()})"

    def _note(self, seat: int, device: str | None, task: Task, verdict: str, text: str) -> None:
        """What came of a file that was taken: told, and the file put back if another device may do it."""
        try:
            self._board.finish(task.job.name)
            if self._stopped.is_set():
                return
            if verdict in _LEFT:
                with self._changed:
                    self._unfit[seat, task.bundle if verdict == "unfit" else task] = text
                    self._waiting.insert(0, task)
                    self._begun -= 1
                self._board.say(f"{task.job.name}: not on {device or 'this device'} ({text})")
            elif verdict == "done":
                self._board.say(f"{task.job.name}: {text}")
            else:
                self._fail(task, text)
        finally:
            with self._changed:
                self._busy -= 1
                self._changed.notify_all()

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

    def _dismiss(self, worker: _Worker | None, patience: float) -> None:
        """End one process. Whoever stops the fleet meanwhile does not wait for it as long as that."""
        if worker is None:
            return
        worker.hang_up()
        worker.end(time.monotonic() + (_PATIENCE_S if self._stopped.is_set() else patience))
        with self._changed:
            self._workers.discard(worker)


class _Worker:
    """A process of `worker.py` and the two pipes to it. Used by one thread; another may end it."""

    def __init__(self) -> None:
        environment = {**os.environ, "PYTHONUTF8": "1", "PYTHONIOENCODING": "utf-8"}
        self._process = subprocess.Popen(
            # -P: what lies in the directory that the user happens to be in (a queue.py) is not imported.
            [sys.executable, "-P", "-m", "swiftvr_trt.runtime.restore.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment,
            text=True,
            encoding="utf-8",
            errors="replace",
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._orders, self._answers = self._process.stdin, self._process.stdout

    def send(self, order: dict[str, Any]) -> None:
        with suppress(BrokenPipeError):  # then there will be no answer, either
            self._orders.write(json.dumps(order) + "\n")
            self._orders.flush()

    def receive(self) -> tuple[str, Any] | None:
        """The next answer, its kind and its content; None when there will be no more. ValueError if it is no answer."""
        line = self._answers.readline()
        if not line.endswith("\n"):
            return None
        with suppress(ValueError):
            answer = json.loads(line)
            if isinstance(answer, dict) and len(answer) == 1 and answer.keys() <= set(_KINDS):
                return next(iter(answer.items()))
        raise ValueError(f"its process said {line[:80]!r}, expected an answer")

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
