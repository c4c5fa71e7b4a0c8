"""`swiftvr-run --json`: what happens, as JSON objects on standard output, one per line."""

from __future__ import annotations

import errno
import json
import os
import sys
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from .. import leaving
from ..redaction import redacted

if TYPE_CHECKING:
    from ..runtime.restore.display import Result

VERSION = 1
"""Of the schema. It grows when a field changes its meaning or goes, not when one is added."""

_writing = threading.Lock()
_over = False
_lost: str | None = None


def emit(event: str, **fields: Any) -> None:
    """Print one event. An error stops no work: see `why_lost`."""
    if not _over:
        _write({"event": event, **fields})


def _write(*events: dict[str, Any]) -> None:
    lines = "".join(json.dumps({"version": VERSION, **_redacted(event)}) + "\n" for event in events)
    with _writing, suppress(ValueError, AttributeError):  # a closed stream raises ValueError, or is None
        try:
            sys.stdout.write(lines)
            sys.stdout.flush()
        except OSError as error:
            _remember(error)


def _remember(error: OSError) -> None:
    """Unless a program no longer listens, which on Windows is an invalid argument. Then nothing more is written.

    What is left in the buffer of the stream would fail again at the end, and count as a lost result.
    """
    global _lost
    if isinstance(error, BrokenPipeError) or (os.name == "nt" and error.errno == errno.EINVAL):
        sys.stdout = None
    else:
        _lost = _lost or (error.strerror or str(error)).lower()


def why_lost() -> str | None:
    """Why an event could not be written though somebody may want it, as on a full disk; None if that never happened.

    It may still have been written with a later one: what a failed flush keeps depends on the size of buffers.
    """
    return _lost


def _redacted(value: Any) -> Any:
    """The value without secrets in its texts."""
    if isinstance(value, str):
        return redacted(value)
    if isinstance(value, Mapping):
        return {name: _redacted(each) for name, each in value.items()}
    return [_redacted(each) for each in value] if isinstance(value, list) else value


def end_interrupted() -> None:
    """The end of a run that a signal ends. Nothing follows it, though threads may still be at work."""
    global _over
    _over = True
    _write({"event": "error", "text": "interrupted"}, {"event": "end", "exit_code": leaving.INTERRUPTED})


def emit_end(exit_code: int, error: str | None = None) -> None:
    """The last events of every run: its error, if there was one, and its exit code."""
    if error is not None:
        emit("error", text=error)
    emit("end", exit_code=exit_code)


class JsonDisplay:
    """A display for programs. See `runtime.restore.display.Display`."""

    def begin(self, files: Sequence[tuple[str, str]]) -> None:
        emit("start", files=[{"input": source, "output": output} for source, output in files])

    def say(self, line: str, name: str = "") -> None:
        emit("note", level="info", file=name or None, text=line)

    def warn(self, line: str, name: str = "") -> None:
        emit("note", level="warning", file=name or None, text=line)

    def update(self, name: str, done: int, total: int | None, remaining: float | None) -> None:
        percent = round(min(100 * done / total, 100), 1) if total else None
        seconds = None if remaining is None else round(remaining, 1)
        emit("progress", file=name or None, frames=done, total=total, percent=percent, remaining_s=seconds)

    def show_nodes(self, frames: Mapping[str, int]) -> None:
        emit("nodes", frames=dict(frames))

    def finish(self, name: str) -> None: ...

    def result(self, result: Result, name: str = "") -> None:
        emit(
            "result",
            file=name or None,
            input=result.source,
            output=result.output,
            status=result.status,
            frames=result.frames,
            seconds=None if result.seconds is None else round(result.seconds, 3),
            text=result.text,
            lost=list(result.lost),
            kept=result.kept,
        )
