"""Encoded pictures as plain data: muxed later, they make the file that muxing them at once would make."""

from __future__ import annotations

import io
from dataclasses import replace
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from swiftvr_trt.runtime.media.base import Colour, Picture, SinkOptions, SourceInfo, Stamp
from swiftvr_trt.runtime.media.encoder import EncodingRequest, open_encoder
from swiftvr_trt.runtime.media.muxer import open_muxer
from swiftvr_trt.runtime.media.picture_encoder import EncodedPicture, PictureEncoder
from swiftvr_trt.runtime.media.video_out import VideoSink, container_format

TICK = Fraction(1, 12800)
INFO = SourceInfo(Path("in.mp4"), 32, 24, None, Fraction(25), TICK, Colour(), None, "a video")
OPTIONS = SinkOptions(preset="ultrafast", extra=(("bf", "2"), ("threads", "1")))


def picture(index: int) -> Picture:
    pixels = np.roll(np.arange(32 * 24 * 3, dtype=np.uint8).reshape(24, 32, 3), 3 * index, axis=1)
    return Picture(np.ascontiguousarray(pixels), Stamp(index, 512 * index + index % 2, 512, TICK))


def test_pictures_that_are_muxed_later_make_the_same_file(tmp_path: Path) -> None:
    with VideoSink(tmp_path / "now.mp4", INFO, 32, 24, OPTIONS) as sink:
        for index in range(10):
            sink.write(picture(index))
        sink.commit()

    encoding = open_encoder(lambda: av.open(io.BytesIO(), "w", format="mp4"), EncodingRequest(INFO, 32, 24, OPTIONS))
    encoder = PictureEncoder(encoding, 32, 24)
    packets = [packet for index in range(10) for packet in encoder.encode(picture(index))] + encoder.finish()
    assert encoder.count == 10
    assert encoder.description == "libx264 yuv420p 32x24"
    plain = [EncodedPicture.of(packet) for packet in packets]
    with VideoSink(tmp_path / "later.mp4", INFO, 32, 24, OPTIONS) as sink:
        for encoded in plain:
            sink.write_encoded(encoded, encoding.time_base)
        sink.commit()
    assert (tmp_path / "later.mp4").read_bytes() == (tmp_path / "now.mp4").read_bytes()


@pytest.mark.parametrize(
    ("suffix", "codec", "pix_fmt"),
    [
        (".nut", "gif", "gray"),
        (".webm", "libvpx-vp9", "yuva420p"),
        (".webm", "libvpx", "yuva420p"),
        (".mkv", "libvpx-vp9", "yuva420p"),
        (".mkv", "ffv1", "yuva420p"),
        (".mov", "prores_ks", "yuva444p10le"),
    ],
)
def test_pictures_of_two_encoders_are_those_of_one(tmp_path: Path, suffix: str, codec: str, pix_fmt: str) -> None:
    """VP8 and VP9 attach transparency to packets. All are key frames, so that pixels are the same."""
    plain = (("auto-alt-ref", "0"),) if codec == "libvpx" else ()
    options = SinkOptions(codec=codec, pix_fmt=pix_fmt, extra=(("g", "1"), *plain))
    request, name = EncodingRequest(INFO, 32, 24, options), container_format(Path(f"out{suffix}"))
    with VideoSink(tmp_path / f"one{suffix}", INFO, 32, 24, options) as sink:
        for index in range(6):
            sink.write(picture(index))
        sink.commit()
    with VideoSink(tmp_path / f"two{suffix}", INFO, 32, 24, options, Fraction(1, 25)) as sink:
        clock = None
        for part in (range(4), range(4, 6)):
            encoding = open_encoder(lambda: open_muxer(io.BytesIO(), name), request)
            encoder = PictureEncoder(encoding, 32, 24, clock)
            clock = encoder.clock
            for packet in [packet for index in part for packet in encoder.encode(picture(index))] + encoder.finish():
                sink.write_encoded(EncodedPicture.of(packet), encoding.time_base)
        sink.commit()
    assert shown(tmp_path / f"two{suffix}") == shown(tmp_path / f"one{suffix}")


def shown(path: Path) -> list[tuple[int | None, bytes]]:
    """Time and pixels of each frame, and its transparency where FFmpeg's own decoder leaves it out."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        decoder: Any = stream.codec_context
        if decoder.name in ("vp8", "vp9"):
            decoder = av.CodecContext.create("libvpx" if decoder.name == "vp8" else "libvpx-vp9", "r")
        frames = [frame for packet in container.demux(stream) for frame in decoder.decode(packet)]
    assert len(frames) == 6
    return [(frame.pts, b"".join(bytes(plane) for plane in frame.planes)) for frame in frames]


def test_an_encoder_without_pictures_has_nothing_left() -> None:
    encoding = open_encoder(lambda: av.open(io.BytesIO(), "w", format="mp4"), EncodingRequest(INFO, 32, 24, OPTIONS))
    assert PictureEncoder(encoding, 32, 24).finish() == []


def test_every_packet_is_as_long_as_its_picture() -> None:
    times = [0, 1200, 7200, 7680, 46_080, 46_800]
    encoding = open_encoder(lambda: av.open(io.BytesIO(), "w", format="mp4"), EncodingRequest(INFO, 32, 24, OPTIONS))
    encoder, packets = PictureEncoder(encoding, 32, 24), []
    for index, (time, following) in enumerate(pairwise(times)):
        packets += encoder.encode(replace(picture(index), stamp=Stamp(index, time, following - time, TICK)))
    packets += encoder.finish()
    found = sorted((packet.pts or 0, packet.duration) for packet in packets)
    assert [(pts * encoding.time_base, length) for pts, length in found] == [
        (time * TICK, following - time) for time, following in pairwise(times)
    ]


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".mov", ".webm", ".3gp"])
def test_the_last_picture_is_shown_as_long_as_in_the_input(tmp_path: Path, suffix: str) -> None:
    times = [0, 1280, 7680, 8192, 46_592]
    options = SinkOptions() if suffix == ".webm" else OPTIONS
    with VideoSink(tmp_path / f"out{suffix}", INFO, 32, 24, options) as sink:
        for index, (time, following) in enumerate(pairwise(times)):
            sink.write(replace(picture(index), stamp=Stamp(index, time, following - time, TICK)))
        sink.commit()
    with av.open(str(tmp_path / f"out{suffix}")) as container:
        assert container.duration is not None
        assert container.duration / 1_000_000 == pytest.approx(3.64, abs=0.002)


def test_the_last_picture_of_a_gif_is_shown_as_long_as_in_the_input(tmp_path: Path) -> None:
    with VideoSink(tmp_path / "out.gif", INFO, 32, 24, SinkOptions(), Fraction(3)) as sink:
        for index, time in enumerate([0, 1280, 7680, 8192]):
            sink.write(replace(picture(index), stamp=Stamp(index, time, 512, TICK)))
        sink.commit()
    with av.open(str(tmp_path / "out.gif")) as container:
        assert container.duration is not None
        assert container.duration / 1_000_000 == pytest.approx(3.64, abs=0.002)
