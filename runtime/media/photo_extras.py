"""What image files hold besides pictures, EXIF data and colour profiles: not kept, and named from the lists below.

Every chunk, segment and directory entry of an image file is looked up; what a list does not know counts as lost, too.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping

CARRIED = ""
"""Of what the output has, what the picture shows, and what describes the old file only."""
EXIF, PROFILE, XMP, IPTC, TEXTS = "EXIF data", "the colour profile", "XMP data", "IPTC data", "texts and comments"
OTHER_PROFILE = "a colour profile of grey or CMYK"
RESOLUTION, COLOURS, OTHERS, PICTURES = (
    "the resolution for print",
    "colour tags",
    "data of other programs",
    "more pictures",
)

SEGMENTS: tuple[tuple[int, bytes, str], ...] = (
    (0xE0, b"JFIF\0", CARRIED),  # the resolution in it is looked at by itself
    (0xE0, b"JFXX\0", CARRIED),  # a thumbnail of the old picture
    (0xE1, b"Exif\0\0", CARRIED),
    (0xE1, b"http://ns.adobe.com/", XMP),
    (0xE2, b"ICC_PROFILE\0", CARRIED),
    (0xE2, b"MPF\0", PICTURES),
    (0xED, b"Photoshop", IPTC),
    (0xEE, b"Adobe", CARRIED),  # how the colours are stored
    (0xFE, b"Lavc", CARRIED),  # FFmpeg's own
    (0xFE, b"", TEXTS),
)
"""Segments of JPEG files, by their marker and how they begin. Others with markers from 0xE0 to 0xEF hold `OTHERS`."""

PNG_CHUNKS: Mapping[bytes, str] = {
    **dict.fromkeys((b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND", b"eXIf", b"iCCP", b"sRGB"), CARRIED),
    **dict.fromkeys((b"tIME", b"sBIT", b"hIST", b"sPLT", b"bKGD"), CARRIED),
    **dict.fromkeys((b"gAMA", b"cHRM", b"cICP", b"mDCV", b"cLLI"), COLOURS),
    **dict.fromkeys((b"tEXt", b"zTXt", b"iTXt"), TEXTS),
    b"pHYs": RESOLUTION,
}
"""Chunks of PNG files by their names."""
_PNG_TEXTS: tuple[tuple[bytes, str], ...] = (
    (b"XML:com.adobe.xmp\0", XMP),
    (b"Raw profile type xmp\0", XMP),
    (b"Raw profile type iptc\0", IPTC),
    (b"Raw profile type exif\0", EXIF),
    (b"Raw profile type APP1\0", EXIF),
    (b"Software\0", CARRIED),
    (b"date:", CARRIED),  # of the file, by ImageMagick
)
"""Chunks of text by how they begin."""
_SRGB_COLOURS: Mapping[bytes, bytes] = {
    b"gAMA": struct.pack(">I", 45455),
    b"cHRM": struct.pack(">8I", 31270, 32900, 64000, 33000, 30000, 60000, 15000, 6000),
    b"cICP": bytes((1, 13, 0, 1)),
}
"""What these chunks say where they say what is assumed without them."""

WEBP_CHUNKS: Mapping[bytes, str] = {
    **dict.fromkeys((b"VP8X", b"VP8 ", b"VP8L", b"ALPH", b"EXIF", b"ICCP"), CARRIED),
    b"XMP ": XMP,
}

TIFF_TAGS: Mapping[int, str] = {
    **dict.fromkeys((270, 271, 272, 285, 306, 315, 316, 33432), TEXTS),
    **dict.fromkeys((282, 283), RESOLUTION),
    **dict.fromkeys((301, 318, 319), COLOURS),  # the transfer function, the white point, the primaries
    **dict.fromkeys((34665, 34853), EXIF),
    **dict.fromkeys((34377, 37724, 33550, 33922, 34264, 34735, 34736, 34737, 50839), OTHERS),
    330: PICTURES,
    700: XMP,
    33723: IPTC,
}
"""Entries of TIFF files. Others say how the picture is stored, or are unknown, from 32768 on: these hold `OTHERS`."""
_TIFF_STORAGE = frozenset({32781, 32995, 32996, 32997, 32998, 33421, 33422, 34675, 34677})
_TIFF_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8}

_USUAL_DPI = 72
"""What programs write who know none."""


def extras_of_jpeg(segments: Iterator[tuple[int, bytes]]) -> Iterator[str]:
    """segments: marker and content of each."""
    for kind, content in segments:
        if kind == 0xE0 and content.startswith(b"JFIF\0") and len(content) >= 12:
            unit, across = struct.unpack_from(">BH", content, 7)
            if unit and round(across * (2.54 if unit == 2 else 1)) not in (0, 1, _USUAL_DPI):
                yield RESOLUTION
        known = (words for mark, begin, words in SEGMENTS if mark == kind and content.startswith(begin))
        if (words := next(known, OTHERS if 0xE0 <= kind <= 0xEF else CARRIED)) != CARRIED:
            yield words


def extras_of_png(chunks: Iterator[tuple[bytes, bytes]]) -> Iterator[str]:
    """chunks: name and content of each."""
    for kind, content in chunks:
        words = PNG_CHUNKS.get(kind, OTHERS)
        if words == TEXTS:
            words = next((told for begin, told in _PNG_TEXTS if content.startswith(begin)), TEXTS)
        if kind == b"pHYs" and _is_usual(content):
            continue
        if words != CARRIED and _SRGB_COLOURS.get(kind) != content:
            yield words


def _is_usual(content: bytes) -> bool:
    """Whether a chunk says that pixels are square, and nothing else but what every file says."""
    if len(content) < 9:
        return True  # it says nothing
    across, down, unit = struct.unpack_from(">IIB", content)
    return 0 in (across, down) or (across == down and (unit == 0 or round(across * 0.0254) == _USUAL_DPI))


def extras_of_webp(chunks: Mapping[bytes, bytes]) -> Iterator[str]:
    """chunks: content by name."""
    return (words for words in (WEBP_CHUNKS.get(kind, OTHERS) for kind in chunks) if words != CARRIED)


def extras_of_tiff(data: bytes) -> Iterator[str]:
    """data: the file."""
    order = ">" if data[:2] == b"MM" else "<"
    (place,) = struct.unpack_from(order + "I", data, 4)
    (count,) = struct.unpack_from(order + "H", data, place)
    for at in range(place + 2, place + 2 + 12 * count, 12):
        tag, kind, number, where = struct.unpack_from(order + "HHII", data, at)
        words = TIFF_TAGS.get(tag, OTHERS if tag >= 32768 and tag not in _TIFF_STORAGE else CARRIED)
        if words == RESOLUTION:
            over, under = struct.unpack_from(order + "II", data, where) if kind == 5 else (0, 1)
            words = CARRIED if not under or round(over / under) in (0, 1, _USUAL_DPI) else words
        size = number * _TIFF_SIZES.get(kind, 1)
        content = data[at + 8 : at + 8 + size] if size <= 4 else data[where : where + size]
        if words != CARRIED and (kind != 2 or content.strip(b"\0 ")):
            yield words
    if int(struct.unpack_from(order + "I", data, place + 2 + 12 * count)[0]):
        yield PICTURES
