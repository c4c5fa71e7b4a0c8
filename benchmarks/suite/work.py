"""What a case's process is asked, and what it answers."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from .metrics import sampled
from .protocols import Protocol
from .record import Figure, Roofline, ShownFrame, Subject


@dataclass(frozen=True)
class CaseOrder:
    """One case, for a process of its own. Paths are texts; empty ones name nothing.

    subject      what to measure; its `device` is `cpu` or `cuda:N`
    bundle       directory of the bundle
    checkpoint   directory of the checkpoint: for the torch network, for builds, and for frames in float32
    clip, clean  the input, and the same frames undamaged
    folder       for temporary files
    threads      CPU threads per stage; 0 for one per physical core
    first        the first turn, which also shows frames, and starts with nothing kept from an earlier run
    began        when the process was started, on the clock of `time.time`
    limit_s      how long the process may take
    """

    suite: str
    subject: Subject
    protocol: Protocol
    bundle: str
    checkpoint: str
    clip: str
    clean: str
    folder: str
    threads: int = 0
    first: bool = True
    began: float = 0.0
    limit_s: float = 3600.0


@dataclass(frozen=True)
class Findings:
    """The answer. device: the name of what ran."""

    device: str
    figures: tuple[Figure, ...]
    notes: tuple[str, ...] = ()
    frames: tuple[ShownFrame, ...] = ()
    roofline: Roofline | None = None


def joined(turns: Iterable[Findings]) -> Findings:
    """What several processes found out about one case: samples one after another, everything else from the first."""
    first, *others = turns
    by_name: dict[tuple[str, str], list[Figure]] = {}
    for turn in (first, *others):
        for figure in turn.figures:
            by_name.setdefault((figure.name, figure.note), []).append(figure)
    notes = dict.fromkeys(note for turn in (first, *others) for note in turn.notes)
    return replace(first, figures=tuple(map(_joined, by_name.values())), notes=tuple(notes))


def _joined(figures: list[Figure]) -> Figure:
    """One figure from those of several processes. A count that is the same in all of them stays a count."""
    first = figures[0]
    if len(figures) == 1 or (not first.samples and len({figure.value for figure in figures}) == 1):
        return first
    parts = [figure.samples or (figure.value,) for figure in figures]
    whole = sampled(first.name, [value for part in parts for value in part], first.how, first.protocol, first.note)
    return replace(whole, groups=tuple(map(len, parts)))
