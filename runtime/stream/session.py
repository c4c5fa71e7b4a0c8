"""One stream through a bundle: frames go in, and as many restored frames come out.

    session = restorer.session()
    for frame in source:                # uint8 [h, w, 3], RGB, all of one size; or uint16, or planes of YUV
        for restored in session.feed(frame): ...
    for restored in session.flush(): ...

The transformer works on whole chunks, so `feed` mostly returns nothing, and now and then the frames of a chunk. The
latency is one chunk, plus three frames by which the causal decoder lags, plus the time that the chunk takes. A device
that runs asynchronously works on one chunk while the next one is fed; `feed` returns the frames at the first call after
the chunk is done, and at the latest when two more chunks are full.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

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
from .buffers import plan_buffers
from .cuts import Cut
from .device import Device
from .frames import FrameForm, StreamFrame, Surface, form_of, size_of
from .open_stream import FrameKind, OpenStream
from .shrink import is_much_larger, shrink

Frame = NDArray[np.uint8]
_F = TypeVar("_F", bound=StreamFrame)


class EndedBeforeCutError(MisuseError):
    """Fewer frames came than precede the cut at which a stream is continued."""


class Session:
    """A stream with its own buffers and state; sessions of one restorer are independent of each other.

    Use it from one thread at a time, except for `cancel`.
    """

    def __init__(
        self, device: Device, manifest: Manifest, give: FrameForm | None = None, *, surfaces: bool | None = None
    ) -> None:
        """give: the form of the restored frames. surfaces: whether they are. None: as the frames that come in."""
        self._device, self._manifest = device, manifest
        self._give, self._surfaces = give, surfaces
        self._stream: OpenStream | None = None
        self._cancelled = False
        self._closed = self._orphaned = False

    def feed(self, frame: _F) -> list[_F]:
        """Push one frame, uint8 RGB [h, w, 3]. Returns the frames that are ready, uint8 RGB [H, W, 3]; they are copies.

        Frames may also be uint16 RGB, `Planes`, or on a GPU `Surface`; what comes out has the same form, or that of the
        session. Raises `MediaError` if the frame has another type, or another size or form than the stream's first one,
        and `DeviceError` if the device fails.
        """
        stream = self._open(frame)
        with _device_errors(Moment.MIDDLE):
            stream.put(frame)
            return stream.advance(ended=False)

    def fit(self, frame: StreamFrame) -> StreamFrame:
        """The frame, shrunk to the size of the output if it has more than four times its pixels, to save memory.

        Call it for all frames of a stream or for none. The restored frames differ by what rounding to 8 bits changes.
        """
        recipe = self._manifest.recipe
        larger = not recipe.parity and is_much_larger(size_of(frame), (recipe.height, recipe.width))
        if isinstance(frame, Surface) or not larger:
            return frame
        return shrink(frame, recipe.width, recipe.height)

    def begin_at(self, cut: Cut, frames: Iterable[StreamFrame]) -> None:
        """Begin a stream at a cut (`Restorer.cut`). The next `feed` takes frame `cut.frame` of the whole stream.

        frames: the frames from `cut.lead` up to `cut.frame`, as `feed` takes them. Frames that come out from then on
        are those of the uninterrupted stream, to the byte, from number `cut.emitted` on. Raises `MisuseError` if a
        stream is under way or the number of frames is wrong, otherwise as `feed`.
        """
        self._check_open()
        if self._stream is not None and self._stream.count:
            raise MisuseError("a stream is under way in this session; end it with flush() or reset() first")
        number = cut.lead
        for number, frame in zip(range(cut.lead + 1, cut.frame + 1), frames, strict=False):
            stream = self._open(frame)
            if number <= cut.settled:
                with _device_errors(Moment.MIDDLE):
                    stream.encode_only(frame, ended=number == cut.settled)
            else:
                self.feed(frame)  # what comes out was handed out before the cut
        if number != cut.frame:
            self.reset()
            raise EndedBeforeCutError(
                f"{number - cut.lead} frames precede the cut, expected {cut.frame - cut.lead}: numbers {cut.lead} to "
                f"{cut.frame - 1} of the stream"
            )
        self.drain()

    def drain(self) -> list[Any]:
        """Wait for every complete chunk and return its frames. The stream goes on. Raises `DeviceError`."""
        self._check_open()
        stream = self._stream  # `close` in another thread may set it to None at any moment
        if stream is None:
            return []
        with _device_errors(Moment.MIDDLE):
            return stream.drain()

    def flush(self) -> list[Any]:
        """End the stream: returns every frame still owed. The next `feed` starts a new stream.

        Raises `DeviceError` if the device fails.
        """
        self._check_open()
        stream = self._stream  # `close` in another thread may set it to None at any moment
        if stream is None:
            return []
        with _device_errors(Moment.MIDDLE):
            restored = stream.advance(ended=True) + stream.drain()
        self.reset()
        return restored

    def reset(self) -> None:
        """Drop the stream and its unfinished frames. The buffers stay for a next stream of the same size."""
        stream = self._stream
        if stream is not None:
            with _device_errors(Moment.MIDDLE):
                stream.restart()

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

    def end_with_restorer(self) -> None:
        """The restorer is closed: from now on, `feed` and `flush` say so. Call `close` to release the buffers."""
        self._orphaned = True

    def _check_open(self) -> None:
        if self._closed:
            raise MisuseError("this session is closed; open another one with Restorer.session()")
        if self._cancelled:
            raise Cancelled
        if self._orphaned:
            raise MisuseError("the restorer of this session is closed; open the bundle again with Restorer.open()")
        if self._stream is not None and self._stream.broken:
            raise MisuseError("a stage of this stream has failed, so its state is lost; start a new one with reset()")

    def _open(self, frame: StreamFrame) -> OpenStream:
        """The stream that `frame` belongs to; its first frame opens it."""
        self._check_open()
        kind, stream = self._kind_of(frame), self._stream
        if stream is not None and kind == stream.kind:
            return stream
        if stream is not None and stream.count:
            raise MediaError(stream.kind.refusal(stream.count, kind))
        buffers = plan_buffers(self._manifest, *kind.size, kind.forms, overlap=self._device.overlap)
        with _device_errors(Moment.BEGIN):
            if stream is not None:
                self._stream = None  # first, since the new buffers may not fit into memory
                stream.workspace.close()
            opened = OpenStream(self._manifest, kind, self._device.workspace(buffers), overlap=self._device.overlap)
        self._stream = opened
        # Checked only now: `cancel` and `close` in another thread set their flags before they look for the stream, so
        # either they find it or this thread sees the flags.
        if self._cancelled:
            opened.workspace.cancel()
        if self._closed:
            self.close()
            self._check_open()
        return opened

    def _kind_of(self, frame: StreamFrame) -> FrameKind:
        """How a stream takes and gives its frames that begins with this one, or goes on with it.

        A stream of surfaces takes frames on the host, too, which are copied to the GPU.
        """
        form, size, stream = form_of(frame), size_of(frame), self._stream
        goes_on = stream is not None and stream.count > 0 and stream.kind.takes_surfaces
        takes = isinstance(frame, Surface) or goes_on
        give, gives = self._give or form, takes if self._surfaces is None else self._surfaces
        if (takes or gives) and not self._device.surfaces:
            raise MisuseError("surfaces are frames in the memory of a GPU, but this bundle runs on the CPU: use arrays")
        if gives and not give.format.interleaved:
            raise MisuseError(f"surfaces were asked for in {give}, expected nv12 or p010")
        return FrameKind(size, form, give, takes, gives)


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
