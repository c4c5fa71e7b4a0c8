"""Restore a source into a sink: one thread reads, one restores and one writes, with short queues in between.

A full disk, a damaged file, a failing stage or Ctrl-C stops all three threads. The caller gets the first error, and the
sink removes what it has written. No thread can hang on a queue: every wait is short, and checks afterwards whether the
run has stopped.
"""

from __future__ import annotations

import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np

from ...errors import Cancelled, InternalError, SwiftVRError
from ..budget import NOTICE_S, THREADS_S
from ..media import Item, Picture, Sink, Source
from ..stream.session import Frame, Session

T = TypeVar("T")

_DEPTH = 8
"""Items in a queue: enough to smooth a hiccup, few enough that memory does not depend on the clip."""
_POLL_S = THREADS_S / 8
"""The longest wait on a queue; several fit into the time that the threads have to end."""
_NO_PIXELS: Frame = np.empty((0, 0, 3), np.uint8)


@dataclass(frozen=True)
class Progress:
    """Progress of a run: frames read and written, frames expected (an estimate, or None), and seconds elapsed."""

    read: int
    written: int
    total: int | None
    elapsed: float

    @property
    def rate(self) -> float:
        """Frames per second so far."""
        return self.written / self.elapsed if self.elapsed > 0 else 0.0

    @property
    def remaining(self) -> float | None:
        """Seconds to go; None while unknown."""
        if not self.total or not self.written:
            return None
        return max(self.total - self.written, 0) / self.rate


def restore_media(
    session: Session, source: Source, sink: Sink, on_progress: Callable[[Progress], None] | None = None
) -> Progress:
    """Restore every picture of `source` into `sink` and commit it. Copied packets keep their place.

    `on_progress` is called a few times a second, in the calling thread. Raises the first error of any thread; the sink
    is then not committed. An exception that is not ours becomes an `InternalError`.
    """
    run = _Run(session, source, sink)
    try:
        run.start()
        while not run.finished.wait(NOTICE_S):
            if on_progress:
                on_progress(run.progress())
    finally:
        run.stop()
    if run.error is not None:
        raise run.error
    last = run.progress()
    if on_progress:
        on_progress(last)
    return last


class _Stopped(Exception):  # noqa: N818 (it ends a thread and reports no error)
    """The run has stopped."""


class _StoppableQueue(Generic[T]):
    """A bounded queue with an end. Raises `_Stopped` in the threads that use it once the run has stopped."""

    def __init__(self, stopped: threading.Event) -> None:
        self._queue: queue.Queue[T | None] = queue.Queue(_DEPTH)
        self._stopped = stopped

    def put(self, item: T | None) -> None:
        while not self._stopped.is_set():
            try:
                return self._queue.put(item, timeout=_POLL_S)
            except queue.Full:
                continue
        raise _Stopped

    def end(self) -> None:
        self.put(None)

    def __iter__(self) -> Iterator[T]:
        while True:
            try:
                item = self._queue.get(timeout=_POLL_S)
            except queue.Empty:
                if self._stopped.is_set():
                    raise _Stopped from None
                continue
            if self._stopped.is_set():
                raise _Stopped
            if item is None:
                return
            yield item


class _Run:
    """The three threads of one run and what they share."""

    def __init__(self, session: Session, source: Source, sink: Sink) -> None:
        self._session, self._source, self._sink = session, source, sink
        self._stopped = threading.Event()
        self._lock = threading.Lock()
        self._to_restore: _StoppableQueue[Item] = _StoppableQueue(self._stopped)
        self._to_write: _StoppableQueue[Item] = _StoppableQueue(self._stopped)
        self._read = self._written = 0
        self._began = time.monotonic()
        self._complete = False
        self.finished = threading.Event()
        self.error: SwiftVRError | None = None
        parts = (("reading", self._do_read), ("restoring", self._do_restore), ("writing", self._do_write))
        self._threads = [
            threading.Thread(target=self._guard, args=part, name=f"swiftvr-{part[0]}", daemon=True) for part in parts
        ]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """End all threads. After a complete run none is left, and the session stays usable.

        A thread that is stuck in a library is left behind as a daemon. It ends when it next uses a queue.
        """
        self._stopped.set()
        if not self._complete:
            self._session.cancel()
        deadline = time.monotonic() + THREADS_S
        for thread in self._threads:
            thread.join(max(deadline - time.monotonic(), 0.01))

    def progress(self) -> Progress:
        return Progress(self._read, self._written, self._source.info.frames, time.monotonic() - self._began)

    def _guard(self, name: str, part: Callable[[], None]) -> None:
        """Run one part. Its error becomes the run's if it is the first."""
        try:
            part()
        except (_Stopped, Cancelled):
            pass
        except SwiftVRError as error:
            self._fail(error)
        except Exception as error:  # noqa: BLE001 (whatever it is, it must stop the other threads)
            wrapped = InternalError(f"{name} failed: {type(error).__name__}: {error}")
            wrapped.__cause__ = error
            self._fail(wrapped)

    def _fail(self, error: SwiftVRError) -> None:
        with self._lock:
            if self.error is None:
                self.error = error
        self._stopped.set()
        self._session.cancel()
        self.finished.set()

    def _do_read(self) -> None:
        for item in self._source:
            self._read += isinstance(item, Picture)
            self._to_restore.put(item)
        self._to_restore.end()

    def _do_restore(self) -> None:
        waiting: deque[Item] = deque()
        for item in self._to_restore:
            if isinstance(item, Picture):
                waiting.append(item.with_pixels(_NO_PIXELS))  # only the stamp is still needed
                self._emit(waiting, self._session.feed(item.pixels))
            elif waiting:
                waiting.append(item)
            else:
                self._to_write.put(item)
        self._emit(waiting, self._session.flush())
        for item in waiting:
            self._to_write.put(item)
        self._to_write.end()

    def _emit(self, waiting: deque[Item], restored: list[Frame]) -> None:
        """Pass on restored frames with the stamps of their originals, and copied packets in their place."""
        for pixels in restored:
            while not isinstance(item := waiting.popleft(), Picture):
                self._to_write.put(item)
            self._to_write.put(item.with_pixels(pixels))

    def _do_write(self) -> None:
        for item in self._to_write:
            self._sink.write(item)
            self._written += isinstance(item, Picture)
        self._sink.commit()
        self._complete = True
        self.finished.set()
