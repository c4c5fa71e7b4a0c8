"""What a path stands for, and what cannot be combined."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import pytest

from swiftvr_trt.errors import MediaError, MisuseError
from swiftvr_trt.runtime.media import Sink, SinkOptions, open_sink, open_source
from swiftvr_trt.runtime.media.images_out import ImageSink
from swiftvr_trt.runtime.media.source_options import SourceOptions
from swiftvr_trt.runtime.media.video_out import VideoSink

from .images import copy, folder
from .videos import transcode


def test_a_video_has_its_own_rate(clip: Path) -> None:
    with pytest.raises(MisuseError, match=r"a rate was given for .*, but a video has its own: leave out the rate"):
        open_source(clip, rate=Fraction(30))


def test_the_input_is_never_the_output(clip: Path, tmp_path: Path) -> None:
    before = clip.read_bytes()
    (tmp_path / "sub").mkdir()
    for path in (clip, tmp_path / "sub" / ".." / "in.mp4"):
        with pytest.raises(MediaError, match="is the input itself"):
            transcode(clip, path, options=SinkOptions(overwrite=True))
    assert clip.read_bytes() == before


def test_the_package_is_light_until_a_file_is_opened() -> None:
    code = "import sys, swiftvr_trt.runtime.media; print(sorted({'av', 'torch', 'onnxruntime'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_input_folder_is_never_the_output(tmp_path: Path) -> None:
    path = folder(tmp_path / "in", ["1.png"])
    with pytest.raises(MediaError, match="is the input itself"):
        copy(path, tmp_path / "in", SinkOptions(overwrite=True))


def test_a_device_is_no_input() -> None:
    with pytest.raises(MediaError, match="is a device"):
        open_source("/dev/zero")


@pytest.mark.parametrize("name", ["out.mp4", "shots/", "one.png"])
def test_a_format_is_named_for_pipes_only(clip: Path, tmp_path: Path, name: str) -> None:
    with open_source(clip) as source, pytest.raises(MisuseError, match="the option is for pipes"):
        open_sink(f"{tmp_path}/{name}", source.info, 64, 48, SinkOptions(out_format="nut"))


def test_images_are_no_raw_video(tmp_path: Path) -> None:
    with pytest.raises(MisuseError, match="--in-format"):
        open_source(folder(tmp_path / "in", ["1.png"]), options=SourceOptions("yuv420p:64x48:25"))


@pytest.mark.parametrize(
    ("option", "options"),
    [
        ("--vf", SourceOptions(vf="hflip")),
        ("--tonemap", SourceOptions(tonemap=True)),
        ("--deinterlace bwdif", SourceOptions(deinterlace="bwdif")),
    ],
)
def test_what_only_videos_go_through_is_refused_for_images(tmp_path: Path, option: str, options: SourceOptions) -> None:
    path = folder(tmp_path / "in", ["1.png"])
    with pytest.raises(MisuseError, match=f"{option} was given for .*, expected a video"):
        open_source(path, options=options)
    for harmless in ("auto", "no"):
        open_source(path, options=SourceOptions(deinterlace=harmless)).close()


@pytest.mark.parametrize("rate", [Fraction(0), Fraction(-25)])
def test_a_rate_must_be_above_zero(tmp_path: Path, rate: Fraction) -> None:
    with pytest.raises(MisuseError, match="above 0"):
        open_source(folder(tmp_path / "in", ["1.png"]), rate=rate)


def test_an_output_has_at_least_one_pixel(clip: Path, tmp_path: Path) -> None:
    with open_source(clip) as source, pytest.raises(MisuseError, match="0x48, expected at least 1x1"):
        open_sink(tmp_path / "out.mp4", source.info, 0, 48)


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("out.mp4", VideoSink),
        ("out.png", ImageSink),
        ("out", ImageSink),
        ("out.mp4/", ImageSink),
        ("there.d", ImageSink),
    ],
)
def test_the_name_of_an_output_decides_what_it_is(clip: Path, tmp_path: Path, name: str, kind: type[Sink]) -> None:
    (tmp_path / "there.d").mkdir()
    with open_source(clip) as source:
        info = replace(source.info, frames=1)
        with open_sink(f"{tmp_path}/{name}", info, 64, 48) as sink:
            assert type(sink) is kind


@pytest.mark.parametrize("link", ["none", "symlink", "hard link", "folder link"])
def test_an_input_image_is_never_replaced_by_its_own_output(tmp_path: Path, link: str) -> None:
    source = folder(tmp_path / "f", ["a.png"]) / "a.png"
    before, out = source.read_bytes(), tmp_path / "f"
    if link == "folder link":
        out = tmp_path / "link"
        out.symlink_to(tmp_path / "f")
    elif link != "none":
        out = tmp_path / "g"
        out.mkdir()
        (out / "a.png").symlink_to(source) if link == "symlink" else (out / "a.png").hardlink_to(source)
    with open_source(source) as opened, pytest.raises(MediaError, match="is the input itself"):
        open_sink(f"{out}/", opened.info, 24, 16, SinkOptions(overwrite=True))
    with open_source(tmp_path / "f") as opened, pytest.raises(MediaError, match="is the input itself"):
        open_sink(out / "a.png", opened.info, 24, 16, SinkOptions(overwrite=True))
    assert source.read_bytes() == before
