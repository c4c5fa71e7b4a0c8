"""Folders of images and single images as sinks."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from swiftvr_trt.errors import MediaError, MisuseError
from swiftvr_trt.runtime.media import SinkOptions, open_sink, open_source

from .images import SUFFIXES, copy, folder, image, pictures
from .videos import frames_of, make_video, transcode


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_folder_keeps_names_and_format(tmp_path: Path, suffix: str) -> None:
    copy(folder(tmp_path / "in", [f"f10{suffix}", f"f9{suffix}"]), tmp_path / "out")
    assert sorted(file.name for file in (tmp_path / "out").iterdir()) == [f"f10{suffix}", f"f9{suffix}"]
    assert [picture.stamp.name for picture in pictures(tmp_path / "out")] == ["f9", "f10"]
    assert sorted(file.name for file in tmp_path.iterdir()) == ["in", "out"]


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


@pytest.mark.parametrize(("suffix", "said"), [(".jpg", True), (".bmp", True), (".png", False), (".tiff", False)])
def test_fewer_bits_than_the_input_has_are_said(tmp_path: Path, suffix: str, said: bool) -> None:
    make_video(tmp_path / "in.mkv", [0], codec="ffv1", prepare=frames_of(pix_fmt="yuv420p10le"))
    with open_source(tmp_path / "in.mkv") as source, open_sink(tmp_path / f"o{suffix}", source.info, 64, 48) as sink:
        found = [note for note in sink.notes if "the input has 10 bits per component" in note]
    assert bool(found) is said


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


def test_a_codec_for_images_is_refused(tmp_path: Path) -> None:
    with pytest.raises(MisuseError, match="takes no codec"):
        copy(folder(tmp_path / "in", ["1.png"]), tmp_path / "out", SinkOptions(codec="libx264"))


def test_images_hold_no_sound_and_say_so(tmp_path: Path, sound_clip: Path) -> None:
    _, notes = transcode(sound_clip, tmp_path / "out")
    assert notes == ("images cannot hold audio stream 1 (aac): left out",)
    assert len(list((tmp_path / "out").iterdir())) == 30
