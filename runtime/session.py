"""One stream through a bundle: push frames in, get as many restored frames out.

    session = restorer.session()
    for frame in source:                # uint8 [h, w, 3], RGB, all of one size
        for restored in session.feed(frame): ...
    for restored in session.flush(): ...

`feed` returns nothing most of the time and a whole chunk now and then: frames wait until a chunk is full, because the
transformer sees a chunk at once. The latency is therefore one chunk, plus three frames that the causal decoder lags.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from ..engines.geometry import MAX_SIDE
from ..engines.manifest import Manifest
from ..errors import Cancelled, MediaError, MisuseError
from .chunks import Chunk, next_chunk
from .device import Device, Recording, Workspace
from .program import Phase, chunk_program, clear_program, plan_buffers

Frame = NDArray[np.uint8]


@dataclass
class _Stream:
    """What is known once the first frame has come: its size, the buffers for it, and how far the stream is."""

    workspace: Workspace
    shape: tuple[int, ...]
    frames_in: Frame
    frames_out: Frame
    recordings: dict[tuple[Chunk, Phase, bool], tuple[Recording, Phase]]
    phase: Phase = field(default_factory=Phase)
    first: bool = True
    waiting: int = 0
    owed: int = 0
    count: int = 0
    last: int = -1
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

        Raises `MediaError` for anything but a uint8 RGB frame of the size of the stream's first one.
        """
        stream = self._open(frame)
        stream.frames_in[stream.waiting] = frame
        stream.last = stream.waiting
        stream.waiting += 1
        stream.owed += 1
        stream.count += 1
        return self._advance(stream, ended=False)

    def flush(self) -> list[Frame]:
        """End the stream: returns every frame still owed. The next `feed` starts a new stream."""
        self._check_open()
        if self._stream is None:
            return []
        restored = self._advance(self._stream, ended=True)
        self.reset()
        return restored

    def reset(self) -> None:
        """Forget the stream, frames not yet restored included; buffers stay for a next one of the same size."""
        stream = self._stream
        if stream is not None:
            stream.workspace.record(clear_program(self._manifest)).replay()
            stream.phase, stream.first = Phase(), True
            stream.waiting = stream.owed = stream.count = 0
            stream.last, stream.broken = -1, False

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
        if stream is not None:
            self._stream = None  # should there be no memory for the new buffers, the old ones are gone all the same
            stream.workspace.close()
        workspace = self._device.workspace(plan_buffers(self._manifest, frame.shape[0], frame.shape[1]))
        opened = _Stream(workspace, frame.shape, workspace.host("frames_in"), workspace.host("frames_out"), {})
        self._stream = opened
        if self._cancelled:  # looked at after the stream can be seen, so that no `cancel` falls between
            workspace.cancel()
        return opened

    def _advance(self, stream: _Stream, *, ended: bool) -> list[Frame]:
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
            self._run(stream, chunk)
            restored += [frame.copy() for frame in stream.frames_out[chunk.skip : chunk.skip + chunk.emit]]
        return restored

    def _run(self, stream: _Stream, chunk: Chunk) -> None:
        stream.broken = True  # until the chunk is through: a stage that fails leaves half of the state advanced
        # Frames of the chunk before still lie in the buffer, so "the last frame" is there even if this chunk has none.
        stream.frames_in[chunk.frames : chunk.frames + chunk.repeats] = stream.frames_in[stream.last]
        key = (chunk, stream.phase, stream.first)
        if key not in stream.recordings:
            steps, after = chunk_program(self._manifest, chunk, stream.phase, first=stream.first)
            stream.recordings[key] = (stream.workspace.record(steps), after)
        recording, after = stream.recordings[key]
        recording.replay()
        stream.broken = False
        stream.phase, stream.first = after, False
        stream.waiting -= chunk.frames
        stream.owed -= chunk.emit


def _check_frame(frame: Frame) -> None:
    if not isinstance(frame, np.ndarray) or frame.dtype != np.uint8:
        found = f"{frame.dtype} array" if isinstance(frame, np.ndarray) else type(frame).__name__
        raise MediaError(f"a frame is a {found}, expected a NumPy uint8 array [height, width, 3] in RGB")
    if frame.ndim != 3 or frame.shape[2] != 3 or not all(1 <= side <= MAX_SIDE for side in frame.shape[:2]):
        raise MediaError(
            f"a frame has the shape {list(frame.shape)}, expected [height, width, 3] with sides from 1 to {MAX_SIDE}"
        )
