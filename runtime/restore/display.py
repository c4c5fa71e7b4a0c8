"""The protocol of displays, which show people the progress of files. `cli.console` implements three."""

from __future__ import annotations

from typing import Protocol

# tested with: a protocol; test_console.py tests the displays, and test_fleet.py their use


class Display(Protocol):
    """Shows lines, and the progress of each file. Called from several threads."""

    def say(self, line: str) -> None:
        """One line for people."""

    def update(self, name: str, done: int, total: int | None, remaining: float | None) -> None:
        """`done` of `total` frames of a file are written, with `remaining` seconds to go. None if unknown.

        name: name of the file; empty if there is only one.
        """

    def finish(self, name: str) -> None:
        """The file is done or has failed; no more updates of it follow."""
