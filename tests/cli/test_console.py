"""Exit codes, errors in one line, signals that end a program politely, and the displays of progress."""

from __future__ import annotations

import io
import logging
import sys
from pathlib import Path
from types import SimpleNamespace

import click
import pytest
from rich.console import Console
from rich.progress import Progress, TextColumn

from swiftvr_trt import BundleError, MachineError, MisuseError, OutputError, text
from swiftvr_trt.cli import console
from swiftvr_trt.cli.export import command
from swiftvr_trt.runtime.restore.display import Result
from tests.cli.program import Call

DONE = Result("a.mp4", "b.mp4", "done", "3 frames", 3, 1.0)
FAILED = Result("a.mp4", "b.mp4", "failed", "no frames")


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (BundleError("x: no\n  manifest"), 2, "x: no manifest"),
        (OutputError("disk full"), 1, "disk full"),
        (MachineError("no GPU"), 1, "no GPU"),
        (click.BadParameter("not a size"), 2, "Invalid value: not a size (see program --help)"),
        (KeyboardInterrupt(), 130, "interrupted; nothing was left half-written"),
        (KeyboardInterrupt("run it again"), 130, "run it again"),
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
    monkeypatch.setattr(sys, "argv", ["program"])

    @click.command()
    def failing() -> None:
        raise error

    with pytest.raises(SystemExit) as caught:
        console.run(failing, "program")
    assert caught.value.code == code
    out, err = capsys.readouterr()
    assert (out, err.lstrip("\n")) == ("", f"error: {line}\n")  # click ends the line that Ctrl-C was typed in


@pytest.mark.parametrize(("returned", "code"), [(None, 0), (0, 0), (1, 1)])
def test_the_exit_code_is_what_the_command_returns(
    monkeypatch: pytest.MonkeyPatch, returned: int | None, code: int
) -> None:
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
        report("prepared part 4 of 4")
    assert capsys.readouterr().err == "  12.3 s  prepared part 4 of 4\n"


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
        "a.mp4: 30 %, 0:07 to go (60 of 200 frames)",
        "60 frames",
        "a.mp4: 35 %, 0:07 to go (70 of 200 frames)",
        "70 frames",
        "b.mp4: failed",
    ]


def test_a_quiet_display_shows_only_what_is_lost(capsys: pytest.CaptureFixture[str]) -> None:
    with console.display(quiet=True) as display:
        display.warn("transparency is dropped")
        display.warn("2 further video streams\nare left out", "a.mp4")
    assert capsys.readouterr() == (
        "",
        "warning: transparency is dropped\nwarning: a.mp4: 2 further video streams are left out\n",
    )
    with console.display(quiet=True) as display:
        display.begin([("a.mp4", "b.mp4")])
        display.result(DONE)
        display.result(FAILED, "a.mp4")
        display.say("a.mp4: done")
        display.update("a.mp4", 8, 8, 0.0)
        display.finish("a.mp4")
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("name", "lines"), [("a.mp4", ["a.mp4: 3 frames", "a.mp4: failed: no frames"]), ("", ["3 frames"])]
)
def test_each_result_is_a_line_unless_it_is_the_error_that_ends_the_program(
    capsys: pytest.CaptureFixture[str], name: str, lines: list[str]
) -> None:
    out = io.StringIO()
    bars = Progress(console=Console(file=out, width=100), disable=True)
    for display in (console.LineDisplay(), console.BarDisplay(bars)):
        display.begin([("a.mp4", "b.mp4")])
        display.result(DONE, name)
        display.result(FAILED, name)
        display.warn("it is 8 bits")
    assert capsys.readouterr().err.splitlines() == [*lines, "warning: it is 8 bits"]
    assert out.getvalue().splitlines() == [*lines, "warning: it is 8 bits"]


@pytest.mark.parametrize(
    ("done", "total", "remaining", "words"),
    [
        (0, 100, None, "starting"),
        (50, None, None, "50 frames"),
        (50, 200, None, "25 %"),
        (199, 200, 61.0, "99 %, 1:01 to go"),
        (250, 200, 0.0, "100 %, 0:00 to go"),
    ],
)
def test_progress_in_words(done: int, total: int | None, remaining: float | None, words: str) -> None:
    assert console.progress_words(done, total, remaining) == words


def test_a_terminal_gets_a_bar_per_file_while_it_is_restored() -> None:
    out = io.StringIO()
    terminal = Console(file=out, width=100)
    bars = Progress(TextColumn("{task.description} {task.fields[state]}", markup=False), console=terminal, disable=True)
    display = console.BarDisplay(bars)
    display.update("a.mp4", 0, 200, None)
    display.update("[b].mp4", 0, None, None)
    display.update("a.mp4", 50, 200, 30.0)
    shown = [(task.description, task.completed, task.total, task.fields["state"]) for task in bars.tasks]
    assert shown == [("a.mp4", 50, 200, "25 %, 0:30 to go"), ("[b].mp4", 0, None, "starting")]
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


@pytest.mark.parametrize("width", [60, 200])
def test_bars_take_the_width_of_the_terminal(monkeypatch: pytest.MonkeyPatch, width: int) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    bars = console._bars()
    bars.add_task("a.mp4", total=200, completed=50, state="25 %, 0:30 to go")
    out = io.StringIO()
    Console(file=out, width=width).print(bars.get_renderable())
    (line,) = out.getvalue().splitlines()
    assert (len(line), line[:5], line[-16:]) == (width, "a.mp4", "25 %, 0:30 to go")


@pytest.mark.parametrize(("verbose", "shown"), [(0, []), (1, ["INFO"]), (2, ["DEBUG", "INFO"])])
def test_the_log_is_shown_as_far_as_asked_for(
    capsys: pytest.CaptureFixture[str], verbose: int, shown: list[str]
) -> None:
    logger = logging.getLogger("swiftvr_trt")
    handlers, level = logger.handlers[:], logger.level
    logger.handlers.clear()
    logger.setLevel(logging.NOTSET)
    try:
        console.show_log(verbose)
        for number in (logging.DEBUG, logging.INFO):
            logging.getLogger("swiftvr_trt.runtime.x").log(number, "opening %s", "a.mp4")
    finally:
        logger.handlers[:] = handlers
        logger.setLevel(level)
    assert capsys.readouterr().err.splitlines() == [f"{name} swiftvr_trt.runtime.x: opening a.mp4" for name in shown]


@pytest.mark.parametrize("text", ["a\x1b[2Jb", "a\x9b2Jb", "a\u202eb"])
def test_nothing_that_a_terminal_obeys_is_printed(capsys: pytest.CaptureFixture[str], text: str) -> None:
    for call in (console.say, console.say_error, console.say_warning, console.LineDisplay().say):
        call(text)
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 4
    assert all(map(str.isprintable, lines))


def test_the_busiest_nodes_are_named_first_and_many_are_counted() -> None:
    assert console.node_words({"b": 10, "a": 10, "c": 30}) == "c 30 frames, a 10 frames, b 10 frames"
    assert console.node_words({f"n{number}": 0 for number in range(8)}).endswith("n5 0 frames and 2 more")


def test_a_log_gets_a_line_about_the_nodes_now_and_then(clock: list[float], capsys: pytest.CaptureFixture[str]) -> None:
    clock[0] = 0.0
    display = console.LineDisplay()
    for now, frames in ((10.0, 5), (31.0, 9), (40.0, 12), (62.0, 12), (93.0, 12), (124.0, 20)):
        clock[0] = now
        display.show_nodes({"gpu-1": frames})
    assert capsys.readouterr().err.splitlines() == [f"nodes: gpu-1 {n} frames" for n in (9, 12, 20)]


def test_a_terminal_gets_a_row_for_the_nodes() -> None:
    out = io.StringIO()
    bars = Progress(TextColumn("{task.description} {task.fields[state]}"), console=Console(file=out, width=60))
    display = console.BarDisplay(bars)
    display.show_nodes({"gpu-1": 3})
    display.show_nodes({"gpu-1": 4})
    assert [f"{task.description} {task.fields['state']}" for task in bars.tasks] == ["nodes gpu-1 4 frames"]
    bars.stop()


@pytest.mark.parametrize("quiet", [True, False])
def test_a_lost_stream_is_the_last_thing_that_is_said(capsys: pytest.CaptureFixture[str], quiet: bool) -> None:
    result = Result("a.avi", "a.gif", "done", "output: a.gif", lost=("audio stream 1 (mp3) is left out: why",))
    with console.display(quiet=quiet) as display:
        display.result(result)
    last = capsys.readouterr().err.splitlines()[-1]
    assert last == "warning: a.gif is not complete: audio stream 1 (mp3) is left out: why"
