"""The tables and summaries that `swiftvr-export` prints on standard output."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from ..engines.compile.report import EngineReport
from ..engines.report.inspect import BundleReport, EnginesSummary
from ..text import size as in_words
from .doctor import Diagnosis

if TYPE_CHECKING:
    from ..export.verify import Comparison
    from ..runtime.stream.plan import BufferPlace


def print_comparisons(comparisons: Iterable[Comparison]) -> None:
    """A bundle against its checkpoint: one row per comparison, red where it failed."""
    table = Table("stage", "of", "largest", "mean", "signal to noise", "expected", "")
    for row in comparisons:
        verdict = "ok" if row.passed else ("differs" if row.finite else "not finite")
        noise = f"{row.decibels:.1f} dB"
        cells = (row.subject, row.unit, f"{row.largest:.2e}", f"{row.mean:.2e}", noise, row.expected, verdict)
        table.add_row(*cells, style=None if row.passed else "red")
    Console().print(table)


def print_report(path: Path, report: BundleReport) -> None:
    """A bundle: its recipe, its stages and, if it has any, its engines."""
    recipe = report.recipe
    click.echo(f"{path}: {recipe['width']}x{recipe['height']}, {recipe['precision']}, target {recipe['target']}")
    click.echo(
        f"  chunks      {recipe['clip_len']} frames{', published protocol (--parity)' if recipe['parity'] else ''}"
    )
    click.echo(f"  checkpoint  {recipe['checkpoint']}")
    click.echo(f"  made by     {report.made_by} with {report.compiler}")
    click.echo(f"  on disk     {in_words(report.bytes_on_disk)}")
    click.echo(f"  a stream    {in_words(report.stream_bytes)} of buffers for {report.stream_input} input, without the")
    click.echo("              memory that stages need while they run")
    table = Table("stage", "takes", "gives", "state", "file")
    for stage in report.stages:
        state = in_words(stage.state_bytes) if stage.state_bytes else "-"
        table.add_row(stage.name, escape(stage.takes), escape(stage.gives), state, stage.file)
    Console().print(table)
    if report.engines is not None:
        print_engines(report.engines)


def print_diagnosis(diagnosis: Diagnosis) -> None:
    """The machine: what is installed, what it is ready for, and what to install for the rest."""
    click.echo(
        f"Python {diagnosis.python} on {diagnosis.platform}; NVIDIA driver: {'yes' if diagnosis.driver else 'no'}"
    )
    free = "unknown" if diagnosis.cache_free_bytes is None else in_words(diagnosis.cache_free_bytes)
    click.echo(f"bundle cache: {diagnosis.cache} ({free} free)")
    click.echo(
        "installed: " + ", ".join(f"{name} {version}" for name, version in diagnosis.packages.items() if version)
    )
    table = Table("purpose", "ready", "missing")
    remedies: dict[str, list[str]] = {}
    for purpose in diagnosis.purposes:
        ready = "yes" if purpose.ready else (purpose.note or "no")
        table.add_row(purpose.name, ready, ", ".join(purpose.missing) or "-")
        if purpose.remedy:
            remedies.setdefault(purpose.remedy, []).append(purpose.name.removeprefix("target "))
    Console().print(table)
    for remedy, names in remedies.items():  # not in the table, which would wrap what is to be copied
        click.echo(f"{', '.join(names)}:\n    {remedy}")


def print_engines(engines: EnginesSummary) -> None:
    """What the compiler made: stages, kernels by kind, memory, and the projected speed."""
    out = Console()
    for table in (_stage_table(engines), _kernel_table(engines), _memory_table(engines)):
        out.print(table)
    peak = f", {in_words(engines.build_peak_bytes)} of memory" if engines.build_peak_bytes else ""
    click.echo(f"  the build   {engines.build_seconds:.0f} s{peak} (measured)")
    flops = sum(engines.chunk_flops.values())
    click.echo(f"  a chunk     {flops / 1e12:.2f} TFLOP, {in_words(engines.chunk_bytes)} moved (counted)")
    for projection in engines.projected:
        click.echo(
            f"  {projection.gpu:10}  at most {projection.frames_per_second:.1f} frames/s "
            "(projected, docs/roofline.md; not measured)"
        )


def _stage_table(engines: EnginesSummary) -> Table:
    """A row per stage, red where attention was not fused."""
    table = Table("stage", "kernels", "products", "attention", "weights", "activations", "GFLOP", "moved")
    for made in engines.stages:
        table.add_row(
            made.stage,
            str(sum(made.kernels.values())),
            _counts(made.gemms) or "-",
            f"{made.fused_attention} of {made.expected_attention}" if made.expected_attention else "-",
            in_words(made.weight_bytes),
            in_words(made.arena_bytes),
            _counts({precision: round(flops / 1e9) for precision, flops in made.flops.items()}) or "-",
            in_words(made.kernel_bytes),
            style="red" if made.fused_attention < made.expected_attention else None,
        )
    return table


def _kernel_table(engines: EnginesSummary) -> Table:
    """A row per kind of kernel, a column per stage."""
    table = Table("kernels", *(made.stage for made in engines.stages))
    for kind in dict.fromkeys(kind for made in engines.stages for kind in made.kernels):
        table.add_row(kind, *(str(made.kernels.get(kind, "-")) for made in engines.stages))
    return table


def _memory_table(engines: EnginesSummary) -> Table:
    """A row per owner of GPU memory, and their sum."""
    table = Table("GPU memory", "planned")
    for owner, size in engines.memory.items():
        table.add_row(owner, in_words(size))
    table.add_row("whole pipeline, one stream", in_words(engines.gpu_bytes), style="bold")
    return table


def print_buffers(buffers: Iterable[BufferPlace]) -> None:
    """Every buffer of a stream and where it lies, in bytes."""
    table = Table("buffer", "bytes", "offset", "offset on the host", "shares the place of")
    for buffer in buffers:
        places = ("-" if place is None else str(place) for place in (buffer.offset, buffer.host_offset))
        table.add_row(buffer.name, str(buffer.nbytes), *places, buffer.over or "-")
    Console().print(table)


def print_kernels(engines: Iterable[EngineReport]) -> None:
    """Every kernel, in the order in which they run."""
    for engine in engines:
        for stage in engine.stages:
            click.echo(f"{stage.name}: {len(stage.kernels)} kernels")
            for kernel in stage.kernels:
                click.echo(
                    f"  {kernel.kind:22} {kernel.precision:8} {kernel.flops / 1e9:9.2f} GFLOP "
                    f"{kernel.nbytes / 1e6:9.2f} MB  {kernel.name}  {', '.join(kernel.inputs)} -> "
                    f"{', '.join(kernel.outputs)}"
                )


def _counts(counts: Mapping[str, float]) -> str:
    return ", ".join(f"{count} {name}" for name, count in counts.items())
