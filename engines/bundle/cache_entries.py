"""What lies in the cache of bundles, what of it to remove, and how. Nothing that is not ours is ever touched.

Ours are directories that hold a bundle of any version, directories named like the cache's bundles, and what killed
builds of these left behind. A bundle that is being built or that a process is using stays.
"""

from __future__ import annotations

import os
import re
import shutil
import uuid
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, replace
from enum import Enum
from pathlib import Path

from ...errors import BundleError, MisuseError, OutputError
from .cache import BundleCache, try_lock
from .files import PARTIAL, check_replaceable, read_manifest
from .lease import LOCK, USED, is_in_use, is_locked, last_used
from .manifest import Manifest
from .targets import PRECISIONS

_SPECIAL = r"-autoencoder_\w+|-parity|-no_\w+"
_NAME = re.compile(rf"[0-9a-f]{{1,16}}-\d+x\d+-c\d+-({'|'.join(PRECISIONS)})-[a-z0-9_.]+({_SPECIAL})*")
_LEFTOVER = re.compile(rf"(.+){re.escape(PARTIAL)}[0-9a-f]{{8}}")


class EntryKind(str, Enum):
    """What an entry is: a bundle, a damaged one, or what a killed build left behind."""

    BUNDLE = "bundle"
    BROKEN = "broken"
    LEFTOVER = "leftover"


@dataclass(frozen=True)
class CacheEntry:
    """One directory of the cache.

    used: when it was used last, as `time.time()`. manifest: of a bundle only. busy: a process uses or builds it.
    """

    path: Path
    kind: EntryKind
    nbytes: int
    used: float
    manifest: Manifest | None = None
    busy: bool = False

    @property
    def bundle(self) -> Path:
        """The path of the bundle that this is, or was to become."""
        match = _LEFTOVER.fullmatch(self.path.name)
        return self.path.with_name(match[1]) if match else self.path


def entries_of(cache: BundleCache) -> tuple[CacheEntry, ...]:
    """Everything in the cache that is ours, the latest used first. Raises `OutputError` if it cannot be read."""
    try:
        paths = list(cache.bundles.iterdir())
    except FileNotFoundError:
        return ()
    except OSError as error:
        raise OutputError(f"{cache.bundles}: the cache cannot be read ({error.strerror or error})") from error
    found = [replace(entry, busy=_is_busy(entry)) for path in paths if (entry := _entry(path)) is not None]
    return tuple(sorted(found, key=lambda entry: (-entry.used, entry.path.name)))


def _entry(path: Path) -> CacheEntry | None:
    """None for what is not ours."""
    if path.is_symlink() or not path.is_dir():
        return None
    match = _LEFTOVER.fullmatch(path.name)
    if match is not None:
        ours = _NAME.fullmatch(match[1]) or path.with_name(match[1] + LOCK).exists()
        return CacheEntry(path, EntryKind.LEFTOVER, _size(path), last_used(path)) if ours else None
    if not _NAME.fullmatch(path.name) and not _is_bundle(path):
        return None
    try:
        manifest = read_manifest(path)
        whole = all((path / file.name).stat().st_size == file.size for file in manifest.files)
    except (BundleError, OSError):
        return CacheEntry(path, EntryKind.BROKEN, _size(path), last_used(path))
    kind = EntryKind.BUNDLE if whole else EntryKind.BROKEN
    return CacheEntry(path, kind, _size(path), last_used(path), manifest if whole else None)


def _is_busy(entry: CacheEntry) -> bool:
    return is_in_use(entry.path) or is_locked(entry.bundle.with_name(entry.bundle.name + LOCK))


def _is_bundle(path: Path) -> bool:
    try:
        check_replaceable(path)
        return any(path.iterdir())
    except (MisuseError, OSError):
        return False


def _size(path: Path) -> int:
    total = 0
    for folder, _, names in os.walk(path):
        for name in names:
            with suppress(OSError):
                total += (Path(folder) / name).lstat().st_size
    return total


@dataclass(frozen=True)
class PruneRules:
    """What to remove besides broken bundles and leftovers. Without any rule, these alone.

    older_than_s: bundles that were not used for so many seconds. max_bytes: bundles that were used least recently,
    until the others fit into so many bytes. everything: all bundles.
    """

    older_than_s: float | None = None
    max_bytes: int | None = None
    everything: bool = False


def to_remove(entries: Iterable[CacheEntry], rules: PruneRules, now: float) -> tuple[CacheEntry, ...]:
    """The entries to remove, the least recently used first. now: as `time.time()`."""
    chosen: list[CacheEntry] = []
    kept = 0
    for entry in sorted(entries, key=lambda entry: -entry.used):
        old = rules.older_than_s is not None and now - entry.used > rules.older_than_s
        large = rules.max_bytes is not None and kept + entry.nbytes > rules.max_bytes
        if entry.kind is not EntryKind.BUNDLE or rules.everything or old or large:
            chosen.append(entry)
        else:
            kept += entry.nbytes
    return tuple(reversed(chosen))


def remove_entry(entry: CacheEntry) -> bool:
    """Remove an entry; False if a process builds it or uses it.

    The directory is renamed first, so no process finds half a bundle. Raises `OutputError` if it cannot be removed.
    """
    lock = try_lock(entry.bundle.with_name(entry.bundle.name + LOCK))
    if lock is None:
        return False
    with lock:
        if is_in_use(entry.path):
            return False
        try:
            shutil.rmtree(_moved_aside(entry))
            entry.path.with_name(entry.path.name + USED).unlink(missing_ok=True)
        except FileNotFoundError:
            return True  # another process was faster
        except OSError as error:
            if os.name == "nt" and isinstance(error, PermissionError):
                return False  # a file in it is open
            raise OutputError(f"{entry.path}: cannot be removed ({error.strerror or error})") from error
    return True


def _moved_aside(entry: CacheEntry) -> Path:
    """The directory under a name that no process looks for."""
    if entry.kind is EntryKind.LEFTOVER:
        return entry.path
    aside = entry.path.with_name(f"{entry.path.name}{PARTIAL}{uuid.uuid4().hex[:8]}")
    os.replace(entry.path, aside)
    return aside
