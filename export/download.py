"""Downloads checkpoints: resumes, checks every digest, and puts a file in its place only when it is complete.

    DIR/reae.safetensors          complete, and its digest was right
    DIR/reae.safetensors.part     incomplete; the next download continues it

Without a directory, downloads go to a folder per commit below `HF_HOME`, and `refs/REVISION` says which commit a
revision was when it was last downloaded.
"""

from __future__ import annotations

import hashlib
import io
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from ..engines.bundle.checkpoints import HubRepository, find_checkpoint
from ..errors import CheckpointError, DownloadError, OutputError, cannot_import
from ..text import LineCallback, format_bytes, format_duration
from .hub import Listing, RemoteFile, download_folder, fetch, is_commit, list_files, shared_copy

if TYPE_CHECKING:
    from hashlib import _Hash

ProgressCallback = Callable[[int, int], None]
"""Receives the bytes that are here, and those of all files."""

PART = ".part"
_BLOCK = 1 << 20
_LINE_EVERY_S = 5.0
_SPARE_BYTES = 64 << 20


def obtain_checkpoint(given: str | Path, report: LineCallback = lambda _line: None) -> Path:
    """The directory of the checkpoint that a user named; downloads a repository unless it was downloaded before.

    report: gets lines about a download. Raises as `find_checkpoint` and `download_checkpoint` do.
    """
    found = find_checkpoint(given)
    return found if isinstance(found, Path) else _obtain(found, report)


def download_checkpoint(
    repository: HubRepository,
    directory: Path | None = None,
    report: LineCallback = lambda _line: None,
    progress: ProgressCallback = lambda _done, _total: None,
) -> Path:
    """Download a repository and return its directory. Files that are already there are checked, not downloaded.

    directory: None is a folder below `HF_HOME`, where `--checkpoint hf:...` finds it. Raises `OutputError` if the disk
    is too small or cannot be written, `CheckpointError` if the directory holds other files of these names, and
    `DownloadError` if the download breaks off or what arrived is damaged. What has arrived by then is kept. See also
    `list_files`.
    """
    listing = list_files(repository) if directory else _list_or_find(repository, report)
    return listing if isinstance(listing, Path) else _download_files(listing, directory, report, progress)


def _download_files(listing: Listing, directory: Path | None, report: LineCallback, progress: ProgressCallback) -> Path:
    root = directory if directory is not None else download_folder(listing.repository) / listing.commit
    total = sum(file.size for file in listing.files)
    report(f"{listing.repository} at {listing.commit[:12]}: {len(listing.files)} files, {format_bytes(total)}")
    report(f"licence: {listing.licence or 'not stated in the model card'}")
    with _writing(root), _locked(root, report):
        meter = _Meter(total, progress)
        wanted = [file for file in listing.files if not _is_here(root, file, meter)]
        _check_space(root, wanted)
        for file in wanted:
            _download_file(listing, file, root / file.name, meter)
        if directory is None:
            _remember(listing)
    return root


def foresee_download(given: str | Path, report: LineCallback = lambda _line: None) -> Path | str:
    """The directory of a checkpoint if it is here; otherwise what would be downloaded, in one line. Writes nothing.

    Raises as `obtain_checkpoint` does, also if the disk is too small.
    """
    found = find_checkpoint(given)
    if isinstance(found, Path):
        return found
    here = _copy_or_listing(found, report)
    if isinstance(here, Path):
        return here
    root = download_folder(here.repository) / here.commit
    wanted = [file for file in here.files if not (root / file.name).is_file()]
    missing = _check_space(root, wanted)
    kept = "" if missing == sum(file.size for file in here.files) else ", the rest is here"
    return f"{format_bytes(missing)} from {here.repository} at {here.commit[:12]} into {root}{kept}"


def progress_lines(report: LineCallback) -> ProgressCallback:
    """Progress for logs: a line every few seconds."""
    began = last = time.monotonic()
    first: int | None = None

    def progress(done: int, total: int) -> None:
        nonlocal last, first
        now = time.monotonic()
        first = done if first is None else first
        if now - last < _LINE_EVERY_S or done <= first:
            return
        last = now
        speed = (done - first) / (now - began)
        report(
            f"{format_bytes(done)} of {format_bytes(total)} ({done * 100 // total} %), {format_bytes(speed)}/s, "
            f"{format_duration((total - done) / speed)} to go"
        )

    return progress


def _obtain(repository: HubRepository, report: LineCallback) -> Path:
    """The copy of a repository on this machine; downloads it if there is none, or a newer commit."""
    found = _copy_or_listing(repository, report)
    return found if isinstance(found, Path) else _download_files(found, None, report, progress_lines(report))


def _copy_or_listing(repository: HubRepository, report: LineCallback) -> Path | Listing:
    """The copy of a repository on this machine; if there is none, or a newer commit, what to download."""
    if is_commit(repository.revision) and (copy := _local_copy(repository)):
        return copy
    listing = _list_or_find(repository, report)
    if isinstance(listing, Path):
        return listing
    return shared_copy(repository, listing.commit) or _complete_copy(repository, listing.commit) or listing


def _list_or_find(repository: HubRepository, report: LineCallback) -> Listing | Path:
    """What the hub has; if it cannot be reached, the copy on this machine."""
    try:
        return list_files(repository)
    except DownloadError:
        copy = _local_copy(repository)
        if copy is None:
            raise
        report(f"using the copy in {copy}, because the hub cannot be reached")
        return copy


def _local_copy(repository: HubRepository) -> Path | None:
    """The copy that the last download left here, whatever the hub has now."""
    with suppress(OSError, UnicodeError):
        commit = _reference(repository).read_text(encoding="ascii").strip()
        if is_commit(commit) and (copy := _complete_copy(repository, commit)):
            return copy
    return shared_copy(repository, None)


def _complete_copy(repository: HubRepository, commit: str) -> Path | None:
    """The folder of a commit if a download completed it."""
    folder = download_folder(repository)
    return folder / commit if _marker(folder, commit).is_file() and (folder / commit).is_dir() else None


def _remember(listing: Listing) -> None:
    """Note that a download is complete."""
    for place in (_reference(listing.repository), _marker(download_folder(listing.repository), listing.commit)):
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(listing.commit + "\n", encoding="ascii")


def _reference(repository: HubRepository) -> Path:
    return _marker(download_folder(repository), repository.revision or "main")


def _marker(folder: Path, revision: str) -> Path:
    return folder / "refs" / quote(revision, safe="")


def _download_file(listing: Listing, file: RemoteFile, place: Path, meter: _Meter) -> None:
    part = place.with_name(place.name + PART)
    place.parent.mkdir(parents=True, exist_ok=True)
    if part.is_file() and part.stat().st_size > file.size:
        part.unlink()
    with _Part(part, file, meter) as writing:
        if writing.tell() < file.size:
            fetch(listing, file, writing, writing.tell())
        arrived, expected = writing.digest(), _digest_of(file)
    if arrived != expected:
        part.unlink()
        raise DownloadError(
            f"{place}: what arrived is damaged (digest {arrived[:16]}..., expected {expected[:16]}...) and was "
            "deleted; run the same command again"
        )
    part.replace(place)


def _is_here(root: Path, file: RemoteFile, meter: _Meter) -> bool:
    """Whether a file is there and right. Counts it. Raises `CheckpointError` if another one has its name."""
    place = root / file.name
    if not place.exists():
        return False
    hashed = _new_hash(file)
    if place.is_file() and place.stat().st_size == file.size:
        with place.open("rb") as opened:
            while block := opened.read(_BLOCK):
                hashed.update(block)
                meter.add(len(block))
        if hashed.hexdigest() == _digest_of(file):
            return True
    raise CheckpointError(
        f"{place} exists and is not the file of this revision; delete it, or choose another directory with --to"
    )


def _check_space(root: Path, wanted: list[RemoteFile]) -> int:
    """The bytes still to be downloaded. Raises `OutputError` if they do not fit on the disk."""
    parts = (root / (file.name + PART) for file in wanted)
    missing = sum(file.size for file in wanted) - sum(part.stat().st_size for part in parts if part.is_file())
    place = next(folder for folder in (root, *root.absolute().parents) if folder.exists())
    free = shutil.disk_usage(place).free
    if missing > 0 and missing + _SPARE_BYTES > free:
        raise OutputError(
            f"{root}: {format_bytes(missing)} are still to be downloaded, but only {format_bytes(free)} are free; make "
            "room, or choose another disk with --to or HF_HOME"
        )
    return missing


class _Meter:
    """Adds up the bytes that are here."""

    def __init__(self, total: int, progress: ProgressCallback) -> None:
        self._done, self._total, self._progress = 0, total, progress

    def add(self, count: int) -> None:
        self._done += count
        self._progress(self._done, self._total)


class _Part(io.FileIO):
    """An incomplete file, which knows the digest of what it holds. Written at its end only."""

    def __init__(self, path: Path, file: RemoteFile, meter: _Meter) -> None:
        super().__init__(path, "ab+")
        self._file, self._meter, self._hash = file, meter, _new_hash(file)
        self._counted = 0
        self.seek(0)
        while block := self.read(_BLOCK):
            self._count(block)

    def write(self, data: Any) -> int:
        written = 0
        while written < len(data):  # a raw file may write less than it was given
            written += super().write(memoryview(data)[written:])
        self._count(data)
        return written

    def truncate(self, size: int | None = None) -> int:
        """Start over: the server does not resume."""
        self._meter.add(-self._counted)
        self._hash, self._counted = _new_hash(self._file), 0
        return super().truncate(size)

    def digest(self) -> str:
        return self._hash.hexdigest()

    def _count(self, data: bytes) -> None:
        self._hash.update(data)
        self._counted += len(data)
        self._meter.add(len(data))


def _new_hash(file: RemoteFile) -> _Hash:
    """SHA-256 of a large file; of a small one, git's name for it, which is all that the hub knows."""
    if file.sha256 is not None:
        return hashlib.sha256()
    return hashlib.sha1(b"blob %d\0" % file.size, usedforsecurity=False)


def _digest_of(file: RemoteFile) -> str:
    return file.sha256 or file.git_sha1 or ""


@contextmanager
def _writing(root: Path) -> Iterator[None]:
    """Create the directory. Turn what the disk raises in the block into `OutputError`."""
    try:
        root.mkdir(parents=True, exist_ok=True)
        yield
    except OSError as error:
        raise OutputError(
            f"{error.filename or root}: cannot be written ({error.strerror or error}); choose another directory with "
            "--to, or HF_HOME"
        ) from error


@contextmanager
def _locked(root: Path, report: LineCallback) -> Iterator[None]:
    """Hold the lock of a directory, so that no two processes append to the same file."""
    try:
        from filelock import FileLock, Timeout
    except ImportError as error:
        raise cannot_import(error, "filelock", "downloading", "hub") from error
    place = root / ".download.lock"
    lock = FileLock(place)
    try:
        lock.acquire(timeout=0.2)
    except Timeout:
        report(f"waiting for another process that downloads into {root}")
        lock.acquire()
    try:
        yield
    finally:
        lock.release()
        with suppress(OSError):
            place.unlink()
