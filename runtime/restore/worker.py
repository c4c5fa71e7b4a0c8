"""The process of one device in a fleet: restores one file after another, as its parent orders.

`messages.py` defines the orders and the answers. When the parent hangs up, the process leaves the current file as it
is, and nothing half-written stays behind (`swiftvr_trt.leaving`).
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext, suppress
from pathlib import Path

from ...child import Parent
from ...errors import DeviceError, MachineError, Moment, is_shortage, message_of
from ..devices.notes import NOTES
from ..media.codecs import NoEncoderError
from ..media.index import VideoIndex
from .bundle_request import BundleRequest
from .display import Result
from .divided import VideoToDivide, look_at, restore_part
from .job import Job, Restored, restore_job
from .messages import Answer, JobProgress, Line, LogLine, Order, encode_answer
from .restorer import OpenOptions, Restorer
from .segments.room import is_full_disk
from .verdict import Outcome, Verdict

_OF_THE_MACHINE = (MachineError, NoEncoderError, OSError)
_VERDICTS = {Moment.BEGIN: Verdict.UNBEGUN, Moment.MIDDLE: Verdict.BROKEN}


_log = logging.getLogger("swiftvr_trt")


class _CannotOpenError(Exception):
    """The device cannot open the bundle; the cause says why."""


class _ParentDisplay:
    """A display that sends everything to the parent, which shows it."""

    def __init__(self, send: Callable[[Answer], None]) -> None:
        self._send = send

    def begin(self, files: Sequence[tuple[str, str]]) -> None:
        """Sends nothing: the parent knows its files."""

    def say(self, line: str, _name: str = "") -> None:
        self._send(Line(line))

    def warn(self, line: str, _name: str = "") -> None:
        self._send(Line(line, warning=True))

    def update(self, _name: str, done: int, total: int | None, remaining: float | None) -> None:
        self._send(JobProgress(done, total, remaining))

    def show_nodes(self, frames: Mapping[str, int]) -> None:
        """Sends nothing: a process has no nodes."""

    def finish(self, name: str) -> None:
        """Sends nothing: the answer that follows ends the file."""

    def result(self, result: Result, name: str = "") -> None:
        """Sends nothing: the answer holds the result."""


class _LogToParent(logging.Handler):
    """Sends log records to the parent, which logs them."""

    def __init__(self, send: Callable[[Answer], None]) -> None:
        super().__init__()
        self._send = send

    def emit(self, record: logging.LogRecord) -> None:
        self._send(LogLine(record.name, record.levelno, record.getMessage()))


class Worker:
    """Restores files. The bundle of the last file stays open for the next."""

    def __init__(self, machine_at_fault: Verdict = Verdict.FAILED) -> None:
        """machine_at_fault: the verdict if the disk is full, memory short or an encoder missing. No device of the same
        machine does better; another machine may."""
        self._machine_at_fault = machine_at_fault
        self._key: tuple[str, str | None, OpenOptions] | None = None
        self._restorer: Restorer | None = None
        self._video: tuple[Path, VideoToDivide] | None = None
        """The last one of which a part was restored: its next part is likely to follow."""

    def serve(self, order: Order, send: Callable[[Answer], None]) -> Outcome:
        """Restore one file. Errors become verdicts; `send` gets lines and progress."""
        try:
            restored = self._restore(order, send)
            text, frames, seconds = restored.describe(), restored.frames, restored.seconds
            return Outcome(Verdict.DONE, text, frames, seconds, restored.lost, restored.kept)
        except _CannotOpenError as error:
            return Outcome(Verdict.UNFIT, message_of(error.__cause__ or error))
        except DeviceError as error:
            return Outcome(_VERDICTS[error.moment], str(error))
        except Exception as error:  # noqa: BLE001 (must not end the process: other files follow)
            at_fault = isinstance(error, _OF_THE_MACHINE) or is_shortage(error)
            verdict = self._machine_at_fault if at_fault else Verdict.FAILED
            return Outcome(verdict, message_of(error), full=is_full_disk(error))

    def learn(self, job: Job, index: Callable[[], VideoIndex]) -> None:
        """Take the index of a job's video from elsewhere, unless it is known. Spares reading the whole file."""
        self._known(job, lambda: look_at(job, index=index()))

    def close(self) -> None:
        """Release the bundle."""
        if self._restorer is not None:
            with suppress(Exception):  # a lost device cannot release anything
                self._restorer.close()
        self._restorer = self._key = None

    def _restore(self, order: Order, send: Callable[[Answer], None]) -> Restored:
        if order.job.span is not None:
            video = self._known(order.job, lambda: look_at(order.job))
            return restore_part(order.job, video, self._open(order), _ParentDisplay(send))
        return restore_job(
            order.job,
            BundleRequest(bundle=Path(order.bundle)),
            lambda _size: nullcontext(self._open(order)),  # not closed here: stays open for the next file
            _ParentDisplay(send),
        )

    def _known(self, job: Job, look: Callable[[], VideoToDivide]) -> VideoToDivide:
        if self._video is None or self._video[0] != job.source:
            self._video = job.source, look()
        return self._video[1]

    def _open(self, order: Order) -> Restorer:
        key = (order.bundle, order.job.device, order.options)
        if self._restorer is None or key != self._key:
            self.close()
            options = order.options
            try:
                self._restorer = Restorer.open(order.bundle, device=order.job.device, **vars(options))
            except Exception as error:
                raise _CannotOpenError from error
            self._key = key
        return self._restorer


def main(parent: Parent) -> None:
    """Serve until the parent has no more files."""
    worker = Worker()

    def send(answer: Answer) -> None:
        parent.send(encode_answer(answer))

    _log.addHandler(_LogToParent(send))
    NOTES.setLevel(logging.INFO)
    while (message := parent.receive()) is not None:
        order = Order.from_message(message)
        _log.setLevel(order.log_level)
        outcome = worker.serve(order, send)
        parent.answer(encode_answer(outcome))
    worker.close()
