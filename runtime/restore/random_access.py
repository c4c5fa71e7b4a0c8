"""Restored frames by their number, in any order, as editors and frame servers ask for them.

Frames that are asked for in order go through one stream. A jump begins a stream at the chunk that holds the frame, from
the frames before it that it needs (`Restorer.cut`). So every frame is that of the uninterrupted stream, to the byte.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable

from ...errors import MisuseError
from ..stream.cuts import Cut, chunk_of
from ..stream.session import Frame
from .restorer import Restorer

_CHUNKS_KEPT = 3
"""Chunks of restored frames that are kept for those who ask a little out of order."""


class RandomAccess:
    """The restored frames of a video that gives its frames by number. Thread-safe: one call works at a time."""

    def __init__(self, restorer: Restorer, source: Callable[[int], Frame], count: int) -> None:
        """source: a frame by its number, uint8 [h, w, 3] RGB, all of one size. count: how many there are."""
        self._restorer, self._source, self._count = restorer, source, count
        self._session = restorer.session()
        self._kept: OrderedDict[int, Frame] = OrderedDict()
        self._most = _CHUNKS_KEPT * (restorer.manifest.recipe.clip_len + 4)
        self._fed = self._out = 0
        self._is_sound = True  # False from an error on: what the stream was fed is unknown, so it begins anew
        self._lock = threading.Lock()

    def frame(self, number: int) -> Frame:
        """Restored frame `number`, uint8 [H, W, 3] RGB. Raises `MisuseError` if there is none, or as `Session.feed`."""
        if not 0 <= number < self._count:
            raise MisuseError(f"frame {number} was asked for, expected 0 to {self._count - 1}")
        with self._lock:
            if number not in self._kept:
                self._go_to(number)
                while number not in self._kept:
                    self._advance()
            return self._kept[number]

    def close(self) -> None:
        """Release the buffers."""
        self._session.close()

    def _go_to(self, number: int) -> None:
        """Have the stream continue before a frame, in the cheapest way."""
        cut = self._cut_for(number)
        if self._is_sound and self._out <= number and cut.lead <= self._fed:  # a jump takes as many frames, or more
            return
        self._is_sound = False
        self._session.reset()
        self._session.begin_at(cut, map(self._source, range(cut.lead, cut.frame)))
        self._fed, self._out, self._is_sound = cut.frame, cut.emitted, True

    def _cut_for(self, number: int) -> Cut:
        """The last place where a stream can be continued to give this frame."""
        chunk = chunk_of(self._restorer.manifest, number) + 1
        while chunk and ((cut := self._restorer.cut(chunk)).emitted > number or cut.frame > self._count):
            chunk -= 1
        return self._restorer.cut(chunk)

    def _advance(self) -> None:
        """Take one more frame; at the end of the video, all that is owed."""
        frame = None if self._fed == self._count else self._source(self._fed)
        self._is_sound = False
        restored = self._session.flush() if frame is None else self._session.feed(frame)
        self._is_sound = True
        self._fed += frame is not None
        for frame in restored:
            self._kept[self._out] = frame
            self._out += 1
        while len(self._kept) > self._most:
            self._kept.popitem(last=False)
