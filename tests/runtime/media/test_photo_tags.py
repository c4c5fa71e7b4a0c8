"""EXIF data and colour profiles of images, through a restoration from any format into any other."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from swiftvr_trt.runtime.media import SinkOptions, open_sink, open_source
from swiftvr_trt.runtime.media.contents import open_image
from swiftvr_trt.runtime.media.images_out import encode_image
from swiftvr_trt.runtime.media.photo_tags import HOLDS_TAGS, PhotoTags, TagsLost, read_tags, write_tags
from swiftvr_trt.runtime.media.side_data import side_data

from .test_side_data import exif
from .videos import transcode

PROFILE = struct.pack(">I12s4s", 70_000, b"", b"RGB ") + bytes(range(250)) * 280
"""Not a real profile, but it looks like one of RGB colours, and is larger than one segment of a JPEG file."""

TAGS = PhotoTags(exif(6), PROFILE)
PICTURE = np.random.default_rng(1).integers(0, 256, (16, 24, 3), np.uint8)


def make_photo(path: Path, tags: PhotoTags = TAGS) -> Path:
    path.write_bytes(write_tags(encode_image(PICTURE, path.suffix), path.suffix, tags))
    return path


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("suffix", sorted(HOLDS_TAGS))
def test_tags_are_found_where_they_were_written(suffix: str, order: str) -> None:
    tags = PhotoTags(exif(3, order), PROFILE)
    data = write_tags(encode_image(PICTURE, suffix), suffix, tags)
    assert read_tags(data) == tags
    with open_image(data) as container:  # FFmpeg finds them, too
        frame = next(container.decode(video=0))
        assert suffix != ".jpg" or side_data(frame)["ICC_PROFILE"] == PROFILE  # PyAV cannot read that of a PNG
        assert frame.metadata["Make"] == "Abc"


@pytest.mark.parametrize("after", [".jpg", ".png", ".webp", "/"])
@pytest.mark.parametrize("before", [".jpg", ".png", ".webp"])
def test_a_restored_photo_keeps_its_tags_and_is_upright(tmp_path: Path, before: str, after: str) -> None:
    source = make_photo(tmp_path / f"photo{before}")
    output = tmp_path / f"out{after}"
    _, notes = transcode(source, output)
    found = read_tags((output if after != "/" else output / f"photo{before}").read_bytes())
    assert found == PhotoTags(exif(1), PROFILE)
    assert notes == ()
    with open_source(output) as opened:
        assert (opened.info.width, opened.info.height) == (16, 24)


@pytest.mark.parametrize("after", [".bmp", ".tif", ".mp4"])
def test_an_output_without_tags_is_named(tmp_path: Path, after: str) -> None:
    _, notes = transcode(make_photo(tmp_path / "photo.jpg"), tmp_path / f"out{after}")
    assert [("EXIF" in note, ".jpg, .png and .webp" in note) for note in notes] == [(True, True)]
    info, trial = open_source(tmp_path / "photo.jpg").info, SinkOptions(trial=True)
    with open_sink(tmp_path / f"trial{after}", info, 24, 16, trial) as sink:
        assert any("EXIF" in note for note in sink.notes)  # that will be
    _, notes = transcode(make_photo(tmp_path / "plain.jpg", PhotoTags()), tmp_path / f"plain{after}")
    assert notes == ()


@pytest.mark.parametrize("after", ["/", ".mp4"])
def test_tags_of_later_images_are_counted_too(tmp_path: Path, after: str) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "0.bmp").write_bytes(encode_image(PICTURE, ".bmp"))
    for number, icc in enumerate((PROFILE, None), 1):
        make_photo(tmp_path / "in" / f"{number}.png", PhotoTags(exif(1), icc))
    _, notes = transcode(tmp_path / "in", tmp_path / f"out{after}")
    assert notes == (
        "not carried over from 2 images: EXIF data, the colour profile; .jpg, .png and .webp keep EXIF data and colour "
        "profiles",
    )


def test_exif_data_that_is_too_long_for_a_format_is_named() -> None:
    for suffix, said in ((".png", ()), (".jpg", ("not carried over from 1 image: EXIF data",))):
        lost = TagsLost(suffix)
        lost.note(PhotoTags(exif(1) + bytes(65_533), PROFILE))
        assert lost.notes == said


def test_only_what_others_keep_is_a_reason_to_choose_them() -> None:
    for tags, helps in (
        (PhotoTags(extras=frozenset({"EXIF data"})), False),  # of a TIFF file, which no output gets
        (PhotoTags(None, PROFILE, frozenset({"EXIF data"})), True),
    ):
        lost = TagsLost(".tif")
        lost.note(tags)
        assert ["; .jpg, .png and .webp keep" in note for note in lost.notes] == [helps]


def test_tags_are_read_though_something_beside_them_is_damaged() -> None:
    directory = struct.pack("<HHHII", 1, 34675, 7, len(PROFILE), 8)  # the last thing in the file: no other is named
    assert read_tags(b"II*\0" + struct.pack("<I", 8 + len(PROFILE)) + PROFILE + directory) == PhotoTags(None, PROFILE)
    png = write_tags(encode_image(PICTURE, ".png"), ".png", TAGS)
    short = struct.pack(">I4s2sI", 2, b"pHYs", b"??", 0)
    assert read_tags(png[:33] + short + png[33:]) == TAGS


def test_tags_can_be_left_out(tmp_path: Path) -> None:
    _, notes = transcode(make_photo(tmp_path / "p.jpg"), tmp_path / "out.jpg", options=SinkOptions(metadata=False))
    assert (read_tags((tmp_path / "out.jpg").read_bytes()), notes) == (PhotoTags(), ())


@pytest.mark.parametrize("opaque", [True, False])
def test_a_webp_with_tags_is_as_transparent_as_without(opaque: bool) -> None:
    """Viewers go by the header that tags need: it says whether there is transparency."""
    pixels = np.concatenate([PICTURE, np.full((16, 24, 1), 255 if opaque else 100, np.uint8)], 2)
    data = write_tags(encode_image(pixels, ".webp"), ".webp", TAGS)
    assert (data[12:16], bool(data[20] & 0x10)) == (b"VP8X", not opaque)


def test_sizes_and_the_thumbnail_are_those_of_the_output() -> None:
    inner = struct.pack("<HHHIHH", 1, 0xA002, 3, 1, 24, 0) + struct.pack("<I", 0)
    head = b"II*\0" + struct.pack("<I", 8)
    directory = struct.pack("<HHHIIHHIHHI", 2, 0x8769, 4, 1, 38, 0x112, 3, 1, 8, 0, 99)
    (width,) = struct.unpack_from("<H", PhotoTags(head + directory + inner).for_restored(640, 480).exif or b"", 48)
    assert width == 640
    changed = PhotoTags(head + directory + inner).for_restored(640, 480).exif or b""
    assert struct.unpack_from("<I", changed, 34) == (0,)
    assert struct.unpack_from("<H", changed, 30) == (1,)


def tiff(order: str) -> bytes:
    """The beginning of a TIFF file with EXIF data and a colour profile."""
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(order + "I", 8)
    entries = struct.pack(order + "HHIIHHII", 0x8769, 4, 1, 38, 34675, 7, len(PROFILE), 44)
    return head + struct.pack(order + "H", 2) + entries + bytes(10) + PROFILE


@pytest.mark.parametrize("order", ["<", ">"])
def test_the_profile_of_a_tiff_file_is_found(order: str) -> None:
    assert read_tags(tiff(order)) == PhotoTags(None, PROFILE, frozenset({"EXIF data"}))


def test_a_profile_of_other_colours_is_left_out() -> None:
    """The picture is restored in RGB, whatever its file held."""
    cmyk = PROFILE[:16] + b"CMYK" + PROFILE[20:]
    assert read_tags(write_tags(encode_image(PICTURE, ".jpg"), ".jpg", PhotoTags(None, cmyk))) == PhotoTags(
        extras=frozenset({"a colour profile of grey or CMYK"})
    )


@given(st.sampled_from(sorted(HOLDS_TAGS)), st.integers(0, 2000), st.binary(min_size=1, max_size=8))
def test_damaged_files_have_no_tags_or_others_but_nothing_fails(suffix: str, place: int, damage: bytes) -> None:
    data = write_tags(encode_image(PICTURE, suffix), suffix, TAGS)
    place %= len(data)
    tags = read_tags(data[:place] + damage + data[place + len(damage) :])
    tags.for_restored(10, 10)
    read_tags(data[:place]).for_restored(10, 10)
