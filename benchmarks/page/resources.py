"""The parts of the page about memory and kernels."""

# tested with: `benchmark_page`, which shows what it makes
from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from ...page.document import Cell, Chart, Number, Section, Table
from ..suite.record import BenchRun, Case, Figure, How, KernelClass, Roofline
from .cells import as_heading, cases_of, cell_in, columns_that_hold, full_name, label_of


def memory_section(run: BenchRun) -> Section:
    """The parts of the memory plan, and what was really taken."""
    cases = cases_of(run, "memory")
    if not cases:
        return Section("Memory", ())
    parts = list(dict.fromkeys(figure.name for case in cases for figure in _parts(case)))
    columns = ("Program", *(as_heading(part.partition(".")[2]) for part in parts), "Planned", "GPU, peak", "RAM, peak")
    rows = [
        (
            full_name(case.subject),
            *(cell_in(case, part) for part in parts),
            *(cell_in(case, name) for name in ("planned_bytes", "device_bytes", "rss_bytes")),
        )
        for case in cases
    ]
    table = Table("Memory", *columns_that_hold(columns, rows))
    largest = max((figure.value for case in cases for figure in _parts(case)), default=0.0)
    scale, unit = (1e-9, "GB") if largest >= 1e9 else (1e-6, "MB")
    points = tuple(point for case in cases for point in _memory_points(case, scale))
    lead = (
        "Parts come from the memory plan that is computed before a run; peaks are what the driver and the system say."
    )
    if not points:
        return Section("Memory", (table,), lead)
    return Section("Memory", (Chart("bars", "Memory by part", points, table, {"x": unit, "wide": True}),), lead)


def _parts(case: Case) -> list[Figure]:
    return [figure for figure in case.figures if figure.name.startswith("memory.")]


def _memory_points(case: Case, scale: float) -> Iterator[Mapping[str, Any]]:
    for figure in _parts(case):
        shown = str(cell_in(case, figure.name))
        yield {"name": full_name(case.subject), "part": label_of(figure), "value": figure.value * scale, "shown": shown}


def roofline_section(run: BenchRun) -> Section:
    """The kernels of each kind under the roof of the card."""
    found = [(case, case.roofline) for case in cases_of(run, "core") if case.roofline is not None]
    ends = found if len(found) < 3 else [found[0], found[-1]]  # the others lie between them
    charts = tuple(
        chart
        for case, roofline in ends
        for chart in (_roofline_chart(full_name(case.subject), roofline), _class_chart(case, roofline))
    )
    return Section(
        "Roofline",
        charts,
        "Each circle is one kind of kernel in one stage, at the most that the card allows it: under the slope, memory "
        "limits it, and under a flat line, arithmetic of that precision. Its area is its share of the least time. "
        "Kernels without arithmetic are in the bars only.",
    )


def _roofline_chart(name: str, roofline: Roofline) -> Chart:
    total = sum(each.roof_ms for each in roofline.classes)
    points = tuple(
        _kernel_point(each, total) for each in roofline.classes if each.flops and each.nbytes and each.roof_ms
    )
    used = {each.precision for each in roofline.classes if each.flops}
    options = {
        "x": "operations per byte",
        "y": "TFLOP/s",
        "roofs": [{"name": name, "rate": rate / 1e12} for name, rate in roofline.rates.items() if name in used],
        "bandwidth": roofline.bandwidth / 1e12,
    }
    title = f"{name} on {roofline.card}"
    return Chart("roofline", title, points, _kernel_table(f"Kernels, {title}", roofline), options)


def _class_chart(case: Case, roofline: Roofline) -> Chart:
    """The least time of every kind of kernel, stage by stage."""
    points = tuple(
        {
            "name": each.stage,
            "part": each.kind,
            "value": each.roof_ms,
            "shown": f"{each.precision}, {Number(each.roof_ms, 'ms', 2)}",
        }
        for each in sorted(roofline.classes, key=lambda each: (each.kind, each.precision))
    )
    title = f"Least time of a chunk, {full_name(case.subject)}"
    return Chart("bars", title, points, _kernel_table(title, roofline), {"x": "ms per chunk"})


def _kernel_table(caption: str, roofline: Roofline) -> Table:
    compiled, projected = How.COMPILED.value, How.PROJECTED.value
    rows: list[tuple[Cell, ...]] = [
        (
            each.stage,
            f"{each.kind}, {each.precision}",
            Number(each.count, origin=compiled),
            Number(each.flops, "FLOP", 0, compiled),
            Number(each.nbytes, "bytes", origin=compiled),
            Number(each.roof_ms, "ms", 2, projected),
        )
        for each in sorted(roofline.classes, key=lambda each: -each.roof_ms)
    ]
    columns = ("Stage", "Kernels", "Number", "Operations", "Memory traffic", "Least time")
    return Table(caption, columns, tuple(rows))


def _kernel_point(each: KernelClass, total: float) -> Mapping[str, Any]:
    return {
        "x": each.flops / each.nbytes,
        "y": each.flops / each.roof_ms / 1e9,
        "name": f"{each.stage}: {each.kind}",
        "part": each.stage,
        "share": each.roof_ms / total,
    }
