"""How the figures of a record, their subjects and cases are called and written on the page."""

# tested with: `benchmark_page`, which shows what it makes
from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from ...page.document import Cell, Number
from ..suite.metrics import find_metric
from ..suite.record import BenchRun, Case, Figure, State, Subject

_UNITS = {"FPS": "frames/s", "x": "×", "frames": "count", "kernels": "count", "FLOP": "count", "C": "°C", "levels": ""}
_DIGITS = {f"{name}{kind}": digits for name, digits in (("ssim", 4), ("psnr", 2)) for kind in ("", "_clean", "_before")}


_FEWEST = 3
"""Samples below which percentiles say nothing."""


def cell_of(figure: Figure | None, part: str = "value") -> Number | None:
    """A figure, or its `p10`, `p90`, `p99`, as the page shows it; None if there is none."""
    value = None if figure is None else getattr(figure, part)
    if figure is None or value is None or (part != "value" and len(figure.samples) < _FEWEST):
        return None
    unit = _UNITS.get(figure.unit, figure.unit)
    return Number(value, unit, _DIGITS.get(figure.name.partition(".")[0], _digits(value)), figure.how.value)


def _digits(value: float) -> int:
    """Digits behind the point, so that three or more say something."""
    if value == 0 or abs(value) >= 10:
        return 1
    return min(2 - math.floor(math.log10(abs(value))), 8)


def cell_in(case: Case, name: str, part: str = "value") -> Number | None:
    """As `cell_of`, for the figure of a case with this name."""
    return cell_of(case.figure(name), part)


def chart_row(group: str, name: str, figure: Figure) -> Mapping[str, Any]:
    """A figure as a row of a chart of the kind `rows`. group: under which heading."""
    shown = cell_of(figure)
    return {
        "group": group,
        "name": name,
        "value": figure.value,
        "shown": shown.text if shown else "",
        "origin": figure.how.value,
        "low": figure.p10 if len(figure.samples) >= _FEWEST else None,
        "high": figure.p90 if len(figure.samples) >= _FEWEST else None,
    }


def label_of(figure: Figure) -> str:
    """What people call a figure."""
    return find_metric(figure.name).label


def as_heading(text: str) -> str:
    """The text with a capital at its beginning."""
    return text[:1].upper() + text[1:]


def with_protocols(run: BenchRun) -> BenchRun:
    """The run with the protocol in the names of subjects that occur under several of them, in one size."""
    protocols: dict[str, set[str]] = {}
    for case in run.cases:
        protocols.setdefault(full_name(case.subject), set()).add(case.protocol)

    def named(case: Case) -> Case:
        if len(protocols[full_name(case.subject)]) < 2:
            return case
        precision = ", ".join(filter(None, (case.subject.precision, case.protocol)))
        return replace(case, subject=replace(case.subject, precision=precision))

    return replace(run, cases=tuple(map(named, run.cases)))


def name_of(subject: Subject) -> str:
    """What was measured: whose program, its precision, and how it is run if not as usual."""
    who = {"bundle": "swiftvr-trt", "torch": "plain torch network"}.get(subject.side, subject.program)
    return ", ".join(filter(None, (who, subject.precision, subject.options)))


def full_name(subject: Subject) -> str:
    """As `name_of`, with the size of the output."""
    return f"{name_of(subject)}, {subject.size}"


def cases_of(run: BenchRun, suite: str) -> list[Case]:
    """The cases of a suite that have figures or frames, the smallest output first."""
    found = [case for case in run.cases if case.suite == suite and (case.figures or case.frames)]
    return sorted(found, key=lambda case: case.subject.width * case.subject.height)


def sizes_of(cases: Iterable[Case]) -> list[str]:
    """The sizes of the outputs, each once, in order."""
    return list(dict.fromkeys(case.subject.size for case in cases))


def columns_that_hold(
    columns: Sequence[str], rows: Sequence[Sequence[Cell]]
) -> tuple[tuple[str, ...], tuple[tuple[Cell, ...], ...]]:
    """The table without the columns in which no row has anything."""
    kept = [place for place in range(len(columns)) if any(row[place] not in (None, "") for row in rows)]
    return tuple(columns[place] for place in kept), tuple(tuple(row[place] for place in kept) for row in rows)


def is_over(case: Case) -> bool:
    """True if a case got to its end."""
    return case.state is State.DONE
