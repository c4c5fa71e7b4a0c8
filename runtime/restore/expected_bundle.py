"""The bundle that a run would use, for `--dry-run`: the one that is there, or what building it would take.

Makes the checks of `selection.find_or_build_bundle`, and writes and downloads nothing.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from ...engines.bundle.cache import BundleCache, checkpoint_files
from ...engines.bundle.checkpoints import HubRepository, find_checkpoint
from ...engines.bundle.files import Bundle, read_manifest
from ...engines.bundle.geometry import Resolution
from ...engines.bundle.manifest import Recipe
from ...errors import BuildError, DownloadError
from ...text import LineCallback
from .bundle_request import BundleRequest, suited
from .selection import as_requested, build_order, delegate, find_built, find_or_build_bundle


@dataclass(frozen=True)
class BundleToBuild:
    """A bundle that a run would have to build first.

    recipe      its checkpoint is empty: the digest takes long, and is not needed to say what the build takes
    checkpoint  what it would be built from, as the user named it
    download    what would have to be downloaded before, in one line; None if the checkpoint is here
    estimate    what the build takes, in one line; None if that is not known before the download
    """

    recipe: Recipe
    checkpoint: str
    download: str | None = None
    estimate: str | None = None


def expect_bundle(request: BundleRequest, size: Resolution, report: LineCallback) -> Bundle | BundleToBuild:
    """The bundle that restores to `size`. Takes and raises what `find_or_build_bundle` does."""
    if request.checkpoint is None or request.bundle is not None:
        return find_or_build_bundle(request, size, report)  # builds nothing without a checkpoint
    given, cache = str(request.checkpoint), BundleCache(request.cache)
    checkpoint = find_checkpoint(request.checkpoint)
    if isinstance(checkpoint, HubRepository):
        order = {"checkpoint": given, "dry_run": True}
        answer = delegate("download", "looks for the checkpoint", order, report, DownloadError)
        if answer["path"] is None:
            cache.check_writable()
            return BundleToBuild(_best(request, size, report).recipe("", size), given, download=answer["missing"])
        checkpoint = Path(answer["path"])
    checkpoint_files(checkpoint)
    request = _best(replace(request, checkpoint=checkpoint), size, report)
    wanted = request.recipe("", size)
    known = (replace(as_requested(recipe), checkpoint="") for recipe in _recipes(cache, size))
    if as_requested(wanted) in known:
        digest = cache.checkpoint_digest(checkpoint, remember=False)
        if (found := find_built(cache, request.recipe(digest, size))) is not None:
            return found
    cache.check_writable()
    order = {**build_order(wanted, request, cache), "dry_run": True}
    answer = delegate("build", "looks into the build", order, report, BuildError)
    return BundleToBuild(wanted, given, estimate=answer["estimate"])


def _best(request: BundleRequest, size: Resolution, report: LineCallback) -> BundleRequest:
    """The request for the target that a run would try first."""
    best = suited(request, size)[0]
    if best.reason:
        report(best.reason)
    return best.request


def _recipes(cache: BundleCache, size: Resolution) -> list[Recipe]:
    """What bundles of a size the cache holds."""
    return [read_manifest(path).recipe for path in cache.search(resolution=size)]
