"""A process of `fleet`: restores the files that it is handed, one after another, on one device.

It reads one JSON object a line from standard input and answers with lines on what was standard output:

    -> {"job": Job.to_dict(), "bundle": path, "opening": what Restorer.open takes besides}
    <- {"say": line}                    any number of times
    <- {"progress": [done, total or null, seconds to go or null]}
    <- {"done": line}                   or
    <- {"failed": line}                 the file cannot be restored, or
    <- {"unfit": line}                  this device cannot run this bundle; the file may do well on another one, or
    <- {"unbegun": line}                it cannot begin this file (no memory for such frames, say); another one may, or
    <- {"broken": line}                 it failed in the middle of the file

The last three are about the device; it is up to the parent to go on with another process then.
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
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import Any, TextIO

from swiftvr_trt.engines.bundle.geometry import Resolution
from swiftvr_trt.errors import DeviceError, Moment, message_of

from .job import Job, restore_job
from .restorer import Restorer
from .selection import BundleRequest, output_size

Answer = Callable[[dict[str, Any]], None]


class _UnfitError(Exception):
    """The device cannot run the bundle. The cause says why."""


_VERDICTS = {Moment.BEGIN: "unbegun", Moment.MIDDLE: "broken"}


class Desk:
    """Keeps the bundle of the last file open for the next one."""

    def __init__(self) -> None:
        self._key: tuple[Any, ...] | None = None
        self._restorer: Restorer | None = None

    def serve(self, order: dict[str, Any], answer: Answer) -> dict[str, str]:
        """Carry out one order; the verdict, which is yet to be answered. Whatever goes wrong is not raised."""
        try:
            return {"done": self._restore(order, answer)}
        except _UnfitError as error:
            return {"unfit": message_of(error.__cause__ or error)}
        except DeviceError as error:
            return {_VERDICTS[error.moment]: str(error)}
        except Exception as error:  # noqa: BLE001 (it must not take the other files with it)
            return {"failed": message_of(error)}

    def close(self) -> None:
        """Release the bundle."""
        if self._restorer is not None:
            with suppress(Exception):  # a device that is lost has nothing to release
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
                opened = Restorer.open(bundle, device=device, **opening)
            except Exception as error:
                raise _UnfitError from error
            self._restorer, self._key = opened, key
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

    def rest(self) -> None:
        """Nothing is being served any more. Said before the verdict is answered: what follows that is no interruption.

        A parent that has no more files hangs up at once; the process then has to end in its own time.
        """
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

    desk, inbox = Desk(), Inbox(sys.stdin)
    try:
        for order in inbox:
            verdict = desk.serve(order, answer)
            inbox.rest()
            answer(verdict)
        desk.close()
    except (KeyboardInterrupt, BrokenPipeError):
        os._exit(130)  # a stage that is still running in another thread need not be waited for


if __name__ == "__main__":
    main()
