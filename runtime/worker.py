"""A process of `fleet`: restores the files that it is handed, one after another, on one device.

It reads one JSON object a line from standard input and answers with lines on what was standard output:

    -> {"job": Job.to_dict(), "bundle": path, "opening": what Restorer.open takes besides}
    <- {"say": line}                    any number of times
    <- {"progress": [done, total or null, seconds to go or null]}
    <- {"done": line}                   or
    <- {"failed": line}                 the file cannot be restored, or
    <- {"unfit": line}                  this device cannot run this bundle; the file may do well on another one

When standard input ends, so does the process; what it is working on is then interrupted as by Ctrl-C and leaves
nothing half-written. It does not listen to Ctrl-C and the like itself: who started it does, and decides.
"""

from __future__ import annotations

import json
import os
import queue
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any, TextIO

from ..engines.geometry import Resolution
from ..errors import SwiftVRError
from .job import Job, restore_job
from .restorer import Restorer
from .selection import BundleRequest, output_size

Answer = Callable[[dict[str, Any]], None]


class _UnfitError(Exception):
    """The device cannot run the bundle. The cause says why."""


class Desk:
    """Keeps the bundle of the last file open for the next one."""

    def __init__(self) -> None:
        self._key: tuple[Any, ...] | None = None
        self._restorer: Restorer | None = None

    def serve(self, order: dict[str, Any], answer: Answer) -> None:
        """Carry out one order; whatever goes wrong is answered, not raised."""
        try:
            answer({"done": self._restore(order, answer)})
        except _UnfitError as error:
            answer({"unfit": str(error.__cause__)})
        except SwiftVRError as error:
            answer({"failed": str(error)})
        except Exception as error:  # noqa: BLE001 (it must not take the other files with it)
            answer({"failed": f"internal error: {type(error).__name__}: {error}"})

    def close(self) -> None:
        """Release the bundle."""
        if self._restorer is not None:
            self._restorer.close()
        self._restorer = self._key = None

    def _restore(self, order: dict[str, Any], answer: Answer) -> str:
        job, request = Job.from_dict(order["job"]), BundleRequest(bundle=Path(order["bundle"]))

        @contextmanager
        def watch(total: int | None) -> Iterator[Callable[[int, float | None], None]]:
            yield lambda done, left: answer({"progress": [done, total, left]})

        @contextmanager
        def restorer(_size: Resolution) -> Iterator[Restorer]:
            yield self._open(order["bundle"], job.device, order["opening"])

        return restore_job(
            job,
            lambda width, height: output_size(request, width, height),
            restorer,
            lambda line: answer({"say": line}),
            watch,
        )

    def _open(self, bundle: str, device: str | None, opening: dict[str, Any]) -> Restorer:
        key = (bundle, device, opening)
        if self._restorer is None or key != self._key:
            self.close()
            try:
                self._restorer, self._key = Restorer.open(bundle, device=device, **opening), key
            except SwiftVRError as error:
                raise _UnfitError from error
        return self._restorer


class Inbox:
    """Orders from a pipe. When it ends, the order that is being served is interrupted."""

    def __init__(self, pipe: TextIO) -> None:
        self._orders: queue.Queue[dict[str, Any] | None] = queue.Queue()
        self._busy = threading.Event()
        threading.Thread(target=self._read, args=(pipe,), daemon=True).start()

    def _read(self, pipe: TextIO) -> None:
        for line in pipe:
            self._busy.set()
            self._orders.put(json.loads(line))
        self._orders.put(None)
        if self._busy.is_set():
            import _thread

            _thread.interrupt_main(signal.SIGTERM)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        while (order := self._orders.get()) is not None:
            yield order
            self._busy.clear()


def _interrupt(_signal: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _listen_to_the_parent_alone() -> None:
    """A terminal tells all of its processes. The parent is one of them, and the pipe from it says what it decided."""
    for name in ("SIGINT", "SIGHUP", "SIGBREAK"):  # SIGBREAK is Windows' Ctrl-Break, which has no SIGHUP
        number = getattr(signal, name, None)
        if number is not None:
            signal.signal(number, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, _interrupt)


def _take_stdout() -> TextIO:
    """Standard output for answers alone: what a library prints goes to standard error from now on."""
    sys.stdout.flush()
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8", buffering=1)
    os.dup2(2, 1)
    return answers


def main() -> None:
    """Serve until standard input ends."""
    _listen_to_the_parent_alone()
    answers, lock = _take_stdout(), threading.Lock()

    def answer(message: dict[str, Any]) -> None:
        with lock:
            answers.write(json.dumps(message) + "\n")

    desk = Desk()
    try:
        for order in Inbox(sys.stdin):
            desk.serve(order, answer)
        desk.close()
    except (KeyboardInterrupt, BrokenPipeError):
        os._exit(130)  # a stage that is still running in another thread need not be waited for


if __name__ == "__main__":
    main()
