"""One clock for a live stream, also where its source restarts, jumps or wraps around. No clock of its own.

Time stamps are the source's, shifted once. Where they no longer fit, all streams get a new shift, so that sound stays
with its picture, and the output goes on where it stopped. If nothing arrived in the meantime, the output has a gap of
that length: its time is the time that passes.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

WRAP_S = Fraction(1 << 33, 90000)
"""Seconds after which the clock of an MPEG transport stream begins anew."""

_BACK_S = Fraction(1, 2)
"""A step back in one stream that is a jump. Less is disorder."""

_APART_S = Fraction(5)
"""How far streams may lie apart."""

AHEAD_S = Fraction(2)
"""A step ahead that is no jump, beyond the time that has passed."""
BURST_AHEAD_S = Fraction(10)
"""The same where packets do not arrive when their time comes: in pieces of several seconds, or out of a file."""

_SAME_S = Fraction(2)
"""How well a source has to fit after a reconnection to be the same one, still running."""

_QUIET_S = Fraction(1)
"""A time without packets that is no gap."""


@dataclass(frozen=True)
class Break:
    """A place where the source does not go on as it was.

    reconnected     the source was opened anew; otherwise its clock jumped
    gap_s           seconds that the output lacks
    jump_s          seconds by which the clock of the source is off; 0 if it went on
    """

    reconnected: bool
    gap_s: float
    jump_s: float

    @property
    def text(self) -> str:
        """For people."""
        what = "the source is back" if self.reconnected else "the clock of the source jumps"
        words = [what] if not self.jump_s else [what, f"its clock is off by {self.jump_s:+.1f} s"]
        return ", ".join([*words, f"a gap of {self.gap_s:.1f} s" if self.gap_s else "no gap"])


@dataclass(frozen=True)
class Placement:
    """Where a packet goes. shift_s: seconds to add to its time stamps. broken: what happened before it, if anything."""

    shift_s: Fraction
    broken: Break | None = None


@dataclass
class _Lane:
    """A stream. last: decoding time of its last packet. due: of the next one. era: the shift that it follows."""

    last: Fraction
    due: Fraction
    era: int


class LiveClock:
    """Places packets on the clock of the output.

    reached: where the output stops, in seconds from its beginning; None before the first packet.
    """

    def __init__(self, ahead_s: Fraction = AHEAD_S) -> None:
        """ahead_s: a step ahead that is no jump, beyond the time that has passed."""
        self._ahead_s = ahead_s
        self._shifts: list[Fraction] = []
        self._lanes: dict[str, _Lane] = {}
        self._era = -1
        self._arrived = self._busy_s = 0.0
        self._renewed = False
        self.reached: Fraction | None = None

    def renew(self) -> None:
        """The source was opened anew: its clock may have restarted."""
        self._renewed = self.reached is not None

    def place(self, lane: str, time: Fraction, length: Fraction, arrived: float, busy_s: float = 0.0) -> Placement:
        """Where a packet of a stream goes.

        time, length: of decoding, in seconds. arrived: when, in seconds on a clock that never jumps. busy_s: for how
        many of these seconds nobody listened to the source so far; they are no gap.
        """
        if self.reached is None:
            self._begin(-time)
            self.reached = Fraction(0)
        placement, era = self._placement(lane, time, arrived, busy_s)
        moment = time + placement.shift_s
        self._lanes[lane] = _Lane(moment, moment + length, era)
        self.reached = max(self.reached, moment + length)
        self._arrived, self._busy_s = arrived, busy_s
        return placement

    def _begin(self, shift: Fraction) -> None:
        self._shifts = [*self._shifts[-1:], shift]
        self._era += 1

    def _placement(self, lane: str, time: Fraction, arrived: float, busy_s: float) -> tuple[Placement, int]:
        """Where a packet goes, and its era."""
        assert self.reached is not None
        elapsed = _seconds(arrived - self._arrived)
        silent = _seconds(arrived - self._arrived - (busy_s - self._busy_s))
        known = self._lanes.get(lane)
        expected = self.reached if known is None else known.due
        shift = _unwrapped(self._shifts[-1], time, expected)
        if self._renewed:
            return self._renewal(time, shift, (elapsed, silent)), self._era
        if len(self._shifts) == 2 and known is not None and known.era == self._era - 1:
            before = _unwrapped(self._shifts[0], time, expected)
            closer = abs(time + before - expected) < abs(time + shift - expected)
            if closer and self._fits(known, time + before, elapsed):
                return Placement(before), known.era
        if self._fits(known, time + shift, elapsed):
            return Placement(self._caught_up(known, time, shift)), self._era
        return self._restart(time, silent), self._era

    def _renewal(self, time: Fraction, shift: Fraction, passed: tuple[Fraction, Fraction]) -> Placement:
        """The first packet after the source was opened anew: it goes on where it was, or starts anew."""
        assert self.reached is not None
        self._renewed = False
        (elapsed, silent), moment = passed, time + shift
        if self.reached - _BACK_S <= moment <= self.reached + elapsed + _SAME_S:
            gap = moment - self.reached
            self._begin(shift)
            return Placement(shift, Break(True, float(gap) if gap > _QUIET_S else 0.0, 0.0))
        return self._restart(time, silent, reconnected=True)

    def _restart(self, time: Fraction, silent: Fraction, *, reconnected: bool = False) -> Placement:
        assert self.reached is not None
        gap = silent if silent > _QUIET_S else Fraction(0)
        jump = time + self._shifts[-1] - self.reached - gap
        self._begin(self.reached + gap - time)
        return Placement(self._shifts[-1], Break(reconnected, float(gap), float(jump)))

    def _fits(self, known: _Lane | None, moment: Fraction, elapsed: Fraction) -> bool:
        assert self.reached is not None
        earliest, ahead = (known.last - _BACK_S, self._ahead_s) if known else (self.reached - _APART_S, _APART_S)
        return earliest <= moment <= self.reached + elapsed + ahead

    def _caught_up(self, known: _Lane | None, time: Fraction, shift: Fraction) -> Fraction:
        """The shift; a little more if this stream would step back where it enters the era, which all then follow."""
        if known is None or known.era == self._era or time + shift >= known.due:
            return shift
        self._shifts[-1] += known.due - (time + shift)
        return known.due - time


def _seconds(passed: float) -> Fraction:
    return Fraction(max(round(1e6 * passed), 0), 10**6)


def _unwrapped(shift: Fraction, time: Fraction, expected: Fraction) -> Fraction:
    """The shift, or one by whole wraps more or less, that brings the time closest to the expected one."""
    return shift + round((expected - time - shift) / WRAP_S) * WRAP_S


def held_moments(sent: int, step: Fraction, away_s: float) -> int:
    """How many pictures to repeat now while the source is away, beyond those that were sent.

    step: seconds from one to the next. away_s: seconds that the output lacks by now. Half a second is left free for a
    source that comes back with its own clock.
    """
    due = int(max(Fraction(away_s) - _BACK_S, Fraction(0)) / step)
    return max(due - sent, 0)
