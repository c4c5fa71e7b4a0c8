"""The regression guard: what the compiler makes of the demonstration model, and how close it is to the published one.

    python -m benchmarks.guard          writes benchmarks/results/guard.json

Operations, kernels, activation memory, weights and roofline of each stage, for SM120 in fp16 at 128x128; and the PSNR
between frames of its graphs, which ONNX Runtime executes, and of the published network in float32. Needs no GPU, and
takes half a minute. A test measures the same and compares: whoever changes the graphs sees what that costs, and writes
the file again if it is meant. `python -m benchmarks.refresh` does, and the documents with it.
"""

from __future__ import annotations

import json
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

from swiftvr_trt import Restorer
from swiftvr_trt.benchmarks.suite.clips import moving_frames
from swiftvr_trt.benchmarks.suite.likeness import psnr
from swiftvr_trt.engines.bundle.card_names import named_card
from swiftvr_trt.engines.bundle.checkpoints import DEMO_DIRECTORY
from swiftvr_trt.engines.bundle.geometry import FRAMES_PER_LATENT, Resolution
from swiftvr_trt.engines.bundle.manifest import NETWORK_STAGES, Recipe
from swiftvr_trt.engines.bundle.targets import RTX, find_target
from swiftvr_trt.engines.compile.compiler import compiler_version
from swiftvr_trt.engines.report.roofline import kernel_seconds
from swiftvr_trt.export.graph.stages import stages_of
from swiftvr_trt.export.network.checkpoint import Checkpoint, load_checkpoint
from swiftvr_trt.export.network.reference import Reference
from swiftvr_trt.export.write import write_bundle

from .compiled_network import Setup, compile_stages

FACTS = Path(__file__).resolve().parent / "results" / "guard.json"
RECIPE = Recipe("0" * 64, 128, 128, 8, "fp16", "rtx5090")
CARD = named_card("RTX 5090")
FRAMES = 2 * RECIPE.clip_len + 3


def measure() -> dict[str, Any]:
    """The compiler, and the facts of each stage of the network."""
    checkpoint = load_checkpoint(DEMO_DIRECTORY)
    stages = [stage for stage in stages_of(checkpoint, RECIPE, joint=True) if stage.name in NETWORK_STAGES]
    setup = Setup(RECIPE, find_target(RECIPE.target), recount=False)
    with tempfile.TemporaryDirectory() as folder:
        compiled = compile_stages(stages, setup, Path(folder) / "demo", FRAMES_PER_LATENT, len(checkpoint.dit.blocks))
    weights = {spec.name: spec.weight_bytes for spec in compiled.specs}
    facts = {
        name: {
            "flops": stage.total_flops,
            "kernels": len(stage.kernels),
            "attention_fused": stage.fused,
            "arena_bytes": stage.arena_bytes,
            "weight_bytes": weights[name],
            "roofline_us": round(1e6 * sum(kernel_seconds(kernel, CARD) for kernel in stage.kernels), 2),
        }
        for name, stage in sorted(compiled.stages.items())
    }
    return {
        "compiler": f"{RTX} {compiler_version(RTX)}",
        "stages": facts,
        "parity_db": parity_db(checkpoint),
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
    """Measure, and write the file."""
    FACTS.write_text(json.dumps(measure(), indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
