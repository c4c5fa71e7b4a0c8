"""What a live run has done, counted in one place: lines, events and metrics all read it from here."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from typing import Any

_SHORTEST_S, _GROWTH, _BUCKETS = 0.001, 1.02, 620
"""Delays from a millisecond to 200 seconds, told apart by two percent."""


class Delays:
    """How long things took, in bounded memory. Percentiles are off by one percent at most."""

    def __init__(self) -> None:
        self._counts = [0] * _BUCKETS
        self.count, self.total, self.longest = 0, 0.0, 0.0

    def add(self, seconds: float) -> None:
        self._counts[_bucket(seconds)] += 1
        self.count += 1
        self.total += seconds
        self.longest = max(self.longest, seconds)

    def percentile(self, share: float) -> float | None:
        """The delay that this share of all did not exceed; None if there is none. share: above 0, up to 1."""
        wanted, seen = math.ceil(share * self.count), 0
        for number, count in enumerate(self._counts):
            seen += count
            if count and seen >= wanted:
                return min(_SHORTEST_S * float(_GROWTH ** (number + 0.5)), self.longest)
        return None

    def at_most(self, seconds: float) -> int:
        """How many did not exceed this, to two percent."""
        return sum(self._counts[: _bucket(seconds) + 1])


def _bucket(seconds: float) -> int:
    if seconds <= _SHORTEST_S:
        return 0
    return min(int(math.log(seconds / _SHORTEST_S) / math.log(_GROWTH)), _BUCKETS - 1)


@dataclass(frozen=True)
class LiveCounts:
    """The state of a live run. All but `waiting` and `behind_s` count from its beginning.

    frames_in       decoded
    frames_out      sent, restored or bypassed
    bypassed        of these, enlarged plainly because they were late
    dropped         left out because they were late
    unsent          restored, but lost because the receiver was away
    disordered      left out because their time had passed already
    held            pictures that were repeated while the source was away; not among the others
    damaged         decoded frames with damage; packets_damaged: packets that could not be decoded
    gaps, gap_s     times that the source was away, and seconds in all
    jumps           of the clock of the source
    resized         times that the size or the format of the source changed
    scenes          times that a new scene began, if the network is to begin anew there
    reconnects_in, reconnects_out   of the source, and of the receiver
    packets_lost    packets of sound that were damaged, out of order, without a time or a receiver, or too many
    waiting         frames that wait for their turn now
    behind_s        by how many seconds more than at the beginning data waits now that comes in pieces (HLS, HTTP)
    """

    frames_in: int = 0
    frames_out: int = 0
    bypassed: int = 0
    dropped: int = 0
    unsent: int = 0
    disordered: int = 0
    held: int = 0
    damaged: int = 0
    packets_damaged: int = 0
    gaps: int = 0
    gap_s: float = 0.0
    jumps: int = 0
    resized: int = 0
    scenes: int = 0
    reconnects_in: int = 0
    reconnects_out: int = 0
    packets_lost: int = 0
    waiting: int = 0
    behind_s: float = 0.0

    @property
    def working(self) -> int:
        """Frames that went in and are neither out nor counted as lost: they are on their way."""
        return self.frames_in - self.frames_out - self.dropped - self.unsent - self.disordered


@dataclass(frozen=True)
class LiveReport:
    """The counts, and how long frames took from packet in to packet out: p50, p95, p99, in seconds; None before any."""

    counts: LiveCounts
    p50: float | None = None
    p95: float | None = None
    p99: float | None = None

    def as_dict(self) -> dict[str, int | float | None]:
        """For an event."""
        counts = {each.name: getattr(self.counts, each.name) for each in fields(LiveCounts)}
        rounded = {name: round(value, 3) if isinstance(value, float) else value for name, value in counts.items()}
        delays = {f"delay_{name}_s": getattr(self, name) for name in ("p50", "p95", "p99")}
        return {**rounded, **{name: None if value is None else round(value, 3) for name, value in delays.items()}}

    def line(self) -> str:
        """For people; what did not happen is left out."""
        counts = self.counts
        words = [f"{counts.frames_in} frames in, {counts.frames_out} out"]
        for name, (one, many) in _WORDS.items():
            if count := getattr(counts, name):
                seconds = f" ({counts.gap_s:.1f} s)" if name == "gaps" else ""
                words.append(f"{count} {one if count == 1 else many}{seconds}")
        if counts.behind_s >= _SHOWN_S:
            words.append(f"{counts.behind_s:.1f} s behind the source")
        if self.p50 is not None and self.p95 is not None and self.p99 is not None:
            words.append(f"delay {self.p50:.2f} s (p95 {self.p95:.2f}, p99 {self.p99:.2f})")
        return ", ".join(words)


_SHOWN_S = 0.1
"""Less than this behind the source is not worth a word."""

_WORDS = {
    "bypassed": ("bypassed", "bypassed"),
    "dropped": ("dropped", "dropped"),
    "unsent": ("not sent", "not sent"),
    "disordered": ("out of order", "out of order"),
    "held": ("repeated", "repeated"),
    "damaged": ("damaged", "damaged"),
    "packets_damaged": ("packet damaged", "packets damaged"),
    "gaps": ("gap", "gaps"),
    "jumps": ("jump of the clock", "jumps of the clock"),
    "resized": ("change of size", "changes of size"),
    "scenes": ("cut between scenes", "cuts between scenes"),
    "reconnects_in": ("reconnection to the source", "reconnections to the source"),
    "reconnects_out": ("reconnection to the receiver", "reconnections to the receiver"),
    "packets_lost": ("packet of sound lost", "packets of sound lost"),
}


class LiveStatistics:
    """Counts from any thread. patience_s: seconds without a picture that leaves after which a run is not well."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        """now: a clock that never jumps."""
        self._lock, self._now = threading.Lock(), now
        self._last, self.patience_s = now(), 10.0
        self._counts = LiveCounts()
        self._recent, self._all = Delays(), Delays()

    def add(self, **more: float) -> None:
        """Add to counts by their names."""
        with self._lock:
            sums: dict[str, Any] = {name: getattr(self._counts, name) + count for name, count in more.items()}
            self._counts = replace(self._counts, **sums)

    def set(self, **values: float) -> None:
        """Set counts by their names."""
        with self._lock:
            self._counts = replace(self._counts, **dict[str, Any](values))

    def leave(self) -> None:
        """A picture left, restored or repeated."""
        with self._lock:
            self._last = self._now()

    def quiet_s(self) -> float:
        """Seconds since a picture left, or since the beginning."""
        with self._lock:
            return self._now() - self._last

    def add_delay(self, seconds: float) -> None:
        """A frame left so many seconds after its packet came."""
        with self._lock:
            self._recent.add(seconds)
            self._all.add(seconds)

    def report(self) -> LiveReport:
        """What has happened since the beginning."""
        with self._lock:
            return _report(self._counts, self._all)

    def recent(self) -> LiveReport:
        """The same counts, and the delays since the last call."""
        with self._lock:
            report, self._recent = _report(self._counts, self._recent), Delays()
            return report

    @contextmanager
    def delays(self) -> Iterator[Delays]:
        """The delays of all frames, while nobody adds to them."""
        with self._lock:
            yield self._all


def _report(counts: LiveCounts, delays: Delays) -> LiveReport:
    return LiveReport(counts, *(delays.percentile(share) for share in (0.5, 0.95, 0.99)))
