"""One stream through a bundle: frames go in, and as many restored frames come out.

    session = restorer.session()
    for frame in source:                # uint8 [h, w, 3], RGB, all of one size
        for restored in session.feed(frame): ...
    for restored in session.flush(): ...

The transformer works on whole chunks, so `feed` mostly returns nothing, and now and then the frames of a chunk. The
latency is one chunk, plus three frames by which the causal decoder lags, plus the time that the chunk takes. A device
that runs asynchronously works on one chunk while the next one is fed; `feed` returns the frames at the first call after
the chunk is done, and at the latest when two more chunks are full.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from ...engines.bundle.geometry import MAX_SIDE
from ...engines.bundle.manifest import Manifest
from ...errors import (
    Cancelled,
    DeviceError,
    MediaError,
    MisuseError,
    Moment,
    OutputError,
    StageError,
    message_of,
)
from .chunks import Chunk, Kind, next_chunk
from .device import Device, Recording, Submission, Workspace
from .program import BufferKind, Phase, chunk_program, clear_program, paired, plan_buffers

Frame = NDArray[np.uint8]
_Pair = tuple[Frame, Frame]

_NO_FRAME: Frame = np.empty((0, 0, 3), np.uint8)
_IN_FLIGHT = 2
"""Chunks that may be submitted and not yet collected: one for each side of the frame buffers."""


@dataclass(frozen=True)
class _Running:
    """A submitted chunk, and where its restored frames will be."""

    submission: Submission
    frames: Frame


@dataclass
class _Stream:
    """A stream whose first frame has arrived: its buffers, and how far it is.

    shape: of every frame. running: submitted chunks, oldest first. phase: of the next chunk. first: it is the first.
    waiting: frames fed and not yet submitted. owed: frames fed that no submitted chunk hands out. count: frames fed.
    last: the last of them, in its buffer. broken: a stage failed, so the state is lost.
    """

    workspace: Workspace
    shape: tuple[int, ...]
    frames_in: _Pair
    frames_out: _Pair
    recordings: dict[tuple[Chunk, Phase, bool], tuple[Recording, Phase]]
    running: deque[_Running] = field(default_factory=deque)
    phase: Phase = field(default_factory=Phase)
    first: bool = True
    waiting: int = 0
    owed: int = 0
    count: int = 0
    last: Frame = field(default_factory=lambda: _NO_FRAME)
    broken: bool = False


class Session:
    """A stream with its own buffers and state; sessions of one restorer are independent of each other.

    Use it from one thread at a time, except for `cancel`.
    """

    def __init__(self, device: Device, manifest: Manifest) -> None:
        self._device = device
        self._manifest = manifest
        self._stream: _Stream | None = None
        self._cancelled = False
        self._closed = False

    def feed(self, frame: Frame) -> list[Frame]:
        """Push one frame, uint8 RGB [h, w, 3]. Returns the frames that are ready, uint8 RGB [H, W, 3]; they are copies.

        Raises `MediaError` if the frame has another type, or another size than the stream's first one, and
        `DeviceError` if the device fails.
        """
        stream = self._open(frame)
        stream.last = stream.frames_in[stream.phase.turn][stream.waiting]
        np.copyto(stream.last, frame)
        stream.waiting += 1
        stream.owed += 1
        stream.count += 1
        with _device_errors(Moment.MIDDLE):
            return self._advance(stream, ended=False)

    def flush(self) -> list[Frame]:
        """End the stream: returns every frame still owed. The next `feed` starts a new stream.

        Raises `DeviceError` if the device fails.
        """
        self._check_open()
        stream = self._stream  # `close` in another thread may set it to None at any moment
        if stream is None:
            return []
        with _device_errors(Moment.MIDDLE):
            restored = self._advance(stream, ended=True)
            while stream.running:
                restored += self._collect(stream)
        self.reset()
        return restored

    def reset(self) -> None:
        """Drop the stream and its unfinished frames. The buffers stay for a next stream of the same size."""
        stream = self._stream
        if stream is not None:
            stream.running.clear()  # their frames are dropped; clearing runs after them
            with _device_errors(Moment.MIDDLE):
                stream.workspace.record(clear_program(self._manifest)).replay()
            stream.phase, stream.first = Phase(), True
            stream.waiting = stream.owed = stream.count = 0
            stream.last, stream.broken = _NO_FRAME, False

    def cancel(self) -> None:
        """Make the running `feed` or `flush` in another thread raise `Cancelled` soon, and every later call at once."""
        self._cancelled = True
        stream = self._stream  # `close` in another thread may set it to None at any moment
        if stream is not None:
            stream.workspace.cancel()

    def close(self) -> None:
        """Release the buffers. A second call does nothing."""
        self._closed = True  # first: a `feed` in another thread may be opening a stream, and then releases it
        stream, self._stream = self._stream, None
        if stream is not None:
            stream.workspace.close()

    def __enter__(self) -> Session:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _check_open(self) -> None:
        if self._closed:
            raise MisuseError("this session is closed; open another one with Restorer.session()")
        if self._cancelled:
            raise Cancelled
        if self._stream is not None and self._stream.broken:
            raise MisuseError("a stage of this stream has failed, so its state is lost; start a new one with reset()")

    def _open(self, frame: Frame) -> _Stream:
        """The stream that `frame` belongs to; its first frame opens it."""
        self._check_open()
        stream = self._stream
        if stream is not None and getattr(frame, "shape", None) == stream.shape and frame.dtype == np.uint8:
            return stream
        _check_frame(frame)
        if stream is not None and stream.count:
            raise MediaError(
                f"frame {stream.count} is {frame.shape[1]}x{frame.shape[0]}, the stream began with "
                f"{stream.shape[1]}x{stream.shape[0]}; end it with flush() before feeding another size"
            )
        buffers = plan_buffers(self._manifest, frame.shape[0], frame.shape[1])
        with _device_errors(Moment.BEGIN):
            if stream is not None:
                self._stream = None  # first, since the new buffers may not fit into memory
                stream.workspace.close()
            workspace = self._device.workspace(buffers)
            frames_in, frames_out = (
                (workspace.host(paired(kind, 0)), workspace.host(paired(kind, 1)))
                for kind in (BufferKind.FRAMES_IN, BufferKind.FRAMES_OUT)
            )
        opened = _Stream(workspace, frame.shape, frames_in, frames_out, {})
        self._stream = opened
        # Checked only now: `cancel` and `close` in another thread set their flags before they look for the stream, so
        # either they find it or this thread sees the flags.
        if self._cancelled:
            workspace.cancel()
        if self._closed:
            self.close()
            self._check_open()
        return opened

    def _advance(self, stream: _Stream, *, ended: bool) -> list[Frame]:
        """Submit the chunks that are complete, and return the frames of those that are done."""
        recipe = self._manifest.recipe
        restored: list[Frame] = []
        while chunk := next_chunk(
            recipe.clip_len,
            first=stream.first,
            waiting=stream.waiting,
            owed=stream.owed,
            ended=ended,
            parity=recipe.parity,
        ):
            if len(stream.running) == _IN_FLIGHT:
                restored += self._collect(stream)
            self._submit(stream, chunk)
        while stream.running and stream.running[0].submission.done():
            restored += self._collect(stream)
        return restored

    def _submit(self, stream: _Stream, chunk: Chunk) -> None:
        stream.broken = True  # until the chunk is submitted: a failed stage leaves the state half advanced
        turn = stream.phase.turn
        # The last frame may belong to the chunk before; then it is still in the buffer of the other side.
        stream.frames_in[turn][chunk.frames : chunk.frames + chunk.repeats] = stream.last
        recording, after = self._recording(stream, chunk, stream.phase)
        submission = recording.submit()
        stream.running.append(_Running(submission, stream.frames_out[turn][chunk.skip : chunk.skip + chunk.emit]))
        stream.broken = False
        stream.phase, stream.first = after, False
        stream.waiting -= chunk.frames
        stream.owed -= chunk.emit
        if len(stream.running) == _IN_FLIGHT:  # the next frames overwrite those of the chunk before
            stream.running[0].submission.wait_uploaded()

    def _recording(self, stream: _Stream, chunk: Chunk, phase: Phase) -> tuple[Recording, Phase]:
        """The recorded steps of a chunk, and the phase after it.

        Recordings are kept for later chunks of the same shape. The first MIDDLE chunk records the one of the other side
        too, so that later chunks record nothing. A LAST chunk comes once per stream and differs between streams, so its
        recording is not kept.
        """
        key = (chunk, phase, stream.first)
        if key not in stream.recordings:
            steps, after = chunk_program(self._manifest, chunk, phase, first=stream.first)
            if chunk.kind is Kind.LAST:
                return stream.workspace.record(steps, once=True), after
            stream.recordings[key] = (stream.workspace.record(steps), after)
            if chunk.kind is Kind.MIDDLE:
                self._recording(stream, chunk, after)
        return stream.recordings[key]

    def _collect(self, stream: _Stream) -> list[Frame]:
        """Wait for the oldest submitted chunk. Returns copies of its frames, since the buffer will be reused."""
        running = stream.running.popleft()
        try:
            running.submission.wait()
        except BaseException:
            stream.broken = True
            raise
        return [frame.copy() for frame in running.frames]


@contextmanager
def _device_errors(moment: Moment) -> Iterator[None]:
    """Turn what the device raises in this block into a `DeviceError` of this moment.

    `Cancelled`, `MisuseError` and `OutputError` (the trace) do not come from the device and pass through.
    """
    try:
        yield
    except (Cancelled, MisuseError, OutputError):
        raise
    except DeviceError as error:
        if error.moment is moment:
            raise
        raise type(error)(str(error), moment) from error  # a stage can fail in its first run, before the stream
    except Exception as error:
        kind = DeviceError if moment is Moment.BEGIN else StageError
        raise kind(message_of(error)) from error


def _check_frame(frame: Frame) -> None:
    if not isinstance(frame, np.ndarray) or frame.dtype != np.uint8:
        found = f"{frame.dtype} array" if isinstance(frame, np.ndarray) else type(frame).__name__
        raise MediaError(f"a frame is a {found}, expected a NumPy uint8 array [height, width, 3] in RGB")
    if frame.ndim != 3 or frame.shape[2] != 3 or not all(1 <= side <= MAX_SIDE for side in frame.shape[:2]):
        raise MediaError(
            f"a frame has the shape {list(frame.shape)}, expected [height, width, 3] with sides from 1 to {MAX_SIDE}"
        )
