"""The peak memory of this process, as psutil reports it."""

from __future__ import annotations

import threading
from typing import Any

_INTERVAL_S = 0.01
"""Short builds have short peaks; a sample takes some 20 microseconds."""


class PeakMemory:
    """The most resident memory that this process has had since the object was made. Close it to end its thread.

    Windows records the peak. Elsewhere a thread samples the resident memory a hundred times a second: `getrusage` would
    not do, since on Linux its figure for a child process begins with the parent's peak.
    """

    def __init__(self) -> None:
        self._process = _this_process()
        self._largest = 0
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="swiftvr-memory", daemon=True)
        if self._process is not None:
            self._thread.start()

    @property
    def nbytes(self) -> int | None:
        """Bytes; None if unknown."""
        if self._process is None:
            return None
        self._sample()
        return self._largest

    def close(self) -> None:
        """End the thread. A second call does nothing."""
        self._closed.set()
        if self._thread.is_alive():
            self._thread.join()

    def __enter__(self) -> PeakMemory:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _watch(self) -> None:
        self._sample()
        while not self._closed.wait(_INTERVAL_S):
            self._sample()

    def _sample(self) -> None:
        memory = self._process.memory_info()
        self._largest = max(self._largest, getattr(memory, "peak_wset", memory.rss))


def _this_process() -> Any:
    try:
        import psutil
    except ImportError:
        return None
    return psutil.Process()
