"""Write one bundle: load the checkpoint, trace it, compile the graphs if the target has engines, put it in place."""

from __future__ import annotations

import gc
import shutil
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from uuid import uuid4

import torch

from ..engines.bundle.files import PARTIAL, Bundle, BundleWriter
from ..engines.bundle.manifest import Recipe, StageSpec, Toolchain
from ..engines.bundle.targets import TENSORRT_MODULES, TORCH, Target, choose_target
from ..engines.compile.compiler import compiler_version
from ..engines.compile.engines import EngineOptions, build_engines
from ..errors import MissingPackageError, MisuseError
from ..runtime.devices.driver import find_driver, package_cuda
from ..text import LineCallback
from .graph.calibration import CALIBRATION_FILE, Calibration
from .graph.precision import Precision
from .graph.stages import Stage, stages_of
from .graph.to_onnx import WeightStore, WrittenStage, open_weights, write_stages
from .network.checkpoint import Checkpoint, load_checkpoint


@dataclass(frozen=True)
class Graphs:
    """A directory of graphs to compile. Bundles that share it share the weights in it, which are written once."""

    directory: Path
    store: WeightStore


@contextmanager
def open_graphs(bundle: Path, keep: Path | None = None) -> Iterator[Graphs]:
    """`keep`, or a temporary directory next to `bundle`, which is on the disk that has to hold the bundle anyway."""
    directory = keep or bundle.with_name(f"{bundle.name}{PARTIAL}{uuid4().hex[:8]}")
    directory.mkdir(parents=True, exist_ok=keep is not None)
    try:
        with open_weights(directory) as store:
            yield Graphs(directory, store)
    finally:
        if keep is None:
            shutil.rmtree(directory, ignore_errors=True)


def write_bundle(
    checkpoint: str | Path | Checkpoint,
    recipe: Recipe,
    path: str | Path,
    report: LineCallback = lambda _line: None,
    *,
    graphs: Graphs | None = None,
    calibration: Calibration | None = None,
) -> Bundle:
    """Write the bundle of `recipe` to `path`. On failure, `path` is as it was before.

    report: gets a line per finished step. graphs: where to put the graphs that engines are compiled from; None means a
    temporary directory. calibration: the scales, required for a quantised precision and stored in the bundle. Raises
    `MisuseError` if the target or its precision cannot be built, `CheckpointError` if the checkpoint is unusable,
    `MissingPackageError` if the target's compiler is not installed, and `OutputError`.
    """
    if Precision.named(recipe.precision).quantised and calibration is None:
        raise MisuseError(f"precision {recipe.precision} needs scales: pass a calibration, see CalibrationSource")
    chosen = choose_target(recipe.target, recipe.precision)
    toolchain = _toolchain(chosen)
    with BundleWriter(path) as writer, ExitStack() as stack:
        loaded = checkpoint if isinstance(checkpoint, Checkpoint) else load_checkpoint(checkpoint)
        report(f"checkpoint: {loaded.parameters / 1e6:,.1f} M parameters")
        network = stages_of(loaded, recipe, calibration.largest if calibration else None, joint=chosen.compiled)
        if calibration is not None:
            (writer.directory / CALIBRATION_FILE).write_text(calibration.to_json(), encoding="utf-8")
        if chosen.compiled:
            graphs = graphs or stack.enter_context(open_graphs(writer.path))
            specs = _compile(network, graphs, writer.directory, EngineOptions(chosen, recipe.resolution), report)
        else:
            specs = _specs(write_stages(network, writer.directory), report)
        return writer.commit(recipe, toolchain, specs)


def _toolchain(chosen: Target) -> Toolchain:
    """What the manifest records about the build. A target that names no GPU is built for this machine's.

    Raises `MissingPackageError` if the target's compiler is not installed.
    """
    made_by = (f"swiftvr-trt {tool_version()}", chosen.compiler, _version_of_compiler(chosen))
    if not chosen.compiled:
        return Toolchain(*made_by)
    driver = find_driver()
    return Toolchain(
        *made_by,
        compute_capability=chosen.compute_capability or (driver.compute_capability if driver else None),
        cuda=package_cuda(TENSORRT_MODULES[chosen.compiler]),
        driver_cuda=driver.cuda if driver else None,
    )


def _compile(
    network: Iterable[Stage], graphs: Graphs, directory: Path, options: EngineOptions, report: LineCallback
) -> tuple[StageSpec, ...]:
    """Trace every stage, then compile all: the compiler needs the memory that the tracer used."""
    traced = _specs(write_stages(network, graphs.directory, graphs.store), report)
    gc.collect()  # the tracer leaves reference cycles that hold whole networks
    return build_engines(traced, graphs.directory, directory, options, report)


def _specs(traced: Iterable[WrittenStage], report: LineCallback) -> tuple[StageSpec, ...]:
    specs = []
    for stage in traced:
        report(f"traced {stage.spec.name}: {stage.nodes} nodes")
        specs.append(stage.spec)
    return tuple(specs)


def tool_version() -> str:
    """Version of this package as installed, or `unknown`."""
    try:
        return version("swiftvr-trt")
    except PackageNotFoundError:
        return "unknown"


def _version_of_compiler(chosen: Target) -> str:
    """Version of the target's compiler. `MissingPackageError` if it is not installed."""
    if chosen.compiled:
        return compiler_version(chosen.compiler)
    if chosen.compiler == TORCH:
        return torch.__version__
    try:
        import onnxruntime
    except ImportError as error:
        raise MissingPackageError("onnxruntime", f"a bundle for target {chosen.name}", chosen.extra) from error
    return str(onnxruntime.__version__)
