"""When every frame of a video is shown, and where decoding can begin, from one pass over the packets without decoding.

An index makes frames addressable by number. It promises what FFmpeg's decoders do with an intact file: each packet
becomes one frame, and frames come out in the order of their time stamps. Whoever decodes checks that
(`video_range.VideoRange`). Files whose packets do not allow the promise have no index, with a reason, and are read in
order.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import chain, pairwise
from typing import TYPE_CHECKING, Any

from ...errors import UnreadableInputError
from .base import SourceInfo
from .damage import in_one_line
from .decoder import VideoDecoder
from .holes import Hole, hole_line
from .shown_lengths import ShownLengths
from .timeline import Timeline

if TYPE_CHECKING:
    from av.packet import Packet


@dataclass(frozen=True)
class Shown:
    """One packet of a video: when its frame is shown, and whether decoding can begin there.

    pts, dts: presentation and decoding time in ticks; None if the container does not say. duration: in ticks, 0 if
    unknown. hidden: the frame is decoded but not shown (before an edit list's beginning).
    """

    pts: int | None
    dts: int | None
    duration: int
    key: bool
    hidden: bool = False


@dataclass(frozen=True)
class VideoIndex:
    """The frames of a video in the order in which they are shown, numbered from 0.

    times       presentation time of each frame, in ticks; strictly increasing
    stamps      time stamp and duration of each frame as `Timeline` gives them, in ticks
    keys        numbers of the frames where decoding can begin, increasing
    time_base   seconds per tick
    shortfall   what the file promised but does not contain, as far as packets tell, in one line; None if it is complete
    holes       when frames are missing in between, and for how long, in ticks on the clock of the stamps
    before      times of key frames before the first frame, increasing; of a part of a video (`trim.Excerpt`)
    """

    times: tuple[int, ...]
    stamps: tuple[tuple[int, int], ...]
    keys: tuple[int, ...]
    time_base: Fraction
    shortfall: str | None = None
    before: tuple[int, ...] = ()
    holes: tuple[tuple[int, int], ...] = ()

    def __len__(self) -> int:
        return len(self.times)

    @property
    def holes_s(self) -> tuple[Hole, ...]:
        """`holes` in seconds."""
        return tuple(Hole(begin * self.time_base, length * self.time_base) for begin, length in self.holes)

    @property
    def lacks(self) -> str | None:
        """All that is missing, in one line; None if it is complete."""
        return in_one_line(self.shortfall, hole_line(self.holes_s))

    def entries(self, frame: int) -> Iterator[int]:
        """Frames at which decoding can begin to reach `frame`, the nearest first."""
        return reversed(self.keys[: bisect_right(self.keys, frame)])

    def entry_times(self, frame: int) -> Iterator[int]:
        """When decoding can begin to reach `frame`, the nearest moment first, in ticks."""
        return chain((self.times[entry] for entry in self.entries(frame)), reversed(self.before))

    def frame_at(self, seconds: Fraction) -> int:
        """The first frame that is shown at or after `seconds` from the first frame; `len(self)` if there is none."""
        begin = self.stamps[0][0] * self.time_base
        return bisect_left(self.stamps, seconds, key=lambda stamp: stamp[0] * self.time_base - begin)


def index_video(info: SourceInfo) -> VideoIndex | str:
    """The index of the video with this `info`, or why it has none. Reads the whole file once.

    Raises `MediaError` if the file cannot be opened any more, `MachineError` if memory is short.
    """
    if info.reading.is_filtered:
        return "its frames go through filters"
    decoder = VideoDecoder(info.path, options=info.reading)
    with closing(decoder):
        packets = map(_shown, decoder.video_packets())
        try:
            index = build_index(
                packets,
                info.time_base,
                info.rate,
                decoder.begin,
                in_order=decoder.in_order,
                misplaced=decoder.lengths.misplaced,
            )
        except UnreadableInputError as error:  # what comes before that place can be read in order
            return f"it cannot be read to its end ({error})"
        if decoder.jumped:
            return "its clock jumps"
        if isinstance(index, str):
            return index
        holes = tuple(
            (round(each.begin / info.time_base), round(each.length / info.time_base)) for each in decoder.holes
        )
        return replace(index, shortfall=decoder.broken_promise, holes=holes)


def build_index(
    packets: Iterable[Shown],
    time_base: Fraction,
    rate: Fraction,
    begin: Fraction = Fraction(0),
    *,
    in_order: bool = False,
    misplaced: bool = False,
) -> VideoIndex | str:
    """The index of packets in file order, or why they have none.

    rate, begin: as in `Timeline`. in_order: frames are shown when they are decoded (`VideoDecoder.in_order`).
    misplaced: as in `ShownLengths`.
    """
    shown: list[Shown] = []
    lengths = ShownLengths(misplaced=misplaced)
    last: int | None = None
    for packet in packets:
        if packet.pts is None:
            return "some of its frames have no time stamp"
        if last is not None and packet.dts is not None and packet.dts < last:
            return "its clock jumps back"
        last = last if packet.dts is None else packet.dts
        lengths.note(packet.pts, packet.dts, packet.duration)
        if not packet.hidden:
            shown.append(packet)
    shown.sort(key=_pts)
    if not shown:
        return "it has no frames"
    if any(_pts(one) == _pts(other) for one, other in pairwise(shown)):
        return "some of its frames have the same time stamp"
    timeline = Timeline(time_base, rate, begin)
    return VideoIndex(
        times=tuple(map(_pts, shown)),
        stamps=tuple(
            timeline.place(
                packet.dts if in_order else packet.pts, lengths.of(packet.pts, packet.duration, timeline.step)
            )
            for packet in shown
        ),
        keys=tuple(number for number, packet in enumerate(shown) if packet.key),
        time_base=time_base,
    )


def _pts(packet: Shown) -> int:
    assert packet.pts is not None
    return packet.pts


def _shown(packet: Packet[Any]) -> Shown:
    return Shown(packet.pts, packet.dts, packet.duration or 0, packet.is_keyframe, packet.is_discard)
