"""Where the frames of a stream wait for their chunk, and are read from afterwards.

Frames that are arrays wait in memory of the host, which the chunk uploads and downloads. Surfaces lie on the device
already: they are copied into the chunk's own memory there, and out of it. So are planes on the host that come between
surfaces, as where a decoder changes its mind.
"""

from __future__ import annotations

from typing import Any, Protocol, cast

import numpy as np
from numpy.typing import NDArray

from .buffers import LAST_FRAME, BufferKind, View, paired
from .device import SurfaceWorkspace, Workspace
from .frames import AnyFrame, FrameForm, Planes, StreamFrame, Surface, codes, data_of, frame_of

_NO_FRAME = np.empty((0, 0, 3), np.uint8)


class Entrance(Protocol):
    """Takes the frames of both turns.

    synchronous: the chunk before last must be over, and collected, before a frame of the next one is put.
    """

    synchronous: bool

    def put(self, turn: int, place: int, frame: StreamFrame) -> None:
        """Take a frame."""

    def repeat(self, turn: int, place: int, count: int) -> None:
        """Take the last frame `count` times more. Its owner may have reused its memory by now."""


class Exit(Protocol):
    """Hands out restored frames of both turns."""

    def frames(self, turn: int, place: int, count: int) -> list[Any]:
        """Copies of the frames of a chunk that is over."""


class HostEntrance:
    """For arrays."""

    synchronous = False

    def __init__(self, workspace: Workspace, form: FrameForm) -> None:
        self._places = _both_turns(workspace, BufferKind.FRAMES_IN, form)
        self._last: NDArray[Any] = _NO_FRAME

    def put(self, turn: int, place: int, frame: StreamFrame) -> None:
        self._last = self._places[turn][place]
        np.copyto(self._last, data_of(cast(AnyFrame, frame)))

    def repeat(self, turn: int, place: int, count: int) -> None:
        # The last frame may belong to the chunk before; then it is still in the buffer of the other side.
        self._places[turn][place : place + count] = self._last


class HostExit:
    """For arrays."""

    def __init__(self, workspace: Workspace, form: FrameForm) -> None:
        self._places, self._form = _both_turns(workspace, BufferKind.FRAMES_OUT, form), form

    def frames(self, turn: int, place: int, count: int) -> list[Any]:
        return [frame_of(frame.copy(), self._form) for frame in self._places[turn][place : place + count]]


class SurfaceEntrance:
    """For surfaces, and planes among them. Each is copied twice: the results of its chunk may overwrite one copy."""

    synchronous = True

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = cast(SurfaceWorkspace, workspace)

    def put(self, turn: int, place: int, frame: StreamFrame) -> None:
        place_in_chunk = View(paired(BufferKind.FRAMES_IN, turn), place, 1)
        self._workspace.copy_in(cast(Surface | Planes, frame), (place_in_chunk, LAST_FRAME))

    def repeat(self, turn: int, place: int, count: int) -> None:
        """The program of the chunk copies `LAST_FRAME`."""


class SurfaceExit:
    """For surfaces."""

    def __init__(self, workspace: Workspace, form: FrameForm) -> None:
        self._workspace, self._form = cast(SurfaceWorkspace, workspace), form

    def frames(self, turn: int, place: int, count: int) -> list[Any]:
        buffer = paired(BufferKind.FRAMES_OUT, turn)
        return [self._workspace.copy_out(View(buffer, place + number, 1), self._form) for number in range(count)]


def _both_turns(workspace: Workspace, kind: BufferKind, form: FrameForm) -> tuple[NDArray[Any], NDArray[Any]]:
    first, second = (codes(workspace.host(paired(kind, turn)), form.format) for turn in (0, 1))
    return first, second
