"""Which bundle restores an input of a given size: one that is named, one that is cached, or one that is built now."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from swiftvr_trt.engines.bundle.cache import BundleCache
from swiftvr_trt.engines.bundle.files import Bundle, read_manifest
from swiftvr_trt.engines.bundle.geometry import Resolution
from swiftvr_trt.engines.bundle.manifest import Recipe
from swiftvr_trt.engines.bundle.targets import QUANTISED
from swiftvr_trt.errors import BuildError, MisuseError

DEFAULT_UPSCALE = 2.0
_PATIENCE_S = 5.0
_ERROR = "error: "
"""How the builder begins the line that says why it failed."""


@dataclass(frozen=True)
class BundleRequest:
    """What the caller said about the bundle; None where nothing was said."""

    bundle: Path | None = None
    checkpoint: Path | None = None
    resolution: str | None = None
    upscale: float | None = None
    precision: str = "fp32"
    target: str = "cpu"
    clip_len: int = 24
    cache: Path | None = None

    def recipe(self, checkpoint: str, size: Resolution) -> Recipe:
        """What the bundle has to be, for a checkpoint of this digest."""
        return Recipe(checkpoint, size.width, size.height, self.clip_len, self.precision, self.target)

    def __post_init__(self) -> None:
        if self.bundle is not None and self.checkpoint is not None:
            raise MisuseError("--bundle and --checkpoint were both given, expected one: a bundle needs no checkpoint")
        if self.resolution is not None and self.upscale is not None:
            raise MisuseError("--resolution and --upscale were both given, expected one of them")
        if self.upscale is not None and not 0.1 <= self.upscale <= 16:
            raise MisuseError(f"--upscale is {self.upscale:g}, expected a factor from 0.1 to 16, e.g. 2")

    def wanted_size(self, width: int, height: int) -> Resolution | None:
        """The output size that was asked for, for an input of `width x height`; None if nothing was."""
        if self.resolution is not None:
            return Resolution.parse(self.resolution)
        if self.upscale is not None:
            return _scaled(width, height, self.upscale)
        return None


def output_size(request: BundleRequest, width: int, height: int) -> Resolution:
    """What an input of `width x height` pixels will be restored to; known before any bundle is opened or built."""
    wanted = request.wanted_size(width, height)
    if request.bundle is None:
        return wanted or _scaled(width, height, DEFAULT_UPSCALE)
    size = read_manifest(request.bundle).recipe.resolution
    if wanted not in (None, size):
        raise MisuseError(
            f"{request.bundle} restores to {size}, {wanted} was asked for; leave the size out, or build another bundle"
        )
    return size


def find_or_build_bundle(request: BundleRequest, size: Resolution, report: Callable[[str], None]) -> Bundle:
    """The bundle that restores to `size`, checked; built if a checkpoint is named. `report` gets a build's lines."""
    if request.bundle is not None:
        return Bundle.open(request.bundle)
    cache = BundleCache(request.cache)
    if request.checkpoint is not None:
        return _built(request.recipe(cache.checkpoint_digest(request.checkpoint), size), request, cache, report)
    found: dict[str, Path] = {}
    for path in cache.search(resolution=size):
        recipe = read_manifest(path).recipe
        if _serves(recipe, request.recipe(recipe.checkpoint, size)):
            found.setdefault(recipe.checkpoint, path)
    if not found:
        raise MisuseError(
            f"no bundle for {request.recipe('', size).describe()} has been built yet; "
            "name a --bundle, or a --checkpoint to build one"
        )
    if len(found) > 1:
        names = ", ".join(path.name for path in found.values())
        raise MisuseError(f"bundles of several checkpoints fit ({names}); name one with --bundle or --checkpoint")
    return Bundle.open(next(iter(found.values())))


def _serves(built: Recipe, wanted: Recipe) -> bool:
    """Whoever runs a quantised bundle does not say what it was calibrated on: the latest will do."""
    return replace(built, calibration=None) == wanted


def _find(cache: BundleCache, wanted: Recipe) -> Bundle | None:
    """The bundle in the cache, the most recent one if there are several."""
    if wanted.precision not in QUANTISED:
        return cache.find(wanted)
    for path in cache.search(resolution=wanted.resolution, checkpoint=wanted.checkpoint):
        if _serves(read_manifest(path).recipe, wanted):
            return Bundle.open(path)
    return None


def _scaled(width: int, height: int, factor: float) -> Resolution:
    return Resolution(max(round(width * factor), 1), max(round(height * factor), 1))


def _built(recipe: Recipe, request: BundleRequest, cache: BundleCache, report: Callable[[str], None]) -> Bundle:
    """From the cache, or built by a process of its own: torch never enters this one."""
    found = _find(cache, recipe)
    if found is not None:
        return found
    command = [sys.executable, "-P", "-m", "swiftvr_trt.cli.export", "build-engine"]
    command += [
        "--checkpoint",
        str(request.checkpoint),
        "--resolution",
        str(recipe.resolution),
        "--clip-len",
        str(recipe.clip_len),
    ]
    command += ["--precision", recipe.precision, "--target", recipe.target, "--cache", str(cache.root)]
    _run_builder(command, report)
    built = _find(cache, recipe)
    if built is None:
        raise BuildError(f"{cache.path(recipe)}: the bundle is not there although its build ended well; build it again")
    return built


def _run_builder(command: list[str], report: Callable[[str], None]) -> None:
    """Run the build, pass its lines on, and turn its last word, if that is an error, into ours."""
    reason = ""
    environment = {**os.environ, "PYTHONUTF8": "1", "PYTHONIOENCODING": "utf-8"}
    build = subprocess.Popen(
        command,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        env=environment,
        text=True,
        encoding="utf-8",
        errors="replace",
    )
    try:
        for line in build.stderr or ():
            if line.startswith(_ERROR):
                reason = line.removeprefix(_ERROR).strip()
            else:
                report(line.rstrip())
        build.wait()
    except BaseException:
        _end(build)
        raise
    if build.returncode:
        failure = MisuseError if build.returncode == MisuseError.exit_code else BuildError
        raise failure(reason or f"the build of the bundle ended with exit code {build.returncode}")


def _end(build: subprocess.Popen[str]) -> None:
    """End a build politely, so that it cleans up; then not so politely."""
    build.terminate()
    try:
        build.wait(_PATIENCE_S)
    except subprocess.TimeoutExpired:
        build.kill()
        build.wait()
