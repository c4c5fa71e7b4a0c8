"""Compiles the published network for every kind of card and keeps the facts of which docs/cards.md is made.

    python tests/oracle/make_checkpoint.py slice slice --dtype bfloat16
    python -m benchmarks.card_facts --checkpoint slice -o benchmarks/results/cards.json

Needs no GPU, and a minute or two for each size, precision and target. Two of the 30 blocks are compiled; the kernels of
a block, counted 30 times, stand for the others, as in `engine_table`. Each fact is what `card_table` needs and no more:
kernels with their operations and bytes, and the memory of the whole pipeline.
"""

from __future__ import annotations

import json
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import click

from swiftvr_trt.engines.bundle.cache import BundleCache
from swiftvr_trt.engines.bundle.geometry import FRAMES_PER_LATENT, Resolution
from swiftvr_trt.engines.bundle.manifest import Recipe, StageSpec
from swiftvr_trt.engines.bundle.targets import RTX, find_target, form_of_graphs, usual_autoencoder
from swiftvr_trt.engines.compile.compiler import compiler_version
from swiftvr_trt.engines.compile.engines import EngineOptions, build_engines
from swiftvr_trt.engines.compile.report import SUFFIX, CompiledKernel, CompiledStage, read_report
from swiftvr_trt.export.graph.precision import Precision
from swiftvr_trt.export.graph.stages import Stage, stages_of
from swiftvr_trt.export.graph.to_onnx import open_weights, write_stages
from swiftvr_trt.export.network.checkpoint import Checkpoint, load_checkpoint
from swiftvr_trt.export.network.dit import without_blocks

from .card_table import is_current, key_of, read_facts
from .comparison import PUBLISHED_LAYERS
from .compiled_network import SCALES, AnyShifts, CompiledNetwork, watch_stages

Kernels = Counter[tuple[str, int, int]]
"""How often a kernel of this precision, with so many operations and bytes, runs."""

SIZES = ("1280x720", "1920x1080", "2560x1440", "3840x2160")
_ALL = ("rtx2080", "rtx3090", "rtx4090", "rtx5090")
TARGETS = {"fp16": _ALL, "fp8": ("rtx4090", "rtx5090"), "int8": _ALL, "nvfp4": ("rtx5090",)}
"""Precisions, and the targets that are compiled for each; bf16 takes the memory and the time of fp16."""


@click.command()
@click.option("--checkpoint", type=click.Path(exists=True, path_type=Path), required=True)
@click.option("-o", "--output", type=click.Path(path_type=Path), required=True, help="JSON file of the facts.")
def main(checkpoint: Path, output: Path) -> None:
    """Compile every combination that the file lacks, or has from before its graphs changed, and add it."""
    facts = read_facts(output) if output.exists() else {"builds": []}
    facts |= {"checkpoint": checkpoint.name, "blocks": PUBLISHED_LAYERS, "compiler": f"{RTX} {compiler_version(RTX)}"}
    done = {key_of(build) for build in facts["builds"] if is_current(build)}
    digest, loaded = BundleCache().checkpoint_digest(checkpoint), load_checkpoint(checkpoint)
    for size in SIZES:
        recipes = [_recipe(digest, size, precision, name) for precision, names in TARGETS.items() for name in names]
        with tempfile.TemporaryDirectory() as folder:
            measuring = Measuring(loaded, Path(folder))
            for recipe in recipes:
                if (recipe.target, recipe.precision, size) in done:
                    continue
                build = measuring.measure(recipe)
                facts["builds"] = [*(one for one in facts["builds"] if key_of(one) != key_of(build)), build]
                output.write_text(json.dumps(facts, separators=(",", ":")) + "\n", encoding="utf-8")
                click.echo(f"{build['target']} {build['precision']} {size}", err=True)


def _recipe(digest: str, size: str, precision: str, target: str) -> Recipe:
    """As `build-engine` makes it without further options."""
    sides, autoencoder = Resolution.parse(size), usual_autoencoder(find_target(target), precision)
    return Recipe(digest, sides.width, sides.height, 24, precision, target, autoencoder=autoencoder)


class Measuring:
    """Compiles builds of one checkpoint in one size. What they share is traced and compiled once."""

    def __init__(self, checkpoint: Checkpoint, folder: Path) -> None:
        """folder: where graphs lie meanwhile."""
        self._checkpoint, self._folder = checkpoint, folder
        self._traced: dict[tuple[object, ...], Traced] = {}
        self._compiled: dict[tuple[object, ...], Compiled] = {}

    def measure(self, recipe: Recipe) -> dict[str, Any]:
        """The facts of a build, as JSON values."""
        capability = find_target(recipe.target).compute_capability
        precision = Precision.named(recipe.precision).on(capability)
        autoencoder = self._compile(recipe, "autoencoder", (precision.autoencoder, recipe.autoencoder))
        transformer, outside = (self._compile(recipe, part, (precision,)) for part in ("transformer", "outside"))
        network = CompiledNetwork(
            recipe,
            FRAMES_PER_LATENT,
            len(self._checkpoint.dit.blocks),
            transformer.block_bytes,
            {**autoencoder.stages, **transformer.stages},
            (*autoencoder.specs, *transformer.specs),
        )
        return _facts(network, outside.stages["dit"].kernels)

    def _compile(self, recipe: Recipe, part: str, form: tuple[object, ...]) -> Compiled:
        """A part, traced and compiled. form: what its graphs depend on."""
        key = (part, *form)
        if key not in self._traced:
            self._traced[key] = Traced.trace(self._stages(recipe, part), self._folder / str(len(self._traced)))
        place = (*key, recipe.target)
        if place not in self._compiled:
            self._compiled[place] = self._traced[key].compile(recipe)
        return self._compiled[place]

    def _stages(self, recipe: Recipe, part: str) -> Iterator[Stage]:
        """The stages of a part: `autoencoder`, `transformer`, or `outside`, which is a transformer without blocks."""
        network = self._checkpoint
        if part != "transformer":
            network = replace(network, dit=without_blocks(network.dit))
        scales = (SCALES, AnyShifts(network.dit.config))
        capability = find_target(recipe.target).compute_capability
        for stage in stages_of(network, recipe, *scales, joint=True, capability=capability):
            if (stage.name == "dit") == (part != "autoencoder"):
                yield stage
            if stage.name == "dit" and part != "autoencoder":
                return


@dataclass(frozen=True)
class Compiled:
    """What the compiler made of some stages. specs: as a bundle lists them. block_bytes: as in `Traced`."""

    specs: tuple[StageSpec, ...]
    stages: Mapping[str, CompiledStage]
    block_bytes: int


@dataclass(frozen=True)
class Traced:
    """Graphs in a folder. block_bytes: weights of one block."""

    specs: tuple[StageSpec, ...]
    folder: Path
    block_bytes: int

    @classmethod
    def trace(cls, stages: Iterable[Stage], folder: Path) -> Traced:
        folder.mkdir()
        block_bytes: dict[str, int] = {}
        with open_weights(folder) as weights:
            watched = watch_stages(stages, block_bytes, None)
            specs = tuple(traced.spec for traced in write_stages(watched, folder, weights))
        return cls(specs, folder, max(block_bytes.values(), default=0))

    def compile(self, recipe: Recipe) -> Compiled:
        """Compile for the target of a recipe."""
        options = EngineOptions(find_target(recipe.target), recipe.resolution)
        with tempfile.TemporaryDirectory() as place:
            specs = build_engines(self.specs, self.folder, Path(place), options, lambda _: None)
            reports = [read_report(path) for path in Path(place).glob(f"*{SUFFIX}")]
        return Compiled(specs, {stage.name: stage for report in reports for stage in report.stages}, self.block_bytes)


def _facts(compiled: CompiledNetwork, outside: Iterable[CompiledKernel]) -> dict[str, Any]:
    """What `card_table` needs of a build, as JSON values."""
    recipe = compiled.recipe
    return {
        "target": recipe.target,
        "precision": recipe.precision,
        "size": str(recipe.resolution),
        "clip_len": recipe.clip_len,
        "form": form_of_graphs(recipe.precision, recipe.autoencoder),
        "gpu_bytes": compiled.memory(PUBLISHED_LAYERS).gpu_bytes,
        "kernels": {
            "encode": pack_kernels(_counted(compiled.stages["encode"].kernels)),
            "dit": pack_kernels(_with_all_blocks(compiled, _counted(outside))),
            "decode": pack_kernels(_counted(compiled.stages["decode"].kernels)),
        },
    }


def _with_all_blocks(compiled: CompiledNetwork, outside: Kernels) -> Kernels:
    """The kernels of the transformer, those of the compiled blocks counted for all blocks. outside: without blocks."""
    every = _counted(compiled.stages["dit"].kernels)
    blocks = every - outside
    for kernel, count in blocks.items():
        every[kernel] += round(count * PUBLISHED_LAYERS / compiled.layers) - count
    return every


def pack_kernels(kernels: Kernels) -> list[list[Any]]:
    """Kernels of one run as [precision, operations, bytes, count]."""
    return [[*kernel, count] for kernel, count in sorted(kernels.items())]


def _counted(kernels: Iterable[CompiledKernel]) -> Kernels:
    return Counter((kernel.precision, kernel.flops, kernel.nbytes) for kernel in kernels)


if __name__ == "__main__":
    main()
