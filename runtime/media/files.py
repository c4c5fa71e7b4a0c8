"""Outputs that appear complete or not at all: a temporary name beside the final one, moved at the end."""

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

from swiftvr_trt.errors import MediaError, OutputError

_BUFFER = 1 << 20
_STALE_S = 3600.0


def temporary(path: Path, directory: Path) -> Path:
    """A name in `directory` that nobody uses, for what is to become `path`; with the same suffix."""
    return directory / f"{_prefix(path)}{secrets.token_hex(4)}.part{path.suffix}"


def leftovers(path: Path, directory: Path) -> Iterator[Path]:
    """Everything in `directory` that has such a name."""
    return directory.glob(f"{glob.escape(_prefix(path))}*.part{glob.escape(path.suffix)}")


def sweep_leftovers(path: Path, directory: Path) -> None:
    """Remove what killed runs have left of `path`: a run that lives writes more often than once in an hour."""
    for left in leftovers(path, directory):
        with suppress(OSError):
            if time.time() - left.stat().st_mtime > _STALE_S:
                if left.is_dir():
                    shutil.rmtree(left, ignore_errors=True)
                else:
                    left.unlink()


def _prefix(path: Path) -> str:
    return f".{path.stem[:40]}."  # 40 characters fit into a name whatever their encoding


def check_parent(path: Path) -> None:
    """`OutputError` if the directory that `path` shall lie in does not exist."""
    if not path.absolute().parent.is_dir():
        raise OutputError(f"cannot write {path}: the directory {path.parent} does not exist; create it first")


def check_free(path: Path, overwrite: bool) -> None:
    """`MediaError` if the file `path` exists and must not be replaced."""
    if path.is_dir():
        raise MediaError(f"the output {path} is a directory, expected the name of a file: give one")
    if path.exists() and not overwrite:
        raise MediaError(f"the output {path} exists already: choose another name, or allow it to be replaced with -y")


def output_error(path: Path, error: OSError) -> OutputError:
    """What the system said when `path` could not be written, in one line."""
    reason = (error.strerror or str(error)).lower()
    return OutputError(f"cannot write {path}: {reason}; make room or choose another place, nothing was left behind")


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turns `OSError` into `OutputError` for `path`."""
    try:
        yield
    except OSError as error:
        raise output_error(path, error) from error


class PartFile:
    """The temporary file behind an output. FFmpeg writes through it, so that the system's own errors come through.

    (FFmpeg closes its own files without looking whether that worked.) After a failed write `error` holds the reason.
    """

    def __init__(self, target: Path, overwrite: bool) -> None:
        check_parent(target)
        check_free(target, overwrite)
        self.target = target
        self.error: OSError | None = None
        self._overwrite = overwrite
        self._place = Path(os.path.realpath(target))  # a link stays one, and what it names is written
        sweep_leftovers(self._place, self._place.parent)
        self._path = temporary(self._place, self._place.parent)
        with writing(target):
            self._file: BinaryIO = self._path.open("xb", buffering=_BUFFER)

    @property
    def closed(self) -> bool:
        """Asked by PyAV, which writes no trailer into a closed file."""
        return self._file.closed

    def write(self, data: bytes) -> int:
        with self._noted():
            return self._store(data)

    def _store(self, data: bytes) -> int:
        return self._file.write(data)

    def seek(self, offset: int, whence: int = 0) -> int:
        with self._noted():
            return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()

    @contextmanager
    def _noted(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            self.error = self.error or error
            raise

    def commit(self) -> None:
        """Push everything to the disk and give the file its name."""
        with writing(self.target):
            self._file.flush()
            os.fsync(self._file.fileno())
            self._file.close()
            check_free(self.target, self._overwrite)  # somebody else may have come first
            self._path.replace(self._place)

    def discard(self) -> None:
        """Remove the file. Does nothing after `commit()`."""
        with suppress(OSError):
            self._file.close()
        with suppress(OSError):
            self._path.unlink(missing_ok=True)


class PartFolder:
    """The temporary folder behind an output of many files: beside the final one, or in it if that is there already.

    (A folder that exists may be where another disk is mounted, which nothing beside it could be moved to or replace.)
    """

    def __init__(self, target: Path, overwrite: bool) -> None:
        check_parent(target)
        self.target = target
        self._overwrite = overwrite
        self._place = Path(os.path.realpath(target))
        self._check()
        directory = self._place if self._place.is_dir() else self._place.parent
        sweep_leftovers(self._place, directory)
        self.path = temporary(self._place, directory)
        with writing(target):
            self.path.mkdir()

    def _check(self) -> None:
        if self._place.exists() and not self._place.is_dir():
            raise MediaError(f"the output {self.target} is a file, expected a folder: choose another name")
        with writing(self.target):
            files = set(self._place.iterdir()) if self._place.is_dir() else set()
        if files - set(leftovers(self._place, self._place)) and not self._overwrite:
            raise MediaError(
                f"the output folder {self.target} holds files: choose another, or allow them to be overwritten with -y"
            )

    def commit(self) -> None:
        """Give the folder its name; where that folder is there already, move the files into it one by one."""
        self._check()
        with writing(self.target):
            if not self._place.exists():
                self.path.replace(self._place)
                return
            for file in sorted(self.path.iterdir()):
                file.replace(self._place / file.name)
            self.path.rmdir()

    def discard(self) -> None:
        """Remove the temporary folder. Does nothing after `commit()`."""
        shutil.rmtree(self.path, ignore_errors=True)
