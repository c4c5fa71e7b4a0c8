"""The process of one device in a fleet: restores one file after another, as its parent orders.

`messages.py` defines the orders and the answers. When the parent hangs up, the current file is interrupted as by
Ctrl-C, and nothing half-written is left.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import nullcontext, suppress
from pathlib import Path

from ...child import Parent, interrupt_main
from ...errors import DeviceError, Moment, message_of
from .job import restore_job
from .messages import Answer, JobProgress, Line, Order, encode_answer
from .restorer import OpenOptions, Restorer
from .selection import BundleRequest
from .verdict import Outcome, Verdict

_VERDICTS = {Moment.BEGIN: Verdict.UNBEGUN, Moment.MIDDLE: Verdict.BROKEN}
_INTERRUPTED = 130


class _CannotOpenError(Exception):
    """The device cannot open the bundle; the cause says why."""


class _ParentDisplay:
    """A display that sends everything to the parent, which shows it."""

    def __init__(self, send: Callable[[Answer], None]) -> None:
        self._send = send

    def say(self, line: str) -> None:
        self._send(Line(line))

    def update(self, _name: str, done: int, total: int | None, remaining: float | None) -> None:
        self._send(JobProgress(done, total, remaining))

    def finish(self, name: str) -> None:
        """Sends nothing: the answer that follows ends the file."""


class Worker:
    """Restores files. The bundle of the last file stays open for the next."""

    def __init__(self) -> None:
        self._key: tuple[str, str | None, OpenOptions] | None = None
        self._restorer: Restorer | None = None

    def serve(self, order: Order, send: Callable[[Answer], None]) -> Outcome:
        """Restore one file. Errors become verdicts; `send` gets lines and progress."""
        try:
            return Outcome(Verdict.DONE, self._restore(order, send))
        except _CannotOpenError as error:
            return Outcome(Verdict.UNFIT, message_of(error.__cause__ or error))
        except DeviceError as error:
            return Outcome(_VERDICTS[error.moment], str(error))
        except Exception as error:  # noqa: BLE001 (must not end the process: other files follow)
            return Outcome(Verdict.FAILED, message_of(error))

    def close(self) -> None:
        """Release the bundle."""
        if self._restorer is not None:
            with suppress(Exception):  # a lost device cannot release anything
                self._restorer.close()
        self._restorer = self._key = None

    def _restore(self, order: Order, send: Callable[[Answer], None]) -> str:
        return restore_job(
            order.job,
            BundleRequest(bundle=Path(order.bundle)),
            lambda _size: nullcontext(self._open(order)),  # not closed here: stays open for the next file
            _ParentDisplay(send),
        )

    def _open(self, order: Order) -> Restorer:
        key = (order.bundle, order.job.device, order.options)
        if self._restorer is None or key != self._key:
            self.close()
            options = order.options
            try:
                self._restorer = Restorer.open(
                    order.bundle, device=order.job.device, threads=options.threads, ort_graphs=options.ort_graphs
                )
            except Exception as error:
                raise _CannotOpenError from error
            self._key = key
        return self._restorer


def main() -> None:
    """Serve until the parent hangs up."""
    parent, worker = Parent(interrupt_main), Worker()
    try:
        while (message := parent.receive()) is not None:
            outcome = worker.serve(Order.from_message(message), lambda answer: parent.send(encode_answer(answer)))
            parent.answer(encode_answer(outcome))
        worker.close()
    except KeyboardInterrupt:
        os._exit(_INTERRUPTED)  # without waiting for a stage that still runs in another thread


if __name__ == "__main__":
    main()
