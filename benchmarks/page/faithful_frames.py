"""The parts of the page about quality: precision against quality, and real frames before and after."""

# tested with: `benchmark_page`, which shows what it makes
from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ...page.document import Cell, Chart, Frame, Part, Section, Table, Viewer
from ..suite.metrics import METRICS
from ..suite.record import BenchRun, Case, Figure, ShownFrame
from ..suite.tables import UNKNOWN, lacks_psnr
from .cells import as_heading, cases_of, cell_in, cell_of, chart_row, columns_that_hold, full_name, label_of

_FIGURES = tuple(
    f"{name}{kind}"
    for kind in ("", "_clean", "_before")
    for name in ("psnr", "ssim", "vmaf", "temporal_error")
    if f"{name}{kind}" in METRICS
)
_MOST_VIEWERS = 4


def quality_section(run: BenchRun) -> Section:
    """How close each precision comes, and at what speed."""
    cases = cases_of(run, "quality")
    if not cases:
        return Section("Precision and quality", ())
    table = _quality_table(cases)
    name = "psnr" if _first(cases, "psnr") is not None else "psnr_clean"
    psnrs = [(case, psnr) for case in cases if (psnr := case.figure(name)) is not None]
    points = _points(psnrs, run)
    parts: list[Part] = []
    if len(points) > 1:
        options = {"x": "frames per second, core", "y": "PSNR, dB"}
        parts.append(Chart("scatter", "Precision against quality", points, table, options))
    elif len(rows := tuple(chart_row("", full_name(case.subject), psnr) for case, psnr in psnrs)) > 1:
        parts.append(Chart("rows", "PSNR by precision", rows, table, {"x": "dB"}))
    else:
        parts.append(table)
    parts += _by_frame(psnrs, wide=not isinstance(parts[0], Chart))
    notes = dict.fromkeys(psnr.note for _, psnr in psnrs if psnr.note)
    lead = [f"PSNR in the charts is {'; '.join(notes)}."] if notes else []
    lead += dict.fromkeys(f"{note}." for case in cases for note in case.notes)
    return Section("Precision and quality", tuple(parts), " ".join(lead))


def _quality_table(cases: list[Case]) -> Table:
    known = [
        name
        for name in _FIGURES
        if _first(cases, name) is not None or (name == _FIGURES[0] and any(map(lacks_psnr, cases)))
    ]
    columns = ("Program", *(as_heading(METRICS[name].label) for name in known), "Clip")
    rows: list[tuple[Cell, ...]] = [
        (full_name(case.subject), *(_quality_cell(case, name) for name in known), case.clip) for case in cases
    ]
    return Table("Quality", *columns_that_hold(columns, rows))


def _quality_cell(case: Case, name: str) -> Cell:
    return UNKNOWN if name == _FIGURES[0] and lacks_psnr(case) else cell_in(case, name)


def _first(cases: list[Case], name: str) -> Figure | None:
    return next((figure for case in cases if (figure := case.figure(name)) is not None), None)


def _points(psnrs: list[tuple[Case, Figure]], run: BenchRun) -> tuple[Mapping[str, Any], ...]:
    """Speed and quality of each subject of which both are known, by its precision if that tells them apart."""
    speeds = {core.subject: speed for core in cases_of(run, "core") if (speed := core.figure("core_fps")) is not None}
    found = [(case.subject, psnr, speeds[case.subject]) for case, psnr in psnrs if case.subject in speeds]
    is_clear = len({subject.precision for subject, _, _ in found}) == len(found)
    return tuple(
        {
            "x": speed.value,
            "y": psnr.value,
            "name": subject.precision if is_clear else f"{subject.precision}, {subject.size}",
            "origin": speed.how.value,
        }
        for subject, psnr, speed in found
    )


def _by_frame(psnrs: list[tuple[Case, Figure]], *, wide: bool) -> list[Part]:
    """PSNR frame by frame."""
    found = [(case, psnr) for case, psnr in psnrs if len(psnr.samples) > 1]
    if not found:
        return []
    points = tuple(
        {"x": number, "y": value, "name": full_name(case.subject)}
        for case, psnr in found
        for number, value in enumerate(psnr.samples)
    )
    rows: list[tuple[Cell, ...]] = [
        (full_name(case.subject), *(cell_of(psnr, part) for part in ("p10", "value", "p90"))) for case, psnr in found
    ]
    table = Table("PSNR by frame", ("Program", "p10", "Median", "p90"), tuple(rows))
    return [Chart("line", "PSNR by frame", points, table, {"x": "frame", "y": "dB", "wide": wide})]


def frame_sections(run: BenchRun) -> list[Section]:
    """Real frames of each case that has some, under a slider."""
    cases = [case for case in cases_of(run, "quality") if case.frames][:_MOST_VIEWERS]
    return [
        Section(
            f"Frames: {full_name(case.subject)}",
            (_viewer(case),),
            f"Frames of the clip {case.clip}. The input is enlarged with bicubic interpolation.",
        )
        for case in cases
    ]


def _viewer(case: Case) -> Viewer:
    known = list(dict.fromkeys(figure.name for frame in case.frames for figure in frame.figures))
    labels = tuple(
        as_heading(label_of(figure)) for name in known if (figure := _figure_of(case.frames, name)) is not None
    )
    return Viewer("Input, enlarged", "Restored", tuple(_frame(frame, known) for frame in case.frames), labels)


def _figure_of(frames: tuple[ShownFrame, ...], name: str) -> Figure | None:
    return next((figure for frame in frames for figure in frame.figures if figure.name == name), None)


def _frame(frame: ShownFrame, known: list[str]) -> Frame:
    metrics = tuple(cell_of(_figure_of((frame,), name)) for name in known)
    width, height = frame.crop[2:]
    return Frame(f"Frame {frame.number}, {frame.seconds:g} s", frame.before, frame.after, "", width, height, metrics)
