"""The progress of a download on standard error: a bar on a terminal, lines in a log."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from .. import leaving
from ..text import LineCallback, printable
from . import console

if TYPE_CHECKING:
    from rich.progress import Progress


@contextmanager
def transfer_progress(
    quiet: bool, lines: Callable[[LineCallback], Callable[[int, int], None]]
) -> Iterator[tuple[LineCallback, Callable[[int, int], None]]]:
    """A callback for lines, and one for the bytes that are here and those of all files.

    quiet: both do nothing. lines: makes the second one where there is no terminal.
    """
    if quiet:
        yield lambda _line: None, lambda _done, _total: None
    elif sys.stderr is None or not sys.stderr.isatty():
        yield console.say, lines(console.say)
    else:
        with _bar() as (say, progress):
            yield say, progress


@contextmanager
def _showing_again(bars: Progress) -> Iterator[None]:
    """Have the cursor shown again, which a bar hides, if the process has to leave during this block."""
    release = leaving.hold("the progress bar", bars.stop, leaving.Turn.PROCESSES)
    try:
        yield
    finally:
        release()


@contextmanager
def _bar() -> Iterator[tuple[LineCallback, Callable[[int, int], None]]]:
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TaskID, TimeRemainingColumn, TransferSpeedColumn

    columns = (BarColumn(None), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True, expand=True) as bars, _showing_again(bars):
        tasks: list[TaskID] = []

        def progress(done: int, total: int) -> None:
            if not tasks:
                tasks.append(bars.add_task("", total=total))
            bars.update(tasks[0], completed=done)

        def say(line: str) -> None:
            bars.console.print(printable(line), markup=False, highlight=False, soft_wrap=True)

        yield say, progress
