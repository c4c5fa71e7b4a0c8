"""Streams without their connection: what a muxer has to know of them, as bytes that another process can read.

A stream of FFmpeg dies with the file that it belongs to. So its parameters are written into the header of a file in
memory, which is opened again: there, or in the process that sends the packets.
"""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Any

from ....errors import MediaError
from ...media.base import CopiedStream, Template
from ...media.ffmpeg_log import ffmpeg_errors
from ...media.muxer import open_muxer
from ...media.pyav import fraction

if TYPE_CHECKING:
    from av.packet import Packet


VIDEO_STREAM = 0
"""The number of the video in every output."""

_CARRIERS = ("nut", "matroska", "mov", "mpegts")
"""Containers that may hold a stream. None holds all: NUT makes AC-3 of E-AC-3, and Matroska refuses AAC without a
description.
"""
_OF_WAV = "matroska"
"""The carrier of sound that PyAV refuses there: Matroska stores what WAV files say of it, such as how long its blocks
are, without which ADPCM and WMA cannot be decoded.
"""


def header_of(streams: Sequence[Any]) -> bytes:
    """What `open_header` needs to know of these streams. Raises `MediaError` if no container holds one of them."""
    return json.dumps([base64.b64encode(_carried(stream)).decode() for stream in streams]).encode()


def open_header(header: bytes) -> list[Any]:
    """The streams of such a header. Each keeps its container alive."""
    return [_opened(base64.b64decode(each)) for each in json.loads(header)]


def _carried(stream: Any) -> bytes:
    """A file with this stream, and a packet that means nothing."""
    import av

    name = stream.codec_context.codec.canonical_name
    carriers = [(each, False) for each in _CARRIERS]
    for carrier, passed_on in [(_OF_WAV, True), *carriers] if _is_of_wav(stream) else carriers:
        try:
            with ffmpeg_errors():
                data = _written(stream, carrier, passed_on=passed_on)
                if _opened(data).codec_context.codec.canonical_name == name:
                    return data
        except (av.FFmpegError, ValueError, IndexError):
            continue
    raise MediaError(f"no container in memory holds {name}")


def _is_of_wav(stream: Any) -> bool:
    """Whether a stream is sound that Matroska holds as WAV files do."""
    if stream.type != "audio":
        return False
    with open_muxer(io.BytesIO(), _OF_WAV) as trial:
        try:
            trial.add_stream_from_template(stream, opaque=True)
        except ValueError:
            return True
    return False


class _Memory(io.BytesIO):
    """Stays readable: `tee` closes what it has written."""

    def close(self) -> None: ...


def _written(stream: Any, carrier: str, *, passed_on: bool) -> bytes:
    from av.packet import Packet

    memory = _Memory()
    with open_muxer(memory, carrier, passed_on=passed_on) as container:
        packet: Packet[Any] = Packet(b"\0")
        packet.stream = container.add_stream_from_template(stream, opaque=True)
        packet.pts, packet.dts, packet.time_base, packet.is_keyframe = 0, 0, Fraction(1, 1000), True
        container.mux(packet)
    return memory.getvalue()


def _opened(data: bytes) -> Any:
    import av

    with ffmpeg_errors():  # the packet that means nothing is no picture
        return av.open(io.BytesIO(data), "r").streams[0]


@dataclass(frozen=True)
class FrozenSound(CopiedStream):
    """A stream of sound that outlives its connection. profile: of its codec, which the template does not know."""

    profile: str | None = None

    @classmethod
    def of(cls, stream: Any) -> FrozenSound:
        """A copy. Raises `MediaError` if there can be none."""
        context = stream.codec_context
        if context is None:
            raise MediaError("this FFmpeg does not know its codec")
        (template,) = open_header(header_of([stream]))
        name = str(context.codec.canonical_name)
        return cls(stream.index, "audio", name, Template(template), profile=context.profile)


def is_same_sound(one: Any, other: Any) -> bool:
    """Whether packets of one stream may follow those of another."""
    first, second = one.codec_context, other.codec_context
    if first is None or second is None:
        return False
    return bool(
        first.codec.canonical_name == second.codec.canonical_name
        and first.sample_rate == second.sample_rate
        and first.layout.nb_channels == second.layout.nb_channels
        and bool(first.extradata) == bool(second.extradata)
    )


@dataclass(frozen=True)
class PlainPacket:
    """A packet as plain data. stream: its number in the output. Times in ticks of `clock` seconds."""

    stream: int
    data: bytes
    pts: int
    dts: int
    duration: int
    clock: Fraction
    key: bool = True

    @classmethod
    def of(cls, packet: Packet[Any], stream: int) -> PlainPacket:
        """The content of a packet that has a time stamp."""
        pts = packet.pts if packet.pts is not None else packet.dts or 0
        dts = packet.dts if packet.dts is not None else pts
        clock = fraction(packet.time_base) or Fraction(1, 90000)
        return cls(stream, bytes(packet), pts, dts, packet.duration or 0, clock, packet.is_keyframe)

    def to_plain(self) -> list[Any]:
        """As JSON values."""
        data = base64.b64encode(self.data).decode()
        clock = [self.clock.numerator, self.clock.denominator]
        return [self.stream, data, self.pts, self.dts, self.duration, *clock, self.key]

    @classmethod
    def from_plain(cls, plain: Sequence[Any]) -> PlainPacket:
        """The inverse of `to_plain`."""
        stream, data, pts, dts, duration, over, under, key = plain
        return cls(stream, base64.b64decode(data), pts, dts, duration, Fraction(over, under), key)

    def packet(self, stream: Any) -> Packet[Any]:
        """A packet for a stream of the output."""
        from av.packet import Packet

        packet: Packet[Any] = Packet(self.data)
        packet.stream, packet.time_base = stream, self.clock
        packet.pts, packet.dts, packet.duration = self.pts, self.dts, self.duration
        packet.is_keyframe = self.key
        return packet
