"""Closed captions: FFmpeg's decoders find in the output what they found in the input, frame by frame."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import av
import pytest
from hypothesis import given
from hypothesis import strategies as st

from swiftvr_trt.runtime.media import SinkOptions, open_source
from swiftvr_trt.runtime.media.captions import holds_captions, with_captions
from swiftvr_trt.runtime.media.side_data import side_data
from swiftvr_trt.runtime.media.video_out import VideoSink

from .videos import EVEN, make_video, still, transcode

HOLDERS = [(".mp4", "libx264"), (".mkv", "libx265"), (".mkv", "libsvtav1"), (".mpg", "mpeg2video")]


def caption(index: int) -> bytes:
    """Two pairs of a frame; some with zeros, which look like a start code inside a packet."""
    return bytes((0xFC, 0x94, index, 0xFD, 0x00, 0x00)) if index % 3 else bytes((0xFC, 0x00, 0x00, 0xFA, 0x00, 0x00))


def make_captioned(path: Path, frames: int = 12, codec: str = "libx264", size: tuple[int, int] = (64, 64)) -> Path:
    """A video of which every second frame has captions."""
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream(codec, rate=25, options={"bf": "2"})
        stream.width, stream.height, stream.pix_fmt = *size, "yuv420p"
        for index in range(frames + 1):
            frame = None
            if index < frames:
                frame = av.VideoFrame.from_ndarray(still(index, *size), "rgb24")
                frame.pts = index
            for packet in stream.encode(frame):
                if packet.pts % 2:
                    container.mux(packet)
                    continue
                changed: Any = av.Packet(with_captions(bytes(packet), caption(packet.pts), codec))
                changed.stream, changed.time_base, changed.is_keyframe = stream, packet.time_base, packet.is_keyframe
                changed.pts, changed.dts, changed.duration = packet.pts, packet.dts, packet.duration
                container.mux(changed)
    return path


def captions_of(path: Path) -> list[bytes | None]:
    """The captions of each frame, as FFmpeg's decoder finds them."""
    with av.open(str(path)) as container:
        return [side_data(frame).get("A53_CC") for frame in container.decode(video=0)]


EXPECTED = [None if index % 2 else caption(index) for index in range(12)]


@pytest.mark.parametrize(("suffix", "codec"), HOLDERS)
def test_captions_reach_the_output(tmp_path: Path, suffix: str, codec: str) -> None:
    source = make_captioned(tmp_path / "in.ts")
    assert captions_of(source) == EXPECTED
    _, notes = transcode(source, tmp_path / f"out{suffix}", options=SinkOptions(codec=codec))
    assert captions_of(tmp_path / f"out{suffix}") == EXPECTED
    assert [note for note in notes if "caption" in note] == []


def test_captions_that_are_lost_are_counted_last(tmp_path: Path) -> None:
    source = make_captioned(tmp_path / "in.ts")
    with open_source(source) as opened:
        sink = VideoSink(tmp_path / "out.mkv", opened.info, 64, 64, SinkOptions(codec="ffv1"))
        with sink:
            for item in opened:
                sink.write(item)
            sink.commit()
            (line,) = sink.lost
    assert line.startswith("the closed captions of 6 frames are lost: ffv1")
    assert captions_of(tmp_path / "out.mkv") == [None] * 12


@given(st.binary(max_size=300), st.lists(st.tuples(*[st.integers(0, 255)] * 3), min_size=1, max_size=40))
def test_any_bytes_are_taken(packet: bytes, pairs: list[tuple[int, int, int]]) -> None:
    """A packet without a picture stays as it is, and nothing fails or is left out."""
    captions = bytes(byte for pair in pairs for byte in pair)
    for codec in ("libx264", "hevc_nvenc", "libsvtav1", "mpeg2video", "ffv1"):
        changed = with_captions(packet, captions, codec)
        assert len(changed) >= len(packet)
        assert changed == packet or holds_captions(codec)


def test_a_video_without_captions_is_not_touched(tmp_path: Path) -> None:
    make_video(tmp_path / "in.mp4", EVEN)
    _, notes = transcode(tmp_path / "in.mp4", tmp_path / "out.mkv", options=SinkOptions(codec="ffv1"))
    assert notes == ()
