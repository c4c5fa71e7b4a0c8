"""The parts of the page about time: speed by resolution, time by stage, and waiting."""

# tested with: `benchmark_page`, which shows what it makes
from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from ...page.document import Cell, Chart, Section, Table
from ..suite.record import BenchRun, Case, Figure, Peer
from .cells import (
    as_heading,
    cases_of,
    cell_in,
    cell_of,
    chart_row,
    columns_that_hold,
    full_name,
    label_of,
    name_of,
    sizes_of,
)

_SPEEDS = ("core_fps", "file_fps", "program_fps", "projected_fps", "roof_fps")
_IN_THIS_RUN = ("core_fps", "file_fps", "program_fps")


def speed_section(run: BenchRun) -> Section:
    """Frames per second by resolution, against real time."""
    cases = [case for case in (*cases_of(run, "core"), *cases_of(run, "file")) if _speeds(case)]
    sizes = sizes_of(sorted(cases, key=lambda case: case.subject.width * case.subject.height))
    if not sizes:
        return Section("Speed", ())
    points = [point for size in sizes for point in _points(size, cases, run.peers)]
    rate = next((clip.frame_rate for clip in run.clips), None)
    options: dict[str, Any] = {"x": "frames per second", "wide": True}
    if rate is not None:
        options["rule"] = {"value": rate, "name": f"real time, {rate:g} frames/s"}
    table = _speed_table(sizes, cases, run.peers)
    chart = Chart("rows", "Frames per second by resolution", tuple(points), table, options)
    return Section(
        "Speed",
        (chart,),
        "Core is memory to memory; whole file includes decoding and encoding. A line through a dot spans the middle "
        "four fifths of the samples. Figures of others come from their machines and clips.",
    )


def _speeds(case: Case) -> list[Figure]:
    return [figure for name in _SPEEDS if (figure := case.figure(name)) is not None]


def _points(size: str, cases: list[Case], peers: tuple[Peer, ...]) -> Iterator[Mapping[str, Any]]:
    for case in cases:
        if case.subject.size == size:
            for figure in _speeds(case):
                yield chart_row(size, f"{name_of(case.subject)}, {label_of(figure)}", figure)
    for peer in _peers_of(size, peers):
        yield chart_row(size, f"{peer.name}, {label_of(peer.figure)}, {peer.hardware}", peer.figure)


def _peers_of(size: str, peers: tuple[Peer, ...]) -> list[Peer]:
    return [peer for peer in peers if f"{peer.width}x{peer.height}" == size and peer.figure.unit == "FPS"]


def _speed_table(sizes: list[str], cases: list[Case], peers: tuple[Peer, ...]) -> Table:
    """What was measured, projected and published, each in a column of its own."""
    rows: list[tuple[Cell, ...]] = []
    for size in sizes:
        for case in (case for case in cases if case.subject.size == size):
            for name in _IN_THIS_RUN:
                if (figure := case.figure(name)) is not None:
                    span = cell_of(figure, "p10"), cell_of(figure, "p90")
                    expected = (
                        (cell_in(case, "projected_fps"), cell_in(case, "roof_fps"))
                        if name == "core_fps"
                        else (None, None)
                    )
                    rows.append(
                        (size, name_of(case.subject), label_of(figure), cell_of(figure), *span, *expected, None)
                    )
        for peer in _peers_of(size, peers):
            name = f"{peer.name}, {peer.precision}, {peer.hardware}"
            rows.append((size, name, label_of(peer.figure), *[None] * 5, cell_of(peer.figure)))
    columns = ("Output", "Program", "Scope", "In this run", "p10", "p90", "Expected", "At most", "Published")
    return Table("Frames per second by resolution", *columns_that_hold(columns, rows))


def stage_section(run: BenchRun) -> Section:
    """The time that each stage takes of a chunk."""
    cases = [case for case in cases_of(run, "core") if _stages(case)]
    if not cases:
        return Section("Time by stage", ())
    points = tuple(
        {
            "name": full_name(case.subject),
            "part": label_of(figure),
            "value": figure.value,
            "shown": str(cell_of(figure)),
        }
        for case in cases
        for figure in _stages(case)
    )
    stages = list(dict.fromkeys(figure.name for case in cases for figure in _stages(case)))
    columns = ("Program", *(as_heading(stage.partition(".")[2]) for stage in stages), "Chunk", "p90", "p99")
    rows = [
        (
            full_name(case.subject),
            *(cell_in(case, stage) for stage in stages),
            cell_in(case, "chunk"),
            cell_in(case, "chunk", "p90"),
            cell_in(case, "chunk", "p99"),
        )
        for case in cases
    ]
    table = Table("Time by stage", *columns_that_hold(columns, rows))
    return Section(
        "Time by stage", (Chart("bars", "Time of a chunk", points, table, {"x": "ms per chunk", "wide": True}),)
    )


def _stages(case: Case) -> list[Figure]:
    return [figure for figure in case.figures if figure.name.startswith("stage.")]


_WAITS = {
    "latency": ("first_frame", "chunk_latency"),
    "startup": ("cold_start", "warm_start", "load"),
    "build": ("build_s", "build_rss_bytes", "bundle_bytes"),
}


def waiting_section(run: BenchRun) -> Section:
    """What users wait for: a build, a start, the first frame, the frames of a chunk."""
    rows: list[tuple[Cell, ...]] = []
    for suite, names in _WAITS.items():
        for case in cases_of(run, suite):
            for figure in (figure for name in names if (figure := case.figure(name)) is not None):
                parts = (cell_of(figure, part) for part in ("value", "p90", "p99"))
                rows.append((as_heading(label_of(figure)), full_name(case.subject), *parts, figure.note))
    if not rows:
        return Section("Waiting", ())
    columns = ("What", "Program", "Median", "p90", "p99", "Note")
    return Section("Waiting", (Table("Waiting", *columns_that_hold(columns, rows)),))
