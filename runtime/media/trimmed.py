"""A part of a video as a source: what a frame-exact cut of the file would give, from time 0 on."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from contextlib import closing, suppress
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from ...errors import MisuseError
from .base import CopiedPacket, Item, Picture, SourceInfo, SourceView
from .damage import in_one_line, part_line
from .file_clock import moved
from .holes import hole_line
from .index import VideoIndex, index_video
from .pipes import is_input_pipe
from .probe import OpenedVideo, open_video
from .pyav import fraction
from .source_options import SourceOptions
from .surfaces import Residence
from .trim import Clock, Excerpt, Trim, find_excerpt, needed_stamps
from .video_in import VideoSource
from .video_range import IndexMismatchError, VideoRange

if TYPE_CHECKING:
    from av.packet import Packet

_INTERLEAVED_S = 10
"""Seconds by which packets of one stream may come later in a file than those of another."""


class TrimmedVideo:
    """The pictures of an excerpt, without the packets between them: `copied_packets` has those. See `base.Source`.

    With an index, decoding begins at a key frame before the first picture; without, at the beginning of the file.
    """

    def __init__(self, opened: OpenedVideo, excerpt: Excerpt, index: VideoIndex | str | None = None) -> None:
        """index: of the whole video, or why it has none. None: read it in order."""
        self.excerpt = excerpt
        self.info: SourceInfo = excerpt.of_info(opened.info)
        self._whole = VideoSource(opened)
        self._range: VideoRange | None = None
        self._index: VideoIndex | None = None
        self._notes: tuple[str, ...] = ()
        self._ended = self._in_order = False
        self._found = excerpt.frames
        self._kinds = {copy.index: copy.kind for copy in opened.info.copies}
        self._inside: dict[int, bool] = {}
        if isinstance(index, str):
            self._notes = (f"{opened.info.path.name} is read from its beginning to the first frame, since {index}",)
        elif index is not None and index.stamps[0][0] < excerpt.begin:
            self._index = excerpt.of_index(index)
        self._iterator = self._pictures()

    @property
    def residence(self) -> Residence:
        """As in `VideoSource`."""
        return replace(self._whole.residence, in_order=self._index is None)

    def keep_on_gpu(self) -> None:
        """As in `VideoSource`."""
        self._whole.keep_on_gpu()

    @property
    def notes(self) -> tuple[str, ...]:
        """What the user should know about this file. Complete after the last picture."""
        return (*self.info.notes, *self._notes, *self.damage)

    @property
    def damage(self) -> tuple[str, ...]:
        """What is damaged in the part that was read. Valid after the last picture."""
        found = (*(self._range.damage if self._range else ()), *(self._whole.damage if self._in_order else ()))
        return tuple(dict.fromkeys(found))

    @property
    def shortfall(self) -> str | None:
        """What the excerpt lacks. Valid after the last picture."""
        if not self._in_order and self._range is not None:
            return self._range.shortfall if self._ended else None
        whole, excerpt = self._whole, self.excerpt
        if self._ended and excerpt.wants_more:
            lacks = whole.broken_promise
        else:
            lacks = part_line(excerpt.frames, self._found, whole.lost)
        return in_one_line(lacks, hole_line(excerpt.holes_of(whole.holes)))

    def __iter__(self) -> Iterator[Item]:
        return self._iterator

    def _pictures(self) -> Generator[Picture, None, None]:
        given = 0
        try:
            for picture in self._from_key_frame():
                yield picture
                given += 1
        except IndexMismatchError as error:
            self._notes += (f"{error}; the video is read in order instead",)
            self._index = None
        if self._index is None:
            for picture in self._from_beginning():
                if picture.stamp.index >= given:
                    yield picture

    def _from_key_frame(self) -> Iterator[Picture]:
        if self._index is not None:
            self._whole.close()  # its decoder keeps frames in memory
            self._range = VideoRange(self._whole.info, self._index, 0, len(self._index))
            yield from self._range
            self._ended = True

    def _from_beginning(self) -> Iterator[Picture]:
        self._in_order = True
        if self._range is not None:
            self._range.close()
            self._whole = VideoSource(open_video(self.info.path, options=self.info.reading))
        number = 0
        for item in self._whole:
            if isinstance(item, CopiedPacket):
                continue
            stamp = item.stamp
            if self.excerpt.stop is not None and stamp.pts >= self.excerpt.stop:
                break
            if stamp.pts in self.excerpt:
                yield replace(item, stamp=replace(stamp, index=number, pts=self.excerpt.moved(stamp.pts)))
                number += 1
        else:
            self._ended = True
        self._found = number

    def copied_packets(self) -> Iterator[CopiedPacket]:
        """The packets to copy alone: those that overlap the excerpt, moved. Instead of iterating.

        A packet of sound may begin before 0 and end after the last picture; subtitles are cut to the excerpt.
        """
        for copied in self._whole.copied_packets():
            kind = self._kinds[copied.stream]
            if kind == "audio" and self._is_far_behind(copied.packet):
                return
            if self._fits(copied.stream, kind, copied.packet):
                early = kind == "audio" and self.excerpt.zero is not None and (copied.packet.pts or 0) < 0
                yield replace(copied, early=early)

    def _is_far_behind(self, packet: Packet[Any]) -> bool:
        until, tick = self.excerpt.until, fraction(packet.time_base)
        return until is not None and tick is not None and (packet.pts or 0) * tick > until + _INTERLEAVED_S

    def _fits(self, stream: int, kind: str, packet: Packet[Any]) -> bool:
        """Move a packet to its place in the output. False if it lies outside."""
        tick = fraction(packet.time_base)
        moment = packet.pts if packet.pts is not None else packet.dts
        if kind in ("cover", "attachment") or tick is None:
            return True
        if moment is None:  # it belongs to the packet before
            return self._inside.get(stream, False)
        zero, until = self.excerpt.zero_s, self.excerpt.until
        begin, end = moment * tick, (moment + (packet.duration or 0)) * tick
        inside = (zero is None or begin >= zero or end > zero) and (until is None or begin < until)
        self._inside[stream] = inside
        if inside and kind == "subtitle":
            _cut(packet, tick, begin if zero is None else max(begin, zero), end if until is None else min(end, until))
        if inside and zero is not None:
            moved(packet, -zero)
        return inside

    def close(self) -> None:
        """Release the file. If another thread is still reading, the file stays open until that thread is done."""
        with suppress(ValueError):  # "generator already executing"
            self._iterator.close()
        if self._range is not None:
            self._range.close()
        self._whole.close()

    def __enter__(self) -> TrimmedVideo:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class TrimmedWithCopies(SourceView):
    """A `TrimmedVideo` with the packets to copy between its pictures, from a second reading of the file.

    Closing it leaves the `TrimmedVideo` open.
    """

    def __init__(self, source: TrimmedVideo) -> None:
        super().__init__(source)
        self._again = reopen(source.info, source.excerpt)

    def __iter__(self) -> Iterator[Item]:
        packets = self._again.copied_packets()
        ahead = next(packets, None)
        for item in self.source:
            moment = item.stamp.pts * item.stamp.time_base if isinstance(item, Picture) else None
            while ahead is not None and moment is not None and _moment(ahead.packet) <= moment:
                yield ahead
                ahead = next(packets, None)
            yield item
        if ahead is not None:
            yield ahead
        yield from packets

    def close(self) -> None:
        self._again.close()


def _moment(packet: Packet[Any]) -> Fraction:
    """When a packet is decoded, in seconds; 0 if it has no time."""
    ticks = packet.dts if packet.dts is not None else packet.pts
    return (ticks or 0) * (fraction(packet.time_base) or Fraction(0))


def open_trimmed(
    path: Path, trim: Trim, gpu: int | None = None, options: SourceOptions | None = None, *, surfaces: bool = False
) -> VideoSource | TrimmedVideo:
    """Open a part of a video, and find its frames.

    gpu, surfaces: as in `open_video`; frames behind a key frame in the middle are decoded in software.
    Raises `MediaError` if the file is no video, `MisuseError` if it has no frames in that part or is a pipe.
    """
    if is_input_pipe(path) and not trim.is_whole:
        raise MisuseError(
            "--start, --duration and --frames need a file, but the input is a pipe: cut the video before, e.g. "
            "ffmpeg -ss 1:30 -i old.mkv -t 10 -f nut -c:v rawvideo - | swiftvr-run - new.mkv"
        )
    opened = open_video(path, gpu, options, surfaces=surfaces)
    try:
        if trim.is_whole:
            return VideoSource(opened)
        index = index_video(opened.info)
        clock = Clock(opened.info.time_base, opened.decoder.start - opened.decoder.begin)
        stamps = _decoded(opened.info, trim, clock) if isinstance(index, str) else index.stamps
        return TrimmedVideo(opened, find_excerpt(trim, stamps, clock, path), index)
    except BaseException:
        opened.decoder.close()
        raise


def reopen(info: SourceInfo, excerpt: Excerpt | None, gpu: int | None = None) -> VideoSource | TrimmedVideo:
    """Open the video with this `info` again, or an excerpt of it that was found before, to be read in order."""
    opened = open_video(info.path, gpu, info.reading)
    return VideoSource(opened) if excerpt is None else TrimmedVideo(opened, excerpt)


def _decoded(info: SourceInfo, trim: Trim, clock: Clock) -> list[tuple[int, int]]:
    """The stamps of a video without an index, as far as they are needed."""
    source = VideoSource(open_video(info.path, options=info.reading))
    with closing(source):
        return needed_stamps(trim, source.stamps(), clock)


def _cut(packet: Packet[Any], tick: Fraction, begin: Fraction, end: Fraction) -> None:
    """Make a packet last from `begin` to `end`, in seconds."""
    packet.pts = packet.dts = round(begin / tick)
    packet.duration = max(round(end / tick) - round(begin / tick), 0)
