"""Joins finished pieces and the copied streams of the input into the output, without encoding anything again."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from fractions import Fraction

from ....errors import UnreadableInputError
from ...media import CopiedPacket
from ...media.picture_encoder import EncodedPicture
from ...media.trimmed import TrimmedVideo
from ...media.video_in import VideoSource
from ...media.video_out import VideoSink
from .store import Store


def join_pieces(store: Store, source: VideoSource | TrimmedVideo, sink: VideoSink, keep_going: bool = False) -> None:
    """Write all pieces into `sink`, and between them the packets to copy; then commit it.

    source: the input, opened anew. keep_going: do without the packets that cannot be read. Packets of both kinds come
    in the order of their decoding times, as muxers like it.
    """
    pictures = _pictures(store)
    ahead = next(pictures, None)
    packets = source.copied_packets()
    for copied in _as_far_as_readable(packets) if keep_going else packets:
        moment = _moment(copied)
        while ahead is not None and moment is not None and ahead[0].dts * ahead[1] <= moment:
            sink.write_encoded(*ahead)
            ahead = next(pictures, None)
        sink.write(copied)
    while ahead is not None:
        sink.write_encoded(*ahead)
        ahead = next(pictures, None)
    sink.commit()


def last_shown_s(store: Store) -> Fraction:
    """How long the last picture of all is shown, in seconds."""
    piece = max(store.marks)
    last = max(store.packets(piece), key=lambda packet: packet.pts)
    return last.duration * Fraction(store.marks[piece].time_base)


def _as_far_as_readable(packets: Iterator[CopiedPacket]) -> Iterator[CopiedPacket]:
    with suppress(UnreadableInputError):
        yield from packets


def _pictures(store: Store) -> Iterator[tuple[EncodedPicture, Fraction]]:
    """The packets of all pieces, and their time base. Decoding times advance across the borders of pieces, too.

    An encoder begins with decoding times before its first picture is shown, and with uneven time stamps these may lie
    before the last one of the piece before.
    """
    last: int | None = None
    for piece in sorted(store.marks):
        time_base = Fraction(store.marks[piece].time_base)
        for packet in store.packets(piece):
            dts = packet.dts if last is None else max(packet.dts, last + 1)
            last = dts
            yield (packet if dts == packet.dts else replace(packet, dts=dts)), time_base


def _moment(copied: CopiedPacket) -> Fraction | None:
    """The decoding time of a packet in seconds; None if it has none."""
    packet = copied.packet
    ticks = packet.dts if packet.dts is not None else packet.pts
    if ticks is None or not packet.time_base:
        return None
    return Fraction(ticks) * Fraction(packet.time_base.numerator, packet.time_base.denominator)
