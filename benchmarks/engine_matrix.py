"""Every precision on every kind of GPU, compiled: memory, kernels, products by type, and the roofline of a chunk.

    python tests/oracle/make_checkpoint.py slice slice
    python -m benchmarks.engine_matrix --checkpoint slice [--target rtx3090] [--precision int8]

Needs no GPU and about a minute per engine. Writes `benchmarks/results/engines.json`, from which `documents` makes the
table in docs/engines.md; a run of some rows leaves the others as they are. Scales are made up, as in `engine_table`.
"""

from __future__ import annotations

import json
import tempfile
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import click

from swiftvr_trt.engines.bundle.cache import BundleCache
from swiftvr_trt.engines.bundle.card_names import named_card
from swiftvr_trt.engines.bundle.cards import Card
from swiftvr_trt.engines.bundle.geometry import Resolution
from swiftvr_trt.engines.bundle.manifest import Recipe
from swiftvr_trt.engines.bundle.targets import find_target, form_of_graphs, usual_autoencoder
from swiftvr_trt.engines.compile.compiler import compiler_version
from swiftvr_trt.engines.report.roofline import project
from swiftvr_trt.export.network.checkpoint import load_checkpoint

from .comparison import kernels_per_block
from .compiled_network import CompiledNetwork, Setup, compile_rewritten

RESULTS = Path(__file__).parent / "results" / "engines.json"
TARGETS = ("rtx5090", "rtx4090", "rtx3090", "rtx2080")
CARDS = {"rtx2080": "rtx2080ti"}
"""Cards that stand for their series, where the name of the target is not that of a card with the most cores."""
PRECISIONS = ("fp16", "fp8", "int8", "nvfp4")
LAYERS = 30
"""Blocks of the published transformer. What each takes is measured on a checkpoint with fewer."""


@dataclass(frozen=True)
class Row:
    """One engine. Sizes in bytes, times in milliseconds.

    form: `form_of_graphs` when it was compiled.
    arena: activations of the longer transformer stage. products: of a block, by type. pipeline: the plan of the whole
    pipeline with all blocks. dit, encode, decode: the roofline of one run; chunk: of a chunk in the middle of a stream.
    """

    target: str
    sm: str
    card: str
    precision: str
    form: int
    arena: int
    decoder_arena: int
    kernels_per_block: float
    attentions: int
    fused: int
    products: dict[str, float]
    pipeline: int
    dit: float
    encode: float
    decode: float
    chunk: float


def describe(network: CompiledNetwork, card: Card) -> Row:
    """The row of a compiled network."""
    recipe, dit = network.recipe, network.stages["dit"]
    seconds = _seconds(network, card)
    without = _seconds(network.no_blocks, card)["dit"] if network.no_blocks else 0.0
    seconds["dit"] = without + (seconds["dit"] - without) * LAYERS / network.layers
    runs = {"encode": recipe.latents, "dit": 1, "decode": recipe.latents}
    products = Counter(kernel.precision for kernel in network.block_gemms())
    return Row(
        recipe.target,
        card.sm,
        card.name,
        recipe.precision,
        form_of_graphs(recipe.precision, recipe.autoencoder),
        network.stages["dit_edge"].arena_bytes,
        network.stages["decode"].arena_bytes,
        kernels_per_block(network),
        dit.attentions,
        dit.fused,
        {word: count / network.layers for word, count in sorted(products.items())},
        network.memory(LAYERS).gpu_bytes,
        dit=round(seconds["dit"] * 1e3, 3),
        encode=round(seconds["encode"] * 1e3, 3),
        decode=round(seconds["decode"] * 1e3, 3),
        chunk=round(sum(seconds[stage] * times for stage, times in runs.items()) * 1e3, 1),
    )


def _seconds(network: CompiledNetwork, card: Card) -> dict[str, float]:
    """The roofline of one run of each stage."""
    found = {name: project([stage], 1, 1, card).stages for name, stage in network.stages.items()}
    return {name: by_stage[name] for name, by_stage in found.items() if name in by_stage}


@click.command()
@click.option("--checkpoint", type=click.Path(exists=True, path_type=Path), required=True)
@click.option("--resolution", default="1920x1080", show_default=True)
@click.option("--target", "targets", multiple=True, default=TARGETS, show_default=True)
@click.option("--precision", "precisions", multiple=True, default=PRECISIONS, show_default=True)
@click.option("-o", "--output", type=click.Path(path_type=Path), default=RESULTS, show_default=True)
def main(
    checkpoint: Path, resolution: str, targets: tuple[str, ...], precisions: tuple[str, ...], output: Path
) -> None:
    """Compile what these targets take, and note what the compiler made of it."""
    loaded, digest = load_checkpoint(checkpoint), BundleCache().checkpoint_digest(checkpoint)
    size = Resolution.parse(resolution)
    known: dict[str, Any] = json.loads(output.read_text(encoding="utf-8")) if output.exists() else {"rows": []}
    for target in map(find_target, targets):
        for precision in (name for name in PRECISIONS if name in target.precisions and name in precisions):
            click.echo(f"== {precision} for {target.name}", err=True)
            autoencoder = usual_autoencoder(target, precision)
            recipe = Recipe(digest, size.width, size.height, 24, precision, target.name, autoencoder=autoencoder)
            with tempfile.TemporaryDirectory() as folder:
                network = compile_rewritten(loaded, Setup(recipe, target, recount=False), Path(folder) / "engines")
            row = asdict(describe(network, named_card(CARDS.get(target.name, target.name))))
            others = [one for one in known["rows"] if (one["target"], one["precision"]) != (target.name, precision)]
            facts = {"size": str(size), "checkpoint": checkpoint.name, "compiler": compiler_version(target.compiler)}
            known = {**facts, "rows": [*others, row]}
            output.write_text(json.dumps(known, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
