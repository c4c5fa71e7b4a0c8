"""A trace of a run in Chrome's format, to be opened in https://ui.perfetto.dev or chrome://tracing.

One row per lane (upload, compute, download, host), one bar per thing that took time. Written as it comes, so that a
long run does not collect it in memory; a file that was cut short by a crash can still be opened.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any

from swiftvr_trt.errors import OutputError

LANES = ("upload", "compute", "download", "host")


class Trace:
    """Collects spans; from any thread. Times are `time.perf_counter` seconds."""

    def __init__(self, path: str | Path) -> None:
        self._path = path
        with self._writing():
            self._file = Path(path).open("w", encoding="utf-8")  # noqa: SIM115 (closed by `close`)
        self._lock = threading.Lock()
        self._began = time.perf_counter()
        self._file.write("[")
        self._comma = ""
        for number, lane in enumerate(LANES):
            self._write({"name": "thread_name", "ph": "M", "pid": 0, "tid": number, "args": {"name": lane}})

    def span(self, lane: str, name: str, begin: float, end: float, **details: Any) -> None:
        """Something that took from `begin` to `end`."""
        times = {"ts": _microseconds(begin - self._began), "dur": _microseconds(end - begin)}
        self._write({"name": name, "ph": "X", "pid": 0, "tid": LANES.index(lane), **times, "args": details})

    @contextmanager
    def around(self, lane: str, name: str, **details: Any) -> Iterator[None]:
        """The time that the block takes."""
        begin = time.perf_counter()
        try:
            yield
        finally:
            self.span(lane, name, begin, time.perf_counter(), **details)

    def close(self) -> None:
        """End the file. A second call does nothing; what comes later is dropped."""
        with self._lock:
            if not self._file.closed:
                with self._writing():
                    self._file.write("\n]\n")
                    self._file.close()

    def __enter__(self) -> Trace:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

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
            raise OutputError(
                f"{self._path}: the trace cannot be written ({error.strerror or error}); the output does not need it"
            ) from error


def telling(trace: Trace | None, lane: str, name: str, **details: Any) -> AbstractContextManager[None]:
    """The time that the block takes, if anybody wants to know."""
    return nullcontext() if trace is None else trace.around(lane, name, **details)


def _microseconds(seconds: float) -> float:
    return round(seconds * 1e6, 3)
