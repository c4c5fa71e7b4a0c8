"""Which bundle restores an input of a given size: one that is named, one that is cached, or one that is built now."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from .. import console
from ..engines.bundle import Bundle
from ..engines.cache import BundleCache
from ..engines.geometry import Resolution
from ..engines.manifest import Recipe
from ..errors import BundleError, MisuseError, StageError

DEFAULT_UPSCALE = 2.0


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

    def __post_init__(self) -> None:
        if self.bundle is not None and self.checkpoint is not None:
            raise MisuseError("--bundle and --checkpoint were both given, expected one: a bundle needs no checkpoint")
        if self.resolution is not None and self.upscale is not None:
            raise MisuseError("--resolution and --upscale were both given, expected one of them")
        if self.upscale is not None and not 0.1 <= self.upscale <= 16:
            raise MisuseError(f"--upscale is {self.upscale:g}, expected a factor from 0.1 to 16, e.g. 2")

    def size_for(self, width: int, height: int) -> Resolution | None:
        """The output size that was asked for, for an input of `width x height`; None if nothing was."""
        if self.resolution is not None:
            return Resolution.parse(self.resolution)
        if self.upscale is not None:
            return Resolution(max(round(width * self.upscale), 1), max(round(height * self.upscale), 1))
        return None


def choose_bundle(request: BundleRequest, width: int, height: int, *, quiet: bool = False) -> Bundle:
    """The bundle for an input of `width x height` pixels, checked. Builds it if a checkpoint is named."""
    wanted = request.size_for(width, height)
    if request.bundle is not None:
        return _named(request.bundle, wanted)
    size = wanted or Resolution(round(width * DEFAULT_UPSCALE), round(height * DEFAULT_UPSCALE))
    cache = BundleCache(request.cache)
    if request.checkpoint is not None:
        return _built(request, request.checkpoint, size, cache, quiet=quiet)
    for path in cache.search(resolution=size):
        try:
            return Bundle.open(path)
        except BundleError:
            continue  # a damaged cached bundle is as good as none
    raise MisuseError(
        f"no bundle for {size} has been built yet ({width}x{height} input); "
        "name a --bundle, or a --checkpoint to build one"
    )


def _named(path: Path, wanted: Resolution | None) -> Bundle:
    bundle = Bundle.open(path)
    recipe = bundle.manifest.recipe
    if wanted not in (None, recipe.resolution):
        raise MisuseError(
            f"{path} restores to {recipe.resolution}, {wanted} was asked for; "
            "leave the size out, or build another bundle"
        )
    return bundle


def _built(request: BundleRequest, checkpoint: Path, size: Resolution, cache: BundleCache, *, quiet: bool) -> Bundle:
    """From the cache, or built by a process of its own: torch never enters this one."""
    recipe = Recipe(
        cache.checkpoint_digest(checkpoint),
        size.width,
        size.height,
        request.clip_len,
        request.precision,
        request.target,
    )
    found = cache.find(recipe)
    if found is not None:
        return found
    command = [sys.executable, "-m", "swiftvr_trt.export.cli", "build-engine"]
    command += ["--checkpoint", str(checkpoint), "--resolution", str(size), "--clip-len", str(request.clip_len)]
    command += ["--precision", request.precision, "--target", request.target, "--cache", str(cache.root)]
    _run_builder(command, size, quiet=quiet)
    built = cache.find(recipe)
    if built is None:
        raise StageError(f"{cache.path(recipe)}: the bundle is not there although its build ended well; build it again")
    return built


def _run_builder(command: list[str], size: Resolution, *, quiet: bool) -> None:
    """Run the build, pass its lines on, and turn its last word, if that is an error, into ours."""
    reason = ""
    with subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, encoding="utf-8"
    ) as build:
        for line in build.stderr or ():
            if line.startswith(console.ERROR):
                reason = line.removeprefix(console.ERROR).strip()
            elif not quiet:
                console.say(line.rstrip())
    if build.returncode:
        failure = MisuseError if build.returncode == MisuseError.exit_code else StageError
        raise failure(reason or f"the build of the bundle for {size} ended with exit code {build.returncode}")
