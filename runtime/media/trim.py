"""Which part of an input to restore: the wish in seconds and frames, and the frames that it selects. Pure."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

from ...errors import MisuseError
from ...text import counted
from .base import SourceInfo
from .holes import Hole
from .index import VideoIndex
from .timeline import rescale

_LONGEST_S = 10**9
"""31 years. Times beyond are typing errors."""


@dataclass(frozen=True)
class Trim:
    """A part of an input.

    start       its beginning, in seconds from the beginning of the file; the first frame is shown then or later
    duration    its length, in seconds from `start`; no frame is shown at its end or later
    frames      how many frames at most

    None stands for the file's own beginning and end. Raises `MisuseError` for a part that is empty or negative.
    """

    start: Fraction | None = None
    duration: Fraction | None = None
    frames: int | None = None

    def __post_init__(self) -> None:
        for name, seconds in (("--start", self.start), ("--duration", self.duration)):
            if seconds is not None and seconds > _LONGEST_S:
                raise MisuseError(f"{name} is more than {_LONGEST_S} s, expected a time within the input, e.g. 1:30")
        if self.start is not None and self.start < 0:
            raise MisuseError(f"--start is {_text(self.start)} s, expected 0 or more, e.g. 1:30")
        if self.duration is not None and self.duration <= 0:
            raise MisuseError(f"--duration is {_text(self.duration)} s, expected a length above 0, e.g. 10s")
        if self.frames is not None and self.frames < 1:
            raise MisuseError(f"--frames is {self.frames}, expected 1 or more")

    @property
    def is_whole(self) -> bool:
        """True if nothing is left out."""
        return not self.start and self.duration is None and self.frames is None

    @property
    def end(self) -> Fraction | None:
        """When the part ends, in seconds from the beginning of the file; None if `duration` does not say."""
        return None if self.duration is None else (self.start or Fraction(0)) + self.duration

    def to_dict(self) -> dict[str, Any]:
        """As JSON values."""
        return {
            "start": None if self.start is None else str(self.start),
            "duration": None if self.duration is None else str(self.duration),
            "frames": self.frames,
        }

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> Trim:
        """The inverse of `to_dict`."""
        start, duration = (None if plain[name] is None else Fraction(plain[name]) for name in ("start", "duration"))
        return cls(start, duration, plain["frames"])


@dataclass(frozen=True)
class Clock:
    """The clock of stamps. time_base: seconds per tick. origin: when the file begins, in seconds on this clock."""

    time_base: Fraction
    origin: Fraction = Fraction(0)

    def ticks(self, seconds: Fraction) -> int:
        """A moment of the file in ticks, to the nearest one, as FFmpeg rounds it."""
        return rescale(1, self.origin + seconds, self.time_base)

    def seconds(self, ticks: int) -> Fraction:
        """The inverse of `ticks`."""
        return ticks * self.time_base - self.origin


@dataclass(frozen=True)
class Excerpt:
    """The frames that a `Trim` selects, by their stamps, in ticks of `time_base`.

    frames      how many
    begin       stamp of the first
    stop        stamp of the first one behind them; None if they are the last of the file
    zero        stamp that becomes 0; what other streams hold before it is left out. None: nothing is moved or left out
    until       when other streams end, in seconds on the clock of the stamps; None: with the file
    wants_more  more frames were wanted, so it matters if the file is incomplete
    """

    time_base: Fraction
    frames: int
    begin: int
    stop: int | None
    zero: int | None
    until: Fraction | None
    wants_more: bool

    def __contains__(self, pts: int) -> bool:
        return self.begin <= pts and (self.stop is None or pts < self.stop)

    def __str__(self) -> str:
        moved = "" if self.zero is None else f", {self.zero} becomes 0"
        return (
            f"{counted(self.frames, 'frame')}, {self.begin} to {'the end' if self.stop is None else self.stop}{moved}"
        )

    @property
    def zero_s(self) -> Fraction | None:
        """`zero` in seconds."""
        return None if self.zero is None else self.zero * self.time_base

    def moved(self, pts: int) -> int:
        """The stamp in the output."""
        return pts - (self.zero or 0)

    def of_index(self, index: VideoIndex) -> VideoIndex:
        """The index of the excerpt: its frames are numbered from 0."""
        first, stop = (
            len(index) if pts is None else bisect_left(index.stamps, pts, key=lambda stamp: stamp[0])
            for pts in (self.begin, self.stop)
        )
        return replace(
            index,
            times=index.times[first:stop],
            stamps=tuple((self.moved(pts), duration) for pts, duration in index.stamps[first:stop]),
            keys=tuple(key - first for key in index.keys if first <= key < stop),
            before=(*index.before, *(index.times[key] for key in index.keys if key < first)),
            shortfall=index.shortfall if self.wants_more else None,
            holes=tuple((self.moved(begin), length) for begin, length in index.holes if self._has(begin, length)),
        )

    def holes_of(self, holes: Iterable[Hole]) -> tuple[Hole, ...]:
        """Those in the excerpt, on its clock. holes: of the file, on the clock of its stamps."""
        return tuple(each.since(self.zero_s or Fraction(0)) for each in holes if each.overlaps(*self._span_s))

    def _has(self, begin: int, length: int) -> bool:
        return Hole(begin * self.time_base, length * self.time_base).overlaps(*self._span_s)

    @property
    def _span_s(self) -> tuple[Fraction, Fraction | None]:
        return self.begin * self.time_base, self.until

    def of_info(self, info: SourceInfo) -> SourceInfo:
        """What is known of the excerpt before it is read."""
        shown = self._shown_s(info.shown_s) if info.shown_s is not None else None
        return replace(info, frames=self.frames, shown_s=shown, chapters=tuple(self._chapters(info.chapters)))

    def _shown_s(self, whole: Fraction) -> Fraction | None:
        """How long the excerpt is shown, of a video that is shown `whole` seconds. None if that does not fit."""
        end = whole if self.until is None else min(self.until, whole)
        return max(end - self.begin * self.time_base, Fraction(0)) or None

    def _chapters(self, chapters: Iterable[Mapping[str, Any]]) -> Iterator[Mapping[str, Any]]:
        """Chapters that overlap the excerpt, cut and moved."""
        zero, until = self.zero_s, self.until
        for chapter in chapters:
            tick = Fraction(chapter["time_base"])
            first, last = chapter["start"] * tick, chapter["end"] * tick
            first = first if zero is None else max(first, zero)
            last = last if until is None else min(last, until)
            if first < last:
                start, end = (rescale(1, moment - (zero or 0), tick) for moment in (first, last))
                yield {**chapter, "start": start, "end": end}


def find_excerpt(trim: Trim, stamps: Sequence[tuple[int, int]], clock: Clock, path: Path) -> Excerpt:
    """The frames of a file that `trim` selects. stamps: time stamp and duration of each frame; see `needed_stamps`.

    Raises `MisuseError` if there are none.
    """
    start, end = trim.start or Fraction(0), trim.end
    first, stop = _position(stamps, clock.ticks(start)), len(stamps)
    if first == len(stamps):
        last = _text(clock.seconds(stamps[-1][0]))
        raise MisuseError(
            f"--start is {_text(start)} s, but the last frame of {path} is shown at {last} s: choose an earlier moment"
        )
    if end is not None:
        stop = _position(stamps, clock.ticks(end))
    if stop <= first:
        following = _text(clock.seconds(stamps[first][0]))
        raise MisuseError(
            f"{path} shows no new frame from {_text(start)} s to {_text(end or start)} s, and the next one at "
            f"{following} s: choose a longer --duration"
        )
    if trim.frames is not None:
        stop = min(stop, first + trim.frames)
    behind = stamps[stop][0] if stop < len(stamps) else None
    ends = [end + clock.origin] if end is not None else []
    return Excerpt(
        clock.time_base,
        frames=stop - first,
        begin=stamps[first][0],
        stop=behind,
        zero=stamps[first][0] if start else None,
        until=min([*ends, *([] if behind is None else [behind * clock.time_base])], default=None),
        wants_more=behind is None and stop - first != trim.frames and not _reaches(stamps[-1], clock, end),
    )


def needed_stamps(trim: Trim, stamps: Iterable[tuple[int, int]], clock: Clock) -> list[tuple[int, int]]:
    """The stamps up to the first one behind the excerpt."""
    begin = clock.ticks(trim.start or Fraction(0))
    end = None if trim.end is None else clock.ticks(trim.end)
    found, inside = [], 0
    for stamp in stamps:
        found.append(stamp)
        inside += stamp[0] >= begin
        if (end is not None and stamp[0] >= end) or (trim.frames is not None and inside > trim.frames):
            break
    return found


def _position(stamps: Sequence[tuple[int, int]], ticks: int) -> int:
    return bisect_left(stamps, ticks, key=lambda stamp: stamp[0])


def _reaches(last: tuple[int, int], clock: Clock, end: Fraction | None) -> bool:
    """True if the last frame is shown until `end`."""
    return end is not None and sum(last) >= clock.ticks(end)


def _text(seconds: Fraction) -> str:
    return f"{float(seconds):.6f}".rstrip("0").rstrip(".")
