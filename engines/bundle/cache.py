"""The cache of bundles that were built without `-o`: one directory per recipe, built once and found again.

    <cache>/bundles/<recipe>/           a bundle
    <cache>/bundles/<recipe>.lock       held during its build; a second process waits, then uses the finished bundle
    <cache>/bundles/<recipe>.used       its time is that of the last use
    <cache>/digests.json                digests of checkpoints by path, size and time, so that 20 GB are hashed once

`<cache>` is the platform's cache directory of the user, or a temporary one if there is no home that can be written.
Everything in it can be rebuilt, so it may be deleted.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import shutil
import stat
import sys
import tempfile
from collections.abc import Callable
from contextlib import AbstractContextManager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from ...errors import BundleError, CheckpointError, OutputError, cannot_import
from ...outside import Door, read_json
from ...text import LineCallback
from .files import PARTIAL, Bundle, read_manifest, remove_partial, sha256
from .geometry import Resolution
from .lease import LOCK, mark_used
from .manifest import MANIFEST, Recipe

if TYPE_CHECKING:
    from filelock import FileLock

_CHECKPOINT_FILES = ("*.safetensors", "transformer/*.safetensors", "transformer/*.json")
_DIGESTS = "digests.json"
_DIGESTS_DOOR = Door("list of digests", CheckpointError, "it will be made again", max_bytes=1 << 24)
_WITHOUT_FOLDER = ("*.safetensors", "*.json")


class BundleCache:
    """The cache in the directory `root`, by default the platform's."""

    def __init__(self, root: str | Path | None = None) -> None:
        self.root = Path(root) if root is not None else default_root()

    @property
    def bundles(self) -> Path:
        return self.root / "bundles"

    def path(self, recipe: Recipe) -> Path:
        """Where the bundle of a recipe lies, or will lie."""
        parts = (recipe.checkpoint[:16], recipe.resolution, f"c{recipe.clip_len}", recipe.precision, recipe.target)
        special = [f"autoencoder_{recipe.autoencoder}"] if recipe.autoencoder else []
        special += (["parity"] if recipe.parity else []) + [f"no_{name}" for name in recipe.without]
        return self.bundles / "-".join([*map(str, parts), *special])

    def find(self, recipe: Recipe) -> Bundle | None:
        """The bundle of a recipe, with all files checked; None if it is missing, damaged, outdated, or of another."""
        try:
            bundle = Bundle.open(self.path(recipe))
        except BundleError:
            return None
        return bundle if bundle.manifest.recipe == recipe and bundle.manifest.current else None

    def search(self, *, resolution: Resolution | None = None, checkpoint: str | None = None) -> list[Path]:
        """Paths of all matching bundles that are not outdated, the newest first. Only their manifests are checked."""
        found: list[tuple[float, Path]] = []
        for manifest in self.bundles.glob(f"*/{MANIFEST}"):
            if PARTIAL in manifest.parent.name:
                continue
            try:
                found_there = read_manifest(manifest.parent)
                built = manifest.stat().st_mtime
            except (BundleError, OSError):
                continue
            recipe = found_there.recipe
            fits = resolution in (None, recipe.resolution) and checkpoint in (None, recipe.checkpoint)
            if fits and found_there.current:
                found.append((built, manifest.parent))
        return [path for _, path in sorted(found, reverse=True)]

    def get_or_build(
        self, recipe: Recipe, build: Callable[[Path], Bundle], report: LineCallback = lambda _line: None
    ) -> tuple[Bundle, bool]:
        """The bundle of a recipe, and whether it had to be built.

        Of all processes that ask at the same time, one calls `build` with the path; the others wait for it, after a
        line to `report`. Raises `OutputError` if the cache cannot be written.
        """
        found = self.find(recipe)
        path = self.path(recipe)
        if found is not None:
            mark_used(path)
            return found, False
        lock = path.with_name(path.name + LOCK)
        try:
            self.bundles.mkdir(parents=True, exist_ok=True)
            lock.touch()
        except OSError as error:
            raise OutputError(
                f"{lock}: the cache cannot be written ({error.strerror}); choose another directory with --cache"
            ) from error
        with _lock(lock, report):
            found = self.find(recipe)
            if found is not None:
                return found, False
            remove_partial(path)
            shutil.rmtree(path, ignore_errors=True)  # damaged; without a manifest it would count as a foreign directory
            return build(path), True

    def check_writable(self) -> None:
        """Raise `OutputError` if no bundle can be written here. Creates nothing."""
        if not _can_write(self.bundles):
            raise OutputError(f"{self.bundles}: the cache cannot be written; choose another directory with --cache")

    def checkpoint_digest(self, checkpoint: str | Path, *, remember: bool = True) -> str:
        """Sha256 over the names, sizes and contents of a checkpoint's files, remembered until one of them changes.

        remember: False writes nothing. Raises `CheckpointError` if the directory or its files are missing or cannot be
        read.
        """
        root, files = Path(checkpoint).resolve(), checkpoint_files(checkpoint)
        stamp = [[str(path.relative_to(root)), path.stat().st_size, path.stat().st_mtime_ns] for path in files]
        known = self._known_digests()
        entry = known.get(str(root))
        if isinstance(entry, dict) and entry.get("stamp") == stamp and isinstance(entry.get("digest"), str):
            return str(entry["digest"])
        digest = _digest(root, files)
        if remember:
            known[str(root)] = {"stamp": stamp, "digest": digest}
            self._remember(known)
        return digest

    def _known_digests(self) -> dict[str, object]:
        """Digests that this user noted; nothing if the file is damaged, a link, or open to others."""
        place = self.root / _DIGESTS
        if place.is_symlink() or not _is_ours(place):
            return {}
        try:
            return read_json(place, _DIGESTS_DOOR).content()
        except CheckpointError:
            return {}

    def _remember(self, known: dict[str, object]) -> None:
        """Best effort: if this fails, the next run hashes again. Never writes through a link in a shared cache."""
        partial = self.root / f"{_DIGESTS}.{secrets.token_hex(8)}"
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            partial.touch(mode=0o644, exist_ok=False)  # whatever the umask: a list that others can write is not read
            partial.write_text(json.dumps(known, indent=1), encoding="utf-8")
            os.replace(partial, self.root / _DIGESTS)
        except OSError:
            with suppress(OSError):
                partial.unlink()


def checkpoint_files(checkpoint: str | Path) -> list[Path]:
    """The files of a checkpoint that decide what is built from it. Raises `CheckpointError` if there are none."""
    root = Path(checkpoint).resolve()
    patterns = _CHECKPOINT_FILES if (root / "transformer").is_dir() else _WITHOUT_FOLDER
    if not root.is_dir():
        raise CheckpointError(f"{checkpoint}: no such directory; expected a SwiftVR checkpoint directory")
    files = sorted({path for pattern in patterns for path in root.glob(pattern) if path.is_file()})
    if not files:
        raise CheckpointError(f"{checkpoint}: no safetensors files; expected a SwiftVR checkpoint directory")
    return files


def _is_ours(path: Path) -> bool:
    """Whether only this user or root can have written a file. True where files have no such owner."""
    if sys.platform == "win32":
        return True
    try:
        found = path.lstat()
    except OSError:
        return False
    owned = os.getuid() == 0 or found.st_uid in (0, os.getuid())
    return owned and not found.st_mode & stat.S_IWOTH


def open_to_others(root: Path, bundle: Path) -> str | None:
    """Why somebody else can have changed a bundle in the cache `root`, in a few words; None if nobody can.

    Groups are trusted: their members were chosen. Where files have no such owner, nobody can tell: None.
    """
    if sys.platform == "win32":
        return None
    for place in (root, bundle.parent, bundle, *sorted(bundle.iterdir())):
        try:
            found = place.stat()
        except OSError:  # removed meanwhile
            continue
        if found.st_uid not in (0, os.getuid()):
            return f"{place} belongs to another user (number {found.st_uid})"
        sticky_folder = stat.S_ISDIR(found.st_mode) and found.st_mode & stat.S_ISVTX
        if found.st_mode & stat.S_IWOTH and not sticky_folder:
            return f"everyone can write {place}"
    return None


def default_root() -> Path:
    """The platform's cache directory of this package.

    Without a home that can be written, as in many containers, a directory of this user in the system's temporary one.
    """
    import platformdirs

    with suppress(RuntimeError):  # newer versions raise it where there is no home; older ones leave the "~" as it is
        usual = Path(platformdirs.user_cache_dir("swiftvr-trt", appauthor=False))
        if usual.is_absolute() and _can_write(usual):
            return usual
    return _temporary_root()


def _can_write(path: Path) -> bool:
    """True if `path` can be written, or created. Creates nothing."""
    existing = next((place for place in (path, *path.parents) if place.exists()), None)
    return existing is not None and existing.is_dir() and os.access(existing, os.W_OK | os.X_OK)


def _temporary_root() -> Path:
    """Raises `OutputError` if another user made this directory: bundles from there could be anything."""
    user = os.getuid() if hasattr(os, "getuid") else "user"
    root = Path(tempfile.gettempdir()) / f"swiftvr-trt-{user}"
    with suppress(FileNotFoundError):
        if hasattr(os, "getuid") and root.lstat().st_uid != os.getuid():
            raise OutputError(f"the cache {root} belongs to another user: remove it, or choose another with --cache")
    return root


def _digest(root: Path, files: list[Path]) -> str:
    total = hashlib.sha256()
    for path in files:
        try:
            total.update(f"{path.relative_to(root).as_posix()} {path.stat().st_size} {sha256(path)}\n".encode())
        except OSError as error:
            raise CheckpointError(f"{path}: cannot be read ({error.strerror or error})") from error
    return total.hexdigest()


def _lock(path: Path, report: LineCallback) -> AbstractContextManager[object]:
    """Take the lock; report if another process holds it."""
    lock = try_lock(path, 0.2)
    if lock is not None:
        return lock
    report("waiting for another process that is building this bundle")
    return _file_lock(path).acquire()


def try_lock(path: Path, timeout_s: float = 0.0) -> AbstractContextManager[object] | None:
    """Take the lock file of a bundle, which is released at the end of the context; None if another process holds it.

    Raises `MissingPackageError` without filelock, `OutputError` if the cache cannot be written.
    """
    lock = _file_lock(path)
    try:
        return lock.acquire(timeout=timeout_s)
    except TimeoutError:  # the base of filelock's own
        return None
    except OSError as error:
        raise OutputError(f"{path}: cannot be written ({error.strerror or error})") from error


def _file_lock(path: Path) -> FileLock:
    try:
        from filelock import FileLock
    except ImportError as error:
        raise cannot_import(error, "filelock", "changing the cache of bundles", "export") from error
    return FileLock(path)
