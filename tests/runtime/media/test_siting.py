"""Where chroma lies: as a video says, else as is usual for its codec; and outputs say it, too."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import av
import pytest

from swiftvr_trt.runtime.media import SinkOptions, open_sink, open_source
from swiftvr_trt.runtime.media.codecs import encoder_settings
from swiftvr_trt.runtime.media.siting import Siting, options_of, siting_of, usual_siting
from swiftvr_trt.runtime.media.source_options import SourceOptions
from swiftvr_trt.runtime.stream.frames import CENTRE, LEFT, TOP_LEFT

from .videos import EVEN, as_is, make_video

PLACES = {"left": LEFT, "center": CENTRE, "topleft": TOP_LEFT}


def ten_bits(_: Any, stream: Any) -> None:
    stream.pix_fmt = "yuv420p10le"


def siting_in(path: Path) -> Siting:
    with open_source(path, options=SourceOptions(planes=True)) as source:
        return source.info.form.colour.siting


@pytest.mark.parametrize(
    ("codec", "place"),
    [("h264", LEFT), ("av1", LEFT), ("mjpeg", CENTRE), ("mpeg1video", CENTRE), ("vp8", CENTRE), ("dvvideo", TOP_LEFT)],
)
def test_the_siting_is_the_usual_one_of_the_codec(codec: str, place: Siting) -> None:
    assert usual_siting(codec) == place


@pytest.mark.parametrize(("suffix", "codec"), [(".mp4", "libx264"), (".ts", "libx264"), (".mkv", "ffv1")])
@pytest.mark.parametrize("name", PLACES)
def test_it_is_where_the_video_says(tmp_path: Path, suffix: str, codec: str, name: str) -> None:
    path = make_video(tmp_path / f"in{suffix}", EVEN[:9], codec, chroma_sample_location=name)
    assert siting_in(path) == PLACES[name]


def test_the_place_of_uhd_video_is_read(tmp_path: Path) -> None:
    options = {**encoder_settings("libx265", SinkOptions()), "chroma_sample_location": "topleft"}
    assert siting_in(make_video(tmp_path / "in.mp4", EVEN[:3], "libx265", ten_bits, as_is, **options)) == TOP_LEFT


@pytest.mark.parametrize("name", PLACES)
def test_raw_video_with_a_header_says_it(tmp_path: Path, name: str) -> None:
    path = make_video(tmp_path / "in.y4m", EVEN[:2], "rawvideo", chroma_sample_location=name)
    assert siting_in(path) == PLACES[name]


@pytest.mark.parametrize(("name", "codec", "place"), [("out.nut", "rawvideo", LEFT), ("out.webm", "libvpx", CENTRE)])
def test_without_a_word_it_is_the_usual_place(tmp_path: Path, name: str, codec: str, place: Siting) -> None:
    with av.open(make_video(tmp_path / name, EVEN[:2], codec)) as container:
        assert siting_of(container.streams.video[0]) == place


@pytest.mark.parametrize(
    ("name", "codec", "place"),
    [
        ("out.y4m", "rawvideo", LEFT),
        ("out.mkv", "ffv1", LEFT),
        ("out.webm", "libvpx", CENTRE),
        ("out.avi", "mjpeg", CENTRE),
    ],
)
def test_outputs_say_where_their_chroma_lies(tmp_path: Path, name: str, codec: str, place: Siting) -> None:
    clip = make_video(tmp_path / "in.mp4", EVEN[:2], chroma_sample_location="topleft")
    options = SinkOptions(codec=codec)
    with (
        open_source(clip, options=SourceOptions(planes=True)) as source,
        open_sink(tmp_path / name, source.info, 64, 48, options) as sink,
    ):
        assert sink.frames.colour.siting == place
        for item in source:
            sink.write(item)
        sink.commit()
    assert siting_in(tmp_path / name) == place
    if name == "out.y4m":
        assert b" C420mpeg2 " in (tmp_path / name).read_bytes()[:100]


def test_other_places_have_no_name() -> None:
    assert options_of((0.25, 0.5)) == {}
