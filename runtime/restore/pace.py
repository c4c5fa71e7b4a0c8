"""How long a run will still take, judged by whole chunks."""

from __future__ import annotations

import threading
from collections import deque

_CHUNKS = 8
"""The speed is that of the last so many chunks."""
_JITTER = 0.05
"""An estimate that grows by a smaller share than this is not believed: nobody wants to see the time to go rise."""


class Pace:
    """Estimates the time to go. Thread-safe.

    Frames come in chunks, so a speed per frame would fall between two chunks and jump with each. The first chunk also
    takes longer than the others.
    """

    def __init__(self, total: int | None, now: float) -> None:
        """total: frames expected; None if unknown. now: when the run begins, in seconds of any clock."""
        self._total = total
        self._chunks: deque[tuple[float, int]] = deque([(now, 0)], maxlen=_CHUNKS + 1)
        self._end: float | None = None
        self._lock = threading.Lock()

    def advance(self, frames: int, now: float) -> None:
        """A chunk with this many frames is done."""
        with self._lock:
            if len(self._chunks) == 2 and self._chunks[0][1] == 0:
                self._chunks.popleft()  # from the second chunk on, the first counts no more
            done = self._chunks[-1][1] + frames
            self._chunks.append((now, done))
            if self._total is None:
                return
            began, before = self._chunks[0]
            expected = max(self._total - done, 0) * (now - began) / max(done - before, 1)
            kept = None if self._end is None else self._end - now
            if kept is None or not 0 <= kept <= expected <= kept * (1 + _JITTER):
                self._end = now + expected

    def remaining(self, now: float) -> float | None:
        """Seconds to go; None while unknown."""
        with self._lock:
            return None if self._end is None else max(self._end - now, 0.0)
