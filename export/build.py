"""Build bundles, one per resolution, in a given directory or in the cache.

    options = BuildOptions(Path("SwiftVR"), (Resolution(1920, 1080),), target="rtx5090", precision="fp8")
    for bundle in build_bundles(options, print):
        ...

torch is imported only when a bundle has to be built.
"""

from __future__ import annotations

import logging
from collections.abc import Generator, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from ..engines.bundle.auto import AUTO, Choice, Host, choose_for, make_way
from ..engines.bundle.cache import BundleCache
from ..engines.bundle.card_names import find_card
from ..engines.bundle.cards import Card
from ..engines.bundle.files import Bundle, check_replaceable
from ..engines.bundle.geometry import Resolution, check_clip_len
from ..engines.bundle.manifest import Recipe
from ..engines.bundle.pipeline_memory import count_parameters, gpu_bytes_by_target
from ..engines.bundle.targets import (
    TRT,
    Target,
    choose_autoencoder,
    choose_target,
    find_target,
    multiplies_in,
    needs_scales,
)
from ..errors import MachineError, MisuseError, cannot_import
from ..runtime.devices.compatible import check_target
from ..runtime.devices.driver import find_driver
from ..runtime.devices.host import look_at_host
from ..text import LineCallback
from .download import obtain_checkpoint

_log = logging.getLogger(__name__)

if TYPE_CHECKING:
    from ..engines.bundle.calibration import Calibration
    from .graph.calibration import CalibrationSource
    from .write import Graphs


@dataclass(frozen=True)
class BuildOptions:
    """What to build. Fields have the names of the options of `swiftvr-export`.

    checkpoint: as a user names it, see `engines.bundle.checkpoints`. resolutions: output sizes, a bundle for each;
    duplicates are dropped.
    target: a target or a card, see `find_target`; `auto` for what suits this machine. precision: None is the target's
    usual one. autoencoder: `fp16` or `int8`; None is that of the precision, see `usual_autoencoder`.
    clip_len: frames of a chunk, a multiple of 4. parity: follow the published protocol exactly. without:
    names of rewrites to leave out.
    calibration: file with the scales of an earlier build. calibration_clip: video to calibrate on; None is the sample
    clip. calibration_percentile: percentile of the magnitudes that the scales cover; None is 100.
    output: directory of the only bundle; None puts bundles into the cache. overwrite: replace a bundle that is there.
    cache: root of the cache; None is the user's.
    keep_onnx: directory that keeps the graphs that engines are compiled from.

    Raises `MisuseError` if options contradict each other, or the target cannot be built in this precision.
    """

    checkpoint: str | Path
    resolutions: tuple[Resolution, ...]
    target: str = "cpu"
    precision: str | None = None
    clip_len: int = 24
    parity: bool = False
    without: tuple[str, ...] = ()
    calibration: Path | None = None
    calibration_clip: Path | None = None
    calibration_percentile: float | None = None
    output: Path | None = None
    overwrite: bool = False
    cache: Path | None = None
    keep_onnx: Path | None = None
    autoencoder: str | None = None

    def __post_init__(self) -> None:
        sizes = len(set(self.resolutions))
        if self.output is not None and sizes > 1:
            raise MisuseError(
                f"-o names one bundle, but {sizes} resolutions were asked for; leave -o out, or build one at a time"
            )
        check_clip_len(self.clip_len)
        if self.target == AUTO:
            return
        _ = self.chosen_autoencoder
        for name in ("calibration", "calibration_clip", "calibration_percentile"):
            if getattr(self, name) is not None and not self.quantised:
                option = "--" + name.replace("_", "-")
                raise MisuseError(f"precision {self.chosen_precision} has no scales: leave {option} out")

    @property
    def chosen_target(self) -> Target:
        """The target, which can be built in this precision."""
        return choose_target(self.target, self.chosen_precision)

    @property
    def chosen_precision(self) -> str:
        """The precision that was asked for, or the usual one of the target."""
        return self.precision or find_target(self.target).usual_precision

    @property
    def chosen_autoencoder(self) -> str | None:
        """As in `Recipe`."""
        return choose_autoencoder(self.chosen_target, self.chosen_precision, self.autoencoder)

    @property
    def quantised(self) -> bool:
        """See `needs_scales`."""
        return needs_scales(self.chosen_precision, self.chosen_autoencoder)

    def recipes(self, checkpoint: str, calibration: str | None) -> tuple[Recipe, ...]:
        """What to build: a recipe per resolution. checkpoint, calibration: digests; None without a calibration."""
        return tuple(
            Recipe(
                checkpoint=checkpoint,
                width=size.width,
                height=size.height,
                clip_len=self.clip_len,
                precision=self.chosen_precision,
                target=self.chosen_target.name,
                parity=self.parity,
                without=tuple(sorted(set(self.without))),
                calibration=calibration,
                autoencoder=self.chosen_autoencoder,
            )
            for size in dict.fromkeys(self.resolutions)
        )


def build_bundles(options: BuildOptions, report: LineCallback = lambda _line: None) -> Generator[Bundle, None, None]:
    """Build the bundles, or find them in the cache; yields each as soon as it is complete.

    report: gets a line per finished step. Raises any `SwiftVRError`; a bundle that failed leaves nothing behind.
    """
    if options.output is not None:
        _check_free(options.output, overwrite=options.overwrite)
    _check_rewrites(options.without)
    if options.target == AUTO:
        options = replace(options, checkpoint=obtain_checkpoint(options.checkpoint, report))
        yield from _build_the_best(options, _choices(options, look_at_host()), report)
        return
    if options.precision is None and options.chosen_precision != "fp32":
        report(_chosen_for_you(options))
    _check_gpu(options)
    source = _calibration_source(options)
    cache = BundleCache(options.cache)
    checkpoint = obtain_checkpoint(options.checkpoint, report)
    recipes = options.recipes(cache.checkpoint_digest(checkpoint), source.identity if source else None)
    with ExitStack() as stack:
        builder = _Builder(replace(options, checkpoint=checkpoint), source, report, stack)
        for recipe in recipes:
            if options.output is not None:
                yield builder.build(recipe, options.output)
                continue
            bundle, built = cache.get_or_build(recipe, partial(builder.build, recipe), report)
            if not built:
                report("found in the cache")
            yield bundle


def _choices(options: BuildOptions, host: Host) -> tuple[Choice, ...]:
    """What suits the machine for the largest size, the best first. options: its checkpoint is a directory."""
    size = max(options.resolutions, key=lambda size: size.width * size.height)
    parameters = count_parameters(Path(options.checkpoint))
    return choose_for(host, options.precision, gpu_bytes_by_target(parameters, size, options.clip_len))


def _build_the_best(
    options: BuildOptions, choices: Sequence[Choice], report: LineCallback
) -> Generator[Bundle, None, None]:
    """Build for the first choice; if that fails on this machine, what is left for the next one."""
    choice, *others = choices
    report(choice.reason)
    left = list(dict.fromkeys(options.resolutions))
    chosen = replace(options, target=choice.target.name, precision=choice.precision)
    try:
        with closing(build_bundles(chosen, report)) as bundles:
            for bundle in bundles:
                left.remove(bundle.manifest.recipe.resolution)
                yield bundle
        return
    except MachineError as error:
        make_way(error, others, report)
    yield from _build_the_best(replace(options, resolutions=tuple(left)), others, report)


def foresee_build(options: BuildOptions) -> str:
    """What building a bundle of one size into the cache would take, in one line.

    options: its checkpoint is a directory. Makes the checks of `build_bundles` that need no build, raises what it does,
    and writes nothing.
    """
    from ..engines.compile.estimate import estimate

    _check_rewrites(options.without)
    _check_gpu(options)
    _calibration_source(options)
    with needs_export_extra("preparing a model"):
        from . import write  # noqa: F401 (what it needs is installed)
        from .network.checkpoint import load_checkpoint
    load_checkpoint(options.checkpoint)
    (recipe,) = options.recipes("", None)
    if options.chosen_target.compiled:
        path = BundleCache(options.cache).path(recipe)
        return _estimate(Path(options.checkpoint), recipe, find_card(options.target), path).removeprefix("estimate: ")
    return estimate(count_parameters(Path(options.checkpoint)), recipe).describe_graphs()


class _Builder:
    """Builds bundles that share the scales of a checkpoint and, for engines, the weights of their graphs."""

    def __init__(
        self, options: BuildOptions, source: CalibrationSource | None, report: LineCallback, stack: ExitStack
    ) -> None:
        """stack: closed when the last bundle is done; removes the graphs."""
        self._options, self._source, self._report, self._stack = options, source, report, stack
        self._target = options.chosen_target
        self._graphs: Graphs | None = None
        self._calibration: Calibration | None = None

    def build(self, recipe: Recipe, path: Path) -> Bundle:
        """Build the bundle of `recipe` at `path`."""
        # Refuse what can be refused before torch is imported, which takes seconds.
        check_replaceable(path)
        if self._target.compiled:
            card = find_card(self._options.target)
            self._report(_estimate(Path(self._options.checkpoint), recipe, card, path))
        with needs_export_extra("preparing a model"):
            from .network.checkpoint import load_checkpoint
            from .write import open_graphs, write_bundle
        self._report(f"preparing the model for {recipe.resolution}, once for all videos")
        _log.info("building %s", recipe.describe())
        checkpoint = load_checkpoint(self._options.checkpoint)
        if self._source is not None and self._calibration is None:
            self._calibration = self._source.obtain(checkpoint, recipe, self._report)
        if self._target.compiled and self._graphs is None:
            self._graphs = self._stack.enter_context(open_graphs(path, self._options.keep_onnx))
        return write_bundle(checkpoint, recipe, path, self._report, graphs=self._graphs, calibration=self._calibration)


def _check_free(output: Path, *, overwrite: bool) -> None:
    """Raise `MisuseError` if a bundle is there and may not be replaced."""
    check_replaceable(output)
    if not overwrite and output.is_dir() and any(output.iterdir()):
        raise MisuseError(f"{output}: a bundle is there already; choose another name, or replace it with -y")


def _check_gpu(options: BuildOptions) -> None:
    """Raise if TensorRT, which builds for the GPU that is there, cannot build these engines here.

    `MachineError` without a GPU; `MisuseError` if it is another one than the target names, or lacks a number format.
    """
    target = options.chosen_target
    if target.compiler != TRT:
        return
    driver = find_driver()
    capability = driver.compute_capability if driver else None
    if capability is None:
        raise MachineError(
            f"target {target.name} is built on the GPU that will run it, and no NVIDIA {'GPU' if driver else 'driver'} "
            "was found: build it there, or take a card whose engines are built anywhere, e.g. --target rtx4090"
        )
    check_target(target, "cuda")
    takes = [p for p in target.precisions if multiplies_in(p, capability)]
    if options.chosen_precision not in takes:
        raise MisuseError(
            f"precision {options.chosen_precision} is not available for the GPU here, of compute capability "
            f"{capability}; it takes: {', '.join(takes)}"
        )
    if options.chosen_autoencoder == "int8" and not multiplies_in("int8", capability):
        raise MisuseError(f"--autoencoder int8 is not available for a GPU of compute capability {capability}")


def _chosen_for_you(options: BuildOptions) -> str:
    """One line about a precision that nobody asked for."""
    return (
        f"precision {options.chosen_precision}, the usual one for target {options.target}; "
        f"--precision takes {', '.join(options.chosen_target.precisions)}"
    )


def _estimate(checkpoint: Path, recipe: Recipe, card: Card | None, path: Path) -> str:
    """One line about the size and time of the build. Raises if the compiler is missing, or memory or disk too small.

    card: the one that was named as the target, if any.
    """
    from ..engines.compile.compiler import compiler_version
    from ..engines.compile.estimate import check_feasible, estimate

    compiler_version(find_target(recipe.target).compiler)
    expected = estimate(count_parameters(checkpoint), recipe)
    check_feasible(expected, recipe, path, card=card)
    return expected.describe(card)


def _calibration_source(options: BuildOptions) -> CalibrationSource | None:
    """Where the scales come from, if the precision has any."""
    if not options.quantised:
        return None
    with needs_export_extra("calibrating"):
        from .graph.calibration import DEFAULT_PERCENTILE, CalibrationSource

    percentile = options.calibration_percentile
    return CalibrationSource(
        options.calibration, options.calibration_clip, DEFAULT_PERCENTILE if percentile is None else percentile
    )


def _check_rewrites(names: tuple[str, ...]) -> None:
    """Raise `MisuseError` for an unknown rewrite."""
    if names:
        with needs_export_extra("rewriting"):
            from .graph.rewrites import ALL

        ALL.without(names)


@contextmanager
def needs_export_extra(purpose: str) -> Iterator[None]:
    """Turn a failed import in the block into a `MissingPackageError` that names the extra to install."""
    try:
        yield
    except ImportError as error:
        raise cannot_import(error, error.name or "torch", purpose, "export") from error
