"""Whether a file may have changed, without reading it."""

from __future__ import annotations

import stat
from pathlib import Path

FileState = tuple[int, int]
"""Size in bytes, and when the content was last written, in nanoseconds."""


def state_of(path: Path) -> FileState | None:
    """The state of a file; None if there is none, or something else such as a pipe."""
    try:
        found = path.stat()
    except OSError:
        return None
    return (found.st_size, found.st_mtime_ns) if stat.S_ISREG(found.st_mode) else None
