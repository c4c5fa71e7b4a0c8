"""Which spans of which files wait for a device, and how long the next one is. Pure.

Ray places the processes and moves the data. What is left is a queue: a device that is free takes a span of the first
file that waits. Spans get shorter towards the end, down to one piece, so all devices finish within one piece of each
other, however unequal the files are.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from ..segments.grid import Span

MAX_TRIES = 3
"""How often a span is handed out that brings nothing back. It may be what ends the processes that restore it."""
_LONGEST = 16
"""Pieces of a span, at most: each costs a new start of the stream, so longer ones gain less than 0.5 %."""


@dataclass(frozen=True)
class Portion:
    """A span of a file, in the hands of a device."""

    file: int
    span: Span


@dataclass
class _File:
    """What waits of a file. last: number of its last piece; None if unknown."""

    bundle: str
    last: int | None
    waiting: list[Span]
    in_hands: int = 0
    tries: dict[int, int] = field(default_factory=dict)
    left_by: dict[int, str] = field(default_factory=dict)  # device -> reason

    def pieces(self, span: Span) -> range:
        """The pieces of a span; of an open-ended one of unknown length, the first."""
        if span.stop is not None:
            return range(span.first, span.stop)
        return range(span.first, (span.first if self.last is None else self.last) + 1)

    def span(self, pieces: range) -> Span:
        open_ended = self.last is None or pieces.stop == self.last + 1
        return Span(pieces.start, None if open_ended else pieces.stop)


class Ledger:
    """Hands out spans. Files are numbered by the caller, and so are devices."""

    def __init__(self) -> None:
        self._files: dict[int, _File] = {}
        self._unfit: dict[tuple[int, str], str] = {}  # (device, bundle) -> reason

    def add(self, file: int, bundle: str, spans: Iterable[Span], last: int | None) -> None:
        """Let a file wait. last: number of its last piece; None if unknown, and then its only span has no end."""
        self._files[file] = _File(bundle, last, list(spans))

    def take(self, device: int, devices: int, bundle: str = "") -> Portion | None:
        """The next span for this device, one of so many. Prefers files for `bundle`, which the device has open."""
        possible = [number for number in self._files if self._suits(number, device)]
        if not possible:
            return None
        number = next((number for number in possible if self._files[number].bundle == bundle), possible[0])
        file = self._files[number]
        length = min(max(-(-self.waiting // (2 * max(devices, 1))), 1), _LONGEST)
        gap = file.waiting.pop(0)
        pieces = file.pieces(gap)
        if length < len(pieces):
            file.waiting.insert(0, file.span(pieces[length:]))
        file.in_hands += 1
        return Portion(number, file.span(pieces[:length]))

    @property
    def waiting(self) -> int:
        """How many pieces wait."""
        return sum(len(file.pieces(span)) for file in self._files.values() for span in file.waiting)

    def pieces(self, portion: Portion) -> range:
        """The pieces of a portion; none if its file was dropped."""
        file = self._files.get(portion.file)
        return range(0) if file is None else file.pieces(portion.span)

    def settle(self, portion: Portion, done: Iterable[int]) -> bool:
        """A device is done with a portion, of which these pieces are finished. The others wait again.

        Returns False if they have been tried too often.
        """
        file = self._files.get(portion.file)
        if file is None:
            return True
        file.in_hands -= 1
        finished = set(done)
        missing = [piece for piece in file.pieces(portion.span) if piece not in finished]
        file.waiting[:0] = [file.span(run) for run in _runs(missing)]
        if missing and not finished:
            first = portion.span.first
            file.tries[first] = file.tries.get(first, 0) + 1
            return file.tries[first] < MAX_TRIES
        return True

    def leave(self, device: int, file: int, reason: str, *, bundle: bool) -> None:
        """This device takes no more of a file; with `bundle`, of no file with its bundle."""
        if bundle and file in self._files:
            self._unfit[device, self._files[file].bundle] = reason
        elif file in self._files:
            self._files[file].left_by[device] = reason

    def drop(self, file: int) -> None:
        """Forget a file."""
        self._files.pop(file, None)

    def complete(self) -> list[int]:
        """The files of which nothing waits and nothing is in hands. They are forgotten."""
        done = [number for number, file in self._files.items() if not file.waiting and not file.in_hands]
        for number in done:
            self.drop(number)
        return done

    def stuck(self, devices: Iterable[int]) -> Iterator[tuple[int, str | None]]:
        """The files of which something waits that none of these devices takes, each with a reason if there is one."""
        usable = list(devices)
        for number, file in list(self._files.items()):
            if file.waiting and not file.in_hands and not any(self._suits(number, device) for device in usable):
                reasons = [
                    *file.left_by.values(),
                    *(why for (_, name), why in self._unfit.items() if name == file.bundle),
                ]
                yield number, reasons[0] if reasons else None

    def _suits(self, number: int, device: int) -> bool:
        file = self._files[number]
        return bool(file.waiting) and device not in file.left_by and (device, file.bundle) not in self._unfit


def _runs(numbers: list[int]) -> Iterator[range]:
    """Neighbours among ascending numbers, together."""
    begin = 0
    for at in range(1, len(numbers) + 1):
        if at == len(numbers) or numbers[at] != numbers[at - 1] + 1:
            yield range(numbers[begin], numbers[at - 1] + 1)
            begin = at
