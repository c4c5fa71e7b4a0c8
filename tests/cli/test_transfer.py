"""The progress of a download: a bar on a terminal, lines in a log, nothing if quiet."""

from __future__ import annotations

import io
import sys

import pytest

from swiftvr_trt.cli.transfer import transfer_progress
from swiftvr_trt.export.download import ProgressCallback
from swiftvr_trt.text import LineCallback


def every_line(report: LineCallback) -> ProgressCallback:
    return lambda done, total: report(f"{done} of {total}")


def show(quiet: bool = False) -> None:
    with transfer_progress(quiet, every_line) as (say, progress):
        say("licence: apache-2.0 [bold]")
        progress(5_000_000, 20_000_000)
        progress(20_000_000, 20_000_000)


def test_a_log_gets_lines(capsys: pytest.CaptureFixture[str]) -> None:
    show()
    assert capsys.readouterr().err.splitlines() == [
        "licence: apache-2.0 [bold]",
        "5000000 of 20000000",
        "20000000 of 20000000",
    ]


def test_quiet_shows_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    show(quiet=True)
    assert capsys.readouterr() == ("", "")


def test_a_terminal_gets_a_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = io.StringIO()
    monkeypatch.setattr(terminal, "isatty", lambda: True, raising=False)
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("TERM", "xterm")
    show()
    assert "licence: apache-2.0 [bold]\n" in terminal.getvalue()
    assert "20.0/20.0 MB" in terminal.getvalue()


def test_a_closed_standard_error_is_no_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", None)
    show()
