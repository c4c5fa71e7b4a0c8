"""Runs a command: exit codes, errors in one line, and progress on standard error.

0    done
1    the machine could not do it (disk full, out of memory, a package is missing)
2    the request cannot be met
130  interrupted (see `start`)
"""

from __future__ import annotations

import logging
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, NoReturn

import click

from .. import leaving
from ..errors import SwiftVRError, is_shortage, message_of
from ..redaction import keep_secrets_of
from ..runtime.media.pipes import output_name
from ..text import LineCallback, counted, format_duration, printable, with_elapsed_time
from .json_lines import JsonDisplay, emit_end, end_interrupted, why_lost

if TYPE_CHECKING:
    from ..runtime.restore.display import Display, Result

ERROR = "error: "
WARNING = "warning: "
_LINE_EVERY_S = 5.0
"""The shortest time between two lines about one file in a log."""
_NODES_EVERY_S = 30.0
"""The shortest time between two lines about the nodes of a cluster."""
_NODES_NAMED = 6
_NODES, _STATE = "\0nodes", "\0state"
"""Instead of the names of files, which they cannot be."""


def run(command: click.Command, name: str) -> NoReturn:
    """Run a click command, and raise `SystemExit`. Errors end in one line; only `--debug` shows a traceback."""
    for argument in sys.argv[1:]:
        keep_secrets_of(argument)
    code, error = _outcome(command, name)
    if error is not None:
        say_error(error)
    if getattr(command, "prints_events", False) and "--json" in sys.argv:
        emit_end(code, error)
        if lost := why_lost():
            say_error(f"events may be missing, standard output could not be written: {lost}; the exit code was {code}")
            code = code or 1
    sys.exit(code)


def _outcome(command: click.Command, name: str) -> tuple[int, str | None]:
    """Run a click command. Returns the exit code, and the error if there is one."""
    debug = "--debug" in sys.argv
    try:
        code = command.main(prog_name=name, standalone_mode=False)
    except SwiftVRError as error:
        if debug:
            raise
        return error.exit_code, str(error)
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()
        return error.exit_code, None
    except click.ClickException as error:
        context = getattr(error, "ctx", None)
        return error.exit_code, error.format_message() + (f" (see {context.command_path} --help)" if context else "")
    except (KeyboardInterrupt, click.Abort) as error:  # raised by a library; signals do not get here
        return leaving.INTERRUPTED, str(error.__cause__ or error) or "interrupted; nothing was left half-written"
    except BrokenPipeError:
        return 1, None
    except OSError as error:
        if debug:
            raise
        return 1, f"cannot access {error.filename or 'a file'}: {error.strerror or error}"
    except Exception as error:
        if debug:
            raise
        if is_shortage(error):
            return 1, message_of(error)
        return 1, f"internal error: {type(error).__name__}: {error} (run again with --debug and report the traceback)"
    return (code if isinstance(code, int) else 0), None


def say(line: str) -> None:
    """Print a line on standard error; standard output is for results. Ignores errors: a closed log stops no work."""
    if not leaving.begun():
        with suppress(OSError):
            click.echo(printable(line), err=True)


def say_error(message: str) -> None:
    """Print an error as one line on standard error."""
    if leaving.begun():
        return
    with suppress(OSError):
        click.secho(ERROR, fg="red", bold=True, nl=False, err=True)
        click.echo(printable(" ".join(message.split())), err=True)


def show_log(verbose: int, *, quiet: bool = False) -> None:
    """Print what the package logs: information if `verbose` is 1, everything if it is more; and notes of devices."""
    _show_notes(quiet)
    if not verbose:
        return
    handler = _LogLines()
    handler.setFormatter(logging.Formatter("%(levelname)s %(name)s: %(message)s"))
    logger = logging.getLogger("swiftvr_trt")
    logger.handlers[:] = [handler]
    logger.setLevel(logging.INFO if verbose == 1 else logging.DEBUG)


def _show_notes(quiet: bool) -> None:
    """Print what devices have to say, warnings only if `quiet`."""
    logger = logging.getLogger("swiftvr_trt.notes")
    logger.handlers[:] = [_Notes()]
    logger.propagate = False
    logger.setLevel(logging.WARNING if quiet else logging.INFO)


class _Notes(logging.Handler):
    """Prints notes as lines, and warnings as warnings."""

    def emit(self, record: logging.LogRecord) -> None:
        (say_warning if record.levelno >= logging.WARNING else say)(record.getMessage())


class _LogLines(logging.Handler):
    """Prints log records on standard error."""

    def emit(self, record: logging.LogRecord) -> None:
        say(self.format(record))


def timed_lines(quiet: bool) -> LineCallback:
    """A callback that prints lines with the seconds since this call in front; prints nothing if `quiet`."""
    return (lambda _line: None) if quiet else with_elapsed_time(say)


def say_warning(message: str) -> None:
    """Print a warning as one line on standard error."""
    if leaving.begun():
        return
    with suppress(OSError):
        click.secho(WARNING, fg="yellow", nl=False, err=True)
        click.echo(printable(" ".join(message.split())), err=True)


class SilentDisplay:
    """For --quiet: shows warnings only."""

    def begin(self, files: Sequence[tuple[str, str]]) -> None: ...

    def say(self, line: str, name: str = "") -> None: ...

    def warn(self, line: str, name: str = "") -> None:
        say_warning(_about(name, line))

    def update(self, name: str, done: int, total: int | None, remaining: float | None) -> None: ...

    def show_nodes(self, frames: Mapping[str, int]) -> None: ...

    def finish(self, name: str) -> None: ...

    def result(self, result: Result, name: str = "") -> None:
        for line in _loss_lines(result, name):
            say_warning(line)


class LineDisplay:
    """For logs: prints a line per file every few seconds. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._shown: dict[str, _Shown] = {}
        self._nodes = _Shown(time.monotonic())

    def begin(self, files: Sequence[tuple[str, str]]) -> None: ...

    def say(self, line: str, name: str = "") -> None:
        with self._lock:
            say(_about(name, line))

    def warn(self, line: str, name: str = "") -> None:
        with self._lock:
            say_warning(_about(name, line))

    def update(self, name: str, done: int, total: int | None, remaining: float | None) -> None:
        now = time.monotonic()
        with self._lock:
            shown = self._shown.setdefault(name, _Shown(now))
            if now - shown.last < _LINE_EVERY_S or done <= shown.done:
                return
            shown.last, shown.done = now, done
            frames = f" ({done} of {counted(total, 'frame')})" if total else ""
            say(_about(name, progress_words(done, total, remaining) + frames))

    def show_nodes(self, frames: Mapping[str, int]) -> None:
        now, done = time.monotonic(), sum(frames.values())
        with self._lock:
            shown = self._nodes
            if now - shown.last >= _NODES_EVERY_S and done > shown.done:
                shown.last, shown.done = now, done
                say(f"nodes: {node_words(frames)}")

    def finish(self, name: str) -> None:
        with self._lock:
            self._shown.pop(name, None)

    def result(self, result: Result, name: str = "") -> None:
        if line := _result_line(result, name):
            self.say(line)
        for line in _loss_lines(result, name):
            self.warn(line)


class _Shown:
    """When the last line about a file was printed (`time.monotonic`), and the frames done by then."""

    def __init__(self, now: float) -> None:
        self.last = now
        self.done = 0


class BarDisplay:
    """For terminals: a progress bar per file, lines above them. Thread-safe."""

    def __init__(self, bars: Any) -> None:
        """bars: a `rich.progress.Progress` with a column for the field `state`. Started with the first bar."""
        self._bars, self._lock = bars, threading.Lock()
        self._tasks: dict[str, Any] = {}

    def begin(self, files: Sequence[tuple[str, str]]) -> None: ...

    def say(self, line: str, name: str = "") -> None:
        self._print(_about(name, line))

    def warn(self, line: str, name: str = "") -> None:
        self._print(WARNING + _about(name, line))

    def _print(self, line: str) -> None:
        with self._lock:
            self._bars.console.print(printable(line), markup=False, highlight=False, soft_wrap=True)

    def update(self, name: str, done: int, total: int | None, remaining: float | None) -> None:
        with self._lock:
            if name not in self._tasks:
                self._bars.start()
                self._tasks[name] = self._bars.add_task(printable(name), total=total, state="")
            self._bars.update(self._tasks[name], completed=done, state=progress_words(done, total, remaining))

    def show_nodes(self, frames: Mapping[str, int]) -> None:
        with self._lock:
            if _NODES not in self._tasks:
                self._bars.start()
                self._tasks[_NODES] = self._bars.add_task("nodes", total=None, state="")
            self._bars.update(self._tasks[_NODES], state=printable(node_words(frames)))

    def show_state(self, line: str) -> None:
        """How a live run goes, in place of the line before."""
        with self._lock:
            if _STATE not in self._tasks:
                self._bars.start()
                self._tasks[_STATE] = self._bars.add_task("live", total=None, state="")
            self._bars.update(self._tasks[_STATE], state=printable(line))

    def finish(self, name: str) -> None:
        with self._lock:
            if name in self._tasks:
                self._bars.remove_task(self._tasks.pop(name))

    def result(self, result: Result, name: str = "") -> None:
        if line := _result_line(result, name):
            self._print(line)
        for line in _loss_lines(result, name):
            self.warn(line)


@contextmanager
def display(quiet: bool, as_json: bool = False) -> Iterator[Display]:
    """The display: bars on a terminal, lines in a log, only warnings if `quiet`; JSON on standard output if `as_json`.

    All but JSON goes to standard error.
    """
    if as_json:
        release = leaving.hold("the events", end_interrupted, leaving.Turn.FOLDERS)
        try:
            yield JsonDisplay()
        finally:
            release()
    elif quiet:
        yield SilentDisplay()
    elif sys.stderr is not None and sys.stderr.isatty():  # a closed stream is None
        bars = _bars()
        release = leaving.hold("the progress bars", bars.stop, leaving.Turn.PROCESSES)  # they hide the cursor
        try:
            yield BarDisplay(bars)
        finally:
            if bars.live.is_started:
                bars.stop()
            release()
    else:
        yield LineDisplay()


def _bars() -> Any:
    """Progress bars of `rich` on standard error, as wide as the terminal."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn

    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=None),
        TextColumn("{task.fields[state]}"),
        console=Console(stderr=True),
        transient=True,
        expand=True,
    )


def progress_words(done: int, total: int | None, remaining: float | None) -> str:
    """Where a file stands, for people: `30 %, 0:45 to go`."""
    if not done:
        return "starting"
    if not total:
        return counted(done, "frame")
    percent = f"{min(100 * done // total, 100)} %"
    return percent if remaining is None else f"{percent}, {format_duration(remaining)} to go"


def node_words(frames: Mapping[str, int]) -> str:
    """What each node has restored, for people; the busiest first: `gpu-1 1200 frames, gpu-2 900 and 6 more`."""
    order = sorted(frames.items(), key=lambda node: (-node[1], node[0]))
    named = ", ".join(f"{name} {counted(done, 'frame')}" for name, done in order[:_NODES_NAMED])
    return named + (f" and {len(order) - _NODES_NAMED} more" if len(order) > _NODES_NAMED else "")


def _about(name: str, line: str) -> str:
    return f"{name}: {line}" if name else line


def _result_line(result: Result, name: str) -> str | None:
    """A line about a result. None for the failure of a single file, which is the error that ends the program."""
    if result.status != "failed":
        return _about(name, result.text)
    return _about(name, f"failed: {result.text}") if name else None


def _loss_lines(result: Result, name: str) -> list[str]:
    """The last line about a file whose output lacks streams of its input; none for any other."""
    if not result.lost:
        return []
    return [_about(name, f"{output_name(result.output)} is not complete: {'; '.join(result.lost)}")]
