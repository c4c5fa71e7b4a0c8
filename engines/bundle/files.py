"""A bundle on disk: a directory with `manifest.json`, a file per stage, and the files that these refer to.

    BUNDLE/manifest.json        the recipe, what built it, and the shape of every tensor
    BUNDLE/encode.onnx ...      graphs or engines
    BUNDLE/weights.bin          weights of all graphs, each once

Nothing in a bundle is trusted. The manifest is validated field by field (`manifest.py`) and cannot name a file outside
its directory. The size and digest of every file are checked before it is used.

A bundle appears under its name only once it is complete: `BundleWriter` fills a temporary directory and renames it.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import threading
import uuid
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from ... import leaving
from ...errors import BundleError, Cancelled, MisuseError, OutputError
from ...outside import read_file, read_json
from .lease import FolderLease, is_abandoned
from .manifest import MANIFEST, MANIFEST_DOOR, FileSpec, Manifest, Recipe, StageSpec, Toolchain
from .targets import form_of_graphs

_BUNDLE_KEYS = {"format", "recipe", "stages", "files"}
PARTIAL = ".partial-"
"""Part of the name of every temporary directory; such a directory is never a bundle."""


@dataclass(frozen=True)
class Bundle:
    """A bundle on disk. `Bundle.open` checks it; the object assumes that the files stay as they are."""

    path: Path
    manifest: Manifest

    @classmethod
    def open(cls, path: str | Path) -> Bundle:
        """Read the manifest and check every file's size and digest. Raises `BundleError`."""
        if not isinstance(path, str | os.PathLike):
            raise MisuseError(f"the bundle is {path!r}, expected the path of its directory")
        root = Path(path)
        manifest = read_manifest(root)
        _check_no_other_files(root, manifest)
        _check_files(root, manifest)
        return cls(root, manifest)

    def stage_path(self, name: str) -> Path:
        """The file that holds a stage, e.g. `dit`."""
        return self.path / self.manifest.stage(name).file


def read_manifest(root: Path) -> Manifest:
    """The validated manifest alone; the files it names are not checked. Raises `BundleError`."""
    where = root / MANIFEST
    if not root.is_dir():
        raise BundleError(
            f"{root}: no such directory; expected a bundle (build one: swiftvr-export build-engine --help)"
        )
    if not where.exists() and not where.is_symlink():
        raise BundleError(f"{root}: not a bundle, since it has no {MANIFEST}; expected a bundle directory")
    return Manifest.from_json(read_file(where, MANIFEST_DOOR), where)


def _check_no_other_files(root: Path, manifest: Manifest) -> None:
    """Raise unless the manifest lists every file, since a graph may refer to any file in its directory."""
    known = {MANIFEST, *(entry.name for entry in manifest.files)}
    others = sorted(path.name for path in root.iterdir() if path.name not in known)
    if others:
        raise BundleError(f"{root / others[0]}: not part of the bundle; remove it, or rebuild the bundle")


def _check_files(root: Path, manifest: Manifest) -> None:
    """Check all files in parallel (hashing releases the GIL). An error or Ctrl-C ends all the threads soon."""
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
        raise BundleError(f"{path}: its content has changed since it was built (sha256 differs); rebuild the bundle")


def sha256(path: Path, ended: threading.Event | None = None) -> str:
    """Hexadecimal digest of a file, read in pieces. Raises `Cancelled` as soon as `ended` is set."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(1 << 20):
            if ended is not None and ended.is_set():
                raise Cancelled
            digest.update(piece)
    return digest.hexdigest()


class BundleWriter:
    """Builds a bundle in a temporary directory and moves it to `path` once it is complete.

        with BundleWriter(path) as writer:
            ...write files into writer.directory...
            writer.commit(recipe, toolchain, stages)

    Leaving without `commit` removes everything. A killed process leaves a directory with `.partial-` in its name,
    which the next build of the same name removes.
    Raises `MisuseError` if `path` may not be replaced, and `OutputError` if the bundle cannot be written.
    """

    def __init__(self, path: str | Path) -> None:
        place = Path(path)
        self.path = place.resolve() if place.is_symlink() and place.is_dir() else place
        if self.path.name in ("", ".."):
            raise MisuseError(
                f"{path}: a bundle is a directory with a name of its own; choose a path that ends in a name"
            )
        self.directory = self.path.with_name(f"{self.path.name}{PARTIAL}{uuid.uuid4().hex[:8]}")
        self._committed = False

    def __enter__(self) -> BundleWriter:
        check_replaceable(self.path)
        _check_movable(self.path)
        try:
            self.directory.parent.mkdir(parents=True, exist_ok=True)
            remove_abandoned(self.path)
            with leaving.creating(self.directory) as self._release:
                self.directory.mkdir()
                self._lease = FolderLease(self.directory)
        except OSError as error:
            raise OutputError(f"{self.directory}: cannot create the bundle's directory ({error.strerror})") from error
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._lease.close()
        if not self._committed:
            shutil.rmtree(self.directory, ignore_errors=True)
        self._release()
        if isinstance(error, OSError):
            raise OutputError(f"{self.path}: the bundle could not be written ({error.strerror or error})") from error

    def commit(self, recipe: Recipe, toolchain: Toolchain, stages: tuple[StageSpec, ...]) -> Bundle:
        """Digest the files in `directory`, write the manifest last, and move the bundle into its place."""
        files = tuple(
            FileSpec(path.name, path.stat().st_size, sha256(path)) for path in sorted(self.directory.iterdir())
        )
        manifest = Manifest(recipe, toolchain, stages, files, form_of_graphs(recipe.precision, recipe.autoencoder))
        text = manifest.to_json()
        Manifest.from_json(text, self.path / MANIFEST)  # never write what we would not read
        (self.directory / MANIFEST).write_text(text, encoding="utf-8")
        check_replaceable(self.path)  # something may have appeared there during the build
        _move_into_place(self.directory, self.path)
        self._committed = True
        return Bundle(self.path, manifest)


def check_replaceable(path: Path) -> None:
    """Raise `MisuseError` if `path` exists and is neither a bundle nor an empty directory."""
    if path.is_dir():
        if any(path.iterdir()) and not _looks_like_bundle(path):
            raise MisuseError(f"{path}: already exists and is not a bundle; choose another name")
    elif path.exists() or path.is_symlink():
        raise MisuseError(f"{path}: already exists and is a file, a bundle is a directory; choose another name")


def _check_movable(path: Path) -> None:
    """Raise `MisuseError` if an empty directory cannot be replaced, e.g. because a disk is mounted there.

    Checked before the build, which takes minutes. A bundle needs no such check: it was moved there before.
    """
    if not path.is_dir() or any(path.iterdir()):
        return
    aside = path.with_name(f"{path.name}{PARTIAL}{uuid.uuid4().hex[:8]}")
    try:
        os.replace(path, aside)
        os.replace(aside, path)
    except OSError as error:
        raise MisuseError(
            f"{path}: this directory cannot be replaced ({error.strerror or error}); "
            f"choose a new directory in it, e.g. {path / 'bundle'}"
        ) from error


def _looks_like_bundle(path: Path) -> bool:
    """True for bundles of any version, damaged or not. The keys tell them from other uses of `manifest.json`."""
    try:
        fields = read_json(path / MANIFEST, MANIFEST_DOOR)
    except BundleError:
        return False
    return all(key in fields for key in _BUNDLE_KEYS)


def remove_partial(path: Path) -> None:
    """Remove what killed builds of `path` left behind. Call only while no other build of it can run."""
    for left in _partial(path):
        shutil.rmtree(left, ignore_errors=True)


def remove_abandoned(path: Path) -> None:
    """Remove what killed builds of `path` left behind, while others of it may run."""
    for left in _partial(path):
        if is_abandoned(left):
            shutil.rmtree(left, ignore_errors=True)


def _partial(path: Path) -> list[Path]:
    """The temporary directories of `path`."""
    name = re.compile(re.escape(path.name + PARTIAL) + "[0-9a-f]{8}")
    try:
        return [left for left in path.parent.iterdir() if name.fullmatch(left.name) and not left.is_symlink()]
    except OSError:
        return []


def _move_into_place(source: Path, target: Path) -> None:
    """Rename `source` to `target`. An earlier bundle is moved aside first, as no directory is replaced in one step."""
    aside = target.with_name(f"{target.name}{PARTIAL}{uuid.uuid4().hex[:8]}")
    with leaving.starting():  # a process that leaves in here would leave nothing under the name
        if target.exists():
            os.replace(target, aside)
        try:
            os.replace(source, target)
        except OSError:
            if aside.exists():
                os.replace(aside, target)
            raise
        release = leaving.hold_path(aside)
    shutil.rmtree(aside, ignore_errors=True)
    release()
