"""Kernels that TensorRT-RTX compiled for this GPU, kept on disk for later processes.

    BUNDLE.<key>.kernels        next to the bundle, or in the user's cache directory if that is read-only

The key is a digest of what the kernels depend on: GPU, driver, library and engines. A file holds a magic line, the
SHA-256 digest of the kernels, and the kernels. If a file is missing or damaged, TensorRT-RTX compiles them again.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from ... import leaving
from ...engines.bundle.cache import default_root
from ...engines.bundle.files import Bundle

SUFFIX = ".kernels"
MAX_BYTES = 1 << 28
"""More than the kernels of any bundle need. Larger files are neither read nor written."""
MAX_FILES = 4
"""Files kept for one bundle. Each driver update leaves one behind that is never used again."""
_STALE_S = 3600.0
"""A partial file that is older than this belongs to a process that was killed."""
_MAGIC = b"swiftvr kernels 1\n"


@dataclass(frozen=True)
class KernelCache:
    """The kernels of one bundle on one GPU, with one driver and one library.

    name: of the bundle. key: of everything else. places: directories to try, in this order.
    """

    name: str
    key: str
    places: tuple[Path, ...]

    @classmethod
    def of(cls, bundle: Bundle, gpu: str, driver: str, library: str, *, root: Path | None = None) -> KernelCache:
        """gpu: its name. driver, library: versions. root: the user's cache directory, None for the platform's."""
        engines = sorted(entry.sha256 for entry in bundle.manifest.files)
        key = hashlib.sha256("\n".join([gpu, driver, library, *engines]).encode()).hexdigest()[:16]
        place = bundle.path.resolve()
        return cls(place.name, key, (place.parent, (root or default_root()) / "kernels"))

    def load(self) -> bytes | None:
        """What `store` kept; None if there is no undamaged file."""
        for path in self._paths():
            with suppress(OSError):
                if path.is_file() and path.stat().st_size <= MAX_BYTES:
                    content = _unwrapped(path.read_bytes())
                    if content is not None:
                        return content
        return None

    def store(self, kernels: bytes) -> Path | None:
        """Write kernels to the first place that can be written.

        Returns the file; None if it has these kernels already, they are empty or too large, or no place can be written.
        """
        self._sweep()
        content = _wrapped(kernels)
        if not kernels or len(content) > MAX_BYTES or self.load() == kernels:
            return None
        for path in self._paths():
            try:
                _write(path, content)
            except OSError:
                continue
            self._prune(path)
            return path
        return None

    def _paths(self) -> Iterator[Path]:
        for place in self.places:
            yield place / f"{self.name}.{self.key}{SUFFIX}"

    def _prune(self, latest: Path) -> None:
        with suppress(OSError):
            others = [p for p in latest.parent.glob(f"*{SUFFIX}") if p != latest and _bundle_of(p) == self.name]
            for path in sorted(others, key=lambda p: p.stat().st_mtime, reverse=True)[MAX_FILES - 1 :]:
                path.unlink()

    def _sweep(self) -> None:
        """Remove partial files of killed processes."""
        for place in self.places:
            with suppress(OSError):
                for path in place.glob(f"*{SUFFIX}.*"):
                    ours = path.suffix[1:].isdecimal() and _bundle_of(path.with_suffix("")) == self.name
                    if ours and time.time() - path.stat().st_mtime > _STALE_S:
                        path.unlink()


def _bundle_of(path: Path) -> str:
    return path.name.removesuffix(SUFFIX).rpartition(".")[0]


def _write(path: Path, content: bytes) -> None:
    """Write a file atomically, even if another process writes the same one."""
    partial = path.with_name(f"{path.name}.{os.getpid()}")
    path.parent.mkdir(parents=True, exist_ok=True)
    with leaving.creating(partial) as release:
        partial.touch()
    try:
        partial.write_bytes(content)
        os.replace(partial, path)
    except BaseException:  # KeyboardInterrupt, too
        with suppress(OSError):
            partial.unlink()
        raise
    finally:
        release()


def _wrapped(kernels: bytes) -> bytes:
    return _MAGIC + hashlib.sha256(kernels).digest() + kernels


def _unwrapped(content: bytes) -> bytes | None:
    head = len(_MAGIC) + hashlib.sha256().digest_size
    kernels = content[head:]
    return kernels if content[:head] == _wrapped(kernels)[:head] else None
