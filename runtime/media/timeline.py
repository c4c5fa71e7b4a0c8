"""Arithmetic of time stamps and pixel shapes. Pure: no FFmpeg here."""

from __future__ import annotations

from fractions import Fraction

RESET_SECONDS = 1
"""A clock that goes back further than this was restarted, as in joined files. A smaller step back is jitter."""

_ROUNDING = Fraction(1, 100)
_ASPECT_LIMIT = 65535
"""H.264 and H.265 store both numbers of the sample aspect ratio in 16 bits."""


class Timeline:
    """Gives every frame of a stream its time stamp: the one that it came with, if possible.

    A missing stamp becomes the end of the frame before. A stamp that does not advance becomes one tick after the frame
    before, and is counted in `repaired`. When the clock restarts, stamps continue from the end of the frame before.
    """

    def __init__(self, time_base: Fraction, rate: Fraction, begin: Fraction = Fraction(0)) -> None:
        """time_base: seconds per tick. rate: frames per second, for frames without a duration.

        begin: the time that becomes 0, in seconds.
        """
        self.step = max(1, round(1 / (rate * time_base)))
        self.repaired = 0
        self._reset = round(RESET_SECONDS / time_base)
        self._shift = -round(begin / time_base)
        self._last: int | None = None
        self._next = 0

    def place(self, pts: int | None, duration: int | None) -> tuple[int, int]:
        """The stamp and the duration of the next frame, in ticks. The duration is at least one."""
        length = duration if duration is not None and duration > 0 else self.step
        moment = self._next if pts is None else self._advance(pts + self._shift)
        self._last, self._next = moment, moment + length
        return moment, length

    def _advance(self, pts: int) -> int:
        if self._last is None or pts > self._last:
            return pts
        self.repaired += 1
        if pts >= self._last - self._reset:
            return self._last + 1
        self._shift += self._next - pts
        return self._next


class ClockConverter:
    """Converts stamps to another clock, and keeps them apart where rounding would make them equal."""

    def __init__(self, target: Fraction, last: int | None = None) -> None:
        """target: seconds per tick of the other clock. last: the stamp before the first one; None if there is none."""
        self.target = target
        self.last = last

    def __call__(self, pts: int, duration: int, time_base: Fraction) -> tuple[int, int]:
        """The stamp and the duration (at least one) of the next frame, in ticks of the other clock."""
        moment = rescale(pts, time_base, self.target)
        if self.last is not None and moment <= self.last:
            moment = self.last + 1
        self.last = moment
        return moment, max(1, rescale(duration, time_base, self.target))


def rescale(ticks: int, source: Fraction, target: Fraction) -> int:
    """`ticks` of `source` seconds in ticks of `target` seconds. Halves round up, so equal steps stay equal."""
    exact = ticks * source / target
    return (2 * exact.numerator + exact.denominator) // (2 * exact.denominator)


def scaled_aspect(aspect: Fraction | None, before: tuple[int, int], after: tuple[int, int]) -> Fraction | None:
    """The sample aspect ratio that keeps the shape of the picture when its size (width, height) changes.

    A source without an aspect ratio has square pixels. Its output has none either (None), unless the shape of the frame
    changes by more than rounding a side to whole pixels would explain.
    """
    stretch = Fraction(before[0], before[1]) * Fraction(after[1], after[0])
    if aspect is None or aspect <= 0:
        if abs(stretch - 1) <= _ROUNDING:
            return None
        aspect = Fraction(1)
    exact = aspect * stretch
    if max(exact.numerator, exact.denominator) <= _ASPECT_LIMIT:
        return exact
    if exact > 1:  # keep the larger number within the limit
        return 1 / (1 / exact).limit_denominator(_ASPECT_LIMIT)
    return exact.limit_denominator(_ASPECT_LIMIT)
