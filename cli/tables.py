"""Prints the tables and summaries of `swiftvr-export` on standard output."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.console import Console
from rich.table import Table

from ..engines.compile.report import EngineReport
from ..engines.report.inspect import BundleReport, EnginesSummary, LinearReport
from ..text import format_bytes, printable
from .doctor import Diagnosis

if TYPE_CHECKING:
    from ..export.verify import Comparison
    from ..runtime.stream.plan import BufferPlace


class _PlainTable(Table):
    """A table of text that may come from anywhere: no cell is markup, and none holds what a terminal obeys."""

    def add_row(self, *cells: Any, **options: Any) -> None:
        super().add_row(*map(printable, cells), **options)


def _table(*columns: str) -> Table:
    return _PlainTable(*map(printable, columns))


def _show(table: Table) -> None:
    Console(markup=False, emoji=False, highlight=False).print(table)


def _say(line: str) -> None:
    click.echo(printable(line))


def print_rows(title: str, headings: Iterable[str], rows: Iterable[Iterable[str]]) -> None:
    """Print rows of text under headings."""
    table = _table(*headings)
    table.title, table.title_justify = printable(title), "left"
    for row in rows:
        table.add_row(*row)
    _show(table)


def print_comparisons(comparisons: Iterable[Comparison]) -> None:
    """Print how a bundle differs from its checkpoint: a row per comparison, red if it failed."""
    table = _table("stage", "of", "largest", "mean", "signal to noise", "expected", "")
    for row in comparisons:
        verdict = "ok" if row.passed else ("differs" if row.finite else "not finite")
        noise = f"{row.decibels:.1f} dB"
        cells = (row.subject, row.unit, f"{row.largest:.2e}", f"{row.mean:.2e}", noise, row.expected, verdict)
        table.add_row(*cells, style=None if row.passed else "red")
    _show(table)


def print_report(path: Path, report: BundleReport) -> None:
    """Print a bundle: its recipe, its stages and, if it has any, its engines."""
    recipe = report.recipe
    _say(f"{path}: {recipe['width']}x{recipe['height']}, {recipe['precision']}, target {recipe['target']}")
    _say(f"  chunks      {recipe['clip_len']} frames{', published protocol (--parity)' if recipe['parity'] else ''}")
    _say(f"  checkpoint  {recipe['checkpoint']}")
    _say(f"  made by     {report.made_by} with {report.compiler}")
    _say(f"  frames      {', '.join(report.takes)}; out in {', '.join(report.gives)}")
    _say(f"  on disk     {format_bytes(report.bytes_on_disk)}")
    buffers = format_bytes(report.stream_bytes)
    _say(f"  a stream    {buffers} of buffers for {report.stream_input} input; stages need more")
    _say("              memory while they run")
    table = _table("stage", "takes", "gives", "state", "file")
    for stage in report.stages:
        state = format_bytes(stage.state_bytes) if stage.state_bytes else "-"
        table.add_row(stage.name, stage.takes, stage.gives, state, stage.file)
    _show(table)
    for what, convolution in (("linears", False), ("convolutions", True)):
        shown = [one for one in report.linears if one.convolution == convolution]
        if shown:
            _say(f"  INT8        {_describe_linears(shown, what)}")
    if report.engines is not None:
        print_engines(report.engines)


def _describe_linears(linears: Iterable[LinearReport], what: str) -> str:
    """How many linears or convolutions multiply in INT8 and how exactly; which ones do not."""
    eight, others = ([one for one in linears if (one.bits == 8) is small] for small in (True, False))
    said = f"{len(eight)} of {len(eight) + len(others)} {what}"
    if eight:
        worst = min(eight, key=lambda one: one.decibels)
        said += f", the least exact {worst.name} with {worst.decibels:.1f} dB"
    if others:
        said += f"; in 16 bits: {', '.join(f'{one.name} ({one.decibels:.1f} dB)' for one in others)}"
    return said


def print_diagnosis(diagnosis: Diagnosis) -> None:
    """Print what is installed, what this machine is ready for, and what to install for the rest."""
    _say(f"Python {diagnosis.python} on {diagnosis.platform}; NVIDIA driver: {'yes' if diagnosis.driver else 'no'}")
    free = "unknown" if diagnosis.cache_free_bytes is None else format_bytes(diagnosis.cache_free_bytes)
    _say(f"bundle cache: {diagnosis.cache} ({free} free)")
    _say("installed: " + ", ".join(f"{name} {version}" for name, version in diagnosis.packages.items() if version))
    table = _table("purpose", "ready", "NVIDIA driver", "missing")
    remedies: dict[str, list[str]] = {}
    for purpose in diagnosis.purposes:
        ready = "yes" if purpose.ready else (purpose.note or "no")
        driver = purpose.driver.removeprefix("version ") or "-"
        table.add_row(purpose.name, ready, driver, ", ".join(purpose.missing) or "-")
        if purpose.remedy:
            remedies.setdefault(purpose.remedy, []).append(purpose.name.removeprefix("target "))
    _show(table)
    for remedy, names in remedies.items():  # not in the table: it would wrap these commands, and people copy them
        _say(f"{', '.join(names)}:")
        _say(f"    {remedy}")


def print_engines(engines: EnginesSummary) -> None:
    """Print what the compiler produced: stages, kernels by kind, memory, and the projected speed."""
    for table in (_stage_table(engines), _kernel_table(engines), _memory_table(engines)):
        _show(table)
    peak = f", {format_bytes(engines.build_peak_bytes)} of memory" if engines.build_peak_bytes else ""
    _say(f"  the build   {engines.build_seconds:.0f} s{peak} (measured)")
    flops = sum(engines.chunk_flops.values())
    _say(f"  a chunk     {flops / 1e12:.2f} TFLOP, {format_bytes(engines.chunk_bytes)} moved (counted)")
    for projection in engines.projected:
        fits = projection.memory_bytes >= engines.gpu_bytes
        speed = f"at most {projection.frames_per_second:.1f} frames/s (projected, docs/roofline.md; not measured)"
        said = speed if fits else f"does not fit: {format_bytes(projection.memory_bytes)} of memory"
        _say(f"  {projection.gpu:10}  {said}")


def _stage_table(engines: EnginesSummary) -> Table:
    """A row per stage, red where attention was not fused."""
    table = _table("stage", "kernels", "products", "16 bits", "attention", "weights", "activations", "GFLOP", "moved")
    for stage in engines.stages:
        table.add_row(
            stage.stage,
            str(sum(stage.kernels.values())),
            _counts(stage.gemms) or "-",
            " and ".join(stage.sixteen_bits) or "-",
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
    table = _table("kernels", *(stage.stage for stage in engines.stages))
    for kind in dict.fromkeys(kind for stage in engines.stages for kind in stage.kernels):
        table.add_row(kind, *(str(stage.kernels.get(kind, "-")) for stage in engines.stages))
    return table


def _memory_table(engines: EnginesSummary) -> Table:
    """A row per use of GPU memory, and their sum."""
    table = _table("GPU memory", "planned")
    for owner, size in engines.memory.items():
        table.add_row(owner, format_bytes(size))
    table.add_row("whole pipeline, one stream", format_bytes(engines.gpu_bytes), style="bold")
    return table


def print_buffers(buffers: Iterable[BufferPlace]) -> None:
    """Print every buffer of a stream: its size and its offsets, in bytes."""
    table = _table("buffer", "bytes", "offset", "offset on the host", "shares the place of")
    for buffer in buffers:
        places = ("-" if place is None else str(place) for place in (buffer.offset, buffer.host_offset))
        table.add_row(buffer.name, str(buffer.nbytes), *places, buffer.over or "-")
    _show(table)


def print_kernels(engines: Iterable[EngineReport]) -> None:
    """Print every kernel, in the order in which they run."""
    for engine in engines:
        for stage in engine.stages:
            _say(f"{stage.name}: {len(stage.kernels)} kernels")
            for kernel in stage.kernels:
                _say(
                    f"  {kernel.kind:22} {kernel.precision:8} {kernel.flops / 1e9:9.2f} GFLOP "
                    f"{kernel.nbytes / 1e6:9.2f} MB  {kernel.name}  {', '.join(kernel.inputs)} -> "
                    f"{', '.join(kernel.outputs)}"
                )


def _counts(counts: Mapping[str, float]) -> str:
    return ", ".join(f"{count} {name}" for name, count in counts.items())
