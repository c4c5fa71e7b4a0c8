"""Build bundles, one per resolution, in a given directory or in the cache.

    options = BuildOptions(Path("SwiftVR"), (Resolution(1920, 1080),), target="rtx5090", precision="fp8")
    for bundle in build_bundles(options, print):
        ...

torch is imported only when a bundle has to be built.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from ..engines.bundle.cache import BundleCache
from ..engines.bundle.files import Bundle, check_replaceable
from ..engines.bundle.geometry import Resolution, check_clip_len
from ..engines.bundle.manifest import Recipe
from ..engines.bundle.targets import QUANTISED, Target, choose_target
from ..errors import MissingPackageError, MisuseError
from ..text import LineCallback

if TYPE_CHECKING:
    from .graph.calibration import Calibration, CalibrationSource
    from .write import Graphs


@dataclass(frozen=True)
class BuildOptions:
    """What to build. Fields have the names and defaults of the options of `swiftvr-export`.

    checkpoint: directory of a SwiftVR checkpoint. resolutions: output sizes, a bundle for each; duplicates are dropped.
    target, precision: see `choose_target`. clip_len: frames of a chunk, a multiple of 4. parity: follow the published
    protocol exactly. without: names of rewrites to leave out.
    calibration: file with the scales of an earlier build. calibration_clip: video to calibrate on; None is the sample
    clip. calibration_percentile: percentile of the magnitudes that the scales cover; None is 100.
    output: directory of the only bundle; None puts bundles into the cache. cache: its root; None is the user's.
    keep_onnx: directory that keeps the graphs that engines are compiled from.

    Raises `MisuseError` if options contradict each other, or the target cannot be built in this precision.
    """

    checkpoint: Path
    resolutions: tuple[Resolution, ...]
    target: str = "cpu"
    precision: str = "fp32"
    clip_len: int = 24
    parity: bool = False
    without: tuple[str, ...] = ()
    calibration: Path | None = None
    calibration_clip: Path | None = None
    calibration_percentile: float | None = None
    output: Path | None = None
    cache: Path | None = None
    keep_onnx: Path | None = None

    def __post_init__(self) -> None:
        sizes = len(set(self.resolutions))
        if self.output is not None and sizes > 1:
            raise MisuseError(
                f"-o names one bundle, but {sizes} resolutions were asked for; leave -o out, or build one at a time"
            )
        choose_target(self.target, self.precision)
        check_clip_len(self.clip_len)
        for name in ("calibration", "calibration_clip", "calibration_percentile"):
            if getattr(self, name) is not None and not self.quantised:
                option = "--" + name.replace("_", "-")
                raise MisuseError(f"precision {self.precision} has no scales: leave {option} out")

    @property
    def chosen_target(self) -> Target:
        """The target, which can be built in this precision."""
        return choose_target(self.target, self.precision)

    @property
    def quantised(self) -> bool:
        """True if the precision needs scales."""
        return self.precision in QUANTISED

    def recipes(self, checkpoint: str, calibration: str | None) -> tuple[Recipe, ...]:
        """What to build: a recipe per resolution. checkpoint, calibration: digests; None without a calibration."""
        return tuple(
            Recipe(
                checkpoint=checkpoint,
                width=size.width,
                height=size.height,
                clip_len=self.clip_len,
                precision=self.precision,
                target=self.chosen_target.name,
                parity=self.parity,
                without=tuple(sorted(set(self.without))),
                calibration=calibration,
            )
            for size in dict.fromkeys(self.resolutions)
        )


def build_bundles(options: BuildOptions, report: LineCallback = lambda _line: None) -> Generator[Bundle, None, None]:
    """Build the bundles, or find them in the cache; yields each as soon as it is complete.

    report: gets a line per finished step. Raises any `SwiftVRError`; a bundle that failed leaves nothing behind.
    """
    _check_rewrites(options.without)
    source = _calibration_source(options)
    cache = BundleCache(options.cache)
    recipes = options.recipes(cache.checkpoint_digest(options.checkpoint), source.identity if source else None)
    with ExitStack() as stack:
        builder = _Builder(options, source, report, stack)
        for recipe in recipes:
            if options.output is not None:
                yield builder.build(recipe, options.output)
                continue
            bundle, built = cache.get_or_build(recipe, partial(builder.build, recipe), report)
            if not built:
                report("found in the cache")
            yield bundle


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
            self._report(_estimate(self._options.checkpoint, recipe, self._target, path))
        with needs_export_extra("exporting a checkpoint"):
            from .network.checkpoint import load_checkpoint
            from .write import open_graphs, write_bundle
        self._report(f"building {recipe.describe()}")
        checkpoint = load_checkpoint(self._options.checkpoint)
        if self._source is not None and self._calibration is None:
            self._calibration = self._source.obtain(checkpoint, recipe, self._report)
        if self._target.compiled and self._graphs is None:
            self._graphs = self._stack.enter_context(open_graphs(path, self._options.keep_onnx))
        return write_bundle(checkpoint, recipe, path, self._report, graphs=self._graphs, calibration=self._calibration)


def _estimate(checkpoint: Path, recipe: Recipe, target: Target, path: Path) -> str:
    """One line about the size and time of the build. Raises if the compiler is missing, or memory or disk too small."""
    from ..engines.compile.compiler import compiler_version
    from ..engines.compile.estimate import check_feasible, count_parameters, estimate

    compiler_version(target.compiler)
    expected = estimate(count_parameters(checkpoint), recipe)
    check_feasible(expected, recipe, path)
    return expected.describe()


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
        raise MissingPackageError(error.name or "torch", purpose, "export") from error
