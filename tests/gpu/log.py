"""A plugin of pytest that writes down what comes of each test as soon as it is known: no crash takes that away.

    python -m pytest -p tests.gpu.log --gpu-log FILE ...

One JSON line when a test begins, one for each of its phases, one when all are through. `read_log` puts them together.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # whoever reads a log needs no pytest
    import pytest

_MOST_CHARACTERS = 4000


@dataclass(frozen=True)
class Log:
    """tests: what came of each, in order. unfinished: of these, the one that ran when the process ended.

    complete: the last process came to the end of its tests.
    """

    tests: dict[str, dict[str, Any]]
    unfinished: str | None
    complete: bool


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--gpu-log", metavar="FILE", type=Path, help="Write here what comes of each test, at once.")


def pytest_configure(config: pytest.Config) -> None:
    path = config.getoption("--gpu-log")
    if path is not None:
        config.pluginmanager.register(_Writer(path))


class _Writer:
    def __init__(self, path: Path) -> None:
        self._path = path

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        self._write({"test": nodeid, "phase": "begun"})

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self._write(
            {
                "test": report.nodeid,
                "phase": report.when,
                "outcome": report.outcome,
                "seconds": report.duration,
                "why": _why(report),
                "noted": dict(report.user_properties),
            }
        )

    def pytest_sessionfinish(self) -> None:
        self._write({"phase": "complete"})

    def _write(self, line: dict[str, Any]) -> None:
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line, default=str) + "\n")


def _why(report: pytest.TestReport) -> str:
    """Why a test did not pass: of a skip the reason, of a failure the end of its traceback, where the error is."""
    if isinstance(report.longrepr, tuple):
        return str(report.longrepr[2])
    return report.longreprtext[-_MOST_CHARACTERS:]


def read_log(path: Path) -> Log:
    """What the processes that wrote to `path` one after another have come to. None of them may have come so far."""
    tests: dict[str, dict[str, Any]] = {}
    unfinished, complete = None, False
    for line in _lines(path):
        complete = line["phase"] == "complete"
        if complete:
            continue
        name = line["test"]
        if line["phase"] == "begun":
            tests[name] = {"name": name.split("::")[-1], "outcome": "passed", "seconds": 0.0, "why": "", "noted": {}}
            unfinished = name
        else:
            _add(tests[name], line)
            unfinished = None if line["phase"] == "teardown" else name
    return Log(tests, unfinished, complete)


def _add(test: dict[str, Any], line: dict[str, Any]) -> None:
    """A phase: the first that does not pass decides."""
    test["seconds"] = round(test["seconds"] + line["seconds"], 3)
    test["noted"] |= line["noted"]
    if test["outcome"] == "passed" and line["outcome"] != "passed":
        test["outcome"], test["why"] = line["outcome"], line["why"]


def _lines(path: Path) -> Iterable[dict[str, Any]]:
    """Those that are whole: a process may end in the middle of one."""
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return []
    return [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith("\n")]
