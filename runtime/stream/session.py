"""One stream through a bundle: push frames in, get as many restored frames out.

    session = restorer.session()
    for frame in source:                # uint8 [h, w, 3], RGB, all of one size
        for restored in session.feed(frame): ...
    for restored in session.flush(): ...

`feed` returns nothing most of the time and a whole chunk now and then: frames wait until a chunk is full, because the
transformer sees a chunk at once. The latency is therefore one chunk, plus three frames that the causal decoder lags,
plus the time that the chunk takes: a device that runs beside its caller works on one chunk while the next one is fed,
and `feed` returns it at the first call after it is done. At the latest it returns it when two more chunks are full.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from swiftvr_trt.engines.bundle.geometry import MAX_SIDE
from swiftvr_trt.engines.bundle.manifest import Manifest
from swiftvr_trt.errors import (
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
"""Chunks that may be on their way at once: one for each of the two sides of the frame buffers."""


@dataclass(frozen=True)
class _Running:
    """A chunk on its way, and where its frames will be."""

    submission: Submission
    frames: Frame


@dataclass
class _Stream:
    """What is known once the first frame has come: its size, the buffers for it, and how far the stream is.

    Counts tell what was submitted; what is still on its way is in `running`, oldest first.
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
    """A stream with its own buffers and state; sessions of one restorer do not touch each other.

    Not to be used from two threads at once, except for `cancel`.
    """

    def __init__(self, device: Device, manifest: Manifest) -> None:
        self._device = device
        self._manifest = manifest
        self._stream: _Stream | None = None
        self._cancelled = False
        self._closed = False

    def feed(self, frame: Frame) -> list[Frame]:
        """Push one frame, uint8 [h, w, 3]; returns the frames that are now ready, uint8 [H, W, 3], yours to keep.

        Raises `MediaError` for anything but a uint8 RGB frame of the size of the stream's first one, and `DeviceError`
        if the device fails.
        """
        stream = self._open(frame)
        stream.last = stream.frames_in[stream.phase.turn][stream.waiting]
        np.copyto(stream.last, frame)
        stream.waiting += 1
        stream.owed += 1
        stream.count += 1
        with _device_fails(Moment.MIDDLE):
            return self._advance(stream, ended=False)

    def flush(self) -> list[Frame]:
        """End the stream: returns every frame still owed. The next `feed` starts a new stream.

        Raises `DeviceError` if the device fails.
        """
        self._check_open()
        stream = self._stream  # `close` in another thread may take it away at any moment
        if stream is None:
            return []
        with _device_fails(Moment.MIDDLE):
            restored = self._advance(stream, ended=True)
            while stream.running:
                restored += self._collect(stream)
        self.reset()
        return restored

    def reset(self) -> None:
        """Forget the stream, frames not yet restored included; buffers stay for a next one of the same size."""
        stream = self._stream
        if stream is not None:
            stream.running.clear()  # nobody wants their frames, and what clears comes after them
            with _device_fails(Moment.MIDDLE):
                stream.workspace.record(clear_program(self._manifest)).replay()
            stream.phase, stream.first = Phase(), True
            stream.waiting = stream.owed = stream.count = 0
            stream.last, stream.broken = _NO_FRAME, False

    def cancel(self) -> None:
        """Make a `feed` or `flush` that is running in another thread raise `Cancelled` soon, and every later one."""
        self._cancelled = True
        stream = self._stream  # `close` in another thread may take it away at any moment
        if stream is not None:
            stream.workspace.cancel()

    def close(self) -> None:
        """Release the buffers. A second call does nothing."""
        if self._stream is not None:
            self._stream.workspace.close()
        self._stream, self._closed = None, True

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
            raise MisuseError("a stage of this stream has failed, so its state is lost; begin a new one with reset()")

    def _open(self, frame: Frame) -> _Stream:
        """The stream that `frame` belongs to, made for its size if it is the first."""
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
        with _device_fails(Moment.BEGIN):
            if stream is not None:
                self._stream = None  # should there be no memory for the new buffers, the old ones are gone all the same
                stream.workspace.close()
            workspace = self._device.workspace(buffers)
            frames_in, frames_out = (
                (workspace.host(paired(kind, 0)), workspace.host(paired(kind, 1)))
                for kind in (BufferKind.FRAMES_IN, BufferKind.FRAMES_OUT)
            )
        opened = _Stream(workspace, frame.shape, frames_in, frames_out, {})
        self._stream = opened
        if self._cancelled:  # looked at after the stream can be seen, so that no `cancel` falls between
            workspace.cancel()
        return opened

    def _advance(self, stream: _Stream, *, ended: bool) -> list[Frame]:
        """Submit the chunks that are complete; hand out those that are through."""
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
        stream.broken = True  # until the chunk is on its way: a stage that fails leaves half of the state advanced
        turn = stream.phase.turn
        # "The last frame" may be one of the chunk before; that lies in the other side and is still there.
        stream.frames_in[turn][chunk.frames : chunk.frames + chunk.repeats] = stream.last
        recording, after = self._recording(stream, chunk, stream.phase)
        submission = recording.submit()
        stream.running.append(_Running(submission, stream.frames_out[turn][chunk.skip : chunk.skip + chunk.emit]))
        stream.broken = False
        stream.phase, stream.first = after, False
        stream.waiting -= chunk.frames
        stream.owed -= chunk.emit
        if len(stream.running) == _IN_FLIGHT:  # the next frames go where those of the chunk before lie
            stream.running[0].submission.wait_uploaded()

    def _recording(self, stream: _Stream, chunk: Chunk, phase: Phase) -> tuple[Recording, Phase]:
        """The steps of a chunk, recorded when it is the first of its kind, and the phase after it.

        A MIDDLE chunk has its counterpart for the other turn recorded with it, so that the ones after the first find
        everything ready. A LAST chunk comes once in a stream, and in the next one is most likely another: none is kept.
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
        """Wait for the oldest chunk on its way; its frames, copied out of the buffer that will be used again."""
        running = stream.running.popleft()
        try:
            running.submission.wait()
        except BaseException:
            stream.broken = True
            raise
        return [frame.copy() for frame in running.frames]


@contextmanager
def _device_fails(moment: Moment) -> Iterator[None]:
    """Turn what the device raises within the block into a `DeviceError` of this moment.

    `Cancelled`, misuse, and an output that cannot be written (the trace) are not the device's doing and pass through.
    """
    try:
        yield
    except (Cancelled, MisuseError, OutputError):
        raise
    except DeviceError as error:
        error.moment = moment
        raise
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
