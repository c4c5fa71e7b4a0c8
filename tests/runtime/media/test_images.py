"""Folders of images and single images, in and out."""

from __future__ import annotations

import os
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from swiftvr_trt.errors import MediaError, MisuseError, OutputError
from swiftvr_trt.runtime.media import Picture, SinkOptions, open_sink, open_source
from swiftvr_trt.runtime.media.images_in import natural_key
from swiftvr_trt.runtime.media.images_out import encode_image

SUFFIXES = [".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff"]


def image(value: int, width: int = 24, height: int = 16) -> np.ndarray:
    pixels = np.zeros((height, width, 3), np.uint8)
    pixels[..., 0], pixels[..., 1], pixels[..., 2] = value, 255 - value, 77
    return pixels


def folder(path: Path, names: list[str], width: int = 24, height: int = 16) -> Path:
    path.mkdir()
    for index, name in enumerate(names):
        (path / name).write_bytes(encode_image(image(index * 20, width, height), Path(name).suffix.lower()))
    return path


def pictures(path: Path, rate: Fraction | None = None) -> list[Picture]:
    with open_source(path, rate=rate) as source:
        return [item for item in source if isinstance(item, Picture)]


def copy(before: Path, after: Path, options: SinkOptions | None = None) -> None:
    with open_source(before) as source, open_sink(after, source.info, 24, 16, options) as sink:
        for item in source:
            sink.write(item)
        sink.commit()


def test_numbers_in_names_are_counted_not_spelled() -> None:
    names = ["f10.png", "F2.png", "f1.png", "a.png", "f2b.png", "1.png", "f02.png"]
    assert sorted(names, key=natural_key) == ["1.png", "a.png", "f1.png", "F2.png", "f02.png", "f2b.png", "f10.png"]


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_every_format_is_read_as_it_was_written(tmp_path: Path, suffix: str) -> None:
    found = pictures(folder(tmp_path / "in", [f"a{suffix}", f"b{suffix}"]))
    assert len(found) == 2
    for index, picture in enumerate(found):
        assert np.abs(picture.pixels.astype(int) - image(index * 20)).max() <= (4 if suffix in (".jpg", ".jpeg") else 0)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_folder_keeps_names_and_format(tmp_path: Path, suffix: str) -> None:
    copy(folder(tmp_path / "in", [f"f10{suffix}", f"f9{suffix}"]), tmp_path / "out")
    assert sorted(file.name for file in (tmp_path / "out").iterdir()) == [f"f10{suffix}", f"f9{suffix}"]
    assert [picture.stamp.name for picture in pictures(tmp_path / "out")] == ["f9", "f10"]
    assert sorted(file.name for file in tmp_path.iterdir()) == ["in", "out"]


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


def test_images_become_a_video_at_their_rate(tmp_path: Path) -> None:
    path = folder(tmp_path / "in", ["1.png", "2.png", "3.png"])
    with open_source(path, rate=Fraction(10)) as source, open_sink(tmp_path / "o.mp4", source.info, 24, 16) as sink:
        for item in source:
            sink.write(item)
        sink.commit()
    with av.open(str(tmp_path / "o.mp4")) as container:
        times = [frame.time for frame in container.decode(video=0)]
    assert times == pytest.approx([0, 0.1, 0.2])
    for index, picture in enumerate(pictures(tmp_path / "o.mp4")):
        assert np.abs(picture.pixels.astype(int) - image(index * 20)).mean() <= 4


def test_a_video_becomes_numbered_png(tmp_path: Path) -> None:
    path = folder(tmp_path / "in", ["1.png", "2.png"])
    copy(path, tmp_path / "o.mkv", SinkOptions(codec="ffv1", pix_fmt="bgr0"))
    copy(tmp_path / "o.mkv", tmp_path / "out")
    assert [picture.stamp.name for picture in pictures(tmp_path / "out")] == ["000001", "000002"]
    assert [np.array_equal(p.pixels, image(i * 20)) for i, p in enumerate(pictures(tmp_path / "out"))] == [True, True]


def test_a_single_image_becomes_a_single_image(tmp_path: Path) -> None:
    path = folder(tmp_path / "in", ["1.png"])
    copy(path / "1.png", tmp_path / "o.bmp")
    assert np.array_equal(pictures(tmp_path / "o.bmp")[0].pixels, image(0))


def test_many_images_do_not_fit_into_one(tmp_path: Path) -> None:
    path = folder(tmp_path / "in", ["1.png", "2.png"])
    with pytest.raises(MediaError, match="one image"):
        copy(path, tmp_path / "o.png")
    assert sorted(file.name for file in tmp_path.iterdir()) == ["in"]


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


def test_an_image_of_another_size_is_named(tmp_path: Path) -> None:
    path = folder(tmp_path / "in", ["1.png"])
    (path / "2.png").write_bytes(encode_image(image(1, 26, 16), ".png"))
    with pytest.raises(MediaError, match=r"2\.png is 26x16, expected 24x16"):
        pictures(path)


def test_a_broken_image_is_named(tmp_path: Path) -> None:
    path = folder(tmp_path / "in", ["1.png"])
    (path / "2.png").write_bytes(b"no image")
    (path / "3.png").write_bytes(b"")
    with pytest.raises(MediaError, match=r"2\.png cannot be read as an image"):
        pictures(path)


def test_an_empty_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(MediaError, match="contains no images"):
        open_source(tmp_path)


def test_two_images_of_one_name_are_refused(tmp_path: Path) -> None:
    with pytest.raises(MediaError, match="one image per name"):
        open_source(folder(tmp_path / "in", ["1.png", "1.bmp"]))


def test_a_folder_appears_only_when_it_is_complete(tmp_path: Path) -> None:
    path = folder(tmp_path / "in", ["1.png", "2.png"])
    with open_source(path) as source, open_sink(tmp_path / "out", source.info, 24, 16) as sink:
        for item in source:
            sink.write(item)
            assert not (tmp_path / "out").exists()
    assert sorted(file.name for file in tmp_path.iterdir()) == ["in"]


def test_an_empty_output_folder_is_filled(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    copy(folder(tmp_path / "in", ["1.png"]), tmp_path / "out")
    assert [file.name for file in (tmp_path / "out").iterdir()] == ["1.png"]


def test_a_folder_that_is_there_is_never_moved(tmp_path: Path) -> None:
    """Another disk may be mounted there: nothing beside it can take its place, or be moved into it."""
    (tmp_path / "disk").mkdir()
    (tmp_path / "out").symlink_to(tmp_path / "disk")
    before = (tmp_path / "disk").stat().st_ino
    with (
        open_source(folder(tmp_path / "in", ["1.png", "2.png"])) as source,
        open_sink(tmp_path / "out", source.info, 24, 16) as sink,
    ):
        for item in source:
            sink.write(item)
        assert [path.name[0] for path in (tmp_path / "disk").iterdir()] == ["."]
        assert sorted(path.name for path in tmp_path.iterdir()) == ["disk", "in", "out"]
        sink.commit()
    assert (tmp_path / "disk").stat().st_ino == before
    assert sorted(path.name for path in (tmp_path / "disk").iterdir()) == ["1.png", "2.png"]


def test_what_killed_runs_left_of_a_folder_is_removed(tmp_path: Path) -> None:
    left, living = tmp_path / ".out.0badcafe.part", tmp_path / ".out.00c0ffee.part"
    for path in (left, living):
        path.mkdir()
        (path / "1.png").write_bytes(b"half")
    os.utime(left, (0, 0))
    copy(folder(tmp_path / "in", ["1.png"]), tmp_path / "out")
    assert sorted(path.name for path in tmp_path.iterdir()) == [living.name, "in", "out"]


def test_a_filled_output_folder_is_replaced_only_on_request(tmp_path: Path) -> None:
    before = folder(tmp_path / "in", ["1.png"])
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "1.png").write_text("old")
    (tmp_path / "out" / "keep.txt").write_text("mine")
    with pytest.raises(MediaError, match="is not empty"):
        copy(before, tmp_path / "out")
    assert (tmp_path / "out" / "1.png").read_text() == "old"
    copy(before, tmp_path / "out", SinkOptions(overwrite=True))
    assert np.array_equal(pictures(tmp_path / "out")[0].pixels, image(0))
    assert (tmp_path / "out" / "keep.txt").read_text() == "mine"
    assert sorted(file.name for file in tmp_path.iterdir()) == ["in", "out"]


def test_the_input_folder_is_no_output(tmp_path: Path) -> None:
    path = folder(tmp_path / "in", ["1.png"])
    with pytest.raises(MediaError, match="is the input itself"):
        copy(path, tmp_path / "in", SinkOptions(overwrite=True))


def test_a_codec_for_images_is_refused(tmp_path: Path) -> None:
    with pytest.raises(MisuseError, match="takes no codec"):
        copy(folder(tmp_path / "in", ["1.png"]), tmp_path / "out", SinkOptions(codec="libx264"))


def test_a_missing_parent_is_named(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="does not exist"):
        copy(folder(tmp_path / "in", ["1.png"]), tmp_path / "no" / "out")


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
