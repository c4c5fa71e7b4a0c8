"""A trace of a run in Chrome's format, for https://ui.perfetto.dev or chrome://tracing.

Each lane (upload, compute, decode, download, host) is a row, and each span of time a bar in it; `decode` has some if
chunks are decoded beside others. Spans are written as they end, so a long run does not collect them in memory, and a
file cut short by a crash can still be opened.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from pathlib import Path
from types import TracebackType
from typing import Any

from ... import leaving
from ...errors import OutputError

LANES = ("upload", "compute", "decode", "download", "host")


class Trace:
    """Writes spans to a file, from any thread. Times are seconds of `time.perf_counter`.

    Raises `OutputError` if the file cannot be written, which `close` then removes. An error in a block that it records
    goes before its own.
    """

    def __init__(self, path: str | Path) -> None:
        self._path, self._failed = Path(path), False
        with self._writing():
            self._file = self._path.open("w", encoding="utf-8")
        self._release = leaving.hold(str(path), self.close)
        self._lock = threading.Lock()
        self._began = time.perf_counter()
        self._file.write("[")
        self._comma = ""
        for number, lane in enumerate(LANES):
            self._write({"name": "thread_name", "ph": "M", "pid": 0, "tid": number, "args": {"name": lane}})

    def span(self, lane: str, name: str, begin: float, end: float, **details: Any) -> None:
        """Record what took from `begin` to `end`."""
        times = {"ts": _microseconds(begin - self._began), "dur": _microseconds(end - begin)}
        self._write({"name": name, "ph": "X", "pid": 0, "tid": LANES.index(lane), **times, "args": details})

    @contextmanager
    def timed(self, lane: str, name: str, **details: Any) -> Iterator[None]:
        """Record the time that the block takes."""
        begin = time.perf_counter()
        try:
            yield
        except BaseException:
            with suppress(OutputError):
                self.span(lane, name, begin, time.perf_counter(), **details)
            raise
        self.span(lane, name, begin, time.perf_counter(), **details)

    def close(self) -> None:
        """End the file. A second call does nothing; later spans are dropped."""
        with self._lock:
            try:
                if not self._file.closed:
                    self._finish()
            finally:
                self._release()

    def __enter__(self) -> Trace:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with nullcontext() if error is None else suppress(OutputError):
            self.close()

    def _finish(self) -> None:
        """Write the end; or remove a file in which something is missing, unless it is a device or a pipe."""
        try:
            with self._writing(), self._file:
                self._file.write("\n]\n")
        finally:
            if self._failed and self._path.is_file():
                with suppress(OSError):
                    self._path.resolve().unlink()

    def _write(self, event: dict[str, Any]) -> None:
        with self._lock:
            if not self._file.closed:
                with self._writing():
                    self._file.write(f"{self._comma}\n{json.dumps(event)}")
                self._comma = ","

    @contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            self._failed = True
            raise OutputError(
                f"{self._path}: the trace cannot be written ({error.strerror or error}); "
                "choose another file, or leave --trace out"
            ) from error


def timed(trace: Trace | None, lane: str, name: str, **details: Any) -> AbstractContextManager[None]:
    """Record the time that the block takes if there is a trace."""
    return nullcontext() if trace is None else trace.timed(lane, name, **details)


def _microseconds(seconds: float) -> float:
    return round(seconds * 1e6, 3)
