"""Keeps all devices at one video busy: who has nothing left to do takes over pieces that another has yet to begin."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from .job import JobWithBundle
from .segments.claims import Claims
from .verdict import MAX_STRIKES

_TRIES = MAX_STRIKES + 1
"""How often a piece is begun before it waits for the next round: one device may be out, and another tries, too."""


class Sharing:
    """The spans of one video at work. Each has its own job, and a span has ended where another one begins.

    last: number of the video's last piece.
    """

    def __init__(self, claims: Claims, last: int) -> None:
        self._claims, self._last = claims, last
        self._ends: dict[int, int] = {}  # by a span's first piece, if it ends earlier than its job says
        self._tries: Counter[int] = Counter()

    def split(self, at_work: Sequence[JobWithBundle]) -> JobWithBundle | None:
        """A job with the later half of the longest part that a device has yet to begin; None if all pieces are begun.

        The device learns of it by the claim on the half's first piece.
        """
        while (most := max(((self._ahead(order), order) for order in at_work), key=_length, default=None)) and most[0]:
            ahead, order = most
            middle = ahead[len(ahead) // 2]
            try:
                taken = self._claims.take(middle)
            except OSError:  # the devices at work will meet it, too, and tell
                return None
            if taken:
                half = self._job(order, middle)
                self._ends[_first(order)] = middle
                return half
            if middle in self._ahead(order):  # claimed by nobody here, such as a process of a run that was killed
                self._ends[_first(order)] = middle
        return None

    def rest(self, order: JobWithBundle) -> JobWithBundle | None:
        """A job with the pieces that a device whose process died has not finished; None after `_TRIES` at one piece."""
        unfinished = self._ahead(order).start - 1
        self._tries[unfinished] += 1
        return self._job(order, unfinished) if self._tries[unfinished] < _TRIES else None

    def _ahead(self, order: JobWithBundle) -> range:
        """The pieces that a device has yet to begin. It begins one after the other."""
        begin, end = _first(order) + 1, self._end(order)
        while begin < end and self._claims.taken(begin):
            begin += 1
        return range(begin, end)

    def _end(self, order: JobWithBundle) -> int:
        assert order.job.span is not None
        first, stop = order.job.span
        return self._ends.get(first, self._last + 1 if stop is None else stop)

    def _job(self, order: JobWithBundle, first: int) -> JobWithBundle:
        """The job from piece `first` on."""
        end = self._end(order)
        span = first, None if end == self._last + 1 else end
        return replace(order, job=replace(order.job, span=span, title=f"pieces from {first}"))


def _first(order: JobWithBundle) -> int:
    assert order.job.span is not None
    return order.job.span[0]


def _length(part: tuple[range, JobWithBundle]) -> int:
    return len(part[0])
