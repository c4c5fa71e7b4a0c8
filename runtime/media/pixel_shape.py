"""Writes the shape of pixels into headers where PyAV cannot: it has no name for FFmpeg's field that these muxers read.

What FFmpeg writes at first holds the header. It is mended on its way into the file or the pipe.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from fractions import Fraction
from typing import Any

_Y4M_SHAPE = re.compile(rb"\AYUV4MPEG2 [^\n]*?(?<= A)0:0(?=[ \n])")

_NUT_STREAM = bytes.fromhex("4e5311405bf2f9db")
"""How the header of a stream begins in NUT."""

_NUT_VIDEO = 0
_BIT = 7
_ONE_BYTE = (1 << _BIT) - 1
_CRC_BITS, _CRC_SIZE, _POLYNOMIAL = 32, 4, 0x04C11DB7


class ShapedFile:
    """Passes everything on to `file`, and mends the first bytes that are written to it.

    It can seek if the file can. PyAV asks whether it is closed.
    """

    def __init__(self, file: Any, mend: Callable[[bytes], bytes]) -> None:
        self._file, self._mend = file, mend
        for name in ("seek", "tell"):
            if hasattr(file, name):
                setattr(self, name, getattr(file, name))

    @property
    def closed(self) -> bool:
        return bool(self._file.closed)

    def write(self, data: bytes) -> int:
        """Write all of it. Returns how much FFmpeg gave, which may be less than what was written."""
        mend, self._mend = self._mend, bytes
        self._file.write(mend(data))
        return len(data)


def shaped(file: Any, format_name: str, aspect: Fraction | None) -> Any:
    """`file`, or what stands before it so that its header says the shape of pixels. aspect: width by height of one."""
    mend = {"yuv4mpegpipe": shape_y4m, "nut": shape_nut}.get(format_name)
    if mend is None or aspect is None:
        return file
    return ShapedFile(file, lambda header: mend(header, aspect))


def shape_y4m(header: bytes, aspect: Fraction) -> bytes:
    """The beginning of a YUV4MPEG2 stream with this shape in place of an unknown one."""
    found = _Y4M_SHAPE.match(header)
    if found is None:
        return header
    return header[: found.end() - len("0:0")] + b"%d:%d" % aspect.as_integer_ratio() + header[found.end() :]


def shape_nut(header: bytes, aspect: Fraction) -> bytes:
    """The beginning of a NUT stream with this shape of its first video, in place of an unknown one.

    It stays as long, since NUT stores distances: each number has one byte, as FFmpeg wrote it. That moves an edge by
    less than a pixel. FFmpeg repeats its headers later, for readers that missed the first; those stay as they are.
    """
    for start, end in _nut_streams(header):
        fields = header[start:end]
        place = _nut_shape(fields)
        if place is not None:
            fields = fields[:place] + bytes(_short(aspect).as_integer_ratio()) + fields[place + 2 :]
            return header[:start] + fields + _nut_checksum(fields) + header[end + _CRC_SIZE :]
    return header


def _short(aspect: Fraction) -> Fraction:
    """The nearest ratio of two numbers that fit into a byte of NUT."""
    within = min(max(aspect, Fraction(1, _ONE_BYTE)), Fraction(_ONE_BYTE))
    return within.limit_denominator(_ONE_BYTE) if within <= 1 else 1 / (1 / within).limit_denominator(_ONE_BYTE)


def _nut_streams(header: bytes) -> Iterator[tuple[int, int]]:
    """Where the fields of each stream's header begin and end, of those that are whole."""
    at = header.find(_NUT_STREAM)
    while at >= 0:
        try:
            size, start = _number(header, at + len(_NUT_STREAM))
        except IndexError:
            return
        end = start + size - _CRC_SIZE
        if start < end and header[end : end + _CRC_SIZE] == _nut_checksum(header[start:end]):
            yield start, end
        at = header.find(_NUT_STREAM, at + 1)


def _nut_shape(fields: bytes) -> int | None:
    """Where a stream's header holds the width and height of a pixel; None if it is no video, or they are known."""
    try:
        _, at = _number(fields, 0)
        kind, at = _number(fields, at)
        at = _after_bytes(fields, at)  # codec
        for _ in ("time base", "shift of time stamps", "largest distance of them", "delay", "flags"):
            _, at = _number(fields, at)
        at = _after_bytes(fields, at)  # what the decoder needs
        for _ in ("width", "height"):
            _, at = _number(fields, at)
    except IndexError:
        return None
    return at if kind == _NUT_VIDEO and fields[at : at + 2] == bytes(2) else None


def _after_bytes(data: bytes, at: int) -> int:
    size, at = _number(data, at)
    return at + size


def _number(data: bytes, at: int) -> tuple[int, int]:
    """A number of NUT, 7 bits per byte, and where the next field begins. Raises `IndexError` past the end."""
    value = 0
    while True:
        value = value << _BIT | data[at] & _ONE_BYTE
        at += 1
        if data[at - 1] <= _ONE_BYTE:
            return value, at


def _nut_checksum(data: bytes) -> bytes:
    """CRC-32, the highest bit first, from 0."""
    value = int.from_bytes(data) << _CRC_BITS
    for bit in range(value.bit_length() - 1, _CRC_BITS - 1, -1):
        if value >> bit & 1:
            value ^= (1 << _CRC_BITS | _POLYNOMIAL) << bit - _CRC_BITS
    return value.to_bytes(_CRC_SIZE)
