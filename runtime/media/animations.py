"""Joins pictures of an animated GIF or PNG that several encoders made: each begins like a file of its own."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Iterator

_GIF = (b"GIF87a", b"GIF89a")
_GIF_HEAD = 13
"""Bytes before the palette."""

_HEAD = struct.Struct(">I4s")
_NUMBER = struct.Struct(">I")


def joiner_for(container: str) -> Callable[[bytes], bytes]:
    """What makes a picture, as an encoder gave it, one that follows the pictures before. container: FFmpeg's name."""
    if container == "apng":
        return _ChunkNumbers().joined
    return _OneHeader().joined if container == "gif" else bytes


class _OneHeader:
    """Leaves out the header of a GIF before all pictures but the first. Its palette is always the same."""

    def __init__(self) -> None:
        self._first = True

    def joined(self, picture: bytes) -> bytes:
        first, self._first = self._first, False
        return picture if first or not picture.startswith(_GIF) else picture[_gif_header(picture) :]


def _gif_header(picture: bytes) -> int:
    """How long the header is."""
    fields = picture[10]
    return _GIF_HEAD + (3 << (fields & 7) + 1 if fields & 0x80 else 0)


class _ChunkNumbers:
    """Numbers the chunks of pictures that come one after another, from 0.

    Only the first picture of a file lies in chunks that are not numbered, and an encoder takes its first for that one.
    """

    def __init__(self) -> None:
        self._next, self._first = 0, True

    def joined(self, picture: bytes) -> bytes:
        """A picture with the numbers that its chunks have in the file."""
        joined = b"".join(self._chunk(kind, body) for kind, body in _chunks(picture))
        self._first = False
        return joined

    def _chunk(self, kind: bytes, body: bytes) -> bytes:
        if kind == b"IDAT" and not self._first:
            kind, body = b"fdAT", self._number() + body
        elif kind in (b"fcTL", b"fdAT"):
            body = self._number() + body[_NUMBER.size :]
        checked = kind + body
        return _NUMBER.pack(len(body)) + checked + _NUMBER.pack(zlib.crc32(checked))

    def _number(self) -> bytes:
        self._next += 1
        return _NUMBER.pack(self._next - 1)


def _chunks(picture: bytes) -> Iterator[tuple[bytes, bytes]]:
    """The type and the content of each chunk."""
    place = 0
    while place < len(picture):
        size, kind = _HEAD.unpack_from(picture, place)
        begin = place + _HEAD.size
        yield kind, picture[begin : begin + size]
        place = begin + size + _NUMBER.size  # a checksum follows
