"""Memory of this process and of this machine, as psutil reports it. None without psutil (extra `export`)."""

from __future__ import annotations

import threading
import time
from typing import Any

_INTERVAL_S = 0.1


class PeakMemory:
    """The most resident memory that this process has had since the object was made.

    Windows records the peak. Elsewhere a thread samples the resident memory ten times a second: `getrusage` would not
    do, since on Linux its figure for a child process begins with the parent's peak.
    """

    def __init__(self) -> None:
        self._process = _this_process()
        self._largest = 0
        if self._process is not None:
            threading.Thread(target=self._watch, name="swiftvr-memory", daemon=True).start()

    @property
    def nbytes(self) -> int | None:
        """Bytes; None if unknown."""
        if self._process is None:
            return None
        self._sample()
        return self._largest

    def _watch(self) -> None:
        while True:
            self._sample()
            time.sleep(_INTERVAL_S)

    def _sample(self) -> None:
        memory = self._process.memory_info()
        self._largest = max(self._largest, getattr(memory, "peak_wset", memory.rss))


def available_memory() -> int | None:
    """Bytes that a new process may take without pushing another one out of memory; None if unknown."""
    try:
        import psutil
    except ImportError:
        return None
    return int(psutil.virtual_memory().available)


def _this_process() -> Any:
    try:
        import psutil
    except ImportError:
        return None
    return psutil.Process()
