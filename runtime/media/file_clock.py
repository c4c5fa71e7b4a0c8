"""One clock for all streams of a file, also where its time stamps jump, as in joined recordings.

At a jump, all streams are shifted by the same time, so that sound stays with its picture. The picture decides where the
recording after the jump goes on: right after the last picture before it. Packets of sound that arrive before that
picture wait for it. Subtitles and data never cause a shift; they take that of the recording that they belong to.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from fractions import Fraction
from functools import partial
from typing import TYPE_CHECKING, Any, cast

from .holes import HoleFinder
from .pyav import fraction
from .timeline import RESET_SECONDS

if TYPE_CHECKING:
    from av.packet import Packet

_BACK_S = Fraction(1, 10)
"""A step back that is a jump, in formats whose clock may jump. FFmpeg takes the same."""

_LONGEST_PAUSE_S = 10
"""A longer step ahead of all streams is a jump, in such formats. FFmpeg takes the same."""

_OVERLAP_S = Fraction(1, 5)
"""How far the sound of a recording may last into the next one."""

_GAP_S = Fraction(1, 20)
"""A pause in the sound, or in the video if that is also more than `_GAP_STEPS` frames, that is a gap."""

_GAP_STEPS = 3

_PATIENCE_S = 5
"""Seconds of video that packets of sound wait for the picture after a jump. Streams lie no further apart in a file."""

_MOST_WAITING = 4096


@dataclass
class Gaps:
    """Pauses in a stream: how many, how long they are together, and when the first begins, in seconds."""

    count: int = 0
    total: Fraction = Fraction(0)
    first: Fraction = Fraction(0)

    def add(self, begin: Fraction, length: Fraction) -> None:
        self.first = self.first if self.count else begin
        self.count, self.total = self.count + 1, self.total + length

    def since(self, begin: Fraction) -> Gaps:
        """The same on a clock that starts at `begin`."""
        return replace(self, first=self.first - begin)


@dataclass
class _Track:
    """A stream on the clock of the output.

    decides     it is the video
    sparse      its packets have gaps, so it shows no jump
    recording   number of the recording that its last packet belongs to
    own         the shift of this stream alone, in seconds
    last        decoding time of its last packet; None before the first one
    step        seconds from the packet before to the last one
    due         when the packet after that should be decoded
    end         when the last of its packets ends to be shown
    gaps        within its recordings
    """

    decides: bool
    sparse: bool
    recording: int = 0
    own: Fraction = Fraction(0)
    last: Fraction | None = None
    step: Fraction = Fraction(0)
    due: Fraction = Fraction(0)
    end: Fraction = Fraction(0)
    gaps: Gaps = field(default_factory=Gaps)

    def note_gap(self, moment: Fraction) -> None:
        """A packet of the same recording is decoded at this moment."""
        gap = moment - self.due
        known = self.step > 0  # the first packet of a stream that begins late may be long, but does not say so
        if known and gap > (max(_GAP_S, _GAP_STEPS * self.step) if self.decides else _GAP_S):
            self.gaps.add(self.due, gap)


class FileClock:
    """Shifts the packets of a file such that each stream goes on where it stopped. Packets come back in `place`.

    jumped      how often the clock of the file jumped so far
    holes       finds where frames are missing
    """

    def __init__(
        self,
        kinds: Mapping[int, str],
        video: int,
        *,
        jumps: bool,
        torn: Callable[[int, int], bool] | None = None,
    ) -> None:
        """kinds: of the streams, by number. video: number of the one that decides. jumps: the format's clock may.

        torn: whether data are missing between two places in the file, where packets of the video begin.
        """
        self._tracks = {index: _Track(index == video, kind not in ("video", "audio")) for index, kind in kinds.items()}
        self._video = self._tracks[video]
        self._jumps = jumps
        self.holes = HoleFinder()
        self._torn, self._position = torn, cast(int | None, None)
        self._shifts = [Fraction(0)]
        self._reached = self._entered = Fraction(0)
        self._waiting: list[tuple[int, Packet[Any]]] = []
        self._waits_since = Fraction(0)

    @property
    def jumped(self) -> int:
        return len(self._shifts) - 1

    @property
    def gaps(self) -> dict[int, Gaps]:
        """The gaps in each stream that has any, if the clock of the format may jump; others may pause."""
        return {index: track.gaps for index, track in self._tracks.items() if track.gaps.count and self._jumps}

    def place(self, packet: Packet[Any], stream: int) -> list[Packet[Any]]:
        """The packets that are ready, now that `packet` of `stream` was read; their time stamps are shifted."""
        track = self._tracks[stream]
        time = _moment(packet) if track.sparse else _seconds(packet.dts, packet)
        waits = any(number == stream for number, _ in self._waiting)
        if time is None or track.sparse:
            if waits or (time is not None and self._belongs_to_those_waiting(time)):
                return self._wait(stream, packet)
            return [self._accompany(track, packet)]
        recording = self._recording_of(track, time)
        if recording is not None:
            stray = self._released(stream, stray=True) if waits else []  # they were no jump: the stream goes on
            return [*stray, self._enter(track, recording, packet), *self._impatient()]
        if not track.decides:
            return self._wait(stream, packet)
        self._restart(track, packet)
        return [self._enter(track, self.jumped, packet), *self._released()]

    def rest(self) -> list[Packet[Any]]:
        """The packets that still wait at the end of the file."""
        return self._released()

    def _wait(self, stream: int, packet: Packet[Any]) -> list[Packet[Any]]:
        self._waits_since = self._waits_since if self._waiting else self._video.due
        self._waiting.append((stream, packet))
        return self._impatient()

    def _impatient(self) -> list[Packet[Any]]:
        """The packets that wait, if the picture does not jump."""
        late = self._video.due - self._waits_since > _PATIENCE_S
        return self._released() if self._waiting and (late or len(self._waiting) > _MOST_WAITING) else []

    def _accompany(self, track: _Track, packet: Packet[Any]) -> Packet[Any]:
        """A packet that shows no jump, in the recording that brings it closest to the others."""
        time = _moment(packet)
        if track.sparse and time is not None:
            recent = range(max(0, self.jumped - 1), self.jumped + 1)
            track.recording = min(recent, key=lambda number: abs(time + self._shifts[number] - self._reached))
        return moved(packet, self._shift(track, track.recording))

    def _belongs_to_those_waiting(self, time: Fraction) -> bool:
        waiting = next((_moment(packet) for _, packet in self._waiting), None)
        return waiting is not None and abs(time - waiting) < abs(time + self._shifts[-1] - self._reached)

    def _recording_of(self, track: _Track, time: Fraction) -> int | None:
        """The recording in which a packet goes on where its stream stopped; None if there is none."""
        if track.last is None:
            return self.jumped
        following = self._video.recording == self.jumped and self._video.due - self._entered > _PATIENCE_S
        fitting = [
            number
            for number in range(self.jumped if following else track.recording, self.jumped + 1)
            if self._goes_on(track, number, time)
        ]
        return min(fitting, key=lambda number: abs(time + self._shift(track, number) - track.due), default=None)

    def _goes_on(self, track: _Track, number: int, time: Fraction) -> bool:
        assert track.last is not None
        moment = time + self._shift(track, number)
        back = _BACK_S if self._jumps and number == track.recording else RESET_SECONDS
        ahead = max(self._reached, track.due) + _LONGEST_PAUSE_S
        return moment >= track.last - back and (moment <= ahead or not self._jumps)

    def _shift(self, track: _Track, number: int) -> Fraction:
        return self._shifts[number] + (track.own if number == track.recording else 0)

    def _restart(self, track: _Track, packet: Packet[Any]) -> None:
        """The clock jumps: from now on the video goes on where it stopped, and not before the sound ends."""
        decoded, shown = _seconds(packet.dts, packet), _seconds(packet.pts, packet)
        assert decoded is not None
        sound = [other.end - _OVERLAP_S for other in self._tracks.values() if other.last is not None]
        shifts = [max([track.due, *sound]) - decoded]
        if shown is not None:
            shifts.append(track.end - shown)
        self._shifts.append(max(shifts))
        self._entered = decoded + self._shifts[-1]

    def _enter(self, track: _Track, number: int, packet: Packet[Any]) -> Packet[Any]:
        """The packet, shifted into this recording."""
        same = number == track.recording
        if not same:
            track.recording, track.own = number, Fraction(0)
        placed = moved(packet, self._shift(track, number))
        decoded = _seconds(placed.dts, placed)
        assert decoded is not None
        if same:
            track.note_gap(decoded)
        if track.decides:
            self._look_for_holes(placed, track.last if same else None, decoded)
        if track.last is not None and decoded > track.last:
            track.step = decoded - track.last
        length = _seconds(packet.duration, packet) or track.step
        track.last, track.due = decoded, decoded + length
        track.end = max(track.end, track.due, (_seconds(packet.pts, packet) or Fraction(0)) + length)
        self._reached = max(self._reached, track.due)
        return placed

    def _look_for_holes(self, packet: Packet[Any], last: Fraction | None, decoded: Fraction) -> None:
        """last: when the packet before it was decoded; None if it was of another recording."""
        before, self._position = self._position, packet.pos
        if last is not None:
            torn = partial(self._is_torn, before, packet.pos)
            self.holes.step(last, decoded, joint=self._jumps and packet.is_keyframe, torn=torn)

    def _is_torn(self, before: int | None, position: int | None) -> bool:
        """Whether data are missing between the places of two packets."""
        if self._torn is None or before is None or position is None:
            return False
        return self._torn(before, position)

    def _released(self, stream: int | None = None, *, stray: bool = False) -> list[Packet[Any]]:
        """The packets that wait, of one stream or of all, in the recording that fits by now.

        A stream that fits into none goes on by itself; stray packets are moved one by one.
        """
        waiting, self._waiting = self._waiting, []
        self._waiting = [each for each in waiting if stream not in (None, each[0])]
        return [self._let_go(each[1], self._tracks[each[0]], stray) for each in waiting if stream in (None, each[0])]

    def _let_go(self, packet: Packet[Any], track: _Track, stray: bool) -> Packet[Any]:
        time = _seconds(packet.dts, packet)
        if time is None or track.sparse:
            return self._accompany(track, packet)
        recording = self._recording_of(track, time)
        if recording is not None:
            return self._enter(track, recording, packet)
        before = track.recording, track.own
        away = track.due - time - self._shifts[self.jumped]
        track.recording, track.own = self.jumped, away if abs(away) > RESET_SECONDS else Fraction(0)
        placed = self._enter(track, self.jumped, packet)
        if stray:
            track.recording, track.own = before
        return placed


def _moment(packet: Packet[Any]) -> Fraction | None:
    """When a packet is shown, or else decoded, in seconds."""
    return _seconds(packet.dts if packet.pts is None else packet.pts, packet)


def _seconds(ticks: int | None, packet: Packet[Any]) -> Fraction | None:
    tick = fraction(packet.time_base)
    return None if ticks is None or tick is None else ticks * tick


def moved(packet: Packet[Any], shift: Fraction) -> Packet[Any]:
    """The packet, `shift` seconds later."""
    tick = fraction(packet.time_base)
    if shift and tick:
        ticks = round(shift / tick)
        packet.pts = None if packet.pts is None else packet.pts + ticks
        packet.dts = None if packet.dts is None else packet.dts + ticks
    return packet
