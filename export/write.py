"""Write one bundle: load the checkpoint, trace it, compile the graphs if the target has engines, put it in place."""

from __future__ import annotations

import gc
import logging
import shutil
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

import torch

from .. import leaving
from ..engines.bundle.calibration import CALIBRATION_FILE, Calibration
from ..engines.bundle.files import PARTIAL, Bundle, BundleWriter
from ..engines.bundle.graph import vet_graph
from ..engines.bundle.lease import FolderLease
from ..engines.bundle.manifest import NETWORK_STAGES, Recipe, StageSpec, Toolchain
from ..engines.bundle.targets import QUANTISED, RTX, TENSORRT_MODULES, TORCH, Target, choose_target
from ..engines.compile.compiler import compiler_version
from ..engines.compile.engines import EngineOptions, build_engines
from ..errors import BuildError, BundleError, CheckpointError, MisuseError, cannot_import
from ..installing import tool_version
from ..runtime.devices.driver import find_driver, package_cuda
from ..text import LineCallback
from .graph.stages import stages_of
from .graph.to_onnx import WeightStore, WrittenStage, open_weights, write_network
from .network.checkpoint import Checkpoint, load_checkpoint

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Graphs:
    """A directory of graphs to compile. Bundles that share it share the weights in it, which are written once."""

    directory: Path
    store: WeightStore


@contextmanager
def open_graphs(bundle: Path, keep: Path | None = None) -> Iterator[Graphs]:
    """`keep`, or a temporary directory next to `bundle`, which is on the disk that has to hold the bundle anyway."""
    if keep is not None:
        keep.mkdir(parents=True, exist_ok=True)
        with open_weights(keep) as store:
            yield Graphs(keep, store)
        return
    directory = bundle.with_name(f"{bundle.name}{PARTIAL}{uuid4().hex[:8]}")
    with leaving.creating(directory) as release:
        directory.mkdir(parents=True)
        lease = FolderLease(directory)
    try:
        with open_weights(directory) as store:
            yield Graphs(directory, store)
    finally:
        lease.close()
        shutil.rmtree(directory, ignore_errors=True)
        release()


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
    if recipe.has_scales and calibration is None:
        raise MisuseError(f"{_with_scales(recipe)} needs scales: pass a calibration, see CalibrationSource")
    chosen = choose_target(recipe.target, recipe.precision)
    toolchain = _toolchain(chosen)
    with BundleWriter(path) as writer, ExitStack() as stack:
        loaded = checkpoint if isinstance(checkpoint, Checkpoint) else load_checkpoint(checkpoint)
        _log.info("checkpoint: %s M parameters", f"{loaded.parameters / 1e6:,.1f}")
        stack.enter_context(_name_damage(loaded))
        scales = (calibration.largest, calibration.int8) if calibration else ()
        network = stages_of(loaded, recipe, *scales, joint=chosen.compiled, capability=toolchain.compute_capability)
        if calibration is not None:
            (writer.directory / CALIBRATION_FILE).write_text(calibration.to_json(), encoding="utf-8")
        if chosen.compiled:
            graphs = graphs or stack.enter_context(open_graphs(writer.path))
            traced = write_network(network, recipe, graphs.directory, graphs.store)
            specs = _compile(traced, graphs, writer.directory, EngineOptions(chosen, recipe.resolution), report)
        else:
            specs = _specs(write_network(network, recipe, writer.directory), report)
            _vet(specs, writer.directory)
        return writer.commit(recipe, toolchain, specs)


def _with_scales(recipe: Recipe) -> str:
    return f"precision {recipe.precision}" if recipe.precision in QUANTISED else f"autoencoder {recipe.autoencoder}"


@contextmanager
def _name_damage(checkpoint: Checkpoint) -> Iterator[None]:
    """If the block finds that something is not finite, name the tensor of the checkpoint that it comes from."""
    try:
        yield
    except CheckpointError as error:
        name = checkpoint.not_finite()
        if name is None:
            raise
        problem = f"tensor {name} holds NaN or infinity"
        raise CheckpointError(f"{checkpoint.path}: {problem}; download the checkpoint again") from error


def _toolchain(chosen: Target) -> Toolchain:
    """What the manifest records about the build. TensorRT builds for this machine's GPU, whatever the target names.

    Raises `MissingPackageError` if the target's compiler is not installed.
    """
    made_by = (f"swiftvr-trt {tool_version()}", chosen.compiler, _version_of_compiler(chosen))
    if not chosen.compiled:
        return Toolchain(*made_by)
    driver = find_driver()
    present = driver.compute_capability if driver else None
    return Toolchain(
        *made_by,
        compute_capability=chosen.compute_capability if chosen.compiler == RTX else present,
        cuda=package_cuda(TENSORRT_MODULES[chosen.compiler]),
        driver_cuda=driver.cuda if driver else None,
    )


def _compile(
    traced: Iterable[WrittenStage], graphs: Graphs, directory: Path, options: EngineOptions, report: LineCallback
) -> tuple[StageSpec, ...]:
    """Trace every stage, then compile all: the compiler needs the memory that the tracer used."""
    specs = _specs(traced, report)
    gc.collect()  # the tracer leaves reference cycles that hold whole networks
    return build_engines(specs, graphs.directory, directory, options, report)


def _specs(traced: Iterable[WrittenStage], report: LineCallback) -> tuple[StageSpec, ...]:
    specs = []
    for stage in traced:
        if stage.spec.name in NETWORK_STAGES:  # the others take milliseconds
            number = NETWORK_STAGES.index(stage.spec.name) + 1
            report(f"prepared part {number} of {len(NETWORK_STAGES)}")
        _log.info("traced %s: %d nodes", stage.spec.name, stage.nodes)
        specs.append(stage.spec)
    return tuple(specs)


def _vet(specs: Iterable[StageSpec], directory: Path) -> None:
    """Raise `BuildError` if a graph holds what no bundle may: never write what we would not run."""
    files = {path.name: path.stat().st_size for path in directory.iterdir()}
    for name in {spec.file for spec in specs}:
        try:
            vet_graph(directory / name, files)
        except BundleError as error:
            raise BuildError(f"the exporter wrote what no bundle may hold: {error}") from error


def _version_of_compiler(chosen: Target) -> str:
    """Version of the target's compiler. `MissingPackageError` if it is not installed."""
    if chosen.compiled:
        return compiler_version(chosen.compiler)
    if chosen.compiler == TORCH:
        return torch.__version__
    try:
        import onnxruntime
    except ImportError as error:
        raise cannot_import(error, "onnxruntime", f"a bundle for target {chosen.name}", chosen.extra) from error
    return str(onnxruntime.__version__)
