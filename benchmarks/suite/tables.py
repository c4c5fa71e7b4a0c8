"""The tables of a run, as texts: one per protocol, a row per figure, a column per subject, and one for others' figures.

A figure without a mark was measured. The others carry how they were obtained.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from ...text import format_bytes
from .metrics import METRICS, NO_PSNR, find_metric
from .record import BenchRun, Case, Figure, How, Peer, State, Subject

_ORDER = list(METRICS)
_MARKS = {how: "" if how is How.MEASURED else f" {how.value}" for how in How}
_PERCENTILES = ("chunk",)
"""Figures whose slowest samples matter."""
_PSNR = "psnr"
UNKNOWN = "not measured"
_PEER_FIGURES = ("core_fps", "file_fps", "device_bytes")


@dataclass(frozen=True)
class FigureTable:
    """title: the protocol. headings: empty for the names of figures, then one per subject."""

    title: str
    headings: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def told_apart(run: BenchRun) -> BenchRun:
    """The run with other names for what would be called alike.

    For what people read: two bundles of one size and precision are two columns, not one. In one protocol, bundles are
    told apart by digest and commands by number; cases of several protocols by these.
    """
    cases = tuple(_with_marks(run.cases))
    protocols: dict[str, set[str]] = {}
    for case in cases:
        protocols.setdefault(case.name, set()).add(case.protocol)
    named = (
        case if len(protocols[case.name]) < 2 else replace(case, name=f"{case.name}, {case.protocol}") for case in cases
    )
    return replace(run, cases=tuple(named))


def _with_marks(cases: Sequence[Case]) -> Iterator[Case]:
    """The cases, with marks in the names of those whose subjects are called alike in one protocol."""
    alike: dict[tuple[str, ...], list[str]] = {}
    for case in cases:
        known, which = alike.setdefault(_called(case), []), _which(case.subject)
        if which and which not in known:
            known.append(which)
    for case in cases:
        subject, known = case.subject, alike[_called(case)]
        if len(known) < 2 or not _which(subject):
            yield case
        elif subject.side == "bundle":
            mark = f" {subject.digest[:6]}"
            yield replace(case, name=case.name + mark, subject=replace(subject, precision=subject.precision + mark))
        else:
            mark = f"#{known.index(subject.side) + 1}"
            yield replace(case, name=case.name + mark, subject=replace(subject, side=subject.program + mark))


def _called(case: Case) -> tuple[str, ...]:
    return case.protocol, case.subject.program, case.subject.precision, case.subject.options


def _which(subject: Subject) -> str:
    """What tells a subject from another of the same name; empty for a bundle that was not built."""
    return subject.digest if subject.side == "bundle" else subject.side


def tables_of(run: BenchRun) -> Iterator[FigureTable]:
    """One table for each protocol."""
    run = told_apart(run)
    for protocol in dict.fromkeys(case.protocol for case in run.cases):
        cases = [case for case in run.cases if case.protocol == protocol]
        columns = _columns(cases)
        if not columns:
            continue
        unknown = {_heading(case, cases) for case in cases if lacks_psnr(case)}
        names = {name for figures in columns.values() for name in figures} | ({_PSNR} if unknown else set())
        peers = {name: _peer_cell(run.peers, name, cases[0].subject.size) for name in _PEER_FIGURES}
        headings = ["", *columns] + (["published by others"] if any(peers.values()) else [])
        rows = [
            (
                row_label(name),
                *(_cell(figures.get(name), name == _PSNR and head in unknown) for head, figures in columns.items()),
                peers.get(name, ""),
            )
            for name in sorted(names, key=_place)
        ]
        yield FigureTable(
            protocol if not cases[0].subject.width else f"{protocol}: {cases[0].subject.size}",
            tuple(headings),
            tuple(r[: len(headings)] for r in rows),
        )


def lacks_psnr(case: Case) -> bool:
    """True if quality was measured, but not against float32; a note of the case says why."""
    return case.figure(_PSNR) is None and any(note.startswith(NO_PSNR) for note in case.notes)


def machine_of(run: BenchRun) -> Iterator[str]:
    """The machine and what is installed there, in lines; then the bundles with the beginnings of their digests."""
    host = run.host
    yield f"{host.cpu}, {host.cpus} CPUs, {format_bytes(host.memory_bytes)} of RAM, {host.system}"
    if host.gpu is not None:
        limit = "" if host.gpu.power_limit_w is None else f", power limit {host.gpu.power_limit_w:.0f} W"
        memory = "" if host.gpu.memory_bytes is None else f", {format_bytes(host.gpu.memory_bytes)}"
        yield f"{host.gpu.name}{memory}, driver {host.gpu.driver}{limit}{', emulated' if host.gpu.emulated else ''}"
    yield ", ".join(f"{name} {version}" for name, version in host.versions.items())
    digests: dict[str, Subject] = {}
    for case in run.cases:
        digests.setdefault(case.subject.digest, case.subject)
    digests.pop("", None)
    for digest, one in digests.items():
        yield f"bundle {digest[:12]}: {one.model}, {one.size}, {one.precision}, target {one.target}"


def problems_of(run: BenchRun) -> Iterator[str]:
    """One line for each case that has no figures because it failed, and for each note."""
    run = told_apart(run)
    for case in run.cases:
        if case.state is not State.DONE:
            yield f"{case.name}: {case.state.value}{': ' + case.problem if case.problem else ''}"
    yield from dict.fromkeys(f"{case.name}: {note}" for case in run.cases for note in case.notes)
    yield from run.notes


def row_label(name: str) -> str:
    """What a figure is called in a row."""
    metric = find_metric(name)
    kind = name.partition(".")[0]
    return f"{kind}: {metric.label}" if "." in name and kind in METRICS else metric.label


def subject_name(subject: Subject) -> str:
    """What a subject is called in a heading."""
    if subject.side == "bundle":
        how = f", {subject.options}" if subject.options else ""
        return f"{subject.precision} {subject.clip_len} frames, {subject.device}{how}"
    return subject.program


def figure_text(figure: Figure) -> str:
    """The value with its unit, and the percentiles if there are samples: `12.3 FPS (11.9 ... 12.8)`."""
    value = value_text(figure.value, figure.unit)
    if len(figure.samples) > 1 and figure.p10 is not None and figure.p90 is not None:
        spread = [figure.p10, figure.p90]
        if figure.name in _PERCENTILES and figure.p99 is not None:
            spread.append(figure.p99)
        value += f" ({' ... '.join(_bare(one, figure.unit) for one in spread)})"
    return value + _MARKS.get(figure.how, "")


def value_text(value: float, unit: str) -> str:
    if unit == "bytes":
        return format_bytes(round(value))
    if unit == "FLOP":
        return f"{value / 1e12:.3g} TFLOP"
    return f"{_number(value)} {unit}" if unit else f"{value:.5g}"


def _bare(value: float, unit: str) -> str:
    """A value of a row whose unit is there already, but for sizes, which choose theirs."""
    return value_text(value, unit) if unit in ("", "bytes", "FLOP") else _number(value)


def _number(value: float) -> str:
    return f"{value:.0f}" if abs(value) >= 1000 or value == int(value) else f"{value:.3g}"


def _columns(cases: Sequence[Case]) -> dict[str, dict[str, Figure]]:
    """Figures by name, by subject; only subjects that have some."""
    columns: dict[str, dict[str, Figure]] = {}
    for case in cases:
        if case.figures or lacks_psnr(case):
            column = columns.setdefault(_heading(case, cases), {})
            for figure in case.figures:
                if figure.scope == case.suite or figure.name not in column:  # several suites look at the memory
                    column[figure.name] = figure
    return columns


def _heading(case: Case, cases: Sequence[Case]) -> str:
    """Builds run elsewhere, but belong to the bundle's column."""
    twin = (other for other in cases if other.suite != "build" and _key(other) == _key(case))
    return subject_name(next(twin, case).subject)


def _key(case: Case) -> tuple[str, str, str, int]:
    return case.subject.side, case.subject.precision, case.subject.target, case.subject.clip_len


def _cell(figure: Figure | None, is_unknown: bool) -> str:
    if figure is None:
        return UNKNOWN if is_unknown else ""
    return figure_text(figure)


def _place(name: str) -> tuple[int, str]:
    kind = name.partition(".")[0]
    return _ORDER.index(kind) if kind in METRICS else len(_ORDER), name


def _peer_cell(peers: Sequence[Peer], name: str, size: str) -> str:
    """What others state for this size, each with its hardware."""
    fitting = [peer for peer in peers if peer.figure.name == name and f"{peer.width}x{peer.height}" == size]
    return "; ".join(
        f"{value_text(peer.figure.value, peer.figure.unit)} {peer.name}, {peer.hardware}" for peer in fitting
    )
