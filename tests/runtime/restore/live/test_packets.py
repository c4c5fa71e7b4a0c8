"""Streams and packets as plain data."""

from __future__ import annotations

import io
import json
from fractions import Fraction
from typing import Any

import av
import pytest

from swiftvr_trt.runtime.restore.live.packets import FrozenSound, PlainPacket, header_of, is_same_sound, open_header

from .lab import transport


def test_a_stream_outlives_its_connection() -> None:
    with av.open(io.BytesIO(transport(10))) as source:
        kept = FrozenSound.of(source.streams.audio[0]).template.stream
        assert is_same_sound(kept, source.streams.audio[0])
        header = header_of([source.streams.video[0], source.streams.audio[0]])
    found = open_header(header)
    assert [stream.type for stream in found] == ["video", "audio"]
    video: Any = found[0].codec_context
    sound: Any = kept.codec_context
    assert (video.name, video.width, video.height) == ("h264", 48, 32)
    assert (sound.name, sound.sample_rate, sound.layout.nb_channels) == ("aac", 48000, 1)


def test_packets_survive_the_way_to_another_process() -> None:
    packet = PlainPacket(1, bytes(range(256)), 90, 45, 3600, Fraction(1, 90000), False)
    assert PlainPacket.from_plain(json.loads(json.dumps(packet.to_plain()))) == packet


@pytest.mark.parametrize(("pts", "dts", "stamps"), [(9, 7, (9, 7)), (None, 7, (7, 7)), (9, None, (9, 9))])
def test_a_missing_time_stamp_is_the_other_one(pts: int | None, dts: int | None, stamps: tuple[int, int]) -> None:
    packet: Any = av.Packet(b"x")
    packet.pts, packet.dts, packet.time_base = pts, dts, Fraction(1, 1000)
    plain = PlainPacket.of(packet, 0)
    assert ((plain.pts, plain.dts), plain.clock) == (stamps, Fraction(1, 1000))


def recorded(encoder: str, container: str, rate: int = 48000) -> bytes:
    """Half a second of silence."""
    memory = io.BytesIO()
    with av.open(memory, "w", format=container) as output:
        stream: Any = output.add_stream(encoder, rate=rate, layout="stereo")
        for number in range(24):
            samples = stream.codec_context.frame_size or 1024
            frame = av.AudioFrame(stream.codec_context.format.name, "stereo", samples)
            for plane in frame.planes:
                plane.update(bytes(plane.buffer_size))
            frame.sample_rate, frame.pts = rate, number * samples
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    return memory.getvalue()


SOUNDS = [
    ("aac", "mpegts"), ("aac", "mp4"), ("ac3", "mpegts"), ("eac3", "mpegts"), ("mp2", "mpegts"),
    ("libmp3lame", "mpegts"), ("libopus", "mpegts"), ("flac", "matroska"), ("alac", "mov"), ("pcm_s16le", "matroska"),
    ("pcm_s16be", "mov"), ("pcm_mulaw", "mov"), ("pcm_alaw", "mov"),
]  # fmt: skip


@pytest.mark.parametrize(("encoder", "container"), SOUNDS)
def test_sound_of_every_kind_outlives_its_connection(encoder: str, container: str) -> None:
    with av.open(io.BytesIO(recorded(encoder, container))) as source:
        stream = source.streams.audio[0]
        context: Any = stream.codec_context
        kept = FrozenSound.of(stream)
        assert is_same_sound(stream, kept.template.stream)
        assert (kept.codec, kept.profile) == (context.codec.canonical_name, context.profile)
    (again,) = open_header(header_of([kept.template.stream]))
    assert is_same_sound(kept.template.stream, again)


def test_streams_that_no_container_holds_together_go_into_one_header() -> None:
    files = [av.open(io.BytesIO(recorded(*each))) for each in (SOUNDS[0], SOUNDS[3])]
    found = open_header(header_of([file.streams.audio[0] for file in files]))
    assert [stream.codec_context.name for stream in found] == ["aac", "eac3"]
    for file in files:
        file.close()
