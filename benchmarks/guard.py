"""The regression guard: what the compiler makes of the demonstration model, and how close it is to the published one.

    python -m benchmarks.guard          writes benchmarks/results/guard.json

Operations, kernels, products by type, fused attention, activation memory, weights and roofline of each stage, for SM120
at 128x128, with one block of the transformer: all stages in fp16, the transformer in fp8 and int8, and the decoder in
INT8, which both have. Then the form of the graphs of every precision; and the PSNR between frames of the graphs in
fp16, which ONNX Runtime executes, and of the published network in float32. Needs no GPU.

A test measures the same and compares: whoever changes the graphs sees what that costs, and writes the file again if it
is meant: `python -m benchmarks.refresh`, with the documents.
"""

from __future__ import annotations

import json
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

from torch import nn

from swiftvr_trt import Restorer
from swiftvr_trt.benchmarks.suite.clips import moving_frames
from swiftvr_trt.benchmarks.suite.likeness import psnr
from swiftvr_trt.engines.bundle.card_names import named_card
from swiftvr_trt.engines.bundle.checkpoints import DEMO_DIRECTORY
from swiftvr_trt.engines.bundle.geometry import FRAMES_PER_LATENT, Resolution
from swiftvr_trt.engines.bundle.manifest import Recipe
from swiftvr_trt.engines.bundle.targets import RTX, find_target, form_of_graphs, usual_autoencoder
from swiftvr_trt.engines.compile.compiler import compiler_version
from swiftvr_trt.engines.compile.log import CONV, GEMM
from swiftvr_trt.engines.compile.report import CompiledStage
from swiftvr_trt.engines.report.roofline import kernel_seconds
from swiftvr_trt.export.graph.stages import Stage, stages_of
from swiftvr_trt.export.graph.to_onnx import write_stages
from swiftvr_trt.export.network.checkpoint import Checkpoint, load_checkpoint
from swiftvr_trt.export.network.dit import without_blocks
from swiftvr_trt.export.network.reference import Reference
from swiftvr_trt.export.write import write_bundle

from .compiled_network import SCALES, AnyShifts, CompiledNetwork, Setup, compile_stages
from .graph_form import form_of

FACTS = Path(__file__).resolve().parent / "results" / "guard.json"
RECIPE = Recipe("0" * 64, 128, 128, 8, "fp16", "rtx5090")
COMPILED = {"fp16": ("encode", "dit", "decode"), "fp8": ("dit",), "int8": ("dit", "decode")}
"""Graphs by precision. Those left out are the same in another one."""
TRACED = {**COMPILED, "nvfp4": ("dit",)}
CARD = named_card("RTX 5090")
FRAMES = 2 * RECIPE.clip_len + 3


def measure() -> dict[str, Any]:
    """The compiler and what traces, the facts of each stage by precision, and the forms of the graphs."""
    checkpoint = load_checkpoint(DEMO_DIRECTORY)
    network = _with_one_block(checkpoint)
    stages: dict[str, dict[str, Any]] = {}
    graphs: dict[str, dict[str, Any]] = {}
    for precision in TRACED:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name) / "graphs"
            wanted = _stages(network, precision)
            if precision in COMPILED:
                setup = Setup(_recipe(precision), find_target(RECIPE.target), recount=False)
                stages[precision] = _facts(compile_stages(wanted, setup, folder, FRAMES_PER_LATENT, layers=1))
            else:
                folder.mkdir()
                list(write_stages(wanted, folder))
            graphs[precision] = {
                "form": form_of_graphs(precision, _recipe(precision).autoencoder),
                "digests": {path.stem: form_of(path) for path in sorted(folder.glob("*.onnx"))},
            }
    return {
        "compiler": f"{RTX} {compiler_version(RTX)}",
        "tracer": ", ".join(f"{name} {version(name).partition('+')[0]}" for name in ("torch", "onnxscript", "onnx-ir")),
        "stages": stages,
        "graphs": graphs,
        "parity_db": parity_db(checkpoint),
    }


def unnoticed(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """The precisions whose graphs have another form than before, while `form_of_graphs` says that they do not.

    Nothing is known if other versions have traced them.
    """
    if before["tracer"] != now["tracer"]:
        return []
    pairs = ((name, before["graphs"].get(name), graphs) for name, graphs in now["graphs"].items())
    return [name for name, old, new in pairs if old and old["digests"] != new["digests"] and old["form"] == new["form"]]


def _with_one_block(checkpoint: Checkpoint) -> Checkpoint:
    """Blocks are all alike, and each takes a second or two to trace."""
    dit = without_blocks(checkpoint.dit)
    dit.blocks = nn.ModuleList(list(checkpoint.dit.blocks)[:1])
    return replace(checkpoint, dit=dit)


def _recipe(precision: str) -> Recipe:
    return replace(RECIPE, precision=precision, autoencoder=usual_autoencoder(find_target(RECIPE.target), precision))


def _stages(checkpoint: Checkpoint, precision: str) -> Iterator[Stage]:
    """The graphs of a precision that no other one has, with made-up scales: they change neither shapes nor kernels."""
    scales = (SCALES, AnyShifts(checkpoint.dit.config))
    capability = find_target(RECIPE.target).compute_capability
    for stage in stages_of(checkpoint, _recipe(precision), *scales, joint=True, capability=capability):
        if stage.name in TRACED[precision]:
            yield stage


def _facts(compiled: CompiledNetwork) -> dict[str, dict[str, Any]]:
    weights = {spec.name: spec.weight_bytes for spec in compiled.specs}
    return {name: _facts_of(stage, weights[name]) for name, stage in sorted(compiled.stages.items())}


def _facts_of(stage: CompiledStage, weight_bytes: int) -> dict[str, Any]:
    products = Counter(kernel.precision for kernel in stage.kernels if kernel.kind in (GEMM, CONV))
    return {
        "flops": stage.total_flops,
        "kernels": len(stage.kernels),
        "products": dict(sorted(products.items())),
        "attention_fused": stage.fused,
        "arena_bytes": stage.arena_bytes,
        "weight_bytes": weight_bytes,
        "roofline_us": round(1e6 * sum(kernel_seconds(kernel, CARD) for kernel in stage.kernels), 2),
    }


def parity_db(checkpoint: Checkpoint) -> float:
    """PSNR between a stream of the rewritten graphs and of the published network, over three chunks."""
    recipe = replace(RECIPE, target="onnx")
    frames = list(moving_frames(FRAMES, recipe.height // 2, recipe.width // 2))
    size = Resolution(recipe.width, recipe.height)
    published = list(Reference(checkpoint, size, clip_len=recipe.clip_len).restore(frames))
    with (
        tempfile.TemporaryDirectory() as folder,
        Restorer.open(write_bundle(checkpoint, recipe, Path(folder) / "bundle")) as restorer,
    ):
        return round(psnr(list(restorer.restore(frames)), published), 1)


def main() -> None:
    """Measure, and write the file. Ends with one line if graphs have changed and nothing says so."""
    now = measure()
    if FACTS.exists() and (names := unnoticed(json.loads(FACTS.read_text(encoding="utf-8")), now)):
        raise SystemExit(
            f"the graphs of {', '.join(names)} have changed, but form_of_graphs in engines/bundle/targets.py has not; "
            "raise it, so that bundles and results of before then are known as older"
        )
    FACTS.write_text(json.dumps(now, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
