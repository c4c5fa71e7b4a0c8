"""What is known about encoders, and what is refused because of it."""

from __future__ import annotations

import io
import re
from pathlib import Path

import av
import pytest

from swiftvr_trt.errors import MediaError
from swiftvr_trt.runtime.media import SinkOptions, codecs
from swiftvr_trt.runtime.media.codecs import choose_encoder, encoder_settings, pixel_formats, suggested_encoders
from swiftvr_trt.runtime.media.muxer import open_muxer
from swiftvr_trt.runtime.media.video_out import container_format

from .videos import assert_refused


@pytest.mark.parametrize(
    ("name", "wanted", "chosen"),
    [
        ("out.mp4", None, "libx264"),
        ("out.mkv", None, "libx264"),
        ("out.ts", None, "libx264"),
        ("out.webm", None, "libvpx-vp9"),
        ("out.mp4", "hevc", "libx265"),
        ("out.mkv", "ffv1", "ffv1"),
    ],
)
def test_a_container_has_a_usual_encoder_and_formats_have_names(
    tmp_path: Path, name: str, wanted: str | None, chosen: str
) -> None:
    assert choose_encoder(av.open(str(tmp_path / name), "w"), wanted).name == chosen


def test_suggestions_are_limited_to_the_codecs_of_the_container() -> None:
    assert suggested_encoders(None).startswith("libx264, libx265")
    assert suggested_encoders({"ffv1", "libx264", "rare"}) == "libx264, ffv1"
    assert suggested_encoders({"b", "a"}) == "a, b"


def test_odd_sizes_are_not_offered_to_x264_in_halved_chroma() -> None:
    x264 = av.Codec("libx264", "w")
    assert pixel_formats(x264, 64, 48, None)[0] == "yuv420p"
    assert pixel_formats(x264, 63, 48, None)[0] == "yuv444p"
    assert not any("420" in name for name in pixel_formats(x264, 64, 47, None))
    assert pixel_formats(x264, 63, 48, "yuv420p") == ["yuv420p"]  # asked for, so tried


@pytest.mark.parametrize(
    ("codec", "usual", "deep"),
    [
        ("libx264", "yuv420p", "yuv420p10le"),
        ("libx265", "yuv420p", "yuv420p10le"),
        ("libsvtav1", "yuv420p", "yuv420p10le"),
        ("ffv1", "yuv420p", "yuv420p10le"),
        ("prores_ks", "yuv422p10le", "yuv422p10le"),
        ("dnxhd", "yuv422p10le", "yuv422p10le"),
        ("libvpx-vp9", "yuv420p", "yuv420p"),
        ("hevc_nvenc", "yuv420p", "p010le"),
        ("mjpeg", "yuv420p", "yuv420p"),
    ],
)
def test_the_output_is_as_deep_as_the_input_where_the_encoder_can(codec: str, usual: str, deep: str) -> None:
    encoder = av.Codec(codec, "w")
    assert pixel_formats(encoder, 64, 48, None)[0] == usual
    assert pixel_formats(encoder, 64, 48, None, bits=10)[0] == deep


@pytest.mark.parametrize(
    ("codec", "options", "settings"),
    [
        ("libx264", SinkOptions(), {"crf": "18", "x264-params": "log=1"}),
        ("libx264", SinkOptions(crf=30, preset="fast"), {"crf": "30", "preset": "fast", "x264-params": "log=1"}),
        ("libx264", SinkOptions(crf=18.5), {"crf": "18.5", "x264-params": "log=1"}),
        ("libx265", SinkOptions(), {"crf": "20", "x265-params": "log-level=error"}),
        ("hevc_nvenc", SinkOptions(crf=25, gpu=1), {"cq": "25", "gpu": "1"}),
        ("ffv1", SinkOptions(), {}),
        (
            "libx264",
            SinkOptions(extra=(("crf", "0"), ("tune", "film"))),
            {"crf": "0", "tune": "film", "x264-params": "log=1"},
        ),
        (
            "libx264",
            SinkOptions(extra=(("x264-params", "aq-mode=2"),)),
            {"crf": "18", "x264-params": "log=1:aq-mode=2"},
        ),
    ],
)
def test_options_are_translated_for_each_encoder(
    monkeypatch: pytest.MonkeyPatch, codec: str, options: SinkOptions, settings: dict[str, str]
) -> None:
    monkeypatch.setattr(codecs, "cpu_limit", lambda: None)
    assert encoder_settings(codec, options) == settings


@pytest.mark.parametrize(
    ("codec", "settings"),
    [
        ("libx264", {}),  # follows FFmpeg's number of threads
        ("libx265", {"x265-params": "log-level=error:pools=3"}),
        ("libsvtav1", {"svtav1-params": "lp=3"}),
    ],
)
def test_encoders_with_threads_of_their_own_are_told_the_limit(
    monkeypatch: pytest.MonkeyPatch, codec: str, settings: dict[str, str]
) -> None:
    monkeypatch.setattr(codecs, "cpu_limit", lambda: 3)
    assert settings.items() <= encoder_settings(codec, SinkOptions()).items()
    assert "3" not in encoder_settings("libx264", SinkOptions()).values()


@pytest.mark.parametrize("codec", ["libx264", "libx264rgb", "libx265"])
def test_a_preset_that_would_be_reported_on_stderr_is_refused(codec: str) -> None:
    with pytest.raises(MediaError, match=f"the preset is 'p7', expected for {codec} one of"):
        encoder_settings(codec, SinkOptions(preset="p7"))


@pytest.mark.parametrize(
    ("name", "options", "said"),
    [
        ("out.mp4", SinkOptions(codec="nope"), "this FFmpeg has no encoder 'nope': use one of libx264"),
        ("out.mp4", SinkOptions(codec="aac"), "encoder of audio"),
        ("out.webm", SinkOptions(codec="libx264"), "webm file does not hold libx264 video: use one of .*libvpx-vp9"),
        ("out.mp4", SinkOptions(codec="libsvtav1", crf=70.5), "crf is 70.5, expected 0 to 63"),
        ("out.mp4", SinkOptions(crf=60), "crf is 60, expected 0 to 51"),
        ("out.mkv", SinkOptions(codec="ffv1", crf=18), "no constant quality"),
        ("out.mkv", SinkOptions(codec="libsvtav1", crf=18.5), "a whole number for libsvtav1: choose 18 or 19"),
        ("out.mp4", SinkOptions(preset="sluggish"), "'sluggish', expected for libx264 one of ultrafast, .*, placebo"),
        ("out.wav", SinkOptions(), "wav files hold no video"),
        ("out.mp3", SinkOptions(), "mp3 files hold no video"),
        ("out.mp4", SinkOptions(pix_fmt="rgb24"), "no pixel format 'rgb24', expected one of yuv420p"),
    ],
)
def test_what_no_encoder_can_write_is_refused_at_once(
    clip: Path, tmp_path: Path, name: str, options: SinkOptions, said: str
) -> None:
    assert_refused(clip, tmp_path / name, said, options)


def documented_encoders() -> list[tuple[str, str]]:
    """Each suffix and its encoder in the table of docs/use.md."""
    text = (Path(__file__).parents[3] / "docs" / "use.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (\.[a-z0-9 .]+) \| (\S+) \|$", text, re.MULTILINE)
    return [(suffix, encoder) for suffixes, encoder in rows for suffix in suffixes.split()]


@pytest.mark.parametrize(("suffix", "encoder"), documented_encoders())
def test_the_documented_encoders_are_the_default_ones(suffix: str, encoder: str) -> None:
    format_name = container_format(Path(f"x{suffix}"))
    assert choose_encoder(open_muxer(io.BytesIO(), format_name), None).name == encoder


def test_the_table_of_encoders_is_found() -> None:
    assert len(documented_encoders()) > 20


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("x.vob", "vob"),
        ("x.VOB", "vob"),
        ("x.mpg", "mpeg"),
        ("x.mkv", "matroska"),
        ("x.m2ts", "m2ts"),
        ("x.ts", "mpegts"),
    ],
)
def test_a_suffix_means_its_own_format(name: str, expected: str) -> None:
    """FFmpeg takes .vob for `svcd` first."""
    assert container_format(Path(name)) == expected
