"""A video file as a source: upright pictures, and between them the packets to copy."""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Iterator
from contextlib import suppress
from fractions import Fraction
from itertools import chain
from types import TracebackType
from typing import TYPE_CHECKING, Any

from ...text import counted
from . import colour
from .alpha import lost_alpha
from .base import CopiedPacket, Item, Picture, Stamp
from .decoder import DECODING_ORDER
from .file_clock import moved
from .filters import FrameFilter
from .fitting import Fitter
from .holes import Hole
from .kept import lost_side_data
from .planes import FrameReader
from .probe import OpenedVideo
from .side_data import side_data
from .surfaces import Residence, is_on_gpu, kind_of, on_host, surface_of
from .timeline import Timeline
from .tonemap import lost_dynamics

if TYPE_CHECKING:
    from av.packet import Packet
    from av.video.frame import VideoFrame


class VideoSource:
    """The pictures of an open video, and the packets between them. Closing the source closes the video.

    See `base.Source`. residence: where its frames lie. Iterating raises `MediaError` if the disk fails.
    """

    excerpt: None = None
    """All of the video; see `trimmed.TrimmedVideo` for a part."""

    def __init__(self, opened: OpenedVideo) -> None:
        self.info = opened.info
        self._decoder = opened.decoder
        self._given, self._chain = opened.given, opened.filters
        self._timeline = Timeline(self._given.time_base, self._given.rate, self._decoder.begin)
        self._filter: FrameFilter | None = None
        self._filtered_timeline = Timeline(self.info.time_base, self.info.rate)
        self._fitter = Fitter((opened.first.width, opened.first.height), self._given.aspect)
        upright = self._chain is not None and self._chain.upright
        self._filtered_fitter = Fitter((self.info.width, self.info.height), None) if upright else None
        self._shapes: dict[Fraction, int] = {}
        self._reader = FrameReader(self.info.form, opened.siting)
        self.residence = _residence(opened)
        self._kind, self._keeps = kind_of(opened.first), False
        self._count = self._decoded = 0
        self._lead: int | None = None
        self._late_notes: tuple[str, ...] = ()
        self._transfer, self._lost_dynamics = int(opened.first.color_trc), frozenset[str]()
        self._ahead: deque[VideoFrame | Packet[Any]] = deque((*opened.packets, opened.first, *opened.ahead))
        self._iterator = self._items()

    def keep_on_gpu(self) -> None:
        """Give frames as surfaces from now on, if they are like the first one; those that are not, as planes.

        Call it before the first picture is read, if `residence` allows that.
        """
        self._keeps = True

    @property
    def notes(self) -> tuple[str, ...]:
        """What the user should know about this file. Complete after the last picture."""
        return (*self.info.notes, *self._late_notes)

    @property
    def damage(self) -> tuple[str, ...]:
        """What is damaged in this file. Valid after the last picture."""
        return self._decoder.damage

    @property
    def shortfall(self) -> str | None:
        """What the file promised but did not contain. Valid after the last picture."""
        return self._decoder.shortfall

    @property
    def broken_promise(self) -> str | None:
        """The same without `holes`."""
        return self._decoder.broken_promise

    @property
    def lost(self) -> int:
        """Pictures that could not be decoded so far; damaged ones may be among them until the last picture."""
        return self._decoder.reading.lost

    @property
    def holes(self) -> tuple[Hole, ...]:
        """Where frames are missing in the middle, on the clock of the pictures. Valid after the last picture."""
        return self._decoder.holes

    def __iter__(self) -> Iterator[Item]:
        return self._iterator

    def _items(self) -> Generator[Item, None, None]:
        while self._ahead:
            yield from self._items_of(self._ahead.popleft())
        for items in map(self._items_of, self._decoder):  # keeps no frame while the next one is decoded
            yield from items
        if self._filter is not None:
            yield from map(self._picture, self._filter.feed(None))
        self._late_notes = (*self._decoder.damage, *self._repairs())

    def copied_packets(self) -> Iterator[CopiedPacket]:
        """The packets to copy alone, without decoding the video. Instead of iterating."""
        from av.packet import Packet

        self._decoder.skip_video()
        for found in chain(self._ahead, self._decoder):
            if isinstance(found, Packet):
                yield self._copied(found)

    def stamps(self) -> Iterator[tuple[int, int]]:
        """The time stamp and the duration of each picture alone, from decoding the video. Instead of iterating."""
        from av.packet import Packet

        for found in chain(self._ahead, self._decoder):
            if not isinstance(found, Packet):
                yield from map(self._stamp, self._frames_of(found))
        if self._filter is not None:
            yield from map(self._stamp, self._filter.feed(None))

    def _items_of(self, found: VideoFrame | Packet[Any]) -> Iterator[Item]:
        from av.packet import Packet

        if isinstance(found, Packet):
            return iter((self._copied(found),))
        return map(self._picture, self._frames_of(found))

    def _frames_of(self, frame: VideoFrame) -> Iterator[VideoFrame]:
        """The frames to restore that are complete with a decoded one: itself, or what the filters give."""
        length = self._decoder.lengths.of(frame.pts, frame.duration or 0, self._timeline.step)
        pts, duration = self._timeline.place(self._moment(frame), length)
        aspect = self._decoder.pixel_aspect
        self._lost_dynamics |= lost_dynamics(frame, self._transfer)
        if not self._keeps or kind_of(frame) != self._kind:
            frame = on_host(frame)
        frame = self._fitter.fit(frame, self._decoded, aspect)
        self._shapes.setdefault(aspect or Fraction(1), self._decoded)
        self._decoded += 1
        frame.pts, frame.duration = pts, duration
        if self._chain is None:
            return iter((frame,))
        if self._filter is None:
            self._filter = FrameFilter(self._chain, self._given, frame)
        return self._filter.feed(frame)

    def _stamp(self, frame: VideoFrame) -> tuple[int, int]:
        """The time stamp and the duration of a frame to restore."""
        if self._chain is None:
            assert frame.pts is not None
            return frame.pts, frame.duration
        return self._filtered_timeline.place(frame.pts, frame.duration)

    def _copied(self, packet: Packet[Any]) -> CopiedPacket:
        moved(packet, -self._decoder.begin)
        return CopiedPacket(packet.stream_index, packet)

    def _picture(self, frame: VideoFrame) -> Picture:
        index = self._count
        self._count += 1
        pts, duration = self._stamp(frame)
        if self._filtered_fitter is not None:  # filters of the user may change the size in the middle, too
            frame = self._filtered_fitter.fit(frame, index, None)
        attached = side_data(frame)
        matrix = None if self._chain is not None and self._chain.upright else colour.matrix_of(attached)
        captions, reading = attached.get("A53_CC"), self.info.reading
        lost = lost_side_data(attached, self.info.notes) | lost_alpha(frame, reading.alpha, kept=self.info.alpha)
        lost |= self._lost_dynamics
        alpha = self._reader.alpha(frame, matrix) if self.info.alpha else None
        stamp = Stamp(index, pts, duration, self.info.time_base, captions=captions, lost=lost, alpha=alpha)
        if is_on_gpu(frame) and matrix is None:
            return Picture(surface_of(frame, self.info.form), stamp)
        return Picture(self._reader.read(on_host(frame), matrix), stamp)

    def _moment(self, frame: VideoFrame) -> int | None:
        """When the frame is shown, in ticks; None if unknown.

        In AVI that is the decoding time. If frames are reordered, it is shifted to begin with the first `pts`, because
        FFmpeg only guesses the others.
        """
        if self._decoder.container.format.name not in DECODING_ORDER:
            return frame.pts
        if frame.dts is None:  # the last frames, after the last packet: each one step after the frame before
            return None if self._decoded > 1 else frame.pts
        if self._lead is None:
            self._lead = 0 if frame.pts is None or self._decoder.in_order else frame.dts - frame.pts
        return frame.dts - self._lead

    def _repairs(self) -> Iterator[str]:
        yield from self._fitter.notes
        yield from (f"after --vf, {note}" for note in (self._filtered_fitter.notes if self._filtered_fitter else ()))
        (first, _), *others = self._shapes.items()
        for aspect, number in () if self._fitter.notes else others:
            yield (
                f"from frame {number} on, pixels are {aspect.numerator}:{aspect.denominator} instead of "
                f"{first.numerator}:{first.denominator} wide, as between 4:3 and 16:9: the output keeps the first shape"
            )
        if self._decoder.jumped:
            times = counted(self._decoder.jumped, "time")
            yield f"the clock of the input jumps {times}, as in joined recordings: the output plays on without a gap"
        if self._timeline.repaired:
            moved = "time stamp did not advance and was moved", "time stamps did not advance and were moved"
            yield counted(self._timeline.repaired, *moved)

    def close(self) -> None:
        """Release the file. If another thread is still reading, the file stays open until that thread is done."""
        with suppress(ValueError):  # "generator already executing"
            self._iterator.close()
            self._ahead.clear()
            self._decoder.close()

    def __enter__(self) -> VideoSource:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _residence(opened: OpenedVideo) -> Residence:
    """Where the frames of a video lie, as far as its first one shows."""
    info, on_gpu = opened.info, is_on_gpu(opened.first)
    turned = on_gpu and colour.display_matrix(opened.first) is not None
    return Residence(on_gpu, opened.filters is not None, turned, info.alpha, info.form)
