"""Outputs that appear complete or not at all: written under a temporary name and renamed at the end."""

from __future__ import annotations

import errno
import glob
import hashlib
import io
import itertools
import os
import secrets
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from ... import leaving
from ...errors import MediaError, MisuseError, NameTakenError, OutputError

_BUFFER = 1 << 20
_STALE_S = 3600.0
"""A temporary file that has not changed for so long belongs to a run that was killed."""


def temporary_path(path: Path, directory: Path) -> Path:
    """An unused name in `directory` for what will become `path`, with the same suffix."""
    return directory / f"{_prefix(path)}{secrets.token_hex(4)}.part{path.suffix}"


def leftovers(path: Path, directory: Path) -> Iterator[Path]:
    """Everything in `directory` that is named like `temporary_path(path, directory)`."""
    return directory.glob(f"{glob.escape(_prefix(path))}{'[0-9a-f]' * 8}.part{glob.escape(path.suffix)}")


def sweep_leftovers(path: Path, directory: Path, *, alone: bool = False) -> None:
    """Remove what killed runs left of `path`.

    Keeps what has changed within the last hour, since its run may be alive, unless the caller is `alone`: certain that
    no other run writes `path`.
    """
    for left in leftovers(path, directory):
        with suppress(OSError):
            if alone or time.time() - left.stat().st_mtime > _STALE_S:
                if left.is_dir():
                    shutil.rmtree(left, ignore_errors=True)
                else:
                    left.unlink()


def _prefix(path: Path) -> str:
    """Different for different names. 40 characters fit into a file name in any encoding."""
    stem = path.stem
    if len(stem) > 40:
        stem = f"{stem[:31]}~{hashlib.sha256(os.fsencode(stem)).hexdigest()[:8]}"
    return f".{stem}."


def check_parent(path: Path) -> None:
    """Raise `OutputError` if the directory of `path`, or of what it links to, does not exist."""
    folder = _folder_of(path)
    if not folder.is_dir():
        raise OutputError(f"cannot write {path}: the directory {folder} does not exist; create it first")


def _folder_of(path: Path) -> Path:
    """Where the file will lie: as it was typed, or where a link leads."""
    return Path(os.path.realpath(path)).parent if path.is_symlink() else path.parent


def is_same_file(one: Path, other: Path) -> bool:
    """Whether two names lead to one file, which need not exist."""
    if os.path.realpath(one) == os.path.realpath(other):
        return True
    return one.exists() and other.exists() and one.samefile(other)


def check_overwrite(path: Path, overwrite: bool) -> None:
    """Raise `MediaError` if `path` is a directory or a link to itself, or exists and must not be overwritten."""
    if path.is_dir():
        raise MediaError(f"the output {path} is a directory, expected a file: add a file name")
    if Path(os.path.realpath(path)).is_symlink():
        raise MediaError(f"the output {path} is a link that leads to itself: choose another name, or remove it")
    if path.exists() and not overwrite:
        raise MediaError(f"the output {path} already exists: choose another name, or overwrite it with -y")


_REMEDIES = {
    errno.ENOSPC: "free some space or choose another place",
    errno.EDQUOT: "free some space or choose another place",
    errno.EFBIG: "this disk holds no larger files: choose another place",
    errno.ENAMETOOLONG: "choose a shorter name",
    errno.ENOENT: "somebody removed its folder, or the file; try again",
    errno.EIO: "check the disk, or choose another place",
}


def check_writable(path: Path) -> None:
    """Raise `OutputError` if `path` cannot be created where it would lie. Its folder need not exist yet."""
    place = path if path.is_dir() else next(folder for folder in path.absolute().parents if folder.exists())
    if not place.is_dir():
        raise output_error(path, OSError(errno.ENOTDIR, os.strerror(errno.ENOTDIR)))
    if not os.access(place, os.W_OK | os.X_OK):
        raise output_error(path, OSError(errno.EACCES, os.strerror(errno.EACCES)))


def output_error(path: Path, error: OSError, *, creating: bool = False) -> OutputError:
    """The error for `path`, with the system's reason and what to do about it. creating: it was not there yet."""
    folder = _folder_of(path)
    if not folder.is_dir():
        return OutputError(f"cannot write {path}: the folder {folder} has vanished; create it and try again")
    if creating and error.errno == errno.ENOENT:
        return OutputError(f"cannot write {path}: the folder {folder} takes no new files; choose another place")
    reason = (error.strerror or str(error)).lower()
    remedy = _REMEDIES.get(error.errno or 0, "choose another place")
    return OutputError(f"cannot write {path}: {reason}; {remedy}")


def is_taken(path: Path, overwrite: bool) -> bool:
    """Whether a file cannot get the name `path` because of what has it. A link to nothing leads to a free name."""
    path = Path(os.path.realpath(path))
    return path.is_dir() or (os.path.lexists(path) and not overwrite)


def free_name(path: Path) -> Path:
    """The first of `film (2).mp4`, `film (3).mp4`, ... that is free."""
    return next(name for name in _other_names(path) if not os.path.lexists(name))


def _other_names(path: Path) -> Iterator[Path]:
    return (path.with_name(f"{path.stem} ({number}){path.suffix}") for number in itertools.count(2))


def _move_to_free_name(part: Path, names: Iterator[Path]) -> Path:
    """Rename `part` to the first of `names` that is free, and return it. Replaces nothing, not even in a race."""
    for name in names:
        with suppress(FileExistsError):
            _rename_to_new(part, name)
            return name
    raise AssertionError("there is always another name")


def _rename_to_new(part: Path, name: Path) -> None:
    """Raises `FileExistsError` if the name is taken."""
    if os.name != "nt" and part.is_file():  # on Windows, a rename replaces nothing
        try:
            os.link(part, name)
        except FileExistsError:
            raise
        except OSError:  # this file system has no links, or there is something worse, which the rename will say
            pass
        else:
            part.unlink()
            return
    if os.path.lexists(name):
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(name))
    part.rename(name)


@contextmanager
def explain_write_errors(path: Path, *, creating: bool = False) -> Iterator[None]:
    """Turns an `OSError` into an `OutputError` that names `path`. creating: see `output_error`."""
    try:
        yield
    except OSError as error:
        raise output_error(path, error, creating=creating) from error


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
        with explain_write_errors(target, creating=True), leaving.creating(self._path, self._abandon) as self._release:
            self._file: BinaryIO = self._path.open("xb", buffering=_BUFFER)

    @property
    def written(self) -> Path:
        """The temporary file, with all that was written so far."""
        with explain_write_errors(self.target):
            self._file.flush()
            self._path.stat()  # somebody may have removed it
        return self._path

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
        """Flush everything to the disk and give the file its final name. Raises `OutputError` if that fails.

        Raises `NameTakenError` if the name was taken meanwhile; the file then lies beside it.
        """
        with explain_write_errors(self.target):
            self._file.flush()
            os.fsync(self._file.fileno())
            self._file.close()
            place = self._place
            if self._overwrite and not is_taken(place, overwrite=True):
                self._path.replace(place)
            else:
                place = _move_to_free_name(self._path, itertools.chain([place], _other_names(place)))
        self._release()
        if place != self._place:
            raise NameTakenError(self.target, place)

    def discard(self) -> None:
        """Remove the file. Does nothing after `commit()`."""
        with suppress(OSError):
            self._file.close()
        with suppress(OSError):
            self._path.unlink(missing_ok=True)
        self._release()

    def _abandon(self) -> None:
        """Remove the file while another thread may be stuck in a write."""
        if os.name == "nt":  # Windows removes no open file
            with suppress(OSError):
                self._file.close()
        self._path.unlink(missing_ok=True)


class TrialFile(io.BytesIO):
    """Stands in for a `PartFile` when nothing may be written: makes its checks, and keeps a header in memory."""

    error: OSError | None = None

    def __init__(self, target: Path, overwrite: bool) -> None:
        super().__init__()
        check_overwrite(target, overwrite)
        check_writable(target)
        self.target = target

    @property
    def written(self) -> Path:
        raise _nothing_to_keep(self.target)

    def commit(self) -> None:
        raise _nothing_to_keep(self.target)

    def discard(self) -> None:
        self.close()


class PartFolder:
    """The temporary folder of an output of many files. It lies next to the final folder, or inside it if it exists.

    Inside, because an existing folder may be a mount point: it cannot be replaced, and files from outside cannot be
    renamed into it.
    """

    def __init__(self, target: Path, overwrite: bool) -> None:
        self.target = target
        self._overwrite = overwrite
        self._place = Path(os.path.realpath(target))
        self._create()

    def _create(self) -> None:
        check_parent(self.target)
        self._check()
        directory = self._place if self._place.is_dir() else self._place.parent
        sweep_leftovers(self._place, directory)
        self.path = temporary_path(self._place, directory)
        with explain_write_errors(self.target, creating=True), leaving.creating(self.path) as self._release:
            self.path.mkdir()

    def _check(self) -> None:
        if self._place.exists() and not self._place.is_dir():
            raise MediaError(f"the output {self.target} is a file, expected a folder: choose another name")
        with explain_write_errors(self.target):
            if self._has_files() and not self._overwrite:
                raise MediaError(
                    f"the output folder {self.target} is not empty: choose another, or overwrite its files with -y"
                )

    def _has_files(self) -> bool:
        files = set(self._place.iterdir()) if self._place.is_dir() else set()
        return bool(files - set(leftovers(self._place, self._place)))

    def commit(self) -> None:
        """Give the folder its final name. If that folder exists, move the files into it one by one.

        Raises `NameTakenError` if the folder was filled, or replaced by a file, meanwhile; this one then lies beside
        it, or in it if it existed before.
        """
        with explain_write_errors(self.target):
            files = sorted(self.path.iterdir())
            kept_as = None
            if not os.path.lexists(self._place):
                self.path.replace(self._place)
            elif self._is_blocked(files):
                other = self.path.parent / self._place.name
                kept_as = _move_to_free_name(self.path, _other_names(other))
            else:
                for file in files:
                    file.replace(self._place / file.name)
                self.path.rmdir()
        self._release()
        if kept_as is not None:
            raise NameTakenError(self.target, kept_as)

    def _is_blocked(self, files: Sequence[Path]) -> bool:
        if not self._place.is_dir() or any((self._place / file.name).is_dir() for file in files):
            return True
        return self._has_files() and not self._overwrite

    def discard(self) -> None:
        """Remove the temporary folder. Does nothing after `commit()`."""
        shutil.rmtree(self.path, ignore_errors=True)
        self._release()


class TrialFolder(PartFolder):
    """Stands in for a `PartFolder` when nothing may be written: makes its checks only."""

    def _create(self) -> None:
        self._check()
        check_writable(self.target)

    def commit(self) -> None:
        raise _nothing_to_keep(self.target)

    def discard(self) -> None: ...


def _nothing_to_keep(target: Path) -> MisuseError:
    return MisuseError(f"{target} was opened for a trial, expected SinkOptions(trial=False) to write it")
