"""What the rewrites are worth to a compiler: the same network, exported plainly and as this tool does it, compiled for
a card that need not be there. Prints plain / rewritten / ratio, and what an independent count of the same files says.

    python -m benchmarks.engine_table --checkpoint DIR --resolution 1920x1080 --precision fp8 -o results.json

Plain is what one gets by handing the published network to an exporter (`plain_form.py`). Operations and memory are
counted, nothing is executed, and no time is claimed: activation scales are therefore one made-up number, since a scale
changes neither a shape nor a kernel. The exit code is 1 if a count and its independent count disagree.
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
from swiftvr_trt.engines.bundle.targets import PRECISIONS, Target, find_target
from swiftvr_trt.engines.compile.parent import compiler_version
from swiftvr_trt.errors import SwiftVRError
from swiftvr_trt.export.network.checkpoint import load_checkpoint
from swiftvr_trt.export.write import tool_version

from . import _forms
from ._rows import Row, rows


@click.command()
@click.option("--checkpoint", type=click.Path(exists=True, path_type=Path), required=True)
@click.option("--resolution", default="1920x1080", show_default=True)
@click.option("--clip-len", default=24, show_default=True)
@click.option("--precision", type=click.Choice(PRECISIONS), default="fp16", show_default=True)
@click.option("--target", "target_name", default="rtx5090", show_default=True)
@click.option("--plain/--no-plain", default=True, show_default=True, help="Compile the plain form, too.")
@click.option("--independent/--no-independent", default=True, show_default=True, help="Count everything once more.")
@click.option("-o", "--output", type=click.Path(path_type=Path), help="Write the table as JSON, too.")
@click.option("--keep", type=click.Path(path_type=Path), help="Keep graphs, engines and reports in this new directory.")
def main(
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
    """Compile plain and rewritten forms of a checkpoint and print what the difference is."""
    chosen, size = find_target(target_name), Resolution.parse(resolution)
    digest = BundleCache().checkpoint_digest(checkpoint)
    recipe = Recipe(digest, size.width, size.height, clip_len, precision, chosen.name)
    with ExitStack() as stack:
        if keep is not None:
            keep.mkdir(parents=True)
        place = keep or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        try:
            table = list(measure(checkpoint, recipe, place, chosen, plain=plain, again=independent))
        except SwiftVRError as error:
            sys.exit(f"error: {error}")
    print_table(table)
    if output is not None:
        output.write_text(json.dumps(result(table, checkpoint, recipe, chosen), indent=1) + "\n", encoding="utf-8")
    wrong = [row for row in table if not row.confirmed]
    for row in wrong:
        click.echo(f"{row.what}: the independent count differs by more than {row.limit:.1%}", err=True)
    sys.exit(1 if wrong else 0)


def measure(
    checkpoint: Path, recipe: Recipe, place: Path, chosen: Target, *, plain: bool, again: bool
) -> Iterator[Row]:
    """Compile what is asked for, each form in a directory of its own below `place`."""
    loaded = load_checkpoint(checkpoint)
    forms = {"rewritten": _forms.ours}
    if plain:
        forms["plain"] = _forms.plain
    made = {}
    for name, compiled in forms.items():
        click.echo(f"== {name}, {recipe.describe()}", err=True)
        made[name] = compiled(loaded, recipe, place / name, chosen, again=again)
    return rows(made.get("plain"), made["rewritten"])


def result(table: list[Row], checkpoint: Path, recipe: Recipe, chosen: Target) -> dict[str, Any]:
    """The table and what it is of, as JSON values."""
    return {
        "checkpoint": checkpoint.name,
        "recipe": asdict(recipe),
        "versions": {
            "swiftvr-trt": tool_version(),
            "torch": torch.__version__,
            chosen.compiler: compiler_version(chosen.compiler),
        },
        "rows": [{**asdict(row), "ratio": row.ratio} for row in table],
    }


def print_table(table: list[Row]) -> None:
    """For people; the independent columns show what was counted by other means, `-` where nothing was."""
    from rich.console import Console
    from rich.table import Table

    shown = Table("", "unit", "plain", "rewritten", "ratio", "independent: plain", "rewritten", "note")
    for row in table:
        cells = (row.plain, row.rewritten, row.ratio, row.plain_again, row.again)
        shown.add_row(row.what, row.unit, *("-" if value is None else f"{value:,.3f}" for value in cells), row.note)
    Console(width=None if sys.stdout.isatty() else 200).print(shown)


if __name__ == "__main__":
    main()
