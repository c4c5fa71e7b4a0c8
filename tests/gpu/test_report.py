"""The report: written again and again, and read from what the test processes left behind."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from .report import Report, ReportError, read_log


def test_a_file_that_is_in_use_is_written_once_it_is_free(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Windows refuses to replace an open file."""
    real, refusals = os.replace, [PermissionError(13, "in use"), PermissionError(13, "in use")]

    def replace(source: Path, target: Path) -> None:
        if refusals:
            raise refusals.pop()
        real(source, target)

    monkeypatch.setattr(os, "replace", replace)
    report = Report(tmp_path / "out.json", known=1)
    report.add(more=2)
    assert json.loads(report.path.read_text(encoding="utf-8")) == {"known": 1, "more": 2}


def test_a_report_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(ReportError, match="cannot be written"):
        Report(tmp_path / "none" / "out.json").write()


def test_without_any_log_there_are_no_tests(tmp_path: Path) -> None:
    found = read_log(tmp_path / "log", tmp_path / "started")
    assert (found.tests, found.unfinished, found.complete) == ({}, None, False)


def test_a_process_that_dies_in_the_middle_of_a_line_leaves_the_lines_before(tmp_path: Path) -> None:
    def phase(name: str, when: str, **changes: object) -> dict[str, object]:
        line = {"nodeid": name, "when": when, "outcome": "passed", "longrepr": None, "duration": 0.5}
        return {"$report_type": "TestReport", "user_properties": [["psnr", 40.5]], **line, **changes}

    lines = [
        {"$report_type": "SessionStart"},
        *(phase("a.py::test_one", when) for when in ("setup", "call", "teardown")),
        phase("a.py::test_two", "setup"),
        phase("a.py::test_two", "call", outcome="failed", longrepr="no memory"),
    ]
    (tmp_path / "log").write_text("".join(f"{json.dumps(line)}\n" for line in lines) + '{"$report_type": "Tes')
    (tmp_path / "started").write_text("a.py::test_one\na.py::test_two\n")
    found = read_log(tmp_path / "log", tmp_path / "started")
    one, two = found.tests.values()
    assert one == {"name": "test_one", "outcome": "passed", "seconds": 1.5, "why": "", "noted": {"psnr": 40.5}}
    assert (two["outcome"], two["why"], two["seconds"]) == ("failed", "no memory", 1.0)
    assert found.unfinished == "a.py::test_two"
    assert not found.complete


def test_a_test_that_ends_the_process_in_its_setup_is_the_unfinished_one(tmp_path: Path) -> None:
    (tmp_path / "started").write_text("a.py::test_one\n")
    found = read_log(tmp_path / "log", tmp_path / "started")
    assert found.unfinished == "a.py::test_one"
