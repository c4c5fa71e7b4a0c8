"""What containers hold is found out by trying: FFmpeg's lists say too much for some, and too little of the rest."""

from __future__ import annotations

import io
from fractions import Fraction

import av
import pytest

from swiftvr_trt.errors import MediaError
from swiftvr_trt.runtime.media.codecs import choose_encoder
from swiftvr_trt.runtime.media.container_trial import check_holds, try_out
from swiftvr_trt.runtime.media.muxer import open_muxer

ENCODERS = ("libx264", "libx265", "libsvtav1", "libvpx-vp9", "libvpx", "ffv1", "mpeg4", "mpeg2video", "prores_ks")
HELD = {
    "mp4": "libx264 libx265 libsvtav1 libvpx-vp9 ffv1 mpeg4 mpeg2video",
    "mov": "libx264 libx265 mpeg4 mpeg2video prores_ks",
    "matroska": " ".join(ENCODERS),
    "webm": "libsvtav1 libvpx-vp9 libvpx",
    "avi": "libx264 libsvtav1 libvpx-vp9 libvpx ffv1 mpeg4 mpeg2video",
    "mpegts": "libx264 libx265 mpeg4 mpeg2video",
    "mpeg": "libx264 libx265 mpeg4 mpeg2video",
    "nut": "libx264 libx265 libsvtav1 libvpx-vp9 libvpx ffv1 mpeg4 mpeg2video",
    "flv": "libx264 libx265 libsvtav1 libvpx-vp9",
    "ogg": "libvpx",
}


@pytest.mark.parametrize("format_name", HELD)
def test_each_container_holds_what_readers_find_in_it(format_name: str) -> None:
    assert " ".join(each for each in ENCODERS if try_out(format_name, each).held) == HELD[format_name]


@pytest.mark.parametrize(
    ("format_name", "encoder", "said"),
    [
        ("mpegts", "ffv1", "mpegts file does not hold ffv1 video: use one of libx264, libx265"),
        ("mpegts", "libsvtav1", "mpegts file does not hold libsvtav1 video"),
        ("mpegts", "av1_nvenc", "mpegts file does not hold av1_nvenc video"),
        ("mpeg", "libvpx", "mpeg file does not hold libvpx video"),
        ("mov", "libsvtav1", "mov file does not hold libsvtav1 video: use one of libx264, libx265, prores_ks"),
        ("webm", "libx264", "webm file does not hold libx264 video: use one of libsvtav1, libvpx-vp9"),
    ],
)
def test_what_readers_would_not_find_is_refused(format_name: str, encoder: str, said: str) -> None:
    with pytest.raises(MediaError, match=said) as refused:
        check_holds(open_muxer(io.BytesIO(), format_name), av.codec.Codec(encoder, "w"))
    assert encoder not in str(refused.value).partition("use one of")[2]


@pytest.mark.parametrize(
    ("format_name", "encoder"),
    [
        ("ogg", "libvpx"),  # whose usual encoder PyAV's FFmpeg lacks
        ("rawvideo", "libvpx"),  # of which no reader finds the usual video either
        ("mxf", "dnxhd"),  # which takes no such pictures
        ("mpegts", "hevc_nvenc"),
        ("webm", "libvpx"),
        ("yuv4mpegpipe", "rawvideo"),
    ],
)
def test_what_no_trial_rules_out_is_not_refused(format_name: str, encoder: str) -> None:
    check_holds(open_muxer(io.BytesIO(), format_name), av.codec.Codec(encoder, "w"))


@pytest.mark.parametrize("format_name", ["mp4", "mpegts", "yuv4mpegpipe", "rawvideo", "gif", "hevc"])
def test_the_usual_encoder_is_never_refused(format_name: str) -> None:
    container = open_muxer(io.BytesIO(), format_name)
    check_holds(container, choose_encoder(container, None))


@pytest.mark.parametrize(
    ("format_name", "encoder", "kept"),
    [
        ("mp4", "ffv1", True),
        ("matroska", "libx264", True),
        ("matroska", "ffv1", False),
        ("nut", "ffv1", True),
        ("nut", "rawvideo", True),
        ("yuv4mpegpipe", "rawvideo", True),
    ],
)
def test_a_trial_says_whether_the_shape_of_pixels_is_kept(format_name: str, encoder: str, *, kept: bool) -> None:
    trial = try_out(format_name, encoder, Fraction(32, 27))
    assert trial.held
    assert (trial.aspect == Fraction(32, 27)) is kept
