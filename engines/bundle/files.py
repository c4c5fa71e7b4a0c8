"""The engine bundle: a directory with `manifest.json`, one file per stage, and the files those refer to.

    BUNDLE/manifest.json        everything that decides whether the bundle may run here, and every tensor's shape
    BUNDLE/encode.onnx ...      one file per stage
    BUNDLE/weights.bin          the weights of all stages, each once

Nothing in a bundle is trusted: the manifest is validated field by field (`manifest.py`), it cannot name a file outside
its directory, and the size and digest of every file are checked before the file is used.

A bundle appears under its name only when it is complete: `BundleWriter` fills a directory beside it and renames it.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import threading
import uuid
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from swiftvr_trt.errors import BundleError, Cancelled, MisuseError, OutputError

from .manifest import MANIFEST, FileSpec, Manifest, Recipe, StageSpec, Toolchain

_MAX_MANIFEST_BYTES = 1 << 20
_BUNDLE_KEYS = {"format", "recipe", "stages", "files"}
PARTIAL = ".partial-"
"""Part of the name of every directory that is being built or replaced; none of them is a bundle."""


@dataclass(frozen=True)
class Bundle:
    """A bundle on disk whose manifest is valid and whose files are those of the manifest."""

    path: Path
    manifest: Manifest

    @classmethod
    def open(cls, path: str | Path) -> Bundle:
        """Read and check everything: manifest, sizes, digests. Raises `BundleError` with one line."""
        root = Path(path)
        manifest = read_manifest(root)
        _check_no_strangers(root, manifest)
        _check_files(root, manifest)
        return cls(root, manifest)

    def stage_path(self, name: str) -> Path:
        return self.path / self.manifest.stage(name).file


def read_manifest(root: Path) -> Manifest:
    """The manifest alone, validated; the files it names are not looked at."""
    where = root / MANIFEST
    if not root.is_dir():
        raise BundleError(
            f"{root}: no such directory; expected a bundle (build one: swiftvr-export build-engine --help)"
        )
    if where.exists() and not where.is_file():  # reading a pipe would wait for ever
        raise BundleError(f"{where}: not a plain file; rebuild the bundle")
    try:
        with where.open("rb") as file:
            data = file.read(_MAX_MANIFEST_BYTES + 1)
        text = data.decode("utf-8")
    except FileNotFoundError as error:
        raise BundleError(f"{root}: no {MANIFEST} in it; a bundle directory has one") from error
    except (OSError, UnicodeDecodeError) as error:
        raise BundleError(f"{where}: cannot be read ({error})") from error
    if len(data) > _MAX_MANIFEST_BYTES:
        raise BundleError(f"{where}: larger than {_MAX_MANIFEST_BYTES} bytes; that is no manifest")
    return Manifest.from_json(text, where)


def _check_no_strangers(root: Path, manifest: Manifest) -> None:
    """A graph may refer to any file of its directory, so there must be none that the manifest does not vouch for."""
    known = {MANIFEST, *(entry.name for entry in manifest.files)}
    strangers = sorted(path.name for path in root.iterdir() if path.name not in known)
    if strangers:
        raise BundleError(f"{root / strangers[0]}: not part of the bundle; remove it, or rebuild the bundle")


def _check_files(root: Path, manifest: Manifest) -> None:
    """All files at once: hashing releases the interpreter lock. Whatever ends it, Ctrl-C included, ends it soon."""
    ended = threading.Event()
    with ThreadPoolExecutor() as pool:
        try:
            list(pool.map(lambda entry: _check_file(root, entry, ended), manifest.files))
        finally:
            ended.set()


def _check_file(root: Path, entry: FileSpec, ended: threading.Event) -> None:
    path = root / entry.name
    if path.is_symlink() or not path.is_file():
        raise BundleError(f"{path}: missing, or not a plain file; rebuild the bundle")
    if path.stat().st_size != entry.size:
        raise BundleError(f"{path}: {path.stat().st_size} bytes, the manifest says {entry.size}; rebuild the bundle")
    try:
        found = sha256(path, ended)
    except OSError as error:
        raise BundleError(f"{path}: cannot be read ({error.strerror or error})") from error
    if found != entry.sha256:
        raise BundleError(f"{path}: its content is not what was built (sha256 differs); rebuild the bundle")


def sha256(path: Path, ended: threading.Event | None = None) -> str:
    """Hexadecimal digest of a file, read in pieces. Raises `Cancelled` once nobody waits for it any more."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(1 << 20):
            if ended is not None and ended.is_set():
                raise Cancelled
            digest.update(piece)
    return digest.hexdigest()


class BundleWriter:
    """Builds a bundle beside its place and moves it there when it is complete.

        with BundleWriter(path) as writer:
            ...write files into writer.directory...
            writer.commit(recipe, toolchain, stages)

    Leaving without `commit` removes everything. A killed process leaves a directory whose name says `partial`.
    """

    def __init__(self, path: str | Path) -> None:
        place = Path(path)
        self.path = place.resolve() if place.is_symlink() and place.is_dir() else place
        if self.path.name in ("", ".."):
            raise MisuseError(f"{path}: a bundle is a directory with a name of its own; choose one that ends in a name")
        self.directory = self.path.with_name(f"{self.path.name}{PARTIAL}{uuid.uuid4().hex[:8]}")
        self._committed = False

    def __enter__(self) -> BundleWriter:
        check_replaceable(self.path)
        _check_movable(self.path)
        try:
            self.directory.mkdir(parents=True)
        except OSError as error:
            raise OutputError(f"{self.directory}: cannot create the bundle's directory ({error.strerror})") from error
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if not self._committed:
            shutil.rmtree(self.directory, ignore_errors=True)
        if isinstance(error, OSError):
            raise OutputError(f"{self.path}: the bundle could not be written ({error.strerror or error})") from error

    def commit(self, recipe: Recipe, toolchain: Toolchain, stages: tuple[StageSpec, ...]) -> Bundle:
        """Digest the files in `directory`, write the manifest last, and move the bundle into its place."""
        files = tuple(
            FileSpec(path.name, path.stat().st_size, sha256(path)) for path in sorted(self.directory.iterdir())
        )
        manifest = Manifest(recipe, toolchain, stages, files)
        text = manifest.to_json()
        Manifest.from_json(text, self.path / MANIFEST)  # never write what we would not read
        (self.directory / MANIFEST).write_text(text, encoding="utf-8")
        check_replaceable(self.path)  # building took its time
        _move_into_place(self.directory, self.path)
        self._committed = True
        return Bundle(self.path, manifest)


def check_replaceable(path: Path) -> None:
    """Raise `MisuseError` if something that is not a bundle stands where a bundle is to go."""
    if path.is_dir():
        if any(path.iterdir()) and not _looks_like_bundle(path):
            raise MisuseError(f"{path}: exists and is no bundle; choose another name, it will not be overwritten")
    elif path.exists() or path.is_symlink():
        raise MisuseError(f"{path}: a file of this name exists; a bundle is a directory, choose another name")


def _check_movable(path: Path) -> None:
    """Raise `MisuseError` if an empty directory cannot make way, as where a disk is mounted.

    Better now than after the build. (A bundle that is there was moved there, and can be moved again.)
    """
    if not path.is_dir() or any(path.iterdir()):
        return
    aside = path.with_name(f"{path.name}{PARTIAL}{uuid.uuid4().hex[:8]}")
    try:
        os.replace(path, aside)
        os.replace(aside, path)
    except OSError as error:
        raise MisuseError(
            f"{path}: this directory cannot be replaced ({error.strerror or error}); a bundle is a directory of its "
            f"own, name one in it, e.g. {path / 'bundle'}"
        ) from error


def _looks_like_bundle(path: Path) -> bool:
    """True for bundles of any format version, damaged or not; other things have a `manifest.json`, too."""
    manifest = path / MANIFEST
    if not manifest.is_file():
        return False
    try:
        with manifest.open("rb") as file:
            raw = json.loads(file.read(_MAX_MANIFEST_BYTES))
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(raw, dict) and raw.keys() >= _BUNDLE_KEYS


def remove_partial(path: Path) -> None:
    """Remove what killed builds of `path` have left. Call only while no other build of it can run."""
    for left in path.parent.glob(f"{path.name}{PARTIAL}*"):
        shutil.rmtree(left, ignore_errors=True)


def _move_into_place(source: Path, target: Path) -> None:
    """Rename over an earlier bundle; a directory cannot be replaced in one step, so the old one steps aside first."""
    aside = target.with_name(f"{target.name}{PARTIAL}{uuid.uuid4().hex[:8]}")
    if target.exists():
        os.replace(target, aside)
    try:
        os.replace(source, target)
    except OSError:
        if aside.exists():
            os.replace(aside, target)
        raise
    shutil.rmtree(aside, ignore_errors=True)
