"""The protocol of displays, which show people or programs how a run goes. The `cli` implements them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True)
class Result:
    """What became of one file.

    source, output   as they were named
    status           "done", "failed" or "skipped"
    text             one line for people: the result, or the reason
    frames, seconds  of the output, and taken by this run; None unless it is done
    lost             the streams of the input that the output lacks, one line each; told last of all
    kept             how many of the frames an interrupted run had restored before
    """

    source: str
    output: str
    status: str
    text: str
    frames: int | None = None
    seconds: float | None = None
    lost: tuple[str, ...] = ()
    kept: int = 0


class Display(Protocol):
    """Shows lines, the progress of each file, and its result. Called from several threads.

    `name` is that of the file that a call is about; empty for the whole run, or if there is only one file.
    """

    def begin(self, files: Sequence[tuple[str, str]]) -> None:
        """These files will be restored: each input and its output."""

    def say(self, line: str, name: str = "") -> None:
        """One line for people who want to watch."""

    def warn(self, line: str, name: str = "") -> None:
        """One line about something that is lost or not as asked for. Shown to those who do not watch, too."""

    def update(self, name: str, done: int, total: int | None, remaining: float | None) -> None:
        """`done` of `total` frames of a file are written, with `remaining` seconds to go. None if unknown."""

    def show_nodes(self, frames: Mapping[str, int]) -> None:
        """How many frames each node of a cluster has restored, by its name."""

    def finish(self, name: str) -> None:
        """This attempt at the file is over; no more updates of it follow."""

    def result(self, result: Result, name: str = "") -> None:
        """What became of a file. Comes once for each, unless the run ends early."""


class WarnsOnce:
    """Warns about one file, with each line only once. lines: those that were shown."""

    def __init__(self, display: Display, name: str = "") -> None:
        self._display, self._name = display, name
        self.lines: list[str] = []

    def __call__(self, *lines: str) -> None:
        for line in lines:
            if line not in self.lines:
                self.lines.append(line)
                self._display.warn(line, self._name)
