"""Encodes pictures with an open encoder, and hands encoded pictures on as plain data."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Any, Literal, cast

from ...text import counted
from .base import Picture
from .captions import holds_captions, with_captions
from .encoder import Encoding
from .planes import FrameWriter
from .timeline import ClockConverter

if TYPE_CHECKING:
    from av.packet import Packet, PacketSideData
    from av.video.stream import VideoStream


_ALPHA: Literal["matroska_block_additional"] = "matroska_block_additional"
"""What FFmpeg calls the transparency beside a packet."""


@dataclass(frozen=True)
class EncodedPicture:
    """One packet of an encoder. pts, dts, duration: in ticks of the encoder's clock.

    alpha: transparency, which VP8 and VP9 encode apart; empty if there is none.
    """

    data: bytes
    pts: int
    dts: int
    duration: int
    key: bool
    alpha: bytes = b""

    @classmethod
    def of(cls, packet: Packet[Any]) -> EncodedPicture:
        """The content of a packet as the encoder gave it."""
        pts = 0 if packet.pts is None else packet.pts
        dts = pts if packet.dts is None else packet.dts
        alpha = bytes(packet.get_sidedata(_ALPHA)) if packet.has_sidedata(_ALPHA) else b""
        return cls(bytes(packet), pts, dts, packet.duration or 0, packet.is_keyframe, alpha)

    def packet(self, stream: VideoStream, time_base: Fraction) -> Packet[Any]:
        """A packet to be muxed into `stream`. time_base: seconds per tick."""
        from av.packet import Packet

        packet: Packet[Any] = Packet(self.data)
        packet.stream, packet.time_base = stream, time_base
        packet.pts, packet.dts, packet.duration = self.pts, self.dts, self.duration
        packet.is_keyframe = self.key
        if self.alpha:
            packet.set_sidedata(_side_data(self.alpha))
        return packet


def _side_data(alpha: bytes) -> PacketSideData:
    from av import packet as packets

    new, numbered = cast(Any, packets.PacketSideData), cast(Any, packets.packet_sidedata_type_from_literal)
    made: PacketSideData = new(numbered(_ALPHA), len(alpha))
    made.update(alpha)
    return made


class PictureEncoder:
    """Encodes pictures of one size. count: pictures so far. codec: FFmpeg's name of the encoder.

    lost_captions: pictures whose closed captions have no place in the video. lost_side_data: what else is lost of what
    was attached to pictures, in words.
    """

    def __init__(self, encoding: Encoding, width: int, height: int, clock: ClockConverter | None = None) -> None:
        """clock: converts stamps to the encoder's ticks, and has seen the pictures before the first one."""
        self.encoding, self.count = encoding, 0
        self.clock = clock or ClockConverter(encoding.time_base)
        self._width, self._height = width, height
        self._writer = FrameWriter(encoding.pix_fmt, encoding.colour)
        self._captions: dict[int, bytes] = {}
        self.codec = str(encoding.stream.codec_context.name)
        self.lost_captions = 0
        self._durations: dict[int, int] = {}
        self.lost_side_data: set[str] = set()

    @property
    def description(self) -> str:
        """One line for people."""
        return f"{self.encoding.stream.codec_context.name} {self.encoding.pix_fmt} {self._width}x{self._height}"

    def encode(self, picture: Picture) -> list[Packet[Any]]:
        """The packets that are complete with this picture."""
        encoding, stamp = self.encoding, picture.stamp
        frame = self._writer.frame(picture, self._width, self._height)
        frame.time_base = encoding.time_base
        frame.pts, frame.duration = self.clock(stamp.pts, stamp.duration, stamp.time_base)
        self.lost_side_data |= stamp.lost
        if stamp.captions is not None:
            if holds_captions(self.codec):
                self._captions[frame.pts] = stamp.captions
            else:
                self.lost_captions += 1
        self._durations[frame.pts] = frame.duration
        packets = encoding.stream.encode(frame)
        self.count += 1
        return self._completed(packets)

    def finish(self) -> list[Packet[Any]]:
        """The packets that the encoder still holds after the last picture."""
        return self._completed(self.encoding.finish(self.count)) if self.count else []

    def _completed(self, packets: list[Packet[Any]]) -> list[Packet[Any]]:
        """The packets with the durations and the captions of their pictures: encoders give all the same duration."""
        for packet in packets:
            if packet.pts in self._durations:
                packet.duration = self._durations.pop(packet.pts)
        return [
            self._with(packet, self._captions.pop(packet.pts)) if packet.pts in self._captions else packet
            for packet in packets
        ]

    def _with(self, packet: Packet[Any], captions: bytes) -> Packet[Any]:
        from av.packet import Packet

        changed: Packet[Any] = Packet(with_captions(bytes(packet), captions, self.codec))
        changed.stream, changed.time_base = packet.stream, packet.time_base
        changed.pts, changed.dts, changed.duration = packet.pts, packet.dts, packet.duration
        changed.is_keyframe = packet.is_keyframe
        return changed


def about_captions(count: int, codec: str) -> tuple[str, ...]:
    """The line about frames whose captions are lost; none if there are none."""
    if not count:
        return ()
    return (f"the closed captions of {counted(count, 'frame')} are lost: {no_captions(codec)}",)


def no_captions(codec: str) -> str:
    """Why captions are lost."""
    return f"{codec} video holds none, but libx264 does"
