"""A bundle that is in use: it is not removed from the cache meanwhile, and the cache knows when it was used last.

Whoever runs a bundle holds a lease on it: a shared lock on its manifest where the system has such locks, and an open
file elsewhere (Windows renames no directory in which a file is open). Leases need no permission to write.
"""

from __future__ import annotations

import os
import sys
import time
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import IO

from .manifest import MANIFEST

if sys.platform != "win32":
    import fcntl

LOCK, USED = ".lock", ".used"
"""Files next to a bundle in the cache: held while it is built; touched when it is used."""

_DAY_S = 86400.0


class Lease:
    """Marks the bundle at `path` as used now, and as in use until `close`. Never fails: the bundle may be read-only."""

    def __init__(self, path: Path) -> None:
        self._file: IO[bytes] | None = None
        with suppress(OSError):
            self._file = (path / MANIFEST).open("rb")
            if sys.platform != "win32":
                fcntl.flock(self._file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        mark_used(path)

    def close(self) -> None:
        """A second call does nothing."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def __enter__(self) -> Lease:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


class FolderLease:
    """Marks a folder that this process fills, until `close` or the end of the process. Never fails."""

    def __init__(self, path: Path) -> None:
        self._number: int | None = None
        if sys.platform != "win32":
            with suppress(OSError):
                self._number = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
                fcntl.flock(self._number, fcntl.LOCK_SH | fcntl.LOCK_NB)

    def close(self) -> None:
        """A second call does nothing."""
        if self._number is not None:
            os.close(self._number)
            self._number = None


def is_abandoned(folder: Path) -> bool:
    """True if no process fills a folder for which a process held a `FolderLease`.

    Windows and file systems without locks cannot say; there, it is True a day after the folder's last change.
    """
    if sys.platform != "win32":
        with suppress(OSError):
            number = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | os.O_NOFOLLOW)
            try:
                fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return False
            else:
                return True
            finally:
                os.close(number)
    with suppress(OSError):
        newest = max(entry.lstat().st_mtime for entry in (folder, *folder.iterdir()))
        return not folder.is_symlink() and time.time() - newest > _DAY_S
    return False


def is_in_use(path: Path) -> bool:
    """True if a process holds a lease on the bundle at `path`. On Windows always False: there, a rename fails."""
    return is_locked(path / MANIFEST)


def is_locked(path: Path) -> bool:
    """True if another process, or another part of this one, holds a lock on the file. On Windows always False."""
    if sys.platform != "win32":
        try:
            with path.open("rb") as file:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        except OSError:
            return False
    return False


def mark_used(path: Path) -> None:
    """Note that the bundle at `path` is used now, if it lies in a cache that can be written."""
    if path.with_name(path.name + LOCK).exists():
        with suppress(OSError):
            marker = path.with_name(path.name + USED)
            marker.touch()
            os.utime(marker)


def last_used(path: Path) -> float:
    """When the bundle at `path` was used last, or else built, as `time.time()`; 0 if unknown."""
    for file in (path.with_name(path.name + USED), path / MANIFEST, path):
        with suppress(OSError):
            return file.stat().st_mtime
    return 0.0
