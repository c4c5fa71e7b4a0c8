"""Restore a source into a sink: one thread reads, one restores and one writes, with short queues in between.

A full disk, a failing stage or Ctrl-C stops all three threads. An input that cannot be read on ends them in turn, so
that all frames read before it are written. The caller gets the first error, and the sink removes what it has written.
No thread can hang on a queue: stopping the run wakes those that wait there.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, Self

from ...errors import Cancelled, InternalError, SwiftVRError, UnreadableInputError, unexpected
from ..budget import NOTICE_S, THREADS_S
from ..media import Item, Picture, Sink, Source
from ..stream.cuts import Cut
from ..stream.frames import FrameForm, StreamFrame, owned
from .pace import Pace
from .picture_queue import StoppableQueue, Stopped

_DEPTH = 8
"""Items in a queue: enough to smooth a hiccup, few enough that memory does not depend on the clip."""


class RestoringStream(Protocol):
    """What a run needs of a `Session`, or of what takes its place. See there."""

    def feed(self, frame: Any) -> list[Any]: ...
    def fit(self, frame: Any) -> Any: ...
    def begin_at(self, cut: Cut, frames: Iterable[Any]) -> None: ...
    def drain(self) -> list[Any]: ...
    def flush(self) -> list[Any]: ...
    def reset(self) -> None: ...
    def cancel(self) -> None: ...
    def __enter__(self) -> Self: ...
    def __exit__(self, *_: object) -> None: ...


class StreamOpener(Protocol):
    """Opens a stream that gives frames of a form. surfaces: in the memory of its GPU, if it has one."""

    def __call__(self, give: FrameForm, /, *, surfaces: bool = False) -> RestoringStream: ...


@dataclass(frozen=True)
class Progress:
    """Progress of a run.

    read, written   frames
    total           frames expected, an estimate; None if unknown
    elapsed         seconds since the beginning
    remaining       seconds to go; None while unknown
    """

    read: int
    written: int
    total: int | None
    elapsed: float
    remaining: float | None = None

    @property
    def rate(self) -> float:
        """Frames per second so far."""
        return self.written / self.elapsed if self.elapsed > 0 else 0.0


@dataclass(frozen=True)
class Part:
    """Which part of a stream a run restores. The default is all of it.

    cut         where the stream is continued; the source then begins with frame `cut.lead` and has pictures only
    to_end      the source's last picture is the stream's. Otherwise it is the last one of a chunk, and the frames that
                the stream still owes then belong to the next part
    frames      how many come out, for the time to go; None for as many as the source has
    """

    cut: Cut | None = None
    to_end: bool = True
    frames: int | None = None


def restore_media(
    session: RestoringStream,
    source: Source,
    sink: Sink,
    on_progress: Callable[[Progress], None] | None = None,
    *,
    part: Part | None = None,
) -> Progress:
    """Restore every picture of `source` into `sink` and commit it. Copied packets keep their place.

    A picture that begins a new scene begins a new stream, too.

    part: of the stream that `source` supplies; all of it by default. `on_progress` is called a few times a second, in
    the calling thread. Raises the first error of any thread, `Cancelled` if somebody cancels the session; the sink is
    then not committed. What an exception becomes that is not ours: see `unexpected`.
    """
    run = _Run(session, source, sink, part or Part())
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


@dataclass(frozen=True)
class _End:
    """Follows the last item of a queue. error: why there are no more, which the reader of the queue raises."""

    error: UnreadableInputError | None = None


class _Items:
    """Items on their way from one thread to the next, and their end."""

    def __init__(self) -> None:
        self._queue: StoppableQueue[Item | _End] = StoppableQueue(_DEPTH)
        self.put, self.stop = self._queue.put, self._queue.stop

    def __iter__(self) -> Iterator[Item]:
        while not isinstance(item := self._queue.get(), _End):
            yield item
        if item.error is not None:
            raise item.error


class _Run:
    """The three threads of one run and what they share."""

    def __init__(self, session: RestoringStream, source: Source, sink: Sink, part: Part) -> None:
        self._session, self._source, self._sink, self._part = session, source, sink, part
        self._lock = threading.Lock()
        self._to_restore, self._to_write = _Items(), _Items()
        self._read = self._written = 0
        self._began = time.monotonic()
        self._pace = Pace(source.info.frames if part.frames is None else part.frames, self._began)
        self._complete = False
        self.finished = threading.Event()
        self.error: SwiftVRError | Cancelled | None = None
        parts = (("reading", self._do_read), ("restoring", self._do_restore), ("writing", self._do_write))
        self._threads = [
            threading.Thread(target=self._guard, args=part, name=f"swiftvr-{part[0]}", daemon=True) for part in parts
        ]

    def start(self) -> None:
        try:
            for thread in self._threads:
                thread.start()
        except Exception as error:
            raise unexpected(error, "starting") from error

    def stop(self) -> None:
        """End all threads. After a complete run none is left, and the session stays usable.

        A thread that is stuck in a library is left behind as a daemon. It ends when it next uses a queue.
        """
        self._stop_queues()
        if not self._complete:
            self._session.cancel()
        deadline = time.monotonic() + THREADS_S
        for thread in self._threads:
            if thread.is_alive():  # those that could not be started are not
                thread.join(max(deadline - time.monotonic(), 0.01))

    def _stop_queues(self) -> None:
        self._to_restore.stop()
        self._to_write.stop()

    def progress(self) -> Progress:
        now = time.monotonic()
        total = self._source.info.frames
        return Progress(self._read, self._written, total, now - self._began, self._pace.remaining(now))

    def _guard(self, name: str, part: Callable[[], None]) -> None:
        """Run one part. Its error becomes the run's if it is the first."""
        try:
            part()
        except Stopped:  # by whatever ended the run
            pass
        except (SwiftVRError, Cancelled) as error:  # after `stop`, which cancels the session, it is not the first one
            self._fail(error)
        except Exception as error:  # noqa: BLE001 (whatever it is, it must stop the other threads)
            self._fail(unexpected(error, name))

    def _fail(self, error: SwiftVRError | Cancelled) -> None:
        with self._lock:
            if self.error is None:
                self.error = error
        self._stop_queues()
        self._session.cancel()
        self.finished.set()

    def _do_read(self) -> None:
        self._to_restore.put(self._ended_by(self._read_items))

    def _do_restore(self) -> None:
        self._to_write.put(self._ended_by(self._restore_items))

    @staticmethod
    def _ended_by(part: Callable[[], None]) -> _End:
        try:
            part()
        except UnreadableInputError as error:
            return _End(error)
        return _End()

    def _read_items(self) -> None:
        for item in self._source:
            if isinstance(item, Picture):
                self._read += 1
                item = Picture(owned(self._session.fit(item.frame)), item.stamp)
            self._to_restore.put(item)

    def _restore_items(self) -> None:
        waiting: deque[Item] = deque()
        items = iter(self._to_restore)
        if self._part.cut is not None:
            self._session.begin_at(self._part.cut, self._lead(self._part.cut, items, waiting))
        for item in items:
            if isinstance(item, Picture):
                if item.stamp.new_scene:
                    self._emit(waiting, self._session.flush())
                waiting.append(item.without_pixels())  # only the stamp is still needed
                self._emit(waiting, self._session.feed(item.frame))
            elif waiting:
                waiting.append(item)
            else:
                self._to_write.put(item)
        if self._part.to_end:
            self._emit(waiting, self._session.flush())
            for item in waiting:
                self._to_write.put(item)
        else:
            self._emit(waiting, self._session.drain())
            self._session.reset()

    def _lead(self, cut: Cut, items: Iterator[Item], waiting: deque[Item]) -> Iterator[StreamFrame]:
        """The frames before a cut. Those whose restored frames come after it wait for them."""
        for number, item in zip(range(cut.lead, cut.frame), items, strict=False):
            if not isinstance(item, Picture):
                raise InternalError("a packet to copy came before a cut, expected pictures only")
            if number >= cut.emitted:
                waiting.append(item.without_pixels())
            yield item.frame

    def _emit(self, waiting: deque[Item], restored: Sequence[StreamFrame]) -> None:
        """Pass on restored frames with the stamps of their originals, and copied packets in their place."""
        if restored:
            self._pace.advance(len(restored), time.monotonic())
        for frame in restored:
            while not isinstance(item := waiting.popleft(), Picture):
                self._to_write.put(item)
            self._to_write.put(Picture(frame, item.stamp))

    def _do_write(self) -> None:
        for item in self._to_write:
            self._sink.write(item)
            self._written += isinstance(item, Picture)
        self._sink.commit()
        self._complete = True
        self.finished.set()
