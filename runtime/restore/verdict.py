"""How an attempt to restore a file on a device ended, and what follows from it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Literal


@dataclass(frozen=True)
class Policy:
    """What follows from a verdict.

    meaning     the verdict in words
    fails       the file counts as failed
    leaves      what this device leaves to the others from now on: this file, or every file with its bundle
    strikes     the device is to blame; after `MAX_STRIKES` in a row it gets no more files
    replaces    the process of the device ends, and a new one takes its place
    """

    meaning: str
    fails: bool = False
    leaves: Literal["file", "bundle"] | None = None
    strikes: bool = False
    replaces: bool = False

    def strikes_after(self, strikes: int) -> int:
        """The device's strikes in a row after this verdict; `strikes` before. A file left to others does not count."""
        if self.leaves:
            return strikes
        return strikes + 1 if self.strikes else 0


MAX_STRIKES = 2
"""Strikes in a row after which a device gets no more files."""


class Verdict(Enum):
    """How one attempt to restore a file ended.

    Every verdict about a device replaces the process, because an error of a GPU may stay as long as its process does.
    """

    DONE = Policy("the output is complete")
    FAILED = Policy("the input or the output is at fault", fails=True)
    UNFIT = Policy("the device cannot open the bundle", leaves="bundle", replaces=True)
    UNBEGUN = Policy("the device could not begin, for lack of memory, say", leaves="file", replaces=True)
    BROKEN = Policy("the device failed in the middle of the file", fails=True, strikes=True, replaces=True)
    DIED = Policy("the process is gone", fails=True, strikes=True, replaces=True)

    @property
    def policy(self) -> Policy:
        return self.value


@dataclass(frozen=True)
class Outcome:
    """The verdict on one attempt, and a line with the result or the reason.

    frames, seconds, kept: of a file that is done, see `Restored`. lost: streams that its output lacks. full: the
    disk of the output is.
    """

    verdict: Verdict
    text: str
    frames: int | None = None
    seconds: float | None = None
    lost: tuple[str, ...] = ()
    kept: int = 0
    full: bool = False
