"""Exit codes, errors in one line, signals that end a program politely, and the displays of progress."""

from __future__ import annotations

import io
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import click
import pytest
from rich.console import Console
from rich.progress import Progress, TextColumn

from swiftvr_trt import BundleError, MachineError, MisuseError, OutputError, text
from swiftvr_trt.cli import console
from swiftvr_trt.cli.export import command
from tests.cli.program import Call


@pytest.fixture
def windows(monkeypatch: pytest.MonkeyPatch) -> dict[int, Any]:
    """The signals that Windows has, by number, with the handlers that are set for them."""
    handlers: dict[int, Any] = {}
    names = {"SIGINT": 2, "SIGTERM": 15, "SIGBREAK": 21}
    fake = SimpleNamespace(**names, SIG_IGN=signal.SIG_IGN, signal=handlers.__setitem__, getsignal=handlers.get)
    monkeypatch.setattr(console, "signal", fake)
    return handlers


def test_on_windows_ctrl_break_cleans_up_as_ctrl_c_does(windows: dict[int, Any]) -> None:
    console._terminate_like_interrupt()
    assert sorted(windows) == [15, 21]  # Python itself makes an interrupt of Ctrl-C
    for handler in windows.values():
        with pytest.raises(KeyboardInterrupt):
            handler(0, None)


@pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="Windows has no SIGHUP")
def test_under_nohup_work_goes_on_when_the_terminal_is_closed() -> None:
    code = (
        "import os, signal\nfrom swiftvr_trt.cli import console\nsignal.signal(signal.SIGHUP, signal.SIG_IGN)\n"
        "console._terminate_like_interrupt()\nos.kill(os.getpid(), signal.SIGHUP)\nprint('alive')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (0, "alive\n")


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (BundleError("x: no\n  manifest"), 2, "x: no manifest"),
        (OutputError("disk full"), 1, "disk full"),
        (MachineError("no GPU"), 1, "no GPU"),
        (click.BadParameter("not a size"), 2, "Invalid value: not a size (see program --help)"),
        (KeyboardInterrupt(), 130, "interrupted; nothing was left half-written"),
        (PermissionError(13, "Permission denied", "clip.mp4"), 1, "cannot access clip.mp4: Permission denied"),
        (ValueError("oops"), 1, "internal error: ValueError: oops (run again with --debug and report the traceback)"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else None,
)
def test_a_failure_ends_in_one_line_and_its_exit_code(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    error: BaseException,
    code: int,
    line: str,
) -> None:
    monkeypatch.setattr(console, "_terminate_like_interrupt", lambda: None)
    monkeypatch.setattr(sys, "argv", ["program"])

    @click.command()
    def failing() -> None:
        raise error

    with pytest.raises(SystemExit) as caught:
        console.run(failing, "program")
    assert caught.value.code == code
    out, err = capsys.readouterr()
    assert (out, err.lstrip("\n")) == ("", f"error: {line}\n")  # click ends the line that Ctrl-C was typed in


def test_an_interrupt_inside_generated_code_has_the_same_exit_code(tmp_path: Path) -> None:
    """CPython remembers it after it was caught, and `python -m` then ends by SIGINT."""
    (tmp_path / "interrupted.py").write_text(
        "import click\nfrom swiftvr_trt.cli import console\n"
        "console.run(click.Command('program', callback=lambda: exec('raise KeyboardInterrupt')), 'program')\n"
    )
    done = subprocess.run([sys.executable, "-m", "interrupted"], cwd=tmp_path, timeout=60, check=False)
    assert done.returncode == 130


@pytest.mark.parametrize(("returned", "code"), [(None, 0), (0, 0), (1, 1)])
def test_the_exit_code_is_what_the_command_returns(
    monkeypatch: pytest.MonkeyPatch, returned: int | None, code: int
) -> None:
    monkeypatch.setattr(console, "_terminate_like_interrupt", lambda: None)
    monkeypatch.setattr(sys, "argv", ["program"])
    with pytest.raises(SystemExit) as caught:
        console.run(click.Command("program", callback=lambda: returned), "program")
    assert caught.value.code == code


def test_an_internal_error_is_one_line_too(cli: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("swiftvr_trt.cli.doctor.diagnose", lambda _cache: 1 / 0)
    said = cli("doctor")
    assert said.code == 1
    assert said.error.startswith("internal error: ZeroDivisionError: division by zero (run again with --debug")


def test_debug_shows_the_traceback(cli: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["swiftvr-export", "inspect", str(tmp_path / "nothing"), "--debug"])
    with pytest.raises(MisuseError, match="no such directory"):
        console.run(command, "swiftvr-export")
    assert cli("inspect", tmp_path / "nothing").code == 2


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time that `console` sees, in seconds; the last entry counts."""
    times = [100.0]
    for module in (console, text):
        monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: times[-1]))
    return times


def test_timed_lines_begin_with_the_seconds_since_the_start(
    clock: list[float], capsys: pytest.CaptureFixture[str]
) -> None:
    loud, quiet = console.timed_lines(quiet=False), console.timed_lines(quiet=True)
    clock.append(112.34)
    for report in (loud, quiet):
        report("traced decode")
    assert capsys.readouterr().err == "  12.3 s  traced decode\n"


def test_a_log_gets_a_line_per_file_every_few_seconds(clock: list[float], capsys: pytest.CaptureFixture[str]) -> None:
    with console.display(quiet=False) as display:
        for second, done in ((0, 0), (1, 10), (6, 60), (7, 70), (12, 70), (13, 130)):
            clock.append(100.0 + second)
            display.update("a.mp4", done, 200, 7.0)
            display.update("", done, None, None)
        display.say("b.mp4: failed")
        display.finish("a.mp4")
        display.finish("never begun")
    assert capsys.readouterr().err.splitlines() == [
        "a.mp4: 60/200 frames, 10.00 frames/s, 0:07 to go",
        "60 frames, 10.00 frames/s",
        "a.mp4: 70/200 frames, 5.83 frames/s, 0:07 to go",
        "70 frames, 5.83 frames/s",
        "b.mp4: failed",
    ]


def test_a_quiet_display_shows_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    with console.display(quiet=True) as display:
        display.say("a.mp4: done")
        display.update("a.mp4", 8, 8, 0.0)
        display.finish("a.mp4")
    assert capsys.readouterr() == ("", "")


def test_a_terminal_gets_a_bar_per_file_while_it_is_restored(clock: list[float]) -> None:
    out = io.StringIO()
    terminal = Console(file=out, width=100)
    bars = Progress(TextColumn("{task.description} {task.fields[speed]}", markup=False), console=terminal, disable=True)
    display = console.BarDisplay(bars)
    display.update("a.mp4", 0, 200, None)
    display.update("[b].mp4", 0, None, None)
    clock.append(110.0)
    display.update("a.mp4", 50, 200, 30.0)
    shown = [(task.description, task.completed, task.total, task.fields["speed"]) for task in bars.tasks]
    assert shown == [("a.mp4", 50, 200, "5.00 frames/s, 0:30 to go"), ("[b].mp4", 0, None, "first chunk")]
    display.say("[b].mp4: done")
    for name in ("a.mp4", "a.mp4", "never begun"):
        display.finish(name)
    assert [task.description for task in bars.tasks] == ["[b].mp4"]
    assert out.getvalue() == "[b].mp4: done\n"


def test_the_display_on_a_terminal_is_bars(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = io.StringIO()
    monkeypatch.setattr(terminal, "isatty", lambda: True, raising=False)
    monkeypatch.setattr(sys, "stderr", terminal)
    path = "long/" * 40 + "a.mp4"
    with console.display(quiet=False) as display:
        assert isinstance(display, console.BarDisplay)
        display.say(f"bundle: {path}")
        assert terminal.getvalue() == f"bundle: {path}\n"  # in one piece, and no bar yet
        display.update("a.mp4", 1, 8, None)
        display.say("a.mp4: done")
    assert "a.mp4: done" in terminal.getvalue()
    hidden, shown = "\x1b[?25l", "\x1b[?25h"
    assert terminal.getvalue().count(hidden) == terminal.getvalue().count(shown)  # the cursor is back


@pytest.mark.parametrize("stream", [None, io.StringIO()])
def test_the_display_in_a_log_is_lines(monkeypatch: pytest.MonkeyPatch, stream: io.StringIO | None) -> None:
    monkeypatch.setattr(sys, "stderr", stream)
    with console.display(quiet=False) as display:
        assert isinstance(display, console.LineDisplay)
