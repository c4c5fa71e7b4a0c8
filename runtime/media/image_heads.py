"""What the head of an image file says about it, without decoding: a folder is looked through in moments."""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO

from .photo_tags import EXIF_MARK, orientation_of

_SIDES_SWAPPED = frozenset({5, 6, 7, 8})
"""EXIF orientations of pictures that are stored on their side."""
_JPEG_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
"""Markers of the segments that hold the size."""
_TIFF_WIDTH, _TIFF_HEIGHT, _TIFF_ORIENTATION, _TIFF_EXTRA_SAMPLES = 256, 257, 274, 338
_MOST_EXIF = 1 << 20
_UNSPECIFIED, _TRANSFER_AT = 2, 1
"""The code point of a transfer function that nobody knows, and where a chunk cICP has its own."""


@dataclass(frozen=True)
class Head:
    """width, height: of the upright picture, in pixels. alpha: it may be transparent. transfer: a code point."""

    width: int
    height: int
    alpha: bool = False
    transfer: int = _UNSPECIFIED


def read_head(path: Path) -> Head | None:
    """The head of a PNG, JPEG, WebP, BMP or TIFF image; None if it says too little, or cannot be read."""
    try:
        with path.open("rb") as file:
            head = file.read(32)
            return next((read(file, head) for mark, read in _READERS if head.startswith(mark)), None)
    except (OSError, struct.error, IndexError, ValueError):
        return None


def _turned(width: int, height: int, orientation: int, *, alpha: bool = False) -> Head:
    return Head(*((height, width) if orientation in _SIDES_SWAPPED else (width, height)), alpha)


def _of_png(file: BinaryIO, head: bytes) -> Head:
    width, height = struct.unpack_from(">II", head, 16)
    orientation, place, alpha, transfer = 1, 33, bool(head[25] & 4), _UNSPECIFIED
    while kind := _at(file, place, 8):
        length, name = struct.unpack(">I4s", kind)
        if name == b"eXIf":
            orientation = orientation_of(file.read(min(length, _MOST_EXIF)))
        if name == b"cICP" and length >= _TRANSFER_AT + 1:
            transfer = file.read(_TRANSFER_AT + 1)[_TRANSFER_AT]
        if name == b"IDAT":
            break
        alpha |= name == b"tRNS"
        place += 12 + length
    return replace(_turned(width, height, orientation, alpha=alpha), transfer=transfer)


def _of_jpeg(file: BinaryIO, _head: bytes) -> Head | None:
    orientation, place = 1, 2
    while segment := _at(file, place, 4):
        mark, kind, length = struct.unpack(">BBH", segment)
        if mark != 0xFF or kind == 0xDA or length < 2:
            return None
        if kind in _JPEG_FRAMES:
            height, width = struct.unpack(">HH", file.read(5)[1:])
            return _turned(width, height, orientation)
        if kind == 0xE1 and (content := file.read(length - 2)).startswith(EXIF_MARK):
            orientation = orientation_of(content[len(EXIF_MARK) :])
        place += 2 + length
    return None


def _of_webp(file: BinaryIO, head: bytes) -> Head | None:
    if head[12:16] == b"VP8L":
        (bits,) = struct.unpack_from("<I", head, 21)
        return Head((bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1, bool(bits >> 28 & 1))
    if head[12:16] == b"VP8 ":
        width, height = struct.unpack_from("<HH", head, 26)
        return Head(width & 0x3FFF, height & 0x3FFF)
    if head[12:16] != b"VP8X":
        return None
    orientation, place = 1, 12
    while chunk := _at(file, place, 8):
        kind, length = struct.unpack("<4sI", chunk)
        if kind == b"EXIF":
            orientation = orientation_of(file.read(min(length, _MOST_EXIF)).removeprefix(EXIF_MARK))
        place += 8 + length + length % 2
    width, height = (int.from_bytes(head[at : at + 3], "little") + 1 for at in (24, 27))
    return _turned(width, height, orientation, alpha=bool(head[20] & 0x10))


def _of_bmp(_file: BinaryIO, head: bytes) -> Head:
    (length,) = struct.unpack_from("<I", head, 14)
    if length == 12:
        return Head(*struct.unpack_from("<HH", head, 18))
    width, height, _, bits = struct.unpack_from("<iiHH", head, 18)
    return Head(width, abs(height), bits == 32)


def _of_tiff(file: BinaryIO, head: bytes) -> Head | None:
    order = ">" if head[:2] == b"MM" else "<"
    (place,) = struct.unpack_from(order + "I", head, 4)
    (count,) = struct.unpack(order + "H", _at(file, place, 2))
    found: dict[int, int] = {}
    for entry in range(count):
        data = _at(file, place + 2 + 12 * entry, 12)
        tag, kind = struct.unpack_from(order + "HH", data)
        if tag in (_TIFF_WIDTH, _TIFF_HEIGHT, _TIFF_ORIENTATION, _TIFF_EXTRA_SAMPLES):
            (found[tag],) = struct.unpack_from(order + ("H" if kind == 3 else "I"), data, 8)
    if not found.keys() >= {_TIFF_WIDTH, _TIFF_HEIGHT}:
        return None
    alpha = _TIFF_EXTRA_SAMPLES in found
    return _turned(found[_TIFF_WIDTH], found[_TIFF_HEIGHT], found.get(_TIFF_ORIENTATION, 1), alpha=alpha)


def _at(file: BinaryIO, place: int, count: int) -> bytes:
    """Bytes from this place on; empty if the file ends before that many."""
    file.seek(place)
    data = file.read(count)
    return data if len(data) == count else b""


_READERS: tuple[tuple[bytes, Callable[[BinaryIO, bytes], Head | None]], ...] = (
    (b"\x89PNG\r\n\x1a\n", _of_png),
    (b"\xff\xd8", _of_jpeg),
    (b"RIFF", _of_webp),
    (b"BM", _of_bmp),
    (b"II*\0", _of_tiff),
    (b"MM\0*", _of_tiff),
)
