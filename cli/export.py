"""`swiftvr-export`: from a checkpoint to a bundle, and everything one may want to know about either."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from swiftvr_trt.engines.bundle.targets import QUANTISED, TARGETS

from . import console
from .options import SECTIONS, SECTIONS_OF_ENGINES, recipe_options

if TYPE_CHECKING:
    from swiftvr_trt.engines.bundle.cache import BundleCache
    from swiftvr_trt.engines.bundle.files import Bundle
    from swiftvr_trt.engines.bundle.manifest import Recipe
    from swiftvr_trt.export.build import Graphs
    from swiftvr_trt.export.graph.calibration import Calibration, CalibrationSource
    from swiftvr_trt.text import LineCallback

_CONTEXT = {"help_option_names": ["-h", "--help"], "max_content_width": 110}


@click.group(context_settings=_CONTEXT)
@click.version_option(package_name="swiftvr-trt")
def command() -> None:
    """Turn a SwiftVR checkpoint into a bundle that runs without PyTorch.

    A bundle restores to one output resolution; frames may come in at any size. doctor says what this machine can build
    and run.

    \b
    Examples:
      swiftvr-export build-engine --checkpoint SwiftVR --resolution 1920x1080
      swiftvr-run old.mp4 new.mp4 --checkpoint SwiftVR --resolution 1920x1080
    """


@command.command(cls=console.Sectioned, sections=SECTIONS, short_help="Build a bundle of ONNX graphs.")
@recipe_options
@click.option("--resolution", metavar="WxH", required=True, help="Output size in pixels, e.g. 1920x1080.")
@click.option(
    "-o", "--output", metavar="DIR", type=click.Path(path_type=Path), required=True, help="Directory of the bundle."
)
@console.cache_option
def onnx(output: Path, resolution: str, cache: Path | None, **options: Any) -> None:
    """Trace a checkpoint into a bundle of ONNX graphs, which ONNX Runtime runs as they are (bf16 on GPUs only).

    For use with tools of your own. For restoring on a CPU or GPU, build-engine makes and keeps what swiftvr-run finds.
    """
    from swiftvr_trt.engines.bundle.cache import BundleCache
    from swiftvr_trt.engines.bundle.targets import choose_target

    choose_target("onnx", options["precision"])
    scales = _scales(options)
    recipe = _recipe(BundleCache(cache), scales, target="onnx", resolution=resolution, **options)
    with ExitStack() as stack:
        _Builder(options["checkpoint"], scales, _reporter(options["quiet"]), stack)(recipe, output)
    click.echo(output)


@command.command(
    "build-engine", cls=console.Sectioned, sections=SECTIONS_OF_ENGINES, short_help="Build a bundle for a target."
)
@recipe_options
@click.option(
    "--resolution",
    "resolutions",
    metavar="WxH",
    required=True,
    multiple=True,
    help="Output size in pixels, e.g. 1920x1080; repeat for more bundles, whose weights are traced once.",
)
@click.option(
    "--target",
    metavar="T",
    default="cpu",
    show_default=True,
    help=f"What runs it: {', '.join(t.name for t in TARGETS)} (the GPU of this machine), or a card such as rtx4070. "
    "cpu and cuda are run by ONNX Runtime, the others as engines.",
)
@click.option(
    "-o",
    "--output",
    metavar="DIR",
    type=click.Path(path_type=Path),
    help="Directory of the bundle.  [default: the cache, where swiftvr-run finds it]",
)
@console.cache_option
@click.option(
    "--keep-onnx", metavar="DIR", type=click.Path(path_type=Path), help="Keep the graphs that engines are made of."
)
def build_engine(
    output: Path | None,
    cache: Path | None,
    target: str,
    resolutions: tuple[str, ...],
    keep_onnx: Path | None,
    **options: Any,
) -> None:
    """Build a bundle for a target, by default into the cache, where swiftvr-run finds it again.

    No GPU is needed to build for a GeForce RTX or RTX PRO card; for h100 and local, build where the card is.

    \b
    Examples:
      swiftvr-export build-engine --checkpoint SwiftVR --resolution 1920x1080
      swiftvr-export build-engine --checkpoint SwiftVR --resolution 1920x1080 \\
          --target rtx5090 --precision fp8 -o bundle-5090
    """
    from swiftvr_trt.engines.bundle.cache import BundleCache
    from swiftvr_trt.engines.bundle.targets import choose_target, find_target

    if output is not None and len(set(resolutions)) > 1:
        raise click.UsageError(f"-o names one bundle, but {len(set(resolutions))} resolutions were asked for")
    chosen = choose_target(find_target(target, TARGETS).name, options["precision"])
    bundles = BundleCache(cache)
    report = _reporter(options["quiet"])
    scales = _scales(options)
    recipes = [
        _recipe(bundles, scales, target=chosen.name, resolution=text, **options) for text in dict.fromkeys(resolutions)
    ]
    with ExitStack() as stack:
        builder = _Builder(options["checkpoint"], scales, report, stack, keep_onnx if chosen.compiled else None)
        for recipe in recipes:
            click.echo(_into_cache(bundles, recipe, builder) if output is None else builder(recipe, output).path)


@command.command(short_help="Compare a bundle with the float32 torch network.")
@click.argument("bundle", type=click.Path(path_type=Path))
@click.option(
    "--checkpoint", metavar="DIR", type=click.Path(path_type=Path), required=True, help="What the bundle was made from."
)
@click.option(
    "--device",
    metavar="D",
    help="What runs the bundle: cpu, cuda or cuda:N.  [default: cpu for graphs, the first GPU for engines]",
)
@click.option(
    "--frames",
    metavar="N",
    type=click.IntRange(1, 100000),
    help="Frames through the whole loop; fewer are quicker.  [default: 2 chunks + 9]",
)
@click.option(
    "--threads",
    metavar="N",
    type=click.IntRange(1, 1024),
    help="CPU threads for one stage.  [default: one per physical core]",
)
@console.cache_option
@click.option("--debug", is_flag=True, expose_value=False, help="Show a traceback when something fails.")
def verify(bundle: Path, checkpoint: Path, device: str | None, cache: Path | None, **options: Any) -> int:
    """Compare every stage of BUNDLE, and the whole loop, with the float32 torch network.

    Graphs are run by ONNX Runtime, engines on a GPU that they are for. The network runs on the CPU, so memory for a
    float32 checkpoint is needed. Exit code 0 if everything is within tolerance, 1 if not.
    """
    from swiftvr_trt.engines.bundle.cache import BundleCache
    from swiftvr_trt.engines.bundle.files import Bundle

    from .tables import print_rows

    with _needs_export_packages("verifying a bundle"):
        from swiftvr_trt.export.network.checkpoint import load_checkpoint
        from swiftvr_trt.export.verify import verification_device, verify_bundle

    opened = Bundle.open(bundle)
    options["device"] = verification_device(opened.manifest.recipe, device)
    digest = BundleCache(cache).checkpoint_digest(checkpoint)
    rows = []
    for row in verify_bundle(opened, load_checkpoint(checkpoint), digest, **options):
        rows.append(row)
        console.say(f"compared {row.subject}, {row.unit}")
    print_rows(rows)
    return 0 if all(row.passed for row in rows) else 1


@command.command(short_help="Say what a bundle is, and the memory it takes.")
@click.argument("bundle", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option("--kernels", is_flag=True, help="List every kernel of every engine.")
@click.option("--buffers", is_flag=True, help="List every buffer of a stream: its place, and which share one.")
@click.option("--picture", type=click.Path(path_type=Path), metavar="FILE.svg", help="Draw memory and time as SVG.")
@click.option(
    "--input-size", metavar="WxH", help="Size of incoming frames for the memory plan.  [default: the output's]"
)
@click.option("--debug", is_flag=True, expose_value=False, help="Show a traceback when something fails.")
def inspect(
    bundle: Path, as_json: bool, kernels: bool, buffers: bool, picture: Path | None, input_size: str | None
) -> None:
    """Say what BUNDLE is: what it was made from and by, its stages, and the memory that a stream takes.

    Of engines, also what the compiler made of them: kernels by kind, fused attention, precisions, operations, bytes,
    GPU memory of the whole pipeline, and how fast that could be at best (a projection, docs/roofline.md).
    """
    from swiftvr_trt.engines.bundle.files import Bundle
    from swiftvr_trt.engines.bundle.geometry import Resolution
    from swiftvr_trt.engines.report.inspect import engine_reports, inspect_bundle
    from swiftvr_trt.runtime.stream.plan import describe_stream

    from .tables import print_buffers, print_kernels, print_report, write_picture

    opened = Bundle.open(bundle)
    size = Resolution.parse(input_size) if input_size else opened.manifest.recipe.resolution
    stream = describe_stream(opened.manifest, size.height, size.width)
    report = inspect_bundle(opened, stream_input=(size.width, size.height), stream=stream)
    if picture is not None:
        write_picture(report, picture)
    if as_json:
        click.echo(json.dumps(report.to_dict(), indent=2))
    else:
        print_report(bundle, report)
    if buffers:
        print_buffers(stream.buffers)
    if kernels:
        facts = engine_reports(opened)
        if not facts:
            target = opened.manifest.recipe.target
            console.say(f"{bundle}: a bundle for target {target} holds graphs, which have no kernels yet")
        print_kernels(facts)


@command.command(short_help="Say what this machine can build and run.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@console.cache_option
@click.option("--debug", is_flag=True, expose_value=False, help="Show a traceback when something fails.")
def doctor(as_json: bool, cache: Path | None) -> None:
    """List what is installed, what is missing for which target, and how to get it."""
    from swiftvr_trt.engines.bundle.cache import BundleCache

    from .doctor import diagnose
    from .tables import print_diagnosis

    diagnosis = diagnose(BundleCache(cache).root)
    if as_json:
        click.echo(json.dumps(diagnosis.to_dict(), indent=2))
    else:
        print_diagnosis(diagnosis)


def _scales(options: dict[str, Any]) -> CalibrationSource | None:
    """Where scales come from, if the precision has any."""
    names = {"scales_file": "--calibration", "clip": "--calibration-clip", "percentile": "--calibration-percentile"}
    given = [option for name, option in names.items() if options[name] is not None]
    if options["precision"] not in QUANTISED:
        if given:
            raise click.UsageError(f"precision {options['precision']} has no scales: leave {given[0]} out")
        return None
    with _needs_export_packages("calibrating"):
        from swiftvr_trt.export.graph.calibration import DEFAULT_PERCENTILE, CalibrationSource

    percentile = DEFAULT_PERCENTILE if options["percentile"] is None else options["percentile"]
    return CalibrationSource(options["scales_file"], options["clip"], percentile)


def _recipe(
    cache: BundleCache, scales: CalibrationSource | None, *, target: str, resolution: str, **options: Any
) -> Recipe:
    from swiftvr_trt.engines.bundle.geometry import Resolution, check_clip_len
    from swiftvr_trt.engines.bundle.manifest import Recipe

    size = Resolution.parse(resolution)
    return Recipe(
        checkpoint=cache.checkpoint_digest(options["checkpoint"]),
        width=size.width,
        height=size.height,
        clip_len=check_clip_len(options["clip_len"]),
        precision=options["precision"],
        target=target,
        parity=options["parity"],
        without=_known_rewrites(options["no_rewrite"]),
        calibration=scales.identity if scales else None,
    )


def _known_rewrites(names: tuple[str, ...]) -> tuple[str, ...]:
    """Names of rewrites, each once and sorted; imports the exporter only if there are any."""
    if names:
        with _needs_export_packages("rewriting"):
            from swiftvr_trt.export.graph.rewrites import ALL

        ALL.without(names)
    return tuple(sorted(set(names)))


def _into_cache(cache: BundleCache, recipe: Recipe, builder: _Builder) -> Path:
    """Where the bundle of `recipe` lies, which is built if it is not there."""
    bundle, built = cache.get_or_build(recipe, lambda path: builder(recipe, path), builder.report)
    if not built:
        builder.report("found in the cache")
    return bundle.path


class _Builder:
    """Builds the bundles of one call; the graphs that engines are made of share their weights."""

    def __init__(
        self,
        checkpoint: Path,
        scales: CalibrationSource | None,
        report: LineCallback,
        stack: ExitStack,
        keep: Path | None = None,
    ) -> None:
        self.checkpoint, self.scales, self.report = checkpoint, scales, report
        self._stack, self._keep = stack, keep
        self._graphs: Graphs | None = None
        self._calibration: Calibration | None = None

    def __call__(self, recipe: Recipe, path: Path) -> Bundle:
        from swiftvr_trt.engines.bundle.files import check_replaceable

        check_replaceable(path)  # before torch is imported, which takes seconds
        self._check(recipe, path)
        with _needs_export_packages("exporting a checkpoint"):
            from swiftvr_trt.export.build import build
            from swiftvr_trt.export.network.checkpoint import load_checkpoint
        self.report(f"building {recipe.describe()}")
        loaded = load_checkpoint(self.checkpoint)
        if self.scales is not None and self._calibration is None:
            self._calibration = self.scales.obtain(loaded, recipe, self.report)
        return build(loaded, recipe, path, self.report, self._shared(recipe, path), self._calibration)

    def _check(self, recipe: Recipe, path: Path) -> None:
        """Refuse what cannot work, and say what to expect of the rest."""
        from swiftvr_trt.engines.bundle.targets import find_target
        from swiftvr_trt.engines.compile.estimate import check_feasible, count_parameters, estimate
        from swiftvr_trt.engines.compile.parent import compiler_version

        if not find_target(recipe.target).compiled:
            return
        compiler_version(find_target(recipe.target).compiler)
        expected = estimate(count_parameters(self.checkpoint), recipe)
        check_feasible(expected, recipe, path)
        self.report(expected.describe())

    def _shared(self, recipe: Recipe, path: Path) -> Graphs | None:
        from swiftvr_trt.engines.bundle.targets import find_target
        from swiftvr_trt.export.build import open_graphs

        if not find_target(recipe.target).compiled:
            return None
        if self._graphs is None:
            self._graphs = self._stack.enter_context(open_graphs(path, self._keep))
        return self._graphs


@contextmanager
def _needs_export_packages(purpose: str) -> Iterator[None]:
    """Say which extra is missing if an import fails."""
    try:
        yield
    except ImportError as error:
        from swiftvr_trt.errors import MissingPackageError

        raise MissingPackageError(error.name or "torch", purpose, "export") from error


def _reporter(quiet: bool) -> LineCallback:
    """Lines with the seconds since the start."""
    began = time.monotonic()

    def report(line: str) -> None:
        if not quiet:
            console.say(f"{time.monotonic() - began:6.1f} s  {line}")

    return report


def main() -> None:
    """Entry point."""
    console.run(command, "swiftvr-export")


if __name__ == "__main__":
    main()
