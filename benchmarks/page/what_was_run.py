"""The parts of the page about the run itself: the machine, the cases, the inputs, and what others state."""

# tested with: `benchmark_page`, which shows what it makes
from __future__ import annotations

from collections.abc import Iterator

from ...page.document import Cell, Facts, Lines, Number, Part, Section, Table
from ..suite.record import BenchRun, Case, GraphicsCard, How, Peer, State
from .cells import as_heading, cases_of, cell_of, columns_that_hold, full_name, is_over, label_of

_EXPLAINED = {
    State.PLANNED: "not begun",
    State.RUNNING: "cut short",
    State.FAILED: "failed",
    State.INTERRUPTED: "interrupted",
}


def first_section(run: BenchRun) -> Section:
    """What has to be known before any figure is believed; without parts if all is well."""
    lines = list(run.notes)
    lines += (
        [f"The run is not complete: {run.problem or _EXPLAINED[run.state]}."] if run.state is not State.DONE else []
    )
    lines += [f"{case.name}: {case.problem or _EXPLAINED[case.state]}" for case in run.cases if not is_over(case)]
    lines += [f"{case.name}: {note}" for case in run.cases for note in case.notes if "throttled" in note]
    return Section("Read this first", (Lines(tuple(lines)),) if lines else ())


def run_section(run: BenchRun) -> Section:
    """The machine, the command and the inputs."""
    host, gpu = run.host, run.host.gpu
    rows: list[tuple[str, Cell]] = [
        ("CPU", host.cpu),
        ("Processors", Number(host.cpus)),
        ("RAM", Number(host.memory_bytes, "bytes")),
        ("System", host.system),
        *(_gpu_rows(gpu) if gpu is not None else ()),
        *(() if host.load is None else (("Load per processor before the run", Number(host.load, "", 2)),)),
        ("Models", ", ".join(dict.fromkeys(case.subject.model for case in run.cases))),
        ("Took", Number(run.seconds, "duration")),
        ("Command", " ".join(run.argv)),
        *host.versions.items(),
    ]
    notes = tuple(dict.fromkeys(f"{case.name}: {note}" for case in run.cases for note in case.notes))
    parts: list[Part] = [Facts(tuple(rows))]
    parts += [Lines(notes)] if notes else []
    parts += [_clip_table(run)] if run.clips else []
    return Section("What was run", (*parts, _case_table(run)))


def _gpu_rows(gpu: GraphicsCard) -> Iterator[tuple[str, Cell]]:
    yield "GPU", f"{gpu.name} (emulated)" if gpu.emulated else gpu.name
    yield "Driver", gpu.driver
    yield "Compute capability", gpu.compute_capability
    optional = (
        ("GPU memory", gpu.memory_bytes, "bytes"),
        ("Power limit", gpu.power_limit_w, "W"),
        ("Highest clock", gpu.max_clock_mhz, "MHz"),
    )
    yield from ((name, Number(value, unit, 0)) for name, value, unit in optional if value is not None)


def _clip_table(run: BenchRun) -> Table:
    rows: list[tuple[Cell, ...]] = [
        (
            clip.name,
            f"{clip.width}x{clip.height}",
            Number(clip.frames),
            Number(clip.frame_rate, "frames/s", 2),
            clip.sha256,
        )
        for clip in run.clips
    ]
    return Table("Inputs", ("Input", "Size", "Frames", "Rate", "SHA-256"), tuple(rows))


def _case_table(run: BenchRun) -> Table:
    rows: list[tuple[Cell, ...]] = [
        (case.name, case.protocol, _state(case), case.subject.device, case.subject.digest[:12]) for case in run.cases
    ]
    columns = ("Case", "Protocol", "State", "Device", "Bundle")
    return Table("Cases", *columns_that_hold(columns, rows))


def _state(case: Case) -> str:
    return case.state.value


def figures_section(run: BenchRun) -> Section:
    """Every figure of the record, also those that no other part of the page shows; a table for each way to get one."""
    tables = []
    for how in How:
        rows: list[tuple[Cell, ...]] = [
            (
                case.name,
                as_heading(label_of(figure)),
                *(cell_of(figure, part) for part in ("value", "p10", "p90", "p99")),
                figure.note,
            )
            for case in run.cases
            for figure in case.figures
            if figure.how is how
        ]
        columns = ("Case", "Figure", "Value", "p10", "p90", "p99", "Note")
        if rows:
            tables.append(Table(f"Everything {how.value}", *columns_that_hold(columns, rows), folded=True))
    return Section("Every figure", tuple(tables))


def peer_section(run: BenchRun) -> Section:
    """What others state about their programs."""
    rows: list[tuple[Cell, ...]] = [
        (
            peer.name,
            cell_of(peer.figure),
            peer.hardware,
            f"{peer.width}x{peer.height}",
            peer.precision,
            _how_stated(peer),
            f"{peer.url.removeprefix('https://')}, looked up on {peer.date}",
        )
        for peer in run.peers
    ]
    if not rows:
        return Section("What others state", ())
    columns = ("Program", "Published", "Hardware", "Output", "Precision", "What and how", "Source")
    return Section(
        "What others state",
        (Table("What others state", *columns_that_hold(columns, rows)),),
        "Nothing in this table was measured in this run.",
    )


def _how_stated(peer: Peer) -> str:
    """`core: memory to memory, as its authors state it; compiled`. No tool of ours has taken any of these figures."""
    what = label_of(peer.figure).partition(",")[0]
    return f"{what}: {peer.figure.protocol}{f'; {peer.figure.note}' if peer.figure.note else ''}"


def headline_of(run: BenchRun) -> tuple[tuple[str, Number], ...]:
    """The few figures that most readers come for: of the first case of each kind that has them."""
    wanted = (
        ("core", "core_fps"),
        ("file", "file_fps"),
        ("memory", "device_bytes"),
        ("memory", "planned_bytes"),
        ("quality", "psnr"),
        ("quality", "psnr_clean"),
    )
    found: list[tuple[str, Number]] = []
    for suite, name in wanted:
        case = next((case for case in cases_of(run, suite) if case.figure(name) is not None), None)
        number = None if case is None else cell_of(case.figure(name))
        if case is not None and number is not None:
            found.append((_headline_name(case, name), number))
    return tuple(found)


def _headline_name(case: Case, name: str) -> str:
    figure = case.figure(name)
    label = "" if figure is None else as_heading(label_of(figure))
    return f"{label}: {full_name(case.subject)}"
