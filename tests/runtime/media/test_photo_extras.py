"""What an image file holds is kept, or named when it is not; every list in `photo_extras` is gone through."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest

from swiftvr_trt.runtime.media.images_out import encode_image
from swiftvr_trt.runtime.media.photo_extras import (
    CARRIED,
    OTHER_PROFILE,
    PNG_CHUNKS,
    SEGMENTS,
    TIFF_TAGS,
    WEBP_CHUNKS,
)
from swiftvr_trt.runtime.media.photo_tags import read_tags

from .videos import transcode

PICTURE = np.zeros((16, 24, 3), np.uint8)


def named(words: str) -> frozenset[str]:
    return frozenset({words} - {CARRIED})


def jpeg(kind: int, content: bytes) -> bytes:
    data = encode_image(PICTURE, ".jpg")
    return data[:2] + struct.pack(">BBH", 0xFF, kind, len(content) + 2) + content + data[2:]


def png(kind: bytes, content: bytes) -> bytes:
    data = encode_image(PICTURE, ".png")
    chunk = struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
    return data[:33] + chunk + data[33:]


def webp(kind: bytes, content: bytes) -> bytes:
    data = encode_image(PICTURE, ".webp")
    return data + kind + struct.pack("<I", len(content)) + content


def tiff(tag: int, kind: int, value: bytes, following: int = 0) -> bytes:
    """A TIFF file with one entry, whose value lies behind it."""
    head = b"II*\0" + struct.pack("<IHHHII", 8, 1, tag, kind, len(value) if kind == 2 else 1, 26)
    return head + struct.pack("<I", following) + value


@pytest.mark.parametrize(("kind", "begin", "words"), SEGMENTS)
def test_segments_of_a_jpeg(kind: int, begin: bytes, words: str) -> None:
    assert read_tags(jpeg(kind, begin + bytes(20))).extras - {OTHER_PROFILE} == named(words)


@pytest.mark.parametrize("kind", PNG_CHUNKS)
def test_chunks_of_a_png(kind: bytes) -> None:
    content = struct.pack(">IIB", 11811, 11811, 1) if kind == b"pHYs" else b"ABC\0\0" + zlib.compress(b"abc")
    if kind not in (b"IHDR", b"IEND"):
        assert read_tags(png(kind, content)).extras - {OTHER_PROFILE} == named(PNG_CHUNKS[kind])


@pytest.mark.parametrize("kind", WEBP_CHUNKS)
def test_chunks_of_a_webp(kind: bytes) -> None:
    assert read_tags(webp(kind, b"")).extras == named(WEBP_CHUNKS[kind])


@pytest.mark.parametrize("tag", TIFF_TAGS)
def test_entries_of_a_tiff(tag: int) -> None:
    value = struct.pack("<II", 300, 1) if tag in (282, 283) else b"Somebody"
    assert read_tags(tiff(tag, 5 if tag in (282, 283) else 2, value)).extras == named(TIFF_TAGS[tag])


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (jpeg(0xE5, b"?"), "data of other programs"),
        (jpeg(0xFE, b"Lavc62.11.100"), CARRIED),
        (jpeg(0xE0, b"JFIF\0\1\1\1" + struct.pack(">HH", 300, 300) + b"\0\0"), "the resolution for print"),
        (jpeg(0xE0, b"JFIF\0\1\1\1" + struct.pack(">HH", 72, 72) + b"\0\0"), CARRIED),
        (jpeg(0xE2, b"ICC_PROFILE\0\1\1" + bytes(16) + b"GRAY" + bytes(108)), "a colour profile of grey or CMYK"),
        (png(b"caNv", b"?"), "data of other programs"),
        (png(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0<x/>"), "XMP data"),
        (png(b"tEXt", b"Raw profile type iptc\0"), "IPTC data"),
        (png(b"tEXt", b"Software\0Some"), CARRIED),
        (png(b"pHYs", struct.pack(">IIB", 2835, 2835, 1)), CARRIED),
        (png(b"pHYs", b"??"), CARRIED),
        (png(b"gAMA", struct.pack(">I", 45455)), CARRIED),
        (webp(b"????", b""), "data of other programs"),
        (tiff(40000, 4, b"", 0), "data of other programs"),
        (tiff(256, 4, b"", 0), CARRIED),
        (tiff(270, 2, b"     \0"), CARRIED),
        (tiff(282, 5, struct.pack("<II", 72, 1)), CARRIED),
        (tiff(256, 4, b"", 8), "more pictures"),
    ],
)
def test_what_a_file_holds_is_named_unless_it_says_nothing(data: bytes, words: str) -> None:
    assert read_tags(data).extras == named(words)


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp", ".bmp", ".tif"])
def test_our_own_images_hold_nothing_else(suffix: str) -> None:
    assert not read_tags(encode_image(PICTURE, suffix)).extras


def test_a_line_names_all_kinds_and_counts_the_images(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "1.jpg").write_bytes(encode_image(PICTURE, ".jpg"))
    (tmp_path / "in" / "2.jpg").write_bytes(jpeg(0xFE, b"a comment"))
    (tmp_path / "in" / "3.jpg").write_bytes(jpeg(0xE1, b"http://ns.adobe.com/xap/1.0/\0<x/>"))
    _, notes = transcode(tmp_path / "in", tmp_path / "out/")
    assert notes == ("not carried over from 2 images: XMP data, texts and comments",)
