"""A video file as a source: upright RGB pictures, and between them the packets to copy."""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Iterator
from contextlib import suppress
from types import TracebackType
from typing import TYPE_CHECKING, Any

from ...errors import MediaError
from . import colour
from .base import CopiedPacket, Item, Picture, Stamp
from .probe import OpenedVideo
from .timeline import Timeline

if TYPE_CHECKING:
    from av.packet import Packet
    from av.video.frame import VideoFrame

_DECODING_ORDER = frozenset({"avi"})
"""Containers that store when frames are decoded, but not when they are shown; FFmpeg guesses `pts`."""


class VideoSource:
    """The pictures of an open video, and the packets between them. Closing the source closes the video.

    See `base.Source`. Iterating raises `MediaError` if the disk fails or if the frame size changes.
    """

    def __init__(self, opened: OpenedVideo) -> None:
        from av.video.reformatter import VideoReformatter

        self.info = opened.info
        self._decoder = opened.decoder
        self._size = opened.first.width, opened.first.height
        self._timeline = Timeline(self.info.time_base, self.info.rate)
        self._clocks = {copy.index: _PacketClock() for copy in self.info.copies}
        self._reformatter = VideoReformatter()
        self._count = self._concealed = 0
        self._lead: int | None = None
        self._late_notes: tuple[str, ...] = ()
        self._ahead: deque[VideoFrame | Packet[Any]] = deque((*opened.packets, opened.first))
        self._iterator = self._items()

    @property
    def notes(self) -> tuple[str, ...]:
        """What the user should know about this file. Complete after the last picture."""
        return (*self.info.notes, *self._late_notes)

    @property
    def shortfall(self) -> str | None:
        """What the file promised but did not contain. Valid after the last picture."""
        return self._decoder.shortfall

    def __iter__(self) -> Iterator[Item]:
        return self._iterator

    def _items(self) -> Generator[Item, None, None]:
        while self._ahead:
            yield self._item(self._ahead.popleft())
        for found in self._decoder:
            yield self._item(found)
        self._late_notes = (*self._decoder.notes, *self._repairs())

    def _item(self, found: VideoFrame | Packet[Any]) -> Item:
        from av.packet import Packet

        if not isinstance(found, Packet):
            return self._picture(found)
        self._clocks[found.stream_index].correct(found)
        return CopiedPacket(found.stream_index, found)

    def _picture(self, frame: VideoFrame) -> Picture:
        index = self._count
        size = frame.width, frame.height
        if size != self._size:
            raise MediaError(
                f"frame {index} of {self.info.path} is {size[0]}x{size[1]}, expected {self._size[0]}x{self._size[1]} "
                "as before: cut the file there and restore the parts one by one"
            )
        self._count += 1
        self._concealed += frame.is_corrupt
        pts, duration = self._timeline.place(self._moment(frame), frame.duration)
        pixels = colour.upright(colour.to_rgb(frame, self._reformatter), colour.display_matrix(frame))
        return Picture(pixels, Stamp(index, pts, duration, self.info.time_base))

    def _moment(self, frame: VideoFrame) -> int | None:
        """When the frame is shown, in ticks; None if unknown.

        In AVI that is the decoding time, shifted to begin with the first `pts`, because FFmpeg only guesses the others.
        """
        if self._decoder.container.format.name not in _DECODING_ORDER:
            return frame.pts
        if frame.dts is None:  # the last frames, after the last packet: each one step after the frame before
            return None if self._count > 1 else frame.pts
        if self._lead is None:
            self._lead = 0 if frame.pts is None else frame.dts - frame.pts
        return frame.dts - self._lead

    def _repairs(self) -> Iterator[str]:
        if self._concealed:
            yield f"{self._concealed} frames are damaged in the input and were restored as they are"
        if self._timeline.repaired:
            yield f"{self._timeline.repaired} time stamps did not advance and were moved"

    def close(self) -> None:
        """Release the file. If another thread is still reading, the file stays open until that thread is done."""
        with suppress(ValueError):  # "generator already executing"
            self._iterator.close()
            self._decoder.close()

    def __enter__(self) -> VideoSource:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class _PacketClock:
    """Shifts the packets of a copied stream when the clock of the file restarts, so that they continue in time."""

    def __init__(self) -> None:
        self._shift = 0
        self._next: int | None = None

    def correct(self, packet: Packet[Any]) -> None:
        """Shift the time stamps of the next packet, in place."""
        if packet.dts is None:
            return
        if self._next is not None and (packet.dts + self._shift - self._next) * packet.time_base < -1:
            self._shift = self._next - packet.dts
        if self._shift:
            packet.pts = None if packet.pts is None else packet.pts + self._shift
            packet.dts += self._shift
        self._next = packet.dts + (packet.duration or 0)
