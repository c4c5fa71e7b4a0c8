"""Outputs that appear complete or not at all: written under a temporary name and renamed at the end."""

from __future__ import annotations

import glob
import os
import secrets
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from ...errors import MediaError, OutputError

_BUFFER = 1 << 20
_STALE_S = 3600.0
"""A temporary file that has not changed for so long belongs to a run that was killed."""


def temporary_path(path: Path, directory: Path) -> Path:
    """An unused name in `directory` for what will become `path`, with the same suffix."""
    return directory / f"{_prefix(path)}{secrets.token_hex(4)}.part{path.suffix}"


def leftovers(path: Path, directory: Path) -> Iterator[Path]:
    """Everything in `directory` that is named like `temporary_path(path, directory)`."""
    return directory.glob(f"{glob.escape(_prefix(path))}*.part{glob.escape(path.suffix)}")


def sweep_leftovers(path: Path, directory: Path) -> None:
    """Remove what killed runs left of `path`. Keeps what has changed within the last hour: its run may be alive."""
    for left in leftovers(path, directory):
        with suppress(OSError):
            if time.time() - left.stat().st_mtime > _STALE_S:
                if left.is_dir():
                    shutil.rmtree(left, ignore_errors=True)
                else:
                    left.unlink()


def _prefix(path: Path) -> str:
    return f".{path.stem[:40]}."  # 40 characters fit into a file name in any encoding


def check_parent(path: Path) -> None:
    """Raise `OutputError` if the directory of `path` does not exist."""
    if not path.absolute().parent.is_dir():
        raise OutputError(f"cannot write {path}: the directory {path.parent} does not exist; create it first")


def check_overwrite(path: Path, overwrite: bool) -> None:
    """Raise `MediaError` if `path` is a directory, or exists and must not be overwritten."""
    if path.is_dir():
        raise MediaError(f"the output {path} is a directory, expected a file: add a file name")
    if path.exists() and not overwrite:
        raise MediaError(f"the output {path} already exists: choose another name, or overwrite it with -y")


def output_error(path: Path, error: OSError) -> OutputError:
    """The error for `path`, with the system's reason."""
    reason = (error.strerror or str(error)).lower()
    return OutputError(f"cannot write {path}: {reason}; nothing was kept, free some space or choose another place")


@contextmanager
def explain_write_errors(path: Path) -> Iterator[None]:
    """Turns an `OSError` into an `OutputError` that names `path`."""
    try:
        yield
    except OSError as error:
        raise output_error(path, error) from error


class PartFile:
    """The temporary file of an output.

    FFmpeg writes through this object, because it ignores errors when it closes a file of its own. `error` is the first
    error of a write or a seek; None if there was none.
    """

    def __init__(self, target: Path, overwrite: bool) -> None:
        check_parent(target)
        check_overwrite(target, overwrite)
        self.target = target
        self.error: OSError | None = None
        self._overwrite = overwrite
        self._place = Path(os.path.realpath(target))  # if it is a link, replace what it points to
        sweep_leftovers(self._place, self._place.parent)
        self._path = temporary_path(self._place, self._place.parent)
        with explain_write_errors(target):
            self._file: BinaryIO = self._path.open("xb", buffering=_BUFFER)

    @property
    def closed(self) -> bool:
        """PyAV asks this, and writes no trailer into a closed file."""
        return self._file.closed

    def write(self, data: bytes) -> int:
        with self._remember_error():
            return self._store(data)

    def _store(self, data: bytes) -> int:
        return self._file.write(data)

    def seek(self, offset: int, whence: int = 0) -> int:
        with self._remember_error():
            return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()

    @contextmanager
    def _remember_error(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            self.error = self.error or error
            raise

    def commit(self) -> None:
        """Flush everything to the disk and give the file its final name. Raises `OutputError` if that fails."""
        with explain_write_errors(self.target):
            self._file.flush()
            os.fsync(self._file.fileno())
            self._file.close()
            check_overwrite(self.target, self._overwrite)  # it may have been created meanwhile
            self._path.replace(self._place)

    def discard(self) -> None:
        """Remove the file. Does nothing after `commit()`."""
        with suppress(OSError):
            self._file.close()
        with suppress(OSError):
            self._path.unlink(missing_ok=True)


class PartFolder:
    """The temporary folder of an output of many files. It lies next to the final folder, or inside it if it exists.

    Inside, because an existing folder may be a mount point: it cannot be replaced, and files from outside cannot be
    renamed into it.
    """

    def __init__(self, target: Path, overwrite: bool) -> None:
        check_parent(target)
        self.target = target
        self._overwrite = overwrite
        self._place = Path(os.path.realpath(target))
        self._check()
        directory = self._place if self._place.is_dir() else self._place.parent
        sweep_leftovers(self._place, directory)
        self.path = temporary_path(self._place, directory)
        with explain_write_errors(target):
            self.path.mkdir()

    def _check(self) -> None:
        if self._place.exists() and not self._place.is_dir():
            raise MediaError(f"the output {self.target} is a file, expected a folder: choose another name")
        with explain_write_errors(self.target):
            files = set(self._place.iterdir()) if self._place.is_dir() else set()
        if files - set(leftovers(self._place, self._place)) and not self._overwrite:
            raise MediaError(
                f"the output folder {self.target} is not empty: choose another, or overwrite its files with -y"
            )

    def commit(self) -> None:
        """Give the folder its final name. If that folder exists, move the files into it one by one."""
        self._check()
        with explain_write_errors(self.target):
            if not self._place.exists():
                self.path.replace(self._place)
                return
            for file in sorted(self.path.iterdir()):
                file.replace(self._place / file.name)
            self.path.rmdir()

    def discard(self) -> None:
        """Remove the temporary folder. Does nothing after `commit()`."""
        shutil.rmtree(self.path, ignore_errors=True)
