"""What the command lines share: errors as one line and an exit code, lines and progress on standard error.

0    done
1    the machine could not carry it out (disk, memory, a missing package)
2    what was asked for cannot be done
130  interrupted
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

import click

from swiftvr_trt.errors import SwiftVRError
from swiftvr_trt.text import duration

ERROR = "error: "
_PLAIN_EVERY_S = 5.0


def run(command: click.Command, name: str) -> None:
    """Run a click command as a program: never a traceback for what the user can mend."""
    _terminate_like_interrupt()
    debug = "--debug" in sys.argv
    try:
        code = command.main(prog_name=name, standalone_mode=False)
    except SwiftVRError as error:
        if debug:
            raise
        fail(str(error))
        _leave(error.exit_code)
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()
        sys.exit(error.exit_code)
    except click.ClickException as error:
        context = getattr(error, "ctx", None)
        fail(error.format_message() + (f" (see {context.command_path} --help)" if context else ""))
        sys.exit(error.exit_code)
    except (KeyboardInterrupt, click.Abort):
        fail("interrupted; nothing was left half-written")
        _leave(130)
    except BrokenPipeError:
        sys.exit(1)
    except OSError as error:
        if debug:
            raise
        fail(f"cannot access {error.filename or 'a file'}: {error.strerror or error}")
        _leave(1)
    except Exception as error:
        if debug:
            raise
        fail(f"internal error: {type(error).__name__}: {error} (run again with --debug and report what it prints)")
        _leave(1)
    sys.exit(code if isinstance(code, int) else 0)


def _leave(code: int) -> NoReturn:
    """Exit without waiting for threads that are still in somebody else's code; they would crash."""
    if threading.active_count() > 1:
        for stream in (sys.stdout, sys.stderr):
            with suppress(OSError, AttributeError):  # a stream that was closed is None
                stream.flush()
        os._exit(code)
    sys.exit(code)


cache_option = click.option(
    "--cache",
    metavar="DIR",
    type=click.Path(path_type=Path),
    envvar="SWIFTVR_CACHE",
    help="Where built bundles are kept.  [default: $SWIFTVR_CACHE, or the user's cache directory]",
)


class Sectioned(click.Command):
    """A command whose help lists its options under headings: `sections` maps a heading to names of parameters.

    Options that no section names come last, under "Other".
    """

    def __init__(self, *arguments: Any, sections: Mapping[str, Sequence[str]], **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._sections = sections

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Called by click."""
        options = [param for param in self.get_params(ctx) if isinstance(param, click.Option)]
        records = {option.name: record for option in options if (record := option.get_help_record(ctx))}
        for heading, names in self._sections.items():
            with formatter.section(heading):
                formatter.write_dl([records.pop(name) for name in names])
        with formatter.section("Other"):
            formatter.write_dl(list(records.values()))


def fail(message: str) -> None:
    """One line of error on standard error."""
    with suppress(OSError):  # nobody can be told
        click.secho(ERROR, fg="red", bold=True, nl=False, err=True)
        click.echo(" ".join(message.split()), err=True)


def say(message: str) -> None:
    """One line for people on standard error; standard output is for results. Work goes on if it cannot be written."""
    with suppress(OSError):
        click.echo(message, err=True)


def _on_terminal() -> bool:
    return sys.stderr is not None and sys.stderr.isatty()  # it is None where it was closed


@contextmanager
def progress(quiet: bool, total: int | None, unit: str = "frames") -> Iterator[Callable[[int, float | None], None]]:
    """A function to be called with (done, seconds to go): a bar on a terminal, a line now and then otherwise."""
    if quiet:
        yield lambda _done, _left: None
    elif _on_terminal():
        with _bar(total, unit) as update:
            yield update
    else:
        yield _plain(total, unit)


@contextmanager
def _bar(total: int | None, unit: str) -> Iterator[Callable[[int, float | None], None]]:
    with _bars("", unit) as bar:
        yield partial(_move, bar.add_task("", total=total, rate=""), bar, time.monotonic(), unit)


def _bars(first: str, unit: str) -> Any:
    """A `rich` display of bars; `first` is what stands before each."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (BarColumn(), MofNCompleteColumn(), TextColumn(unit + "  {task.fields[rate]}"), TimeElapsedColumn())
    before = (TextColumn(first),) if first else ()
    return Progress(*before, *columns, console=Console(stderr=True), transient=True)


def _plain(total: int | None, unit: str, before: str = "") -> Callable[[int, float | None], None]:
    began = last = time.monotonic()
    told = 0

    def update(done: int, left: float | None) -> None:
        nonlocal last, told
        now = time.monotonic()
        if now - last >= _PLAIN_EVERY_S and done > told:
            last, told = now, done
            of = f"/{total}" if total else ""
            say(f"{before}{done}{of} {unit}, {_rate(done, now - began, left, unit)}")

    return update


class Board:
    """Lines and the progress of several files at once; from any thread."""

    def __init__(self, bars: Any = None) -> None:
        """bars: a `rich` progress display, None for plain lines."""
        self._bars, self._tasks, self._lock = bars, dict[str, Any](), threading.Lock()

    def say(self, line: str) -> None:
        """One line for people."""
        with self._lock:
            if self._bars is None:
                say(line)
            else:
                self._bars.console.print(line, markup=False, highlight=False)

    def update(self, name: str, done: int, total: int | None, left: float | None) -> None:
        """A file has come so far."""
        with self._lock:
            if name not in self._tasks:
                self._tasks[name] = self._begin(name, total)
            self._tasks[name](done, left)

    def finish(self, name: str) -> None:
        """A file needs no progress any more, whatever came of it."""
        with self._lock:
            task = self._tasks.pop(name, None)
            if task is not None and self._bars is not None:
                self._bars.remove_task(task.args[0])

    def _begin(self, name: str, total: int | None) -> Callable[[int, float | None], None]:
        if self._bars is None:
            return _plain(total, "frames", f"{name}: ")
        return partial(_move, self._bars.add_task(name, total=total, rate=""), self._bars, time.monotonic(), "frames")


class Silent(Board):
    """For --quiet."""

    def say(self, line: str) -> None: ...

    def update(self, name: str, done: int, total: int | None, left: float | None) -> None: ...


@contextmanager
def board(quiet: bool) -> Iterator[Board]:
    """A bar for each file on a terminal, a line now and then otherwise."""
    if quiet:
        yield Silent()
    elif _on_terminal():
        with _bars("{task.description}", "frames") as bars:
            yield Board(bars)
    else:
        yield Board()


def _move(task: Any, bars: Any, began: float, unit: str, done: int, left: float | None) -> None:
    bars.update(task, completed=done, rate=_rate(done, time.monotonic() - began, left, unit))


def _rate(done: int, elapsed: float, left: float | None, unit: str) -> str:
    rate = f"{done / elapsed:.2f} {unit}/s" if done and elapsed else "first chunk"
    return rate + (f", {duration(left)} to go" if left is not None else "")


def _terminate_like_interrupt() -> None:
    """Let a polite kill clean up as Ctrl-C does."""

    def interrupt(_signal: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    for name in ("SIGTERM", "SIGHUP", "SIGBREAK"):  # Windows has no hang-up, and alone has a Ctrl-Break
        number = getattr(signal, name, None)
        if number is not None and signal.getsignal(number) is not signal.SIG_IGN:  # as `nohup` wants it
            signal.signal(number, interrupt)
