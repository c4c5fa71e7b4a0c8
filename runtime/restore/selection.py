"""Finds the bundle for an output size: the one that was named, one in the cache, or one that is built now."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from ...child import Child, Message
from ...engines.bundle.auto import make_way
from ...engines.bundle.cache import BundleCache, open_to_others
from ...engines.bundle.checkpoints import find_checkpoint
from ...engines.bundle.files import Bundle, read_manifest
from ...engines.bundle.geometry import Resolution
from ...engines.bundle.manifest import Recipe
from ...errors import BuildError, DownloadError, MachineError, MisuseError, NoBundleError
from ...text import LineCallback
from ..budget import PROCESS_S
from .bundle_request import BundleRequest, SuitedRequest, suited
from .display import Display

_log = logging.getLogger(__name__)


def find_and_name_bundle(request: BundleRequest, size: Resolution, display: Display) -> Bundle:
    """What `find_or_build_bundle` returns. `display` is told which it is, and warned if others can have changed it."""
    bundle = find_or_build_bundle(request, size, display.say)
    if request.bundle is None and (reason := open_to_others(BundleCache(request.cache).root, bundle.path)):
        display.warn(f"this bundle may be somebody else's program: {reason}; choose a folder of your own with --cache")
    display.say(f"model:  {request.bundle or 'in the cache'}, restores to {size}")
    _log.info("bundle: %s (%s)", bundle.path, bundle.manifest.recipe.describe())
    return bundle


def find_or_build_bundle(request: BundleRequest, size: Resolution, report: LineCallback) -> Bundle:
    """The bundle that restores to `size`, verified. `report` gets the lines of a build.

    Raises `BundleError` if the named bundle is damaged, `NoBundleError` if no bundle fits and there is no checkpoint to
    build one from, `MisuseError` if it cannot be built like this, `BuildError` if building fails, and `DownloadError`.
    """
    if request.bundle is not None:
        return Bundle.open(request.bundle)
    cache = BundleCache(request.cache)
    if request.checkpoint is not None:
        checkpoint = locate_checkpoint(request.checkpoint, report)
        request, digest = replace(request, checkpoint=checkpoint), cache.checkpoint_digest(checkpoint)
        orders = [(one.request.recipe(digest, size), one) for one in suited(request, size)]
        return _build_the_best(orders, cache, report)
    return _find_the_best(suited(request, size), size, cache, report)


def _build_the_best(wanted: Sequence[tuple[Recipe, SuitedRequest]], cache: BundleCache, report: LineCallback) -> Bundle:
    """The bundle for the first recipe, found or built; that for the next one if the build fails."""
    (recipe, one), *others = wanted
    if one.reason:
        report(one.reason)
    try:
        return _find_or_build(recipe, one.request, cache, report)
    except BuildError as error:
        make_way(error, others, report)
    return _build_the_best(others, cache, report)


def _find_the_best(
    wanted: Sequence[SuitedRequest], size: Resolution, cache: BundleCache, report: LineCallback
) -> Bundle:
    """The bundle in the cache for the first request that has one. Raises as `find_or_build_bundle` does."""
    for one in wanted:
        found: dict[str, Path] = {}
        for path in cache.search(resolution=size):
            recipe = read_manifest(path).recipe
            if _serves(recipe, one.request.recipe(recipe.checkpoint, size)):
                found.setdefault(recipe.checkpoint, path)
        if len(found) > 1:
            names = ", ".join(path.name for path in found.values())
            raise MisuseError(f"bundles of several checkpoints fit ({names}); name one with --bundle or --checkpoint")
        if found:
            if one.reason:
                report(one.reason)
            return Bundle.open(next(iter(found.values())))
    raise NoBundleError(
        f"no model was named, and the cache has none for {wanted[0].request.recipe('', size).describe()}; name a "
        "--checkpoint, e.g. demo, or a --bundle",
        str(size),
    )


def _serves(built: Recipe, wanted: Recipe) -> bool:
    """Whether a bundle with the recipe `built` serves for `wanted`."""
    return as_requested(built) == as_requested(wanted)


def as_requested(recipe: Recipe) -> Recipe:
    """The recipe without what requests leave open: any calibration and any autoencoder will do."""
    return replace(recipe, calibration=None, autoencoder=None)


def find_built(cache: BundleCache, wanted: Recipe) -> Bundle | None:
    """The bundle in the cache that serves for a recipe; the latest if several serve. None if none does."""
    for path in cache.search(resolution=wanted.resolution, checkpoint=wanted.checkpoint):
        if _serves(read_manifest(path).recipe, wanted):
            return Bundle.open(path)
    return None


def _find_or_build(recipe: Recipe, request: BundleRequest, cache: BundleCache, report: LineCallback) -> Bundle:
    """The bundle from the cache; if it has none, another process builds it, so that torch never enters this one."""
    found = find_built(cache, recipe)
    if found is not None:
        return found
    delegate("build", "builds the bundle", build_order(recipe, request, cache), report, BuildError)
    built = find_built(cache, recipe)
    if built is None:
        raise BuildError(f"{cache.path(recipe)}: the bundle was built but has disappeared; build it again")
    return built


def build_order(recipe: Recipe, request: BundleRequest, cache: BundleCache) -> Message:
    """What `export.build_process` is asked to build. request: its checkpoint is a directory."""
    return {
        "checkpoint": str(request.checkpoint),
        "cache": str(cache.root),
        "resolution": str(recipe.resolution),
        "clip_len": recipe.clip_len,
        "precision": request.precision,
        "target": request.target,
        "gpu": request.gpu,
    }


def locate_checkpoint(given: str | Path, report: LineCallback) -> Path:
    """The directory of a checkpoint; if it has to be downloaded, another process does that."""
    found = find_checkpoint(given)
    if isinstance(found, Path):
        return found
    order: Message = {"checkpoint": str(found)}
    return Path(delegate("download", "downloads the checkpoint", order, report, DownloadError)["path"])


def delegate(process: str, work: str, order: Message, report: LineCallback, failure: type[MachineError]) -> Message:
    """Have a process of `export` do some work. Returns its answer; raises the error in it, or that it ended."""
    with Child(f"swiftvr_trt.export.{process}_process", patience_s=PROCESS_S, keep_errors=True) as child:
        answer = child.ask(order, report, _log.info)
        if answer is None:
            raise failure(f"the process that {work} ended: {child.ending(PROCESS_S)}")
    if answer["error"]:
        raise (MisuseError if answer["misuse"] else failure)(answer["error"])
    return answer
