"""What shows people how restoring goes; `cli.console` has three of them."""

from __future__ import annotations

from typing import Protocol

# tested with: a protocol; test_console.py tests the displays, and test_fleet.py their use


class Display(Protocol):
    """Shows lines, and the progress of each file. Called from several threads."""

    def say(self, line: str) -> None:
        """One line for people."""

    def update(self, name: str, done: int, total: int | None, left: float | None) -> None:
        """A file has `done` of `total` frames, with `left` seconds to go; None if unknown.

        name: of the file; empty if there is only one.
        """

    def finish(self, name: str) -> None:
        """No more progress of this file, whatever came of it."""
