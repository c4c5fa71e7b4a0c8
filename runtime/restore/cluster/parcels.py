"""Files that travel to the nodes through Ray's object store, once per node.

The driver packs a file or a bundle into parcels, objects of at most `PARCEL_BYTES`. The first process of a node that
needs them unpacks them into a folder; the others find it there. Ray moves objects between nodes, and onto the disk when
its store is full.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock

from ....engines.bundle.lease import FolderLease, is_abandoned
from ....engines.bundle.manifest import MANIFEST
from ....errors import MachineError
from ..segments.task import input_digest

PARCEL_BYTES = 32 << 20
_SAMPLES = 4


@dataclass(frozen=True)
class Goods:
    """A file or a bundle that nodes need.

    path: where it lies here, and on nodes that share it. digest: of its content. parcels: name relative to the folder
    of `path` -> references to objects, in order; None if the nodes share the path.
    """

    path: str
    digest: str
    parcels: dict[str, list[Any]] | None = None

    @property
    def key(self) -> str:
        """Tells apart what is shipped: by its content, and by its name, under which nodes unpack it."""
        return hashlib.sha256(f"{self.digest} {Path(self.path).name}".encode()).hexdigest()[:32]


def goods_of(path: Path, *, ship: bool, beside: Sequence[Path] = ()) -> Goods:
    """Describe a file or bundle, and put it into the object store if it is to be shipped. Raises `OSError`.

    beside: what a playlist names, in its own folder; it travels with it.
    """
    path = path.absolute()
    if not ship:
        return Goods(str(path), digest_of(path))
    import ray

    content = [path, *(file.absolute() for file in beside)]
    if path.is_dir():
        content = [file for file in sorted(path.rglob("*")) if file.is_file()]
    parcels = {
        file.relative_to(path.parent).as_posix(): [ray.put(block) for block in _blocks(file)]
        for file in dict.fromkeys(content)
    }
    return Goods(str(path), _digest_of_all([path / MANIFEST] if path.is_dir() else content), parcels)


def _digest_of_all(files: Sequence[Path]) -> str:
    return hashlib.sha256("".join(map(input_digest, files)).encode()).hexdigest()


def digest_of(path: Path) -> str:
    """Digest of a file, by a few megabytes, since many nodes read it; of a bundle, by its manifest."""
    return input_digest(path if path.is_file() else path / MANIFEST, _SAMPLES)


class NodeFolder:
    """Where the processes of one node keep files, and what each of them writes. Removed by the last, or the next run.

    private: a folder of this process.
    """

    def __init__(self, parent: Path | None = None) -> None:
        """parent: instead of the system's folder for temporary files."""
        self._root = (parent or Path(tempfile.gettempdir())) / f"swiftvr-cluster-{getattr(os, 'getuid', int)()}"
        self._root.mkdir(mode=0o700, exist_ok=True)
        if hasattr(os, "getuid") and self._root.stat().st_uid != os.getuid():
            raise MachineError(f"{self._root} belongs to another user: remove it, or set TMPDIR on this node")
        self._leases: dict[Path, FolderLease] = {}  # one for each folder in use
        self._source: Path | None = None  # the folder of the last input
        self._checked: dict[tuple[str, int, int], str] = {}  # path, size and time of change -> digest
        with self._alone():
            self._sweep()
            self.private = Path(tempfile.mkdtemp(prefix="process-", dir=self._root))
            self._leases[self.private] = FolderLease(self.private)

    def fetch(self, goods: Goods) -> Path:
        """The path of a file or bundle on this node. Raises `MachineError` if it is not there, or is another one."""
        if goods.parcels is None:
            return self._shared(goods)
        place = self._place_of(goods)
        with self._alone():
            place.mkdir(exist_ok=True)
            if place not in self._leases:
                self._leases[place] = FolderLease(place)
        content = place / "content"
        with FileLock(place / "lock"):
            if not content.exists():
                part = place / "part"
                shutil.rmtree(part, ignore_errors=True)
                _unpack(goods.parcels, part)
                part.rename(content)
        return content / Path(goods.path).name

    def fetch_input(self, goods: Goods) -> Path:
        """Like `fetch`, for the input of a span. The last one is removed before, unless another process has it."""
        place = None if goods.parcels is None else self._place_of(goods)
        before, self._source = self._source, place
        if before not in (None, place) and before in self._leases:
            with self._alone():
                self._leases.pop(before).close()
                self._sweep()
        return self.fetch(goods)

    def close(self) -> None:
        """Remove what this process wrote, and what no other process of this node needs any more."""
        shutil.rmtree(self.private, ignore_errors=True)
        for lease in self._leases.values():
            lease.close()
        with self._alone():
            self._sweep()

    def _place_of(self, goods: Goods) -> Path:
        return self._root / f"goods-{goods.key}"

    def _shared(self, goods: Goods) -> Path:
        path = Path(goods.path)
        advice = "expected the same file on every node: use a path that they share, or add --ship"
        try:
            found = (path / MANIFEST if path.is_dir() else path).stat()
            key = (goods.path, found.st_size, found.st_mtime_ns)
            if key not in self._checked:
                self._checked[key] = digest_of(path)
        except OSError as error:
            raise MachineError(f"{path} cannot be read there ({error.strerror or error}); {advice}") from error
        if self._checked[key] != goods.digest:
            raise MachineError(f"{path} is another file there; {advice}")
        return path

    def _sweep(self) -> None:
        for folder in [*self._root.glob("process-*"), *self._root.glob("goods-*")]:
            if is_abandoned(folder):
                shutil.rmtree(folder, ignore_errors=True)

    def _alone(self) -> FileLock:
        return FileLock(self._root / "lock")


def _blocks(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while block := file.read(PARCEL_BYTES):
            yield block


def _unpack(parcels: dict[str, list[Any]], folder: Path) -> None:
    import ray

    for name, blocks in parcels.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        _write(path, (ray.get(block) for block in blocks))


def _write(path: Path, blocks: Iterable[bytes]) -> None:
    with path.open("wb") as file:
        for block in blocks:
            file.write(block)
