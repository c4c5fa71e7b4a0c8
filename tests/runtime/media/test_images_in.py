"""Folders of images as sources."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from swiftvr_trt.errors import MediaError
from swiftvr_trt.runtime.media import Picture, frame_memory, open_sink, open_source
from swiftvr_trt.runtime.media.images_in import natural_key
from swiftvr_trt.runtime.media.images_out import encode_image
from swiftvr_trt.runtime.media.source_options import SourceOptions
from swiftvr_trt.runtime.stream.frames import RGB16

from .images import SUFFIXES, folder, hdr_png, image, pictures
from .videos import times


def test_numbers_in_names_sort_by_value() -> None:
    names = ["f10.png", "F2.png", "f1.png", "a.png", "f2b.png", "1.png", "f02.png"]
    assert sorted(names, key=natural_key) == ["1.png", "a.png", "f1.png", "F2.png", "f02.png", "f2b.png", "f10.png"]


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_every_format_is_read(tmp_path: Path, suffix: str) -> None:
    found = pictures(folder(tmp_path / "in", [f"a{suffix}", f"b{suffix}"]))
    assert len(found) == 2
    for index, picture in enumerate(found):
        assert np.abs(picture.pixels.astype(int) - image(index * 20)).max() <= (4 if suffix in (".jpg", ".jpeg") else 0)


def test_other_files_are_ignored(tmp_path: Path) -> None:
    path = folder(tmp_path / "in", ["a.png", "b 50%d.PNG", "c:.png"])
    (path / "notes.txt").write_text("not an image")
    (path / ".hidden.png").write_text("not an image")
    (path / "sub.png").mkdir()
    assert [picture.stamp.name for picture in pictures(path)] == ["a", "b 50%d", "c:"]


def test_images_have_a_rate_and_a_count(tmp_path: Path) -> None:
    path = folder(tmp_path / "in", ["1.png", "2.png"])
    with open_source(path) as source:
        assert (source.info.frames, source.info.rate, source.info.width, source.info.height) == (
            2,
            Fraction(25),
            24,
            16,
        )
    with open_source(path, rate=Fraction(30000, 1001)) as source:
        assert source.info.rate == Fraction(30000, 1001)
    assert [p.stamp.pts * p.stamp.time_base for p in pictures(path, Fraction(10))] == [0, Fraction(1, 10)]


def test_sixteen_bit_images_and_transparency_are_noted(tmp_path: Path) -> None:
    context = av.CodecContext.create("png", "w")
    context.width, context.height, context.pix_fmt, context.framerate = 24, 16, "rgba64be", Fraction(1)
    frame = av.VideoFrame.from_ndarray(np.full((16, 24, 4), 0x8080, np.uint16), "rgba64be")
    (tmp_path / "a.png").write_bytes(b"".join(bytes(p) for p in [*context.encode(frame), *context.encode(None)]))
    with open_source(tmp_path) as source:
        (picture,) = (item for item in source if isinstance(item, Picture))
        assert np.abs(picture.pixels.astype(int) - 128).max() <= 1
        assert any("8 bits" in note for note in source.info.notes)
        assert any("transparency" in note for note in source.info.notes)


def test_sixteen_bit_images_stay_so_if_the_output_can(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 1 << 16, (16, 24, 3), np.uint16)
    for suffix in (".png", ".tiff"):
        before, after = tmp_path / f"in{suffix}", tmp_path / f"out{suffix}"
        before.write_bytes(encode_image(pixels, suffix))
        options = SourceOptions(planes=True)
        with open_source(before, options=options) as source, open_sink(after, source.info, 24, 16) as sink:
            assert (source.info.bits, source.notes, sink.frames) == (16, (), RGB16)
            for item in source:
                sink.write(item)
            sink.commit()
        with open_source(after, options=options) as result:
            (picture,) = (item for item in result if isinstance(item, Picture))
            assert np.array_equal(picture.pixels, pixels)


def test_an_image_of_another_size_is_named_before_anything_is_restored(tmp_path: Path) -> None:
    path = folder(tmp_path / "in", ["1.png", "2.png"])
    (path / "3.png").write_bytes(encode_image(image(1, 26, 16), ".png"))
    with pytest.raises(MediaError, match=r"3\.png is 26x16, expected 24x16 like 1\.png"):
        open_source(path)


def test_a_file_that_is_no_image_is_named_before_anything_is_restored(tmp_path: Path) -> None:
    path = folder(tmp_path / "in", ["1.png"])
    (path / "2.png").write_bytes(b"no image")
    (path / "3.png").write_bytes(b"")
    with pytest.raises(MediaError, match=r"2\.png cannot be read as an image"):
        open_source(path)


@pytest.mark.parametrize("output", ["out", "out.mkv"])
def test_what_turns_out_to_be_broken_is_left_out_and_nothing_else_is(tmp_path: Path, output: str) -> None:
    """Its head looks well, or its file is gone by then, so the others have been restored when that shows."""
    path, after = folder(tmp_path / "in", [f"{number}.png" for number in range(1, 8)]), tmp_path / output
    for name in ("2.png", "4.png"):
        data = (path / name).read_bytes()
        (path / name).write_bytes(data[:33] + b"?" * (len(data) - 33))
    with open_source(path) as source, open_sink(after, source.info, 24, 16) as sink:
        (path / "5.png").unlink()
        (path / "6.png").write_bytes(encode_image(image(1, 26, 16), ".png"))
        items = [item for item in source if isinstance(item, Picture)]
        for item in items:
            sink.write(item)
        sink.commit()
    assert [(item.stamp.index, item.stamp.pts, item.stamp.name) for item in items] == [
        (0, 0, "1"),
        (1, 2, "3"),
        (2, 6, "7"),
    ]
    said = source.shortfall or ""
    assert said.startswith(f"4 of 7 images are left out: {path / '2.png'} cannot be read as an image")
    assert said.endswith("; also 4.png, 5.png, 6.png")
    if after.is_dir():
        assert sorted(file.name for file in after.iterdir()) == ["1.png", "3.png", "7.png"]
    else:
        assert times(after) == [0, Fraction(2, 25), Fraction(6, 25)]


def test_the_memory_that_was_enough_for_the_first_image_is_not_asked_for_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with open_source(folder(tmp_path / "in", ["1.png", "2.png"])) as source:
        monkeypatch.setattr(frame_memory, "available_memory", lambda: 1000)
        assert len(list(source)) == 2
        assert source.shortfall is None


def test_a_later_image_that_takes_too_much_memory_is_not_decoded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = folder(tmp_path / "in", ["1.png", "2.png"])
    with open_source(path) as source:
        (path / "2.png").write_bytes(encode_image(image(1, 2400, 1600), ".png"))
        monkeypatch.setattr(frame_memory, "available_memory", lambda: 1_000_000)
        assert len(list(source)) == 1
        assert "decoding 2400x1600 frames takes about" in (source.shortfall or "")
    with pytest.raises(MediaError, match=r"2\.png is 2400x1600, expected 24x16 like 1\.png"):
        open_source(path)


@pytest.mark.parametrize(("transfer", "name"), [(16, "PQ"), (18, "HLG")])
@pytest.mark.parametrize("number", [1, 2])
def test_hdr_is_refused_with_a_remedy_for_images_before_anything_is_restored(
    tmp_path: Path, transfer: int, name: str, number: int
) -> None:
    path = folder(tmp_path / "in", ["1.png", "2.png"])
    (path / f"{number}.png").write_bytes(hdr_png(transfer))
    with pytest.raises(MediaError, match=rf"{number}\.png is HDR \({name}\).*make a video of it.*--assume-sdr"):
        open_source(path)
    with open_source(path, options=SourceOptions(assume_sdr=True, deep=True)) as source:
        assert len([item for item in source if isinstance(item, Picture)]) == 2
        assert source.shortfall is None
        assert [note for note in source.notes if "HDR" in note] == [f"HDR input ({name}) is restored as if it were SDR"]


def test_an_image_that_turns_out_to_be_hdr_is_left_out(tmp_path: Path) -> None:
    path = folder(tmp_path / "in", ["1.png", "2.png", "3.png"])
    with open_source(path) as source:
        (path / "2.png").write_bytes(hdr_png(16))
        assert [item.stamp.name for item in source if isinstance(item, Picture)] == ["1", "3"]
        assert f"1 of 3 images is left out: {path / '2.png'} is HDR (PQ)" in (source.shortfall or "")


def test_the_colour_tags_that_an_image_loses_are_named(tmp_path: Path) -> None:
    (tmp_path / "in.png").write_bytes(hdr_png(16))
    options = SourceOptions(assume_sdr=True, deep=True)
    with (
        open_source(tmp_path / "in.png", options=options) as source,
        open_sink(tmp_path / "out.png", source.info, 24, 16) as sink,
    ):
        for item in source:
            sink.write(item)
        sink.commit()
        assert "not carried over from 1 image: colour tags" in sink.notes


def test_an_empty_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(MediaError, match="contains no images"):
        open_source(tmp_path)


def test_a_folder_of_pictures_in_another_format_says_what_to_do(tmp_path: Path) -> None:
    for name in ("f10.dpx", "f9.dpx", "notes.txt"):
        (tmp_path / name).write_bytes(b"")
    with pytest.raises(MediaError, match=r"no images but f9\.dpx, whose .*: convert them .* -format png \*\.dpx$"):
        open_source(tmp_path)


def test_two_images_of_one_name_are_refused(tmp_path: Path) -> None:
    with pytest.raises(MediaError, match="one image per name"):
        open_source(folder(tmp_path / "in", ["1.png", "1.bmp"]))


def exif(orientation: int) -> bytes:
    """The APP1 segment of a JPEG that says how the camera was held."""
    tiff = b"II*\0" + (8).to_bytes(4, "little") + (1).to_bytes(2, "little")
    tiff += b"\x12\x01\x03\x00" + (1).to_bytes(4, "little") + orientation.to_bytes(4, "little") + bytes(4)
    body = b"Exif\0\0" + tiff
    return b"\xff\xe1" + (len(body) + 2).to_bytes(2, "big") + body


@pytest.mark.parametrize(("orientation", "turns"), [(1, 0), (3, 2), (6, 3), (8, 1)])
def test_photographs_come_out_upright(tmp_path: Path, orientation: int, turns: int) -> None:
    stored = image(100, 32, 16)
    stored[:8, :16] = 255
    data = encode_image(stored, ".jpg")
    (tmp_path / "a.jpg").write_bytes(data[:2] + exif(orientation) + data[2:])
    (picture,) = pictures(tmp_path)
    upright = np.rot90(stored, turns)
    assert picture.pixels.shape == upright.shape
    assert np.abs(picture.pixels.astype(int) - upright).mean() < 4


def test_missing_numbers_are_noted(tmp_path: Path) -> None:
    with open_source(folder(tmp_path / "in", [f"f{number}.png" for number in (1, 2, 4)])) as source:
        assert source.notes == ("number 3 is missing between f1.png and f4.png; the other images follow one another",)
