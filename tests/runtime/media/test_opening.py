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


def test_standard_input_and_output_are_not_supported_yet(clip: Path) -> None:
    with pytest.raises(MisuseError, match="standard input"):
        open_source("-")
    with open_source(clip) as source, pytest.raises(MisuseError, match="standard output"):
        open_sink("-", source.info, 64, 48)


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
