"""What is known of a video before it is read, and whether the GPU decodes it."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from swiftvr_trt.engines.bundle.pixel_formats import YUV420P10
from swiftvr_trt.errors import MediaError
from swiftvr_trt.runtime.devices.driver import has_driver
from swiftvr_trt.runtime.media import open_source
from swiftvr_trt.runtime.media.probe import open_video
from swiftvr_trt.runtime.media.source_options import SourceOptions
from swiftvr_trt.runtime.stream.frames import RGB16

from .videos import CLOCK, EVEN, add_cover, add_tone, cover_picture, decoded, frames_of, make_video, mux_cover, mux_tone

without_driver = pytest.mark.skipif(has_driver(), reason="this machine has a driver")


def test_a_source_is_described_before_it_is_read(tmp_path: Path) -> None:
    with open_source(make_video(tmp_path / "in.mp4", EVEN)) as source:
        info = source.info
    assert (info.width, info.height, info.frames, info.rate, info.time_base) == (64, 48, 30, Fraction(25), CLOCK)
    assert info.description == "h264 yuv420p 64x48, 25 fps, untagged limited"
    assert info.notes == ()


@pytest.mark.parametrize(("suffix", "vf"), [(".mp4", None), (".mov", None), (".mp4", "setpts=PTS/2")])
def test_a_pause_counts_for_the_length(tmp_path: Path, suffix: str, vf: str | None) -> None:
    """Two seconds, a pause of four, and two more. What filters make of the times is not known before."""
    moments = [*range(0, 180000, 3600), *range(540000, 720000, 3600)]
    path = make_video(tmp_path / f"in{suffix}", moments)
    with open_source(path, options=SourceOptions(vf=vf)) as source:
        info = source.info
    if vf is not None:
        assert info.shown_s is None
        return
    assert info.seconds == pytest.approx(8, abs=0.05)
    assert info.summary.endswith(" 0:08 long")


def test_the_number_of_frames_follows_the_video_not_what_lasts_longer(tmp_path: Path) -> None:
    def prepare(container: Any, _: Any) -> None:
        add_tone(container)

    make_video(tmp_path / "in.mkv", EVEN, prepare=prepare, extra=lambda container: mux_tone(container, 5))
    with open_source(tmp_path / "in.mkv") as source:
        assert source.info.frames == len(EVEN)


def test_the_pixel_shape_of_a_turned_video_is_turned(tmp_path: Path) -> None:
    def tall(_: Any, stream: Any) -> None:
        stream.codec_context.sample_aspect_ratio = Fraction(4, 3)
        stream.set_display_rotation(90)

    with open_source(make_video(tmp_path / "in.mp4", [0], prepare=tall)) as source:
        assert source.info.sample_aspect == Fraction(3, 4)


@pytest.mark.parametrize(("transfer", "name"), [(16, "PQ"), (18, "HLG")])
def test_hdr_is_refused_with_the_remedy_unless_it_is_taken_for_sdr(tmp_path: Path, transfer: int, name: str) -> None:
    def hdr(_: Any, stream: Any) -> None:
        stream.pix_fmt = "yuv420p10le"
        context = stream.codec_context
        context.colorspace, context.color_primaries, context.color_trc = 9, 9, transfer

    path = make_video(tmp_path / "in.mkv", [0], codec="ffv1", prepare=hdr)
    with pytest.raises(MediaError, match=rf"is HDR \({name}\).*--tonemap.*--assume-sdr"):
        open_source(path)
    with open_source(path, options=SourceOptions(assume_sdr=True, planes=True)) as source:
        assert any(f"HDR input ({name}) is restored as if it were SDR" in note for note in source.info.notes)
        assert (source.info.form.format, source.info.bits, source.info.colour.transfer) == (YUV420P10, 10, transfer)


def test_what_has_no_form_in_the_bundle_is_said(tmp_path: Path) -> None:
    path = make_video(tmp_path / "in.mkv", [0], codec="ffv1", prepare=frames_of(pix_fmt="yuv422p10le"))
    with open_source(path, options=SourceOptions(planes=True, tonemap=True)) as source:
        assert "yuv422p10le frames are converted to rgb48 before they are restored" in source.info.notes
        assert source.info.form == RGB16


def test_a_file_without_one_good_frame_is_refused(clip: Path) -> None:
    data = bytearray(clip.read_bytes())
    begin, end = data.index(b"mdat") + 4, data.index(b"moov") - 4
    data[begin:end] = bytes(end - begin)
    clip.write_bytes(data)
    with pytest.raises(MediaError, match="could be decoded"):
        open_source(clip)


@without_driver
def test_decoding_falls_back_to_software_and_says_why(sound_clip: Path) -> None:
    with open_source(sound_clip, gpu=0) as source:
        (note,) = source.notes
    assert note.startswith("decoding in software, not on the GPU: ")
    assert "\n" not in note
    assert np.array_equal(decoded(sound_clip, 0), decoded(sound_clip))


def test_a_damaged_file_is_not_blamed_on_the_gpu(tmp_path: Path) -> None:
    (tmp_path / "in.mp4").write_bytes(b"no video " * 500)
    with pytest.raises(MediaError, match="cannot be read as a video"):
        open_source(tmp_path / "in.mp4", gpu=0)


def test_an_opened_video_holds_its_first_frame_and_the_packets_before_it(tmp_path: Path) -> None:
    make_video(tmp_path / "in.mp4", [0, 3600], prepare=add_cover, extra=mux_cover)
    opened = open_video(tmp_path / "in.mp4")
    try:
        assert (opened.first.width, opened.first.height, opened.first.pts) == (64, 48, 0)
        assert [bytes(packet) for packet in opened.packets] == [cover_picture()]
        assert [copy.cover for copy in opened.info.copies] == [cover_picture()]
        assert not any("GPU" in note for note in opened.info.notes)
        assert [type(item).__name__ for item in opened.decoder] == ["VideoFrame"]  # the second one
    finally:
        opened.decoder.close()


@without_driver
def test_the_refusal_of_the_gpu_is_noted(sound_clip: Path) -> None:
    opened = open_video(sound_clip, gpu=0)
    opened.decoder.close()
    beginning, _, refusal = opened.info.notes[0].partition(": ")
    assert beginning == "decoding in software, not on the GPU"
    assert refusal


def test_a_second_camera_is_named_as_left_out(tmp_path: Path) -> None:
    def prepare(container: Any, _: Any) -> None:
        other = container.add_stream("libx264", rate=25)
        other.width, other.height = 32, 24

    def mux(container: Any) -> None:
        stream = container.streams.video[1]
        frame = av.VideoFrame(32, 24, "yuv420p")
        frame.pts = 0
        container.mux([*stream.encode(frame), *stream.encode(None)])

    make_video(tmp_path / "in.mp4", EVEN, prepare=prepare, extra=mux)
    opened = open_video(tmp_path / "in.mp4")
    opened.decoder.close()
    assert opened.info.left_out == ("1 further video stream is left out",)
    assert set(opened.info.left_out) <= set(opened.info.notes)
