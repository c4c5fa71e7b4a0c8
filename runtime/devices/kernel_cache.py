"""Kernels that TensorRT-RTX compiled for the GPU at hand, kept from one process to the next.

    BUNDLE.<key>.kernels        beside the bundle, or in the user's cache directory if that cannot be written

The key stands for everything that such kernels depend on: GPU, driver, library, engines. A file is a digest and what
it is the digest of. All of it is best effort: whatever is wrong with a file, the kernels are compiled again.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from swiftvr_trt.engines.bundle.cache import default_root
from swiftvr_trt.engines.bundle.files import Bundle

SUFFIX = ".kernels"
MAX_BYTES = 1 << 28
"""More than the kernels of any bundle take; larger files are neither read nor written."""
MAX_FILES = 4
"""How many are kept for one bundle: a driver update leaves one behind that nobody will use again."""
_STALE_S = 3600.0
"""A file that is being written is younger."""
_MAGIC = b"swiftvr kernels 1\n"


@dataclass(frozen=True)
class KernelCache:
    """The kernels of one bundle on one GPU under one driver and one library."""

    name: str
    key: str
    places: tuple[Path, ...]

    @classmethod
    def of(cls, bundle: Bundle, gpu: str, driver: str, library: str, *, root: Path | None = None) -> KernelCache:
        """root: the user's cache directory, None for the platform's."""
        engines = sorted(entry.sha256 for entry in bundle.manifest.files)
        key = hashlib.sha256("\n".join([gpu, driver, library, *engines]).encode()).hexdigest()[:16]
        place = bundle.path.resolve()
        return cls(place.name, key, (place.parent, (root or default_root()) / "kernels"))

    def load(self) -> bytes | None:
        """What `store` kept; None if there is nothing whole."""
        for path in self._paths():
            with suppress(OSError):
                if path.is_file() and path.stat().st_size <= MAX_BYTES:
                    content = _unwrapped(path.read_bytes())
                    if content is not None:
                        return content
        return None

    def store(self, kernels: bytes) -> Path | None:
        """Keep kernels where that is possible; returns the file, None if nothing had to be or could be written."""
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
        """Remove what killed processes have left half-written."""
        for place in self.places:
            with suppress(OSError):
                for path in place.glob(f"*{SUFFIX}.*"):
                    ours = path.suffix[1:].isdecimal() and _bundle_of(path.with_suffix("")) == self.name
                    if ours and time.time() - path.stat().st_mtime > _STALE_S:
                        path.unlink()


def _bundle_of(path: Path) -> str:
    return path.name.removesuffix(SUFFIX).rpartition(".")[0]


def _write(path: Path, content: bytes) -> None:
    """Whole or not at all, also if another process writes the same file."""
    partial = path.with_name(f"{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial.write_bytes(content)
        os.replace(partial, path)
    except BaseException:  # also if the process is interrupted
        with suppress(OSError):
            partial.unlink()
        raise


def _wrapped(kernels: bytes) -> bytes:
    return _MAGIC + hashlib.sha256(kernels).digest() + kernels


def _unwrapped(content: bytes) -> bytes | None:
    head = len(_MAGIC) + hashlib.sha256().digest_size
    kernels = content[head:]
    return kernels if content[:head] == _wrapped(kernels)[:head] else None
