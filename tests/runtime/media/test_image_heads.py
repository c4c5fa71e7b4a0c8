"""The head of an image says what FFmpeg decodes: the upright size, and whether there is transparency."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from swiftvr_trt.runtime.media import colour, open_source
from swiftvr_trt.runtime.media.image_heads import Head, read_head
from swiftvr_trt.runtime.media.images_out import encode_image
from swiftvr_trt.runtime.media.photo_tags import HOLDS_TAGS, PhotoTags, write_tags

from .images import SUFFIXES, hdr_png, image
from .test_side_data import exif


@pytest.mark.parametrize("transfer", [1, 16, 18])
def test_the_transfer_function_is_told(tmp_path: Path, transfer: int) -> None:
    (tmp_path / "a.png").write_bytes(hdr_png(transfer))
    assert read_head(tmp_path / "a.png") == Head(24, 16, transfer=transfer)


def turned_tiff(orientation: int) -> bytes:
    """A TIFF file of 30x20 pixels."""
    entries = {256: 30, 257: 20, 258: 8, 259: 1, 262: 2, 273: 134, 274: orientation, 277: 3, 278: 20, 279: 1800}
    data = b"II*\0" + (8).to_bytes(4, "little") + len(entries).to_bytes(2, "little")
    for tag, value in entries.items():
        data += tag.to_bytes(2, "little") + b"\3\0\1\0\0\0" + value.to_bytes(4, "little")
    return data + bytes(4) + bytes(1800)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_every_format_tells_its_size(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    path.write_bytes(encode_image(image(1, 37, 21), suffix))
    assert read_head(path) == Head(37, 21)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", [*sorted(HOLDS_TAGS), ".tif"])
def test_a_turned_picture_has_the_size_that_it_is_decoded_to(tmp_path: Path, suffix: str, orientation: int) -> None:
    path, tags = tmp_path / f"a{suffix}", PhotoTags(exif(orientation))
    data = write_tags(encode_image(image(1, 30, 20), suffix), suffix, tags)
    path.write_bytes(turned_tiff(orientation) if suffix == ".tif" else data)
    head = read_head(path)
    assert head == (Head(20, 30) if orientation > 4 else Head(30, 20))
    with open_source(path) as source:
        assert Head(source.info.width, source.info.height) == head


@pytest.mark.parametrize("suffix", [".png", ".webp", ".tif"])
def test_transparency_is_told(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    pixels = np.full((20, 30, 4), 100, np.uint8)
    for depth in (np.uint8, np.uint16):
        data = encode_image(pixels.astype(depth), suffix)
        for tags in (PhotoTags(), PhotoTags(exif(1))):
            path.write_bytes(write_tags(data, suffix, tags))
            assert read_head(path) == Head(30, 20, alpha=True)


def test_a_lossy_webp_tells_its_size_too(tmp_path: Path) -> None:
    context = av.CodecContext.create("libwebp", "w")
    context.width, context.height, context.pix_fmt, context.framerate = 38, 22, "yuv420p", Fraction(1)
    frame = colour.converted(av.VideoFrame.from_ndarray(image(1, 38, 22), "rgb24"), format="yuv420p")
    (tmp_path / "a.webp").write_bytes(b"".join(bytes(p) for p in [*context.encode(frame), *context.encode(None)]))
    assert read_head(tmp_path / "a.webp") == Head(38, 22)


def test_other_files_tell_nothing(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"GIF89a")
    assert read_head(tmp_path / "a.png") is None
    assert read_head(tmp_path / "b.png") is None


@given(st.sampled_from(SUFFIXES), st.integers(0, 2000), st.binary(min_size=1, max_size=8))
def test_damaged_heads_do_no_harm(
    tmp_path_factory: pytest.TempPathFactory, suffix: str, place: int, damage: bytes
) -> None:
    path = tmp_path_factory.getbasetemp() / f"damaged{suffix}"
    pixels = np.zeros((16, 24, 3), np.uint8)
    data = write_tags(encode_image(pixels, suffix), suffix, PhotoTags(exif(6), None))
    place %= len(data)
    path.write_bytes(data[:place] + damage + data[place + len(damage) :])
    read_head(path)
    path.write_bytes(data[:place])
    read_head(path)
