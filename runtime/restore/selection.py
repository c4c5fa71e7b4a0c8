"""Finds the bundle for an output size: the one that was named, one in the cache, or one that is built now."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from ...child import Child, Message
from ...engines.bundle.cache import BundleCache
from ...engines.bundle.files import Bundle, read_manifest
from ...engines.bundle.geometry import Resolution
from ...engines.bundle.manifest import Recipe
from ...engines.bundle.targets import QUANTISED
from ...errors import BuildError, MisuseError
from ...text import LineCallback

DEFAULT_UPSCALE = 2.0
_PATIENCE_S = 5.0
"""How long an interrupted build has to remove its unfinished files."""


@dataclass(frozen=True)
class BundleRequest:
    """The bundle to use, or the properties of the one to find or build.

    bundle      its directory; None to find or build one
    checkpoint  directory to build from if the cache has no such bundle
    resolution  size of the output, `WxH`
    upscale     size of the output relative to the input, 0.1 to 16
    cache       root of the bundle cache; None for the user's

    Raises `MisuseError` for fields that exclude each other.
    """

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
            raise MisuseError("--bundle and --checkpoint were both given, expected one of them")
        if self.resolution is not None and self.upscale is not None:
            raise MisuseError("--resolution and --upscale were both given, expected one of them")
        if self.upscale is not None and not 0.1 <= self.upscale <= 16:
            raise MisuseError(f"--upscale is {self.upscale:g}, expected a factor from 0.1 to 16, e.g. 2")

    def recipe(self, checkpoint: str, size: Resolution) -> Recipe:
        """The recipe of the bundle that restores to `size`. checkpoint: digest of the checkpoint."""
        return Recipe(checkpoint, size.width, size.height, self.clip_len, self.precision, self.target)

    def wanted_size(self, width: int, height: int) -> Resolution | None:
        """The requested output size for an input of `width x height` pixels; None if none was requested."""
        if self.resolution is not None:
            return Resolution.parse(self.resolution)
        if self.upscale is not None:
            return _scaled(width, height, self.upscale)
        return None


def output_size(request: BundleRequest, width: int, height: int) -> Resolution:
    """The output size for an input of `width x height` pixels. Opens and builds no bundle.

    Raises `MisuseError` if the requested size is not that of the requested bundle.
    """
    wanted = request.wanted_size(width, height)
    if request.bundle is None:
        return wanted or _scaled(width, height, DEFAULT_UPSCALE)
    size = read_manifest(request.bundle).recipe.resolution
    if wanted not in (None, size):
        raise MisuseError(
            f"{request.bundle} restores to {size}, but {wanted} was requested; leave the size out, or build another "
            "bundle"
        )
    return size


def find_or_build_bundle(request: BundleRequest, size: Resolution, report: LineCallback) -> Bundle:
    """The bundle that restores to `size`, verified. `report` gets the lines of a build.

    Raises `BundleError` if the named bundle is damaged, `MisuseError` if no bundle fits and there is no checkpoint to
    build one from or it cannot be built like this, `BuildError` if building fails.
    """
    if request.bundle is not None:
        return Bundle.open(request.bundle)
    cache = BundleCache(request.cache)
    if request.checkpoint is not None:
        return _find_or_build(request.recipe(cache.checkpoint_digest(request.checkpoint), size), request, cache, report)
    found: dict[str, Path] = {}
    for path in cache.search(resolution=size):
        recipe = read_manifest(path).recipe
        if _serves(recipe, request.recipe(recipe.checkpoint, size)):
            found.setdefault(recipe.checkpoint, path)
    if not found:
        raise MisuseError(
            f"the cache has no bundle for {request.recipe('', size).describe()}; "
            "name a --bundle, or a --checkpoint to build one"
        )
    if len(found) > 1:
        names = ", ".join(path.name for path in found.values())
        raise MisuseError(f"bundles of several checkpoints fit ({names}); name one with --bundle or --checkpoint")
    return Bundle.open(next(iter(found.values())))


def _serves(built: Recipe, wanted: Recipe) -> bool:
    """Whether a bundle with the recipe `built` serves for `wanted`. Any calibration will do: requests name none."""
    return replace(built, calibration=None) == wanted


def _find(cache: BundleCache, wanted: Recipe) -> Bundle | None:
    """The bundle in the cache; the latest if several serve. None if none does."""
    if wanted.precision not in QUANTISED:
        return cache.find(wanted)
    for path in cache.search(resolution=wanted.resolution, checkpoint=wanted.checkpoint):
        if _serves(read_manifest(path).recipe, wanted):
            return Bundle.open(path)
    return None


def _scaled(width: int, height: int, factor: float) -> Resolution:
    return Resolution(max(round(width * factor), 1), max(round(height * factor), 1))


def _find_or_build(recipe: Recipe, request: BundleRequest, cache: BundleCache, report: LineCallback) -> Bundle:
    """The bundle from the cache; if it has none, another process builds it, so that torch never enters this one."""
    found = _find(cache, recipe)
    if found is not None:
        return found
    order: Message = {
        "checkpoint": str(request.checkpoint),
        "cache": str(cache.root),
        "resolution": str(recipe.resolution),
        "clip_len": recipe.clip_len,
        "precision": recipe.precision,
        "target": recipe.target,
    }
    with Child("swiftvr_trt.export.build_process", patience_s=_PATIENCE_S, keep_errors=True) as builder:
        answer = builder.ask(order, report)
        if answer is None:
            raise BuildError(f"the process that builds the bundle ended: {builder.ending(_PATIENCE_S)}")
    if answer["error"]:
        raise (MisuseError if answer["misuse"] else BuildError)(answer["error"])
    built = _find(cache, recipe)
    if built is None:
        raise BuildError(f"{cache.path(recipe)}: the bundle was built but has disappeared; build it again")
    return built
