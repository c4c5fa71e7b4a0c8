"""The cache of bundles that were built without `-o`: one directory per recipe, built once and found again.

    <cache>/bundles/<recipe>/           a bundle
    <cache>/bundles/<recipe>.lock       held during its build; a second process waits, then uses the finished bundle
    <cache>/digests.json                digests of checkpoints by path, size and time, so that 20 GB are hashed once

`<cache>` is the platform's cache directory of the user. Everything in it can be rebuilt, so it may be deleted.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from contextlib import AbstractContextManager, suppress
from pathlib import Path

from ...errors import BundleError, CheckpointError, MissingPackageError, OutputError
from ...text import LineCallback
from .files import PARTIAL, Bundle, read_manifest, remove_partial, sha256
from .geometry import Resolution
from .manifest import MANIFEST, Recipe

_CHECKPOINT_FILES = ("*.safetensors", "transformer/*.safetensors", "transformer/*.json")


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
        special = (["parity"] if recipe.parity else []) + [f"no_{name}" for name in recipe.without]
        return self.bundles / "-".join([*map(str, parts), *special])

    def find(self, recipe: Recipe) -> Bundle | None:
        """The bundle of a recipe, with all files checked; None if it is missing, damaged, or of another recipe."""
        try:
            bundle = Bundle.open(self.path(recipe))
        except BundleError:
            return None
        return bundle if bundle.manifest.recipe == recipe else None

    def search(self, *, resolution: Resolution | None = None, checkpoint: str | None = None) -> list[Path]:
        """Paths of all matching bundles, the newest first. Only their manifests are checked."""
        found: list[tuple[float, Path]] = []
        for manifest in self.bundles.glob(f"*/{MANIFEST}"):
            if PARTIAL in manifest.parent.name:
                continue
            try:
                recipe = read_manifest(manifest.parent).recipe
                built = manifest.stat().st_mtime
            except (BundleError, OSError):
                continue
            if resolution in (None, recipe.resolution) and checkpoint in (None, recipe.checkpoint):
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
        if found is not None:
            return found, False
        path = self.path(recipe)
        lock = path.with_name(path.name + ".lock")
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

    def checkpoint_digest(self, checkpoint: str | Path) -> str:
        """Sha256 over the names, sizes and contents of a checkpoint's files, remembered until one of them changes.

        Raises `CheckpointError` if the directory or its files are missing or cannot be read.
        """
        root = Path(checkpoint).resolve()
        files = sorted({path for pattern in _CHECKPOINT_FILES for path in root.glob(pattern) if path.is_file()})
        if not root.is_dir():
            raise CheckpointError(f"{checkpoint}: no such directory; expected a SwiftVR checkpoint directory")
        if not files:
            raise CheckpointError(f"{checkpoint}: no safetensors files; expected a SwiftVR checkpoint directory")
        stamp = [[str(path.relative_to(root)), path.stat().st_size, path.stat().st_mtime_ns] for path in files]
        known = self._known_digests()
        entry = known.get(str(root))
        if isinstance(entry, dict) and entry.get("stamp") == stamp and isinstance(entry.get("digest"), str):
            return str(entry["digest"])
        digest = _digest(root, files)
        known[str(root)] = {"stamp": stamp, "digest": digest}
        self._remember(known)
        return digest

    def _known_digests(self) -> dict[str, object]:
        try:
            known = json.loads((self.root / "digests.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return known if isinstance(known, dict) else {}

    def _remember(self, known: dict[str, object]) -> None:
        """Best effort: if this fails, the next run hashes again."""
        place = self.root / "digests.json"
        partial = place.with_name(f"{place.name}.{os.getpid()}")
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            partial.write_text(json.dumps(known, indent=1), encoding="utf-8")
            os.replace(partial, place)
        except OSError:
            with suppress(OSError):
                partial.unlink()


def default_root() -> Path:
    """The platform's cache directory of this package."""
    import platformdirs

    return Path(platformdirs.user_cache_dir("swiftvr-trt", appauthor=False))


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
    try:
        from filelock import FileLock, Timeout
    except ImportError as error:
        raise MissingPackageError("filelock", "building a bundle", "export") from error
    lock = FileLock(path)
    try:
        return lock.acquire(timeout=0.2)
    except Timeout:
        report("waiting for another process that is building this bundle")
        return lock.acquire()
