"""Restores pictures that no bundle fits, tile by tile: every tile is a stream of its own, and their frames are blended.

    with streams_of(restorer, tiling)(form) as stream:  # for a tiling of one tile, a `Session`
        pictures = stream.feed(frame)

A chunk of all tiles is in memory at once: the buffers of every stream, and the restored tiles until the last of them
is there.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import Any

from ...engines.bundle.geometry import Resolution
from ...engines.bundle.manifest import Manifest
from ..stream.buffers import Forms, in_host_memory, place_bytes, plan_buffers
from ..stream.cuts import Cut
from ..stream.frames import RGB, FrameForm, size_of
from ..stream.shrink import is_much_larger, shrink
from ..stream.tiles import Tiling
from .pipeline import RestoringStream, StreamOpener
from .restorer import Restorer


class TiledSession:
    """A stream of pictures in tiles. Frames are arrays [h, w, 3], uint8 or uint16."""

    def __init__(self, restorer: Restorer, tiling: Tiling) -> None:
        self._tiling = tiling
        self._sessions = [restorer.session() for _ in tiling.tiles]
        self._waiting: list[deque[Any]] = [deque() for _ in tiling.tiles]

    def feed(self, frame: Any) -> list[Any]:
        """Push one frame. Returns the pictures that are ready."""
        for session, waiting, part in zip(self._sessions, self._waiting, self._tiling.parts(frame), strict=True):
            waiting += session.feed(part)
        return self._blended()

    def fit(self, frame: Any) -> Any:
        """The frame, shrunk to the size of the output if it is much larger."""
        size = self._tiling.size
        larger = is_much_larger(size_of(frame), (size.height, size.width))
        return shrink(frame, size.width, size.height) if larger else frame

    def begin_at(self, cut: Cut, frames: Iterable[Any]) -> None:
        """Begin in the middle, as `Session.begin_at` does."""
        parts = [tuple(self._tiling.parts(frame)) for frame in frames]
        for number, session in enumerate(self._sessions):
            session.begin_at(cut, (each[number] for each in parts))

    def drain(self) -> list[Any]:
        """Wait for every complete chunk and return its pictures."""
        for session, waiting in zip(self._sessions, self._waiting, strict=True):
            waiting += session.drain()
        return self._blended()

    def flush(self) -> list[Any]:
        """End the stream: returns every picture still owed."""
        for session, waiting in zip(self._sessions, self._waiting, strict=True):
            waiting += session.flush()
        return self._blended()

    def reset(self) -> None:
        """Drop the stream and its unfinished pictures."""
        for session, waiting in zip(self._sessions, self._waiting, strict=True):
            session.reset()
            waiting.clear()

    def cancel(self) -> None:
        """Make the running call in another thread raise `Cancelled` soon."""
        for session in self._sessions:
            session.cancel()

    def close(self) -> None:
        """Release the buffers."""
        for session in self._sessions:
            session.close()

    def __enter__(self) -> TiledSession:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _blended(self) -> list[Any]:
        pictures = []
        while all(self._waiting):
            pictures.append(self._tiling.blend([waiting.popleft() for waiting in self._waiting]))
        return pictures


def streams_of(restorer: Restorer, tiling: Tiling) -> StreamOpener:
    """What opens a stream of such pictures. Tiles are blended in RGB, on the host."""

    def opened(give: FrameForm, /, *, surfaces: bool = False) -> RestoringStream:
        if tiling.is_whole:
            return restorer.session(give, surfaces=surfaces and restorer.surfaces)
        return TiledSession(restorer, tiling)

    return opened


def tiled_bytes(tiling: Tiling, manifest: Manifest, sides: tuple[int, int], form: FrameForm = RGB) -> int:
    """Memory for the frames of an input, at least: the buffers of all tiles, and a chunk of restored ones.

    sides: its height and width. form: of its frames, in RGB.
    """
    height, width = shrunk(tiling.size, *sides)
    buffers = plan_buffers(manifest, *tiling.part_size(height, width), Forms(form.format, form.format))
    stream = sum(place_bytes(in_host_memory(buffers)).values())  # a GPU needs more
    return len(tiling.tiles) * stream + blended_bytes(tiling, manifest, form)


def blended_bytes(tiling: Tiling, manifest: Manifest, form: FrameForm = RGB) -> int:
    """Memory of the host for a chunk of restored tiles, and for the picture that they become; 0 for whole pictures."""
    if tiling.is_whole:
        return 0
    size, tile = tiling.size, tiling.tile
    codes = (manifest.recipe.clip_len + 4) * len(tiling.tiles) * tile.width * tile.height * 3
    return codes * (1 + form.format.wide) + 4 * 3 * size.width * size.height


def shrunk(size: Resolution, height: int, width: int) -> tuple[int, int]:
    """Height and width of the frames that are buffered for an output of this size: larger ones may be shrunk first."""
    return min(height, size.height), min(width, size.width)
