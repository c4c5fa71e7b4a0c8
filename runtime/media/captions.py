"""Closed captions (CEA-608 and 708), which travel inside the video: puts them into packets that were encoded anew.

FFmpeg hands them over with each decoded frame, as three bytes per character pair (ATSC A/53). PyAV cannot attach them
to a frame for an encoder, so they are put in front of the encoded picture, in the form that its format has for them.
"""

from __future__ import annotations

import re
from collections.abc import Callable

_ATSC = b"\xb5\x00\x31"
"""The country and the provider of what follows, as ITU-T T.35 numbers them."""

_START = re.compile(rb"\x00?\x00\x00\x01")
_MAX_PAIRS = 31


def holds_captions(encoder: str) -> bool:
    """Whether the video of this encoder has a place for captions."""
    return _format_of(encoder) is not None


def with_captions(packet: bytes, captions: bytes, encoder: str) -> bytes:
    """The packet of one picture with its captions. Unchanged if the format has no place for them."""
    insert = _format_of(encoder)
    return packet if insert is None else insert(packet, _user_data(captions))


def _format_of(encoder: str) -> Callable[[bytes, bytes], bytes] | None:
    for name, insert in _FORMATS.items():
        if name in encoder:
            return insert
    return None


def _user_data(captions: bytes) -> bytes:
    """Captions as A/53 wraps them: a mark, their number, and the bytes that it reserves."""
    count = min(len(captions) // 3, _MAX_PAIRS)
    return b"GA94\x03" + bytes((0x40 | count, 0xFF)) + captions[: 3 * count] + b"\xff"


def _into_h264(packet: bytes, data: bytes) -> bytes:
    return _before(packet, lambda head: 1 <= head & 0x1F <= 5, b"\x00\x00\x00\x01\x06" + _message(data))


def _into_hevc(packet: bytes, data: bytes) -> bytes:
    return _before(packet, lambda head: head >> 1 & 0x3F < 32, b"\x00\x00\x00\x01\x4e\x01" + _message(data))


def _into_mpeg2(packet: bytes, data: bytes) -> bytes:
    return _before(packet, lambda head: 1 <= head <= 0xAF, b"\x00\x00\x01\xb2" + data)


def _before(packet: bytes, is_picture: Callable[[int], bool], unit: bytes) -> bytes:
    """Put a unit before the first one of the picture itself. is_picture: looks at the byte behind a start code."""
    for found in _START.finditer(packet):
        if found.end() < len(packet) and is_picture(packet[found.end()]):
            return packet[: found.start()] + unit + packet[found.start() :]
    return packet


def _message(data: bytes) -> bytes:
    """A supplemental message (SEI) of H.264 and H.265, without the head of its unit."""
    payload = _ATSC + data
    message = b"\x04" + b"\xff" * (len(payload) // 255) + bytes((len(payload) % 255,)) + payload + b"\x80"
    return re.sub(rb"\x00\x00(?=[\x00-\x03])", b"\x00\x00\x03", message)  # else it would look like a start code


def _into_av1(packet: bytes, data: bytes) -> bytes:
    place = 0
    while place < len(packet):
        head = packet[place]
        kind, size_at = head >> 3 & 0x0F, place + 1 + (head >> 2 & 1)
        if kind not in (1, 2) or not head & 2 or size_at >= len(packet):
            break  # the sequence and the beginning of a picture come first
        size, length = _read_leb128(packet, size_at)
        place = min(size_at + length + size, len(packet))
    payload = b"\x04" + _ATSC + data + b"\x80"
    return packet[:place] + b"\x2a" + _leb128(len(payload)) + payload + packet[place:]


def _leb128(number: int) -> bytes:
    return bytes((number,)) if number < 0x80 else bytes((0x80 | number & 0x7F,)) + _leb128(number >> 7)


def _read_leb128(data: bytes, place: int) -> tuple[int, int]:
    """A number, and how many bytes it takes."""
    number = length = 0
    while place + length < len(data):
        byte = data[place + length]
        number |= (byte & 0x7F) << 7 * length
        length += 1
        if not byte & 0x80:
            break
    return number, length


_FORMATS: dict[str, Callable[[bytes, bytes], bytes]] = {
    "264": _into_h264,
    "265": _into_hevc,
    "hevc": _into_hevc,
    "mpeg2": _into_mpeg2,
    "av1": _into_av1,
}
"""By a part of the names of their encoders."""
