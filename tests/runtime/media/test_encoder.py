"""Encoders: sizes, clocks, pixel formats, the GPU, and what is refused."""

from __future__ import annotations

import itertools
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from swiftvr_trt.errors import MediaError
from swiftvr_trt.runtime.devices.driver import has_driver
from swiftvr_trt.runtime.media import Picture, SinkOptions, SourceInfo, Stamp, encoder, open_sink, open_source
from swiftvr_trt.runtime.media.base import Colour
from swiftvr_trt.runtime.media.video_out import VideoSink

from .videos import assert_refused, decoded, frames_of, make_video, still, times, transcode

TICK = Fraction(1, 25)
INFO_OF_PICTURES = SourceInfo(Path("in.mp4"), 192, 128, None, Fraction(25), TICK, Colour(), None, "pictures")

without_driver = pytest.mark.skipif(has_driver(), reason="this machine has a driver")


def header(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str, options: SinkOptions, threads: int) -> str:
    monkeypatch.setattr(encoder, "cpu_limit", lambda: threads)
    with open_sink(tmp_path / f"out{suffix}", INFO_OF_PICTURES, 192, 128, options) as sink:
        assert isinstance(sink, VideoSink)
        return sink.header


@pytest.mark.parametrize("codec", ["libx264", "libx265"])
def test_the_header_of_an_encoder_follows_from_its_options_and_not_from_the_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, codec: str
) -> None:
    """x265 writes its number of threads there, in a remark that no decoder needs."""
    options = SinkOptions(codec=codec, preset="ultrafast")
    found = {header(tmp_path, monkeypatch, ".mp4", options, threads) for threads in (1, 2)}
    other = header(tmp_path, monkeypatch, ".mp4", replace(options, preset="slow"), 1)
    assert [len(digest) for digest in (*found, other)] == [16, 16]
    assert other not in found
    assert header(tmp_path, monkeypatch, ".ts", options, 1) == ""


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_the_pixel_shape_is_kept(tmp_path: Path, suffix: str) -> None:
    def wide(_: Any, stream: Any) -> None:
        stream.codec_context.sample_aspect_ratio = Fraction(64, 45)

    make_video(tmp_path / f"in{suffix}", [0, 3600], prepare=wide)
    info, _ = transcode(tmp_path / f"in{suffix}", tmp_path / f"out{suffix}", scale=2)
    assert info.sample_aspect == Fraction(64, 45)
    with open_source(tmp_path / f"out{suffix}") as result:
        assert result.info.sample_aspect == Fraction(64, 45)


def test_a_stretched_output_keeps_the_display_aspect(tmp_path: Path) -> None:
    def square(_: Any, stream: Any) -> None:
        stream.codec_context.sample_aspect_ratio = Fraction(1)

    make_video(tmp_path / "in.mp4", [0, 3600], prepare=square)
    with open_source(tmp_path / "in.mp4") as source, open_sink(tmp_path / "o.mp4", source.info, 64, 64) as sink:
        for item in source:
            assert isinstance(item, Picture)
            sink.write(item.with_pixels(item.pixels.repeat(2, 0)[:64]))
        sink.commit()
    with open_source(tmp_path / "o.mp4") as result:
        assert result.info.sample_aspect == Fraction(4, 3)


@pytest.mark.parametrize(
    ("pix_fmt", "options", "suffix", "said"),
    [
        ("yuv420p10le", SinkOptions(codec="libvpx-vp9"), ".webm", "10 bits per component, the output 8 (libvpx-vp9, "),
        ("yuv420p10le", SinkOptions(codec="mpeg4"), ".mp4", "10 bits per component, the output 8 (mpeg4, yuv420p)"),
        ("yuv420p12le", SinkOptions(codec="libx264"), ".mp4", "12 bits per component, the output 10 (libx264, "),
        ("yuv420p10le", SinkOptions(codec="libx264"), ".mp4", None),
        ("yuv420p10le", SinkOptions(codec="libx264", pix_fmt="yuv420p"), ".mp4", None),
        ("yuv420p", SinkOptions(codec="gif"), ".gif", None),
    ],
)
def test_fewer_bits_than_the_input_has_are_said(
    tmp_path: Path, pix_fmt: str, options: SinkOptions, suffix: str, said: str | None
) -> None:
    make_video(tmp_path / "in.mkv", [0, 3600], codec="ffv1", prepare=frames_of(pix_fmt=pix_fmt))
    _, notes = transcode(tmp_path / "in.mkv", tmp_path / f"out{suffix}", options=options)
    found = [note for note in notes if "per component" in note]
    assert (len(found) == 1 and said in found[0]) if said else not found


@pytest.mark.parametrize(
    ("codec", "alpha", "advice"),
    [
        ("ffv1", True, "--pix-fmt yuva444p12le keeps more"),
        ("ffv1", False, "--pix-fmt yuv420p12le keeps more"),
        ("libx264", False, "--pix-fmt or another --codec may keep more, e.g. ffv1"),
        ("prores_ks", True, "--pix-fmt or another --codec may keep more, e.g. ffv1"),
    ],
)
def test_a_deeper_pixel_format_of_the_same_encoder_is_named(
    tmp_path: Path, codec: str, alpha: bool, advice: str
) -> None:
    info, options = replace(INFO_OF_PICTURES, bits=12, alpha=alpha), SinkOptions(codec=codec)
    with open_sink(tmp_path / "out.mkv", info, 192, 128, options) as sink:
        assert [note for note in sink.notes if note.endswith(advice)]
    if "keeps" in advice:
        with open_sink(tmp_path / "out.mkv", info, 192, 128, replace(options, pix_fmt=advice.split()[1])) as sink:
            assert not sink.notes


@pytest.mark.parametrize(
    ("codec", "suffix", "noted"),
    [("libx264", ".mp4", True), ("libx265", ".mp4", True), ("ffv1", ".mkv", False), ("libvpx-vp9", ".webm", False)],
)
def test_odd_sizes_keep_every_pixel(tmp_path: Path, codec: str, suffix: str, noted: bool) -> None:
    make_video(tmp_path / "in.mkv", [0, 3600, 7200], codec="ffv1", prepare=frames_of(63, 47))
    _, notes = transcode(tmp_path / "in.mkv", tmp_path / f"out{suffix}", options=SinkOptions(codec=codec))
    with open_source(tmp_path / f"out{suffix}") as result:
        found = [item.pixels for item in result if isinstance(item, Picture)]
    assert [pixels.shape for pixels in found] == [(47, 63, 3)] * 3
    assert np.abs(found[0].astype(int) - still(0, 63, 47)).mean() < 6
    assert any("odd size 63x47" in note for note in notes) == noted


@pytest.mark.parametrize("codec", ["mpeg4", "mjpeg", "prores_ks", "libx264rgb", "h264"])
def test_other_encoders_keep_the_times(tmp_path: Path, codec: str) -> None:
    make_video(tmp_path / "in.mkv", [3600 * i for i in range(5)])
    transcode(tmp_path / "in.mkv", tmp_path / "out.mkv", options=SinkOptions(codec=codec))
    assert times(tmp_path / "out.mkv") == [Fraction(i, 25) for i in range(5)]


@pytest.mark.parametrize("suffix", [".mp4", ".mov"])
def test_hevc_has_the_tag_that_players_of_apple_ask_for(tmp_path: Path, suffix: str) -> None:
    make_video(tmp_path / "in.mp4", [0, 3600, 7200])
    transcode(tmp_path / "in.mp4", tmp_path / f"out{suffix}", options=SinkOptions(codec="libx265", preset="ultrafast"))
    with av.open(str(tmp_path / f"out{suffix}")) as container:
        assert container.streams.video[0].codec_context.codec_tag == "hvc1"


def test_a_container_without_a_clock_gets_even_steps_and_a_note(tmp_path: Path) -> None:
    make_video(tmp_path / "in.mp4", [3600 * i for i in range(10)])
    _, notes = transcode(tmp_path / "in.mp4", tmp_path / "out.avi")
    steps = [after - before for before, after in itertools.pairwise(times(tmp_path / "out.avi"))]
    assert steps == [Fraction(1, 25)] * 9
    assert any("steps of 1/25 s" in note for note in notes)


def test_ten_bit_output_on_request(tmp_path: Path) -> None:
    make_video(tmp_path / "in.mp4", [0, 3600])
    transcode(
        tmp_path / "in.mp4", tmp_path / "out.mkv", options=SinkOptions(codec="libx265", pix_fmt="yuv420p10le", crf=30)
    )
    with open_source(tmp_path / "out.mkv") as result:
        assert "hevc yuv420p10le" in result.info.description


@pytest.mark.parametrize("count", [1, 2, 3])
def test_a_clip_too_short_for_x265_keeps_its_times(tmp_path: Path, count: int) -> None:
    """x265 leaves the decoding times of one or two pictures undefined. Every second file was wrong, and some failed."""
    pts = [900 + 3600 * i for i in range(count)]
    make_video(tmp_path / "in.mp4", pts)
    for _ in range(8):
        options = SinkOptions(codec="libx265", preset="ultrafast", overwrite=True)
        transcode(tmp_path / "in.mp4", tmp_path / "out.mp4", options=options)
        with av.open(str(tmp_path / "out.mp4")) as container:
            stamps = [(packet.pts, packet.dts) for packet in container.demux(video=0) if packet.size]
        assert sorted(first for first, _ in stamps if first is not None) == pts
        assert count > 2 or [second for _, second in stamps] == pts


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (SinkOptions(pix_fmt="yuv420p", extra=(("profile", "no"),)), "the encoder libx264 refuses 64x48 pictures"),
        (SinkOptions(extra=(("nonsense", "1"),)), "it has no option nonsense"),
    ],
)
def test_options_that_the_encoder_refuses_are_reported_at_once(
    clip: Path, tmp_path: Path, options: SinkOptions, said: str
) -> None:
    assert_refused(clip, tmp_path / "out.mp4", said, options)


@pytest.mark.parametrize(("suffix", "remedy"), [("", "--vf fps=25"), (".png", "--rate 25")])
def test_a_rate_that_the_encoder_refuses_comes_with_a_remedy(
    clip: Path, tmp_path: Path, suffix: str, remedy: str
) -> None:
    with open_source(clip) as source:
        info = replace(source.info, rate=Fraction(1000), time_base=Fraction(1, 1000), image_suffix=suffix)
        with pytest.raises(MediaError, match=rf"1000/1 fps\): choose .*, or another rate, e\.g\. {remedy}$"):
            open_sink(tmp_path / "out.mpg", info, 64, 48)


@without_driver
@pytest.mark.parametrize(("codec", "used"), [(None, "libx264"), ("hevc", "libx265"), ("libx264", "libx264")])
def test_encoding_falls_back_to_software_and_says_why(
    sound_clip: Path, tmp_path: Path, codec: str | None, used: str
) -> None:
    for name, gpu in (("soft.mkv", None), ("hard.mkv", 0)):
        options = SinkOptions(codec=codec, crf=0, gpu=gpu)  # without loss, since x264 is not the same each time
        with open_source(sound_clip) as source, open_sink(tmp_path / name, source.info, 56, 34, options) as sink:
            notes = [note for note in sink.notes if "GPU" in note]
            for item in source:
                sink.write(item)
            sink.commit()
        assert len(notes) == (gpu is not None)
        assert all(note.startswith(f"encoding in software with {used}, not on the GPU: ") for note in notes)
        assert "\n" not in "".join(notes)
    if used == "libx264":
        assert np.array_equal(decoded(tmp_path / "soft.mkv"), decoded(tmp_path / "hard.mkv"))


@without_driver
def test_a_format_without_a_gpu_encoder_has_no_note(sound_clip: Path, tmp_path: Path) -> None:
    with (
        open_source(sound_clip) as source,
        open_sink(tmp_path / "o.mkv", source.info, 56, 34, SinkOptions(codec="ffv1", gpu=0)) as sink,
    ):
        assert sink.notes == ()
        assert sink.description.startswith("ffv1")


def test_a_bad_option_is_not_blamed_on_the_gpu(sound_clip: Path, tmp_path: Path) -> None:
    with open_source(sound_clip) as source, pytest.raises(MediaError, match="crf is 60, expected 0 to 51 for libx264"):
        open_sink(tmp_path / "o.mp4", source.info, 56, 34, SinkOptions(crf=60, gpu=0))
    assert list(tmp_path.iterdir()) == []


def test_x264_encodes_the_same_pictures_to_the_same_bytes(tmp_path: Path) -> None:
    """With AVX-512 it does not by itself, so an interrupted run would not make the file of an uninterrupted one."""
    y, x = np.mgrid[:128, :192]
    made = set()
    for number in range(8):
        path = tmp_path / f"{number}.mkv"
        with open_sink(path, INFO_OF_PICTURES, 192, 128) as sink:
            for index in range(24):
                wave = 128 + 40 * np.sin((x + 3 * index) / 11) + 30 * np.cos((y - 2 * index) / 7)
                sink.write(Picture(np.repeat(wave.astype(np.uint8)[..., None], 3, 2), Stamp(index, index, 1, TICK)))
            sink.commit()
        with av.open(str(path)) as container:
            made.add(b"".join(bytes(packet) for packet in container.demux(video=0)))
    assert len(made) == 1


@pytest.mark.parametrize("wanted", ["", "asm=SSE2", "aq-mode=2"])
def test_x264_options_of_the_user_come_last(monkeypatch: pytest.MonkeyPatch, wanted: str) -> None:
    settings = {"crf": "18", **({"x264-params": wanted} if wanted else {})}
    monkeypatch.setattr(encoder, "has_avx512", lambda: True)
    made = encoder._reproducible("libx264", settings)["x264-params"]
    assert made.startswith("asm=AVX2")
    assert made.endswith(wanted)
    assert encoder._reproducible("ffv1", settings) == settings
    monkeypatch.setattr(encoder, "has_avx512", lambda: False)
    assert encoder._reproducible("libx264", settings) == settings


def test_vp8_is_encoded_in_one_thread(tmp_path: Path) -> None:
    """With more, its encoder was seen to wait for itself for ever."""
    sink: Any = open_sink(tmp_path / "out.webm", INFO_OF_PICTURES, 48, 32, SinkOptions(codec="libvpx"))
    with sink:
        assert sink._encoding.stream.codec_context.thread_count == 1
