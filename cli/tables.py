"""Prints the tables and summaries of `swiftvr-export` on standard output."""

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
from ..text import format_bytes
from .doctor import Diagnosis

if TYPE_CHECKING:
    from ..export.verify import Comparison
    from ..runtime.stream.plan import BufferPlace


def print_comparisons(comparisons: Iterable[Comparison]) -> None:
    """Print how a bundle differs from its checkpoint: a row per comparison, red if it failed."""
    table = Table("stage", "of", "largest", "mean", "signal to noise", "expected", "")
    for row in comparisons:
        verdict = "ok" if row.passed else ("differs" if row.finite else "not finite")
        noise = f"{row.decibels:.1f} dB"
        cells = (row.subject, row.unit, f"{row.largest:.2e}", f"{row.mean:.2e}", noise, row.expected, verdict)
        table.add_row(*cells, style=None if row.passed else "red")
    Console().print(table)


def print_report(path: Path, report: BundleReport) -> None:
    """Print a bundle: its recipe, its stages and, if it has any, its engines."""
    recipe = report.recipe
    click.echo(f"{path}: {recipe['width']}x{recipe['height']}, {recipe['precision']}, target {recipe['target']}")
    click.echo(
        f"  chunks      {recipe['clip_len']} frames{', published protocol (--parity)' if recipe['parity'] else ''}"
    )
    click.echo(f"  checkpoint  {recipe['checkpoint']}")
    click.echo(f"  made by     {report.made_by} with {report.compiler}")
    click.echo(f"  on disk     {format_bytes(report.bytes_on_disk)}")
    buffers = format_bytes(report.stream_bytes)
    click.echo(f"  a stream    {buffers} of buffers for {report.stream_input} input; stages need more")
    click.echo("              memory while they run")
    table = Table("stage", "takes", "gives", "state", "file")
    for stage in report.stages:
        state = format_bytes(stage.state_bytes) if stage.state_bytes else "-"
        table.add_row(stage.name, escape(stage.takes), escape(stage.gives), state, stage.file)
    Console().print(table)
    if report.engines is not None:
        print_engines(report.engines)


def print_diagnosis(diagnosis: Diagnosis) -> None:
    """Print what is installed, what this machine is ready for, and what to install for the rest."""
    click.echo(
        f"Python {diagnosis.python} on {diagnosis.platform}; NVIDIA driver: {'yes' if diagnosis.driver else 'no'}"
    )
    free = "unknown" if diagnosis.cache_free_bytes is None else format_bytes(diagnosis.cache_free_bytes)
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
    for remedy, names in remedies.items():  # not in the table: it would wrap these commands, and people copy them
        click.echo(f"{', '.join(names)}:\n    {remedy}")


def print_engines(engines: EnginesSummary) -> None:
    """Print what the compiler produced: stages, kernels by kind, memory, and the projected speed."""
    out = Console()
    for table in (_stage_table(engines), _kernel_table(engines), _memory_table(engines)):
        out.print(table)
    peak = f", {format_bytes(engines.build_peak_bytes)} of memory" if engines.build_peak_bytes else ""
    click.echo(f"  the build   {engines.build_seconds:.0f} s{peak} (measured)")
    flops = sum(engines.chunk_flops.values())
    click.echo(f"  a chunk     {flops / 1e12:.2f} TFLOP, {format_bytes(engines.chunk_bytes)} moved (counted)")
    for projection in engines.projected:
        click.echo(
            f"  {projection.gpu:10}  at most {projection.frames_per_second:.1f} frames/s "
            "(projected, docs/roofline.md; not measured)"
        )


def _stage_table(engines: EnginesSummary) -> Table:
    """A row per stage, red where attention was not fused."""
    table = Table("stage", "kernels", "products", "attention", "weights", "activations", "GFLOP", "moved")
    for stage in engines.stages:
        table.add_row(
            stage.stage,
            str(sum(stage.kernels.values())),
            _counts(stage.gemms) or "-",
            f"{stage.fused_attention} of {stage.expected_attention}" if stage.expected_attention else "-",
            format_bytes(stage.weight_bytes),
            format_bytes(stage.arena_bytes),
            _counts({precision: round(flops / 1e9) for precision, flops in stage.flops.items()}) or "-",
            format_bytes(stage.kernel_bytes),
            style="red" if stage.fused_attention < stage.expected_attention else None,
        )
    return table


def _kernel_table(engines: EnginesSummary) -> Table:
    """A row per kind of kernel, a column per stage."""
    table = Table("kernels", *(stage.stage for stage in engines.stages))
    for kind in dict.fromkeys(kind for stage in engines.stages for kind in stage.kernels):
        table.add_row(kind, *(str(stage.kernels.get(kind, "-")) for stage in engines.stages))
    return table


def _memory_table(engines: EnginesSummary) -> Table:
    """A row per use of GPU memory, and their sum."""
    table = Table("GPU memory", "planned")
    for owner, size in engines.memory.items():
        table.add_row(owner, format_bytes(size))
    table.add_row("whole pipeline, one stream", format_bytes(engines.gpu_bytes), style="bold")
    return table


def print_buffers(buffers: Iterable[BufferPlace]) -> None:
    """Print every buffer of a stream: its size and its offsets, in bytes."""
    table = Table("buffer", "bytes", "offset", "offset on the host", "shares the place of")
    for buffer in buffers:
        places = ("-" if place is None else str(place) for place in (buffer.offset, buffer.host_offset))
        table.add_row(buffer.name, str(buffer.nbytes), *places, buffer.over or "-")
    Console().print(table)


def print_kernels(engines: Iterable[EngineReport]) -> None:
    """Print every kernel, in the order in which they run."""
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
