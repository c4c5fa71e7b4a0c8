"""`--import`: times that NVIDIA's `trtexec --exportTimes FILE.json` wrote, as cases of a record.

The file is a list with an object per run: `computeMs` is milliseconds on the GPU, without copies.
"""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ...errors import MisuseError
from ...installing import tool_version
from ...outside import Door, parse_json, read_file
from .facts import describe_host
from .metrics import sampled
from .record import BenchRun, Case, How, State, Subject, write_run

_DOOR = Door(
    "file of trtexec --exportTimes", MisuseError, "write it with trtexec --exportTimes=FILE.json", max_bytes=1 << 28
)
_PROTOCOL = "trtexec"
_MOST = 1_000_000


def cases_of_traces(paths: Sequence[Path]) -> tuple[Case, ...]:
    """A case for each file. Raises `MisuseError` if one is something else, or if two have one name."""
    for at, path in enumerate(paths):
        if path.stem in (other.stem for other in paths[:at]):
            raise MisuseError(f"two files of --import are called {path.stem}, expected one for each engine; rename one")
    return tuple(map(_case_of_trace, paths))


def record_of(cases: tuple[Case, ...], argv: Sequence[str], output: Path) -> BenchRun:
    """A record of imported cases alone, written to `output`."""
    began = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    note = "imported: this machine need not be the one that was measured"
    run = BenchRun(tuple(argv), tool_version(), began, describe_host("cpu"), cases, notes=(note,), state=State.DONE)
    write_run(run, output)
    return run


def _case_of_trace(path: Path) -> Case:
    """The times of one engine."""
    rows = _rows(path)
    if not all("computeMs" in row for row in rows):
        _DOOR.refuse(path, "a run has no computeMs")
    times = [row.number("computeMs", 0, 1e9) for row in rows]
    subject = Subject("trtexec", path.stem, "", "", "", "GPU", 0, 0, 0)
    note = "one run of one engine, not a chunk"
    figures = (sampled(f"imported.{path.stem}", times, How.IMPORTED, _PROTOCOL, note),)
    return Case(f"trtexec {path.stem}", "core", subject, _PROTOCOL, state=State.DONE, figures=figures)


def _rows(path: Path) -> list[Any]:
    """An object for each run."""
    text = read_file(path, _DOOR).decode("utf-8-sig", errors="replace").strip()
    return list(parse_json(f'{{"runs": {text}}}', path, _DOOR).children("runs", _MOST))
