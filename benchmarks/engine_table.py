"""What the rewrites gain in compiled engines: the network as published against the network as this tool exports it.

Prints plain, rewritten, their ratio, and the same counted by independent means. Needs no GPU.

    python -m benchmarks.engine_table --checkpoint DIR --resolution 1920x1080 --precision fp8 -o results.json

Plain is the published network handed to an exporter (`plain_network.py`). Operations and memory are counted; nothing is
executed or timed. So all activation scales are one made-up number, which changes neither shapes nor kernels. The exit
code is 1 if a count and its recount disagree.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click
import torch

from swiftvr_trt.engines.bundle.cache import BundleCache
from swiftvr_trt.engines.bundle.geometry import Resolution
from swiftvr_trt.engines.bundle.manifest import Recipe
from swiftvr_trt.engines.bundle.targets import PRECISIONS, Target, find_target, form_of_graphs, usual_autoencoder
from swiftvr_trt.engines.compile.compiler import compiler_version
from swiftvr_trt.errors import SwiftVRError
from swiftvr_trt.export.network.checkpoint import load_checkpoint
from swiftvr_trt.installing import tool_version

from .comparison import Comparison, compare
from .compiled_network import Setup, compile_plain, compile_rewritten


@click.command()
@click.option("--checkpoint", type=click.Path(exists=True, path_type=Path), required=True)
@click.option("--resolution", default="1920x1080", show_default=True)
@click.option("--clip-len", default=24, show_default=True)
@click.option("--precision", type=click.Choice(PRECISIONS), default="fp16", show_default=True)
@click.option("--target", "target_name", default="rtx5090", show_default=True)
@click.option("--plain/--no-plain", default=True, show_default=True, help="Compile the plain network as well.")
@click.option(
    "--independent/--no-independent",
    default=True,
    show_default=True,
    help="Count everything again by independent means.",
)
@click.option("-o", "--output", type=click.Path(path_type=Path), help="Also write the table as JSON.")
@click.option("--keep", type=click.Path(path_type=Path), help="Keep graphs, engines and reports in this new directory.")
def main(  # many parameters: one for each option
    checkpoint: Path,
    resolution: str,
    clip_len: int,
    precision: str,
    target_name: str,
    plain: bool,
    independent: bool,
    output: Path | None,
    keep: Path | None,
) -> None:
    """Compile a checkpoint plainly and rewritten, and print the difference."""
    target, size = find_target(target_name), Resolution.parse(resolution)
    digest = BundleCache().checkpoint_digest(checkpoint)
    autoencoder = usual_autoencoder(target, precision)
    recipe = Recipe(digest, size.width, size.height, clip_len, precision, target.name, autoencoder=autoencoder)
    with ExitStack() as stack:
        if keep is not None:
            keep.mkdir(parents=True)
        folder = keep or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        try:
            table = list(measure(checkpoint, Setup(recipe, target, independent), folder, plain=plain))
        except SwiftVRError as error:
            sys.exit(f"error: {error}")
    print_table(table)
    if output is not None:
        output.write_text(json.dumps(result(table, checkpoint, recipe, target), indent=1) + "\n", encoding="utf-8")
    wrong = [row for row in table if not row.confirmed]
    for row in wrong:
        click.echo(f"{row.what}: the independent count differs by more than {row.tolerance:.1%}", err=True)
    sys.exit(1 if wrong else 0)


def measure(checkpoint: Path, setup: Setup, folder: Path, *, plain: bool) -> Iterator[Comparison]:
    """Compile one network or both, each in a directory of its own in `folder`."""
    loaded = load_checkpoint(checkpoint)
    compilers = {"rewritten": compile_rewritten}
    if plain:
        compilers["plain"] = compile_plain
    compiled = {}
    for name, compile_network in compilers.items():
        click.echo(f"== {name}, {setup.recipe.describe()}", err=True)
        compiled[name] = compile_network(loaded, setup, folder / name)
    return compare(compiled.get("plain"), compiled["rewritten"])


def result(table: list[Comparison], checkpoint: Path, recipe: Recipe, target: Target) -> dict[str, Any]:
    """The table and what it describes, as JSON values."""
    return {
        "checkpoint": checkpoint.name,
        "recipe": asdict(recipe),
        "form": form_of_graphs(recipe.precision, recipe.autoencoder),
        "versions": {
            "swiftvr-trt": tool_version(),
            "torch": torch.__version__,
            target.compiler: compiler_version(target.compiler),
        },
        "rows": [{**asdict(row), "ratio": row.ratio} for row in table],
    }


def print_table(table: list[Comparison]) -> None:
    """Print the table for people; `-` where nothing was counted."""
    from rich.console import Console
    from rich.table import Table

    shown = Table("", "unit", "plain", "rewritten", "ratio", "independent: plain", "rewritten", "note")
    for row in table:
        cells = (row.plain, row.rewritten, row.ratio, row.plain_recount, row.rewritten_recount)
        shown.add_row(row.what, row.unit, *("-" if value is None else f"{value:,.3f}" for value in cells), row.note)
    Console(width=None if sys.stdout.isatty() else 200).print(shown)


if __name__ == "__main__":
    main()
