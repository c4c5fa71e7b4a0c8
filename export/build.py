"""From a checkpoint to a bundle: load, trace, check, put in place."""

from __future__ import annotations

from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

from ..engines.bundle import Bundle, BundleWriter
from ..engines.manifest import Recipe
from ..errors import MissingPackageError, MisuseError
from .checkpoint import Checkpoint, load_checkpoint
from .stages import stages_of
from .tracing import trace_all

Report = Callable[[str], None]


def build(checkpoint: str | Path | Checkpoint, recipe: Recipe, path: str | Path, report: Report) -> Bundle:
    """Build the bundle of `recipe` at `path`; `report` gets a line per finished step.

    Whatever fails, nothing is left at `path` that was not there before.
    """
    if recipe.precision != "fp32":
        raise MisuseError(f"precision {recipe.precision} cannot be exported by this version yet; it exports: fp32")
    compiler, compiler_version = _compiler(recipe)
    with BundleWriter(path) as writer:
        loaded = checkpoint if isinstance(checkpoint, Checkpoint) else load_checkpoint(checkpoint)
        report(f"checkpoint: {loaded.parameters / 1e6:,.1f} M parameters")
        specs = []
        network = stages_of(loaded, recipe)
        for traced in trace_all(network, writer.directory):
            report(f"traced {traced.spec.name}: {traced.nodes} nodes")
            specs.append(traced.spec)
        return writer.commit(
            recipe,
            tool=f"swiftvr-trt {tool_version()}",
            compiler=compiler,
            compiler_version=compiler_version,
            stages=tuple(specs),
        )


def tool_version() -> str:
    """Version of this package as installed."""
    try:
        return version("swiftvr-trt")
    except PackageNotFoundError:
        return "unknown"


def _compiler(recipe: Recipe) -> tuple[str, str]:
    if recipe.target == "onnx":
        return "torch.onnx", torch.__version__
    try:
        import onnxruntime
    except ImportError as error:
        raise MissingPackageError("onnxruntime", f"a bundle for target {recipe.target}", "cpu") from error
    return "ONNX Runtime", onnxruntime.__version__
