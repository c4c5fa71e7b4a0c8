"""Runs a command: exit codes, errors in one line, and progress on standard error.

0    done
1    the machine could not do it (disk full, out of memory, a package is missing)
2    the request cannot be met
130  interrupted
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import TYPE_CHECKING, Any, NoReturn

import click

from ..errors import SwiftVRError
from ..text import LineCallback, format_duration, with_elapsed_time

if TYPE_CHECKING:
    from ..runtime.restore.display import Display

ERROR = "error: "
_LINE_EVERY_S = 5.0
"""The shortest time between two lines about one file in a log."""


def run(command: click.Command, name: str) -> None:
    """Run a click command as a program, and exit. Errors end in one line; only `--debug` shows a traceback."""
    _terminate_like_interrupt()
    debug = "--debug" in sys.argv
    try:
        code = command.main(prog_name=name, standalone_mode=False)
    except SwiftVRError as error:
        if debug:
            raise
        say_error(str(error))
        _exit_without_waiting(error.exit_code)
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()
        sys.exit(error.exit_code)
    except click.ClickException as error:
        context = getattr(error, "ctx", None)
        say_error(error.format_message() + (f" (see {context.command_path} --help)" if context else ""))
        sys.exit(error.exit_code)
    except (KeyboardInterrupt, click.Abort):
        say_error("interrupted; nothing was left half-written")
        # If the interrupt came inside an `exec` (torch uses it), `python -m` would end by SIGINT, not with this code.
        # Another `exec` makes Python forget that.
        exec("")
        _exit_without_waiting(130)
    except BrokenPipeError:
        sys.exit(1)
    except OSError as error:
        if debug:
            raise
        say_error(f"cannot access {error.filename or 'a file'}: {error.strerror or error}")
        _exit_without_waiting(1)
    except Exception as error:
        if debug:
            raise
        say_error(f"internal error: {type(error).__name__}: {error} (run again with --debug and report the traceback)")
        _exit_without_waiting(1)
    sys.exit(code if isinstance(code, int) else 0)


def _exit_without_waiting(code: int) -> NoReturn:
    """Exit even if other threads are still inside a library; the interpreter's usual exit would crash in them."""
    if threading.active_count() > 1:
        for stream in (sys.stdout, sys.stderr):
            with suppress(OSError, AttributeError):  # a closed stream is None
                stream.flush()
        os._exit(code)
    sys.exit(code)


def _terminate_like_interrupt() -> None:
    """Let the signals that end a program raise `KeyboardInterrupt`, so that it cleans up as after Ctrl-C."""

    def interrupt(_signal: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    for name in ("SIGTERM", "SIGHUP", "SIGBREAK"):  # Windows lacks SIGHUP; only Windows has SIGBREAK
        number = getattr(signal, name, None)
        if number is not None and signal.getsignal(number) is not signal.SIG_IGN:  # `nohup` ignores SIGHUP
            signal.signal(number, interrupt)


def say(line: str) -> None:
    """Print a line on standard error; standard output is for results. Ignores errors: a closed log stops no work."""
    with suppress(OSError):
        click.echo(line, err=True)


def say_error(message: str) -> None:
    """Print an error as one line on standard error."""
    with suppress(OSError):
        click.secho(ERROR, fg="red", bold=True, nl=False, err=True)
        click.echo(" ".join(message.split()), err=True)


def timed_lines(quiet: bool) -> LineCallback:
    """A callback that prints lines with the seconds since this call in front; prints nothing if `quiet`."""
    return (lambda _line: None) if quiet else with_elapsed_time(say)


class SilentDisplay:
    """For --quiet: shows nothing."""

    def say(self, line: str) -> None: ...

    def update(self, name: str, done: int, total: int | None, remaining: float | None) -> None: ...

    def finish(self, name: str) -> None: ...


class LineDisplay:
    """For logs: prints a line per file every few seconds. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._shown: dict[str, _Shown] = {}

    def say(self, line: str) -> None:
        with self._lock:
            say(line)

    def update(self, name: str, done: int, total: int | None, remaining: float | None) -> None:
        now = time.monotonic()
        with self._lock:
            shown = self._shown.setdefault(name, _Shown(now))
            if now - shown.last < _LINE_EVERY_S or done <= shown.done:
                return
            shown.last, shown.done = now, done
            prefix = f"{name}: " if name else ""
            say(f"{prefix}{done}{f'/{total}' if total else ''} frames, {_speed(done, now - shown.began, remaining)}")

    def finish(self, name: str) -> None:
        with self._lock:
            self._shown.pop(name, None)


class _Shown:
    """When a file began and when its last line was printed (`time.monotonic`), and the frames done by then."""

    def __init__(self, began: float) -> None:
        self.began = self.last = began
        self.done = 0


class BarDisplay:
    """For terminals: a progress bar per file, lines above them. Thread-safe."""

    def __init__(self, bars: Any) -> None:
        """bars: a `rich.progress.Progress` with a column for the field `speed`. Started with the first bar."""
        self._bars, self._lock = bars, threading.Lock()
        self._tasks: dict[str, tuple[Any, float]] = {}  # the bar of a file, and when it began

    def say(self, line: str) -> None:
        with self._lock:
            self._bars.console.print(line, markup=False, highlight=False, soft_wrap=True)

    def update(self, name: str, done: int, total: int | None, remaining: float | None) -> None:
        now = time.monotonic()
        with self._lock:
            if name not in self._tasks:
                self._bars.start()
                self._tasks[name] = self._bars.add_task(name, total=total, speed=""), now
            task, began = self._tasks[name]
            self._bars.update(task, completed=done, speed=_speed(done, now - began, remaining))

    def finish(self, name: str) -> None:
        with self._lock:
            task, _ = self._tasks.pop(name, (None, 0.0))
            if task is not None:
                self._bars.remove_task(task)


@contextmanager
def display(quiet: bool) -> Iterator[Display]:
    """The display for standard error: bars on a terminal, lines in a log, nothing if `quiet`."""
    if quiet:
        yield SilentDisplay()
    elif sys.stderr is not None and sys.stderr.isatty():  # a closed stream is None
        bars = _bars()
        try:
            yield BarDisplay(bars)
        finally:
            if bars.live.is_started:
                bars.stop()
    else:
        yield LineDisplay()


def _bars() -> Any:
    """Progress bars of `rich` on standard error."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("frames  {task.fields[speed]}"),
        TimeElapsedColumn(),
        console=Console(stderr=True),
        transient=True,
    )


def _speed(done: int, elapsed: float, remaining: float | None) -> str:
    speed = f"{done / elapsed:.2f} frames/s" if done and elapsed else "first chunk"
    return speed + (f", {format_duration(remaining)} to go" if remaining is not None else "")
