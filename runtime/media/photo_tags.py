"""EXIF data and ICC profiles of image files: found in one file, written into another. `photo_extras` names the rest.

FFmpeg neither hands on the bytes of the one nor writes both, so they are moved from container to container here. EXIF
data is kept as it is, but for what a restored picture changes: it is upright, has another size, and no old thumbnail.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace

from ...text import counted
from .photo_extras import (
    EXIF,
    OTHER_PROFILE,
    PROFILE,
    extras_of_jpeg,
    extras_of_png,
    extras_of_tiff,
    extras_of_webp,
)

_PNG = b"\x89PNG\r\n\x1a\n"
EXIF_MARK, _ICC = b"Exif\0\0", b"ICC_PROFILE\0"
"""What segments of a JPEG file begin with that hold EXIF data, and a colour profile."""
_SEGMENT = 65_533 - len(_ICC) - 2
"""Bytes of a profile in one segment of a JPEG file."""
_MOST_EXIF = 65_533 - len(EXIF_MARK)
"""Bytes of EXIF data in a JPEG file, which has one segment for it."""

_ORIENTATION, _EXIF_IFD, _WIDTH, _HEIGHT = 0x112, 0x8769, 0xA002, 0xA003
_TIFF_PROFILE = 34675
_SHORT, _LONG = 3, 4

HOLDS_TAGS = frozenset({".jpg", ".jpeg", ".png", ".webp"})
"""Suffixes of images into which tags can be written here."""
_UNBOUND = HOLDS_TAGS - {".jpg", ".jpeg"}


@dataclass(frozen=True)
class PhotoTags:
    """exif: beginning with the byte order. icc: a profile of RGB colours. None if there is none.

    extras: what else the file holds that no output will have, in words.
    """

    exif: bytes | None = None
    icc: bytes | None = None
    extras: frozenset[str] = field(default_factory=frozenset)

    def __bool__(self) -> bool:
        return self.exif is not None or self.icc is not None

    def for_restored(self, width: int, height: int) -> PhotoTags:
        """The tags of an upright picture of this size."""
        return self if self.exif is None else replace(self, exif=_rewritten(self.exif, width, height))


def read_tags(data: bytes) -> PhotoTags:
    """The tags in the content of a JPEG, PNG or WebP file, and the profile in a TIFF file; none of any other."""
    try:
        if data[:2] == b"\xff\xd8":
            return _of_jpeg(data)
        if data.startswith(_PNG):
            return _of_png(data)
        if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
            return _of_webp(data)
        if data[:4] in (b"II*\0", b"MM\0*"):
            return _tags(None, _profile_of_tiff(data), extras_of_tiff(data))
    except (struct.error, zlib.error, IndexError, ValueError):
        pass
    return PhotoTags()


def write_tags(image: bytes, suffix: str, tags: PhotoTags) -> bytes:
    """The content of an image file with these tags. suffix: one of `HOLDS_TAGS`; other images stay as they are."""
    if not tags or suffix not in HOLDS_TAGS:
        return image
    return {".png": _into_png, ".webp": _into_webp}.get(suffix, _into_jpeg)(image, tags)


def about_tags(output: str) -> str:
    """The line about tags that an output will lose. output: what it is."""
    return f"{output} do not keep the EXIF data and colour profiles of images here: .jpg, .png and .webp do"


class TagsLost:
    """Counts the images whose tags an output lacks. suffix: of the images that it consists of; empty for a video."""

    def __init__(self, suffix: str = "") -> None:
        self._suffix, self._kinds, self._count = suffix, set[str](), 0
        self._others_keep = False

    def note(self, tags: PhotoTags) -> None:
        """An image with these tags was written."""
        unwritten = {*self._unwritten(tags)}
        lost = tags.extras | unwritten
        self._kinds |= lost
        self._count += bool(lost)
        self._others_keep |= bool(unwritten) and self._suffix not in HOLDS_TAGS

    def _unwritten(self, tags: PhotoTags) -> Iterator[str]:
        holds = self._suffix in HOLDS_TAGS
        if tags.exif is not None and not (holds and (self._suffix in _UNBOUND or len(tags.exif) <= _MOST_EXIF)):
            yield EXIF
        if tags.icc is not None and not holds:
            yield PROFILE

    @property
    def notes(self) -> tuple[str, ...]:
        """A line about them."""
        if not self._count:
            return ()
        images = counted(self._count, "image")
        remedy = "; .jpg, .png and .webp keep EXIF data and colour profiles" * self._others_keep
        return (f"not carried over from {images}: {', '.join(sorted(self._kinds))}{remedy}",)


def _tags(exif: bytes | None, icc: bytes | None, extras: Iterable[str]) -> PhotoTags:
    """Pictures are restored in RGB, whatever the file held, so only profiles of such colours are kept."""
    rgb = icc if icc and icc[16:20] == b"RGB " else None
    return PhotoTags(exif, rgb, _found(extras) | ({OTHER_PROFILE} if icc and not rgb else set()))


def _found(extras: Iterable[str]) -> frozenset[str]:
    """Those before the first that cannot be read: the tags are there all the same."""
    found = set[str]()
    with suppress(struct.error, IndexError, ValueError):
        for each in extras:
            found.add(each)
    return frozenset(found)


def _of_jpeg(data: bytes) -> PhotoTags:
    exif: bytes | None = None
    parts: dict[int, bytes] = {}
    for kind, content in _segments(data):
        if kind == 0xE1 and content.startswith(EXIF_MARK):
            exif = exif or content[len(EXIF_MARK) :]
        if kind == 0xE2 and content.startswith(_ICC):
            parts[content[len(_ICC)]] = content[len(_ICC) + 2 :]
    return _tags(exif, b"".join(parts[number] for number in sorted(parts)), extras_of_jpeg(_segments(data)))


def _segments(data: bytes) -> Iterator[tuple[int, bytes]]:
    """The marker and the content of each segment before the picture itself."""
    place = 2
    while place + 4 <= len(data) and data[place] == 0xFF:
        kind, length = data[place + 1], int(struct.unpack_from(">H", data, place + 2)[0])
        if kind in (0xD9, 0xDA) or length < 2:
            return
        yield kind, data[place + 4 : place + 2 + length]
        place += 2 + length


def _of_png(data: bytes) -> PhotoTags:
    exif: bytes | None = None
    icc: bytes | None = None
    for kind, content in _png_chunks(data):
        if kind == b"eXIf":
            exif = content
        if kind == b"iCCP":
            unpacker = zlib.decompressobj()
            icc = unpacker.decompress(content[content.index(b"\0") + 2 :], 1 << 24)
    return _tags(exif, icc, extras_of_png(_png_chunks(data)))


def _png_chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    place = len(_PNG)
    while place + 12 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, place)
        yield kind, data[place + 8 : place + 8 + length]
        place += 12 + length


def _of_webp(data: bytes) -> PhotoTags:
    chunks = dict(_webp_chunks(data))
    exif = chunks.get(b"EXIF")
    return _tags(exif.removeprefix(EXIF_MARK) if exif else None, chunks.get(b"ICCP"), extras_of_webp(chunks))


def _webp_chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    place = 12
    while place + 8 <= len(data):
        kind, length = struct.unpack_from("<4sI", data, place)
        yield kind, data[place + 8 : place + 8 + length]
        place += 8 + length + length % 2


def _profile_of_tiff(data: bytes) -> bytes | None:
    order = _order(data)
    (place,) = struct.unpack_from(order + "I", data, 4)
    (count,) = struct.unpack_from(order + "H", data, place)
    for at in range(place + 2, place + 2 + 12 * count, 12):
        tag, _, length, where = struct.unpack_from(order + "HHII", data, at)
        if tag == _TIFF_PROFILE:
            return data[where : where + length]
    return None


def _into_jpeg(image: bytes, tags: PhotoTags) -> bytes:
    place = 2
    if image[2:4] == b"\xff\xe0":  # JFIF comes first
        place += 2 + int(struct.unpack_from(">H", image, 4)[0])
    added = b""
    if tags.exif is not None and len(tags.exif) <= _MOST_EXIF:
        added += _segment(0xE1, EXIF_MARK + tags.exif)
    if tags.icc is not None:
        parts = [tags.icc[at : at + _SEGMENT] for at in range(0, len(tags.icc), _SEGMENT)]
        for number, part in enumerate(parts, 1):
            added += _segment(0xE2, _ICC + bytes((number, len(parts))) + part)
    return image[:place] + added + image[place:]


def _segment(kind: int, content: bytes) -> bytes:
    return struct.pack(">BBH", 0xFF, kind, len(content) + 2) + content


def _into_png(image: bytes, tags: PhotoTags) -> bytes:
    place = len(_PNG) + 25  # behind the header
    added = b""
    if tags.icc is not None:
        added += _png_chunk(b"iCCP", b"ICC profile\0\0" + zlib.compress(tags.icc))
    if tags.exif is not None:
        added += _png_chunk(b"eXIf", tags.exif)
    return image[:place] + added + image[place:]


def _png_chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def _into_webp(image: bytes, tags: PhotoTags) -> bytes:
    """With a header of its own that says what else the file holds, before the picture."""
    chunks = [chunk for chunk in _webp_chunks(image) if chunk[0] != b"VP8X"]
    width, height = _webp_size(image)
    flags = (0x20 if tags.icc is not None else 0) | (0x08 if tags.exif is not None else 0)
    flags |= 0x10 if _is_transparent(image) else 0  # without it, viewers show the picture opaque
    head = struct.pack("<I", flags) + (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    before = [(b"VP8X", head)] + ([(b"ICCP", tags.icc)] if tags.icc is not None else [])
    after = [(b"EXIF", tags.exif)] if tags.exif is not None else []
    body = b"".join(_webp_chunk(*chunk) for chunk in (*before, *chunks, *after))
    return b"RIFF" + struct.pack("<I", len(body) + 4) + b"WEBP" + body


def _webp_chunk(kind: bytes, content: bytes) -> bytes:
    return kind + struct.pack("<I", len(content)) + content + b"\0" * (len(content) % 2)


def _webp_size(image: bytes) -> tuple[int, int]:
    """Width and height of a lossless WebP."""
    bits = _lossless_head(image)
    return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1


def _is_transparent(image: bytes) -> bool:
    """Whether a lossless WebP says that it has transparency."""
    return bool(_lossless_head(image) >> 28 & 1)


def _lossless_head(image: bytes) -> int:
    """Width, height and transparency of a lossless WebP, as it stores them."""
    return int(struct.unpack_from("<I", dict(_webp_chunks(image))[b"VP8L"], 1)[0])


def _order(exif: bytes) -> str:
    return ">" if exif[:2] == b"MM" else "<"


def _entries(exif: bytes, place: int) -> Iterator[tuple[int, int, int]]:
    """The tag, the place and the value of each whole number in a directory of EXIF data. place: 0 for the first one."""
    order = _order(exif)
    try:
        place = place or int(struct.unpack_from(order + "I", exif, 4)[0])
        (count,) = struct.unpack_from(order + "H", exif, place)
        for at in range(place + 2, place + 2 + 12 * count, 12):
            tag, kind, number = struct.unpack_from(order + "HHI", exif, at)
            if number == 1 and kind in (_SHORT, _LONG):
                (value,) = struct.unpack_from(order + ("H" if kind == _SHORT else "I"), exif, at + 8)
                yield tag, at, value
    except struct.error:
        return


def orientation_of(exif: bytes) -> int:
    """How the camera was held, as EXIF numbers it; 1, upright, if the data does not say."""
    return next((value for tag, _, value in _entries(exif, 0) if tag == _ORIENTATION), 1)


def _rewritten(exif: bytes, width: int, height: int) -> bytes:
    """EXIF data that says upright and this size, and holds no thumbnail."""
    changed, order = bytearray(exif), _order(exif)
    size = {_WIDTH: width, _HEIGHT: height}
    for tag, at, value in list(_entries(exif, 0)):
        if tag == _ORIENTATION:
            _put(changed, order, at, 1)
        if tag == _EXIF_IFD:
            for inner, place, _ in list(_entries(exif, value)):
                if inner in size:
                    _put(changed, order, place, size[inner])
    try:
        (first,) = struct.unpack_from(order + "I", exif, 4)
        (count,) = struct.unpack_from(order + "H", exif, first)
        struct.pack_into(order + "I", changed, first + 2 + 12 * count, 0)  # the directory of the thumbnail
    except struct.error:
        pass
    return bytes(changed)


def _put(exif: bytearray, order: str, at: int, value: int) -> None:
    """Replace the value of an entry, which stays a short number if it can."""
    (kind,) = struct.unpack_from(order + "H", exif, at + 2)
    kind = _LONG if value > 0xFFFF else kind
    struct.pack_into(order + "H", exif, at + 2, kind)
    struct.pack_into(order + ("I" if kind == _LONG else "H"), exif, at + 8, value)
