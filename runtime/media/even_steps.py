"""Outputs that count time in even steps: how fine the steps must be, and how far pictures are shown from their time.

AVI has one rate for all of its pictures. Where a picture is missing, it holds an empty one, so uneven times need a
higher rate. Streams without a container, and a few containers such as MXF, show one picture in every step, so they lose
uneven times.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from typing import TYPE_CHECKING, Any, cast

from ...errors import MediaError
from ...text import with_article
from .index import VideoIndex
from .muxer import muxer_of, open_muxer
from .timeline import ClockConverter, rescale

if TYPE_CHECKING:
    from av.format import ContainerFormat
    from av.packet import Packet

    from .base import SourceInfo

IN_SYNC_S = Fraction(1, 50)
"""How far a picture may be shown from its sound before anyone notices."""

_ANY_TIME = frozenset({"ipod", "3gp", "3g2", "psp", "f4v", "ismv", "asf", "asf_stream", "flv", "ivf"})
"""Containers that hold any time stamps, although FFmpeg's flags do not say so."""

_LEAVE_STEPS_EMPTY = frozenset({"avi", "dvd", "mpeg", "vob", "svcd", "vcd", "m4v", "ogg", "ogv", "wtv"})
"""Containers that count even steps, but can leave some empty."""

FINEST: Mapping[str, Fraction] = {"avi": Fraction(1, 1000), "gif": Fraction(1, 100)}
"""Seconds per step at least."""

_PAUSE = Fraction(3, 2)
"""So many times the usual distance of two frames."""

_NEAR = Fraction(1, 50)
_MOST_EMPTY = 60_000
"""Empty pictures in a row that FFmpeg writes into an AVI."""


@dataclass(frozen=True)
class Steps:
    """The steps of an output. clock: seconds per step. off: how far a picture is shown from its time, in seconds.

    all_filled: each step shows a picture. usual: frames per second between pauses, to be suggested then.
    """

    clock: Fraction
    off: Fraction
    all_filled: bool = False
    usual: Fraction | None = None

    def note(self, container: str) -> str | None:
        """One line if that can be noticed."""
        if self.off <= IN_SYNC_S:
            return None
        if self.all_filled:
            fps = self.usual or 1 / self.clock
            return (
                f"{container} files hold no times, so pictures are shown up to {float(self.off):.2f} s from their "
                f"time; --vf fps={fps} repeats pictures instead, and .mkv and .mp4 keep the times"
            )
        return (
            f"{container} files count time in steps of {self.clock} s, so pictures are shown up to "
            f"{float(self.off):.2f} s from their time; .mkv and .mp4 keep the times"
        )


def holds_any_time(container: ContainerFormat) -> bool:
    """True if a container holds uneven time stamps."""
    from av.format import Flags

    return bool(container.flags & cast(int, Flags.variable_fps.value)) or container.name in _ANY_TIME


def holds_sound(container: str) -> bool:
    """True if FFmpeg has a default for the sound in a container of this name."""
    return open_muxer(io.BytesIO(), container).default_audio_codec != "none"


def find_steps(
    info: SourceInfo, container: str, read_index: Callable[[], VideoIndex | str], *, with_sound: bool = False
) -> Steps | None:
    """The steps for the video with this `info`; None if the container needs none, or the times are not known before.

    container: as `open_muxer` calls it. read_index: of the part that is written; called if it is needed.
    with_sound: sound is wanted. Raises `MediaError` if the container cannot hold the rate, or would lose the sync.
    """
    from av.format import ContainerFormat

    finest = FINEST.get(container)
    if finest is not None and info.rate > 1 / finest:
        fewer = f"{'--vf fps=' if info.image_suffix is None else '--rate '}{1 / (2 * finest)}"
        raise MediaError(
            f"{with_article(container.upper())} holds {1 / finest} frames per second at most, but {info.path} has "
            f"{float(info.rate):g}: add {fewer}, or choose another suffix, e.g. .mp4"
        )
    if finest is None and holds_any_time(ContainerFormat(muxer_of(container), "w")):
        return None
    index = read_index()
    if isinstance(index, str):
        return None
    if container == "gif":
        return Steps(FINEST["gif"], _off(index.stamps, index.time_base, FINEST["gif"]))
    if container in _LEAVE_STEPS_EMPTY:
        return choose_steps(index.stamps, index.time_base, info.rate, finer=container == "avi")
    steps = fill_steps(index.stamps, index.time_base, info.rate)
    if with_sound and steps.off > IN_SYNC_S and holds_sound(container):
        raise MediaError(
            f"{info.path} has uneven times, but {container} files hold none, so sound would be up to "
            f"{float(steps.off):.2f} s off: add --vf fps={steps.usual}, which repeats frames, or choose .mkv or .mp4"
        )
    return steps


def fills_every_step(container: str) -> bool:
    """True if a container, as `open_muxer` calls it, shows one picture after another, whatever their times."""
    from av.format import ContainerFormat

    return container not in _LEAVE_STEPS_EMPTY and not holds_any_time(ContainerFormat(muxer_of(container), "w"))


class FilledSteps:
    """Follows the packets of an output's video. length: how long it is shown, in seconds, if every step is filled."""

    def __init__(self, container: str, clock: Fraction) -> None:
        """clock: seconds per step."""
        self._container, self._clock = container, clock
        self._fills = fills_every_step(container)
        self._count = self._last = 0
        self._first: int | None = None

    def note(self, packets: Iterable[Packet[Any]]) -> None:
        """These are written now. Their time stamps count steps."""
        for packet in packets:
            self._count += 1
            if self._fills and packet.pts is not None:
                self._first = packet.pts if self._first is None else min(self._first, packet.pts)
                self._last = max(self._last, packet.pts)

    @property
    def length(self) -> Fraction:
        return self._count * self._clock

    @property
    def lost(self) -> tuple[str, ...]:
        """A line about pauses that the output does not have; none if it has no pauses, or all of them."""
        if self._first is None:
            return ()
        empty = max(0, self._last - self._first + 1 - self._count)
        note = Steps(self._clock, empty * self._clock, all_filled=True).note(self._container)
        return () if note is None else (note,)


def choose_steps(stamps: Sequence[tuple[int, int]], time_base: Fraction, rate: Fraction, *, finer: bool) -> Steps:
    """The coarsest steps that keep pictures in sync, or those that come closest. finer: steps may be below a frame.

    stamps: time stamp and duration of each frame, in ticks of `time_base` seconds. rate: frames per second.
    """
    clocks = list(_finer(1 / rate)) if finer else [1 / rate]
    gap = max((after[0] - before[0] for before, after in pairwise(stamps)), default=0)
    best = Steps(clocks[0], _off(stamps, time_base, clocks[0]))
    for clock in clocks[1:]:
        if best.off <= IN_SYNC_S or rescale(gap, time_base, clock) > _MOST_EMPTY:
            break
        steps = Steps(clock, _off(stamps, time_base, clock))
        best = min(best, steps, key=lambda each: each.off)
    return best


def fill_steps(stamps: Sequence[tuple[int, int]], time_base: Fraction, rate: Fraction) -> Steps:
    """The steps of an output that shows one picture after another, the first one at its time. As `choose_steps`."""
    times = [(pts - stamps[0][0]) * time_base for pts, _ in stamps]
    off = max(abs(number / rate - time) for number, time in enumerate(times))
    return Steps(1 / rate, off, all_filled=True, usual=_usual_rate(times) or rate)


def _usual_rate(times: Sequence[Fraction]) -> Fraction | None:
    """Frames per second where there is no pause, rounded to a whole number if there is one near. None for one frame."""
    gaps = sorted(after - before for before, after in pairwise(times))
    short = [gap for gap in gaps if gap <= _PAUSE * gaps[len(gaps) // 2]]
    if not short:
        return None
    exact = len(short) / Fraction(sum(short))
    whole = Fraction(max(1, round(exact)))
    return whole if abs(whole - exact) <= _NEAR * exact else exact.limit_denominator(100)


def _finer(clock: Fraction) -> Iterator[Fraction]:
    while clock > FINEST["avi"]:
        yield clock
        clock /= 2
    yield min(clock, FINEST["avi"])


def _off(stamps: Sequence[tuple[int, int]], time_base: Fraction, clock: Fraction) -> Fraction:
    convert = ClockConverter(clock)
    return max(abs(convert(pts, length, time_base)[0] * clock - pts * time_base) for pts, length in stamps)
