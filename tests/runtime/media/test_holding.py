"""What containers hold. The truth for copies is what `ffmpeg -c copy` does, for the same file and container."""

from __future__ import annotations

import io
import struct
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from swiftvr_trt.runtime.media import open_source
from swiftvr_trt.runtime.media.copies import plan_carriage
from swiftvr_trt.runtime.media.holding import named_layout, refusal

from .videos import EVEN, make_video, packets, transcode

COPIED = "copied"

SOUND = [
    # container of the input, its sound, containers that keep it, and what the others get
    (".avi", "pcm_s16le", {".mp4": COPIED, ".mov": COPIED, ".mkv": COPIED, ".ts": "aac", ".webm": "opus"}),
    (".avi", "pcm_u8", {".mov": COPIED, ".mkv": COPIED, ".mp4": "alac", ".flv": "aac"}),
    (".avi", "pcm_alaw", {".mov": COPIED, ".mkv": COPIED, ".mp4": "alac"}),
    (".avi", "adpcm_ms", {".avi": COPIED, ".mkv": COPIED, ".mp4": "aac", ".mov": "aac", ".mpg": "mp2"}),
    (".avi", "adpcm_ima_wav", {".avi": COPIED, ".mkv": COPIED, ".mp4": "aac"}),
    (".wmv", "wmav2", {".wmv": COPIED, ".mkv": COPIED, ".mp4": "aac", ".nut": "aac", ".webm": "opus", ".avi": COPIED}),
    (".mov", "alac", {".mp4": COPIED, ".mkv": COPIED, ".avi": "pcm_s24le", ".wmv": "wmav2", ".mxf": "pcm_s24le"}),
    (".mov", "pcm_s32be", {".avi": "pcm_s32le", ".mxf": "pcm_s24le", ".mkv": COPIED}),
    (".mkv", "flac", {".mp4": COPIED, ".mkv": COPIED, ".mov": "alac", ".3gp": "aac", ".ogv": COPIED}),
    (".mkv", "flac", {".avi": "pcm_s16le", ".flv": "aac", ".wmv": "wmav2"}),
    (".mkv", "tta", {".mkv": "flac"}),
    (".mkv", "eac3", {".flv": "aac", ".avi": "mp3", ".mp4": COPIED}),
    (".mkv", "ac3", {".flv": "aac"}),
]

CASES = [
    pytest.param(suffix, codec, after, becomes, id=f"{codec}-{suffix[1:]}-{after[1:]}")
    for suffix, codec, outputs in SOUND
    for after, becomes in outputs.items()
]


def make_sound(path: Path, codec: str, layout: str = "stereo", seconds: float = 0.6) -> Path:
    """A video of grey frames, and a tone in this codec."""
    with av.open(str(path), "w") as container:
        video: Any = container.add_stream("mpeg4" if path.suffix in (".avi", ".wmv") else "libx264", rate=25)
        video.width, video.height, video.pix_fmt = 64, 48, "yuv420p"
        sound: Any = container.add_stream(codec, rate=48000, bit_rate=128_000)
        sound.layout = layout
        resampler = av.AudioResampler(sound.format, layout, 48000, sound.codec_context.frame_size or 1024)
        wave = (np.sin(np.arange(int(48000 * seconds)) * 0.05) * 0.3).astype(np.float32)
        frame = av.AudioFrame.from_ndarray(np.stack([wave] * len(av.AudioLayout(layout).channels)), "fltp", layout)
        frame.sample_rate, frame.pts = 48000, 0
        for index in range(int(25 * seconds)):
            picture = av.VideoFrame.from_ndarray(np.full((48, 64, 3), 128, np.uint8), "rgb24")
            picture.pts = index
            container.mux(video.encode(picture))
        container.mux(video.encode(None))
        sound.codec_context.open(strict=False)
        for given in (frame, None):
            for part in resampler.resample(given):
                container.mux(sound.encode(part))
        container.mux(sound.encode(None))
    return path


def sound_of(path: Path) -> tuple[str, bytes, float]:
    """The codec of the sound of a file, its bytes, and how long it is when it is decoded, in seconds."""
    with av.open(str(path)) as container:
        stream = container.streams.audio[0]
        name = str(stream.codec_context.codec.canonical_name)
        samples = sum(frame.samples for frame in container.decode(stream))
        return name, b"".join(data for data, _ in packets(path, "audio")), samples / stream.sample_rate


@pytest.mark.parametrize(("before", "codec", "after", "becomes"), CASES)
def test_sound_survives(tmp_path: Path, before: str, codec: str, after: str, becomes: str) -> None:
    source = make_sound(tmp_path / f"in{before}", codec)
    _, notes = transcode(source, tmp_path / f"out{after}")
    old, new = sound_of(source), sound_of(tmp_path / f"out{after}")
    said = [note for note in notes if "audio" in note]
    if becomes == COPIED:
        assert (new[:2], said) == (old[:2], [])
    else:
        assert new[0].startswith(becomes)
        assert [f"({codec}) becomes {becomes}" in line for line in said] == [True]
    assert new[2] == pytest.approx(old[2], abs=0.1)


@pytest.mark.parametrize("layout", ["mono", "stereo", "5.1"])
def test_channels_without_names_get_the_usual_ones(tmp_path: Path, layout: str) -> None:
    source = make_sound(tmp_path / "in.avi", "pcm_s16le", layout)
    _, notes = transcode(source, tmp_path / "out.mp4")
    with av.open(str(tmp_path / "out.mp4")) as container:
        assert container.streams.audio[0].layout.nb_channels == len(av.AudioLayout(layout).channels)
        assert named_layout(container.streams.audio[0].codec_context) is not None
    assert sound_of(tmp_path / "out.mp4")[1] == sound_of(source)[1]
    assert notes == ()


@pytest.mark.parametrize("after", [".yuv", ".h264", ".y4m", ".gif", ".m2v"])
def test_streams_of_pictures_hold_nothing_else(tmp_path: Path, after: str) -> None:
    source = make_sound(tmp_path / "in.mp4", "aac")
    _, notes = transcode(source, tmp_path / f"out{after}")
    assert any("audio stream 1 (aac) is left out" in note and "hold pictures only" in note for note in notes)
    if after == ".yuv":
        assert (tmp_path / "out.yuv").stat().st_size == 15 * 64 * 48 * 3 // 2


def test_a_stream_that_a_transport_stream_cannot_name_is_refused(tmp_path: Path) -> None:
    """FFmpeg writes it, but says nowhere what it is."""
    with open_source(make_sound(tmp_path / "in.mkv", "flac")) as source:
        (flac,) = source.info.copies
        assert refusal("mpegts", flac) == "mpegts files do not hold flac"
        assert refusal("matroska", flac) is None
        assert refusal("flv", flac) == "flv files do not hold flac"
        (carriage,) = plan_carriage("mpegts", source.info, [flac])
        assert (carriage.encoder, carriage.is_lost) == ("aac", False)


def test_a_file_is_not_filled_with_empty_chunks(tmp_path: Path) -> None:
    """FFmpeg's muxer of AVI writes one per sample for sound whose packets have no known length."""
    transcode(make_sound(tmp_path / "in.mkv", "eac3"), tmp_path / "out.avi")
    assert (tmp_path / "out.avi").stat().st_size < 100_000


@pytest.mark.parametrize("codec", ["eac3", "libopus"])
def test_sound_for_which_only_few_players_know_a_name_is_refused(tmp_path: Path, codec: str) -> None:
    with open_source(make_sound(tmp_path / "in.mkv", codec)) as source:
        (sound,) = source.info.copies
        assert refusal("flv", sound) == f"flv files do not hold {sound.codec}"


@pytest.mark.parametrize("after", [".avi", ".mpg", ".flv", ".wmv"])
def test_surround_sound_keeps_its_channels_where_it_can(tmp_path: Path, after: str) -> None:
    transcode(make_sound(tmp_path / "in.mkv", "eac3" if after != ".wmv" else "flac", "5.1"), tmp_path / f"out{after}")
    with av.open(str(tmp_path / f"out{after}")) as container:
        assert container.streams.audio[0].layout.nb_channels == 6


def make_titled(path: Path) -> Path:
    """A video with a subtitle in pictures (PGS), as on a Blu-ray: a line of eight pixels."""
    line = b"\0\x88\1\0\0"
    parts = (
        (0x16, struct.pack(">HHBHBBBBHBBHH", 64, 48, 0x10, 0, 0x80, 0, 0, 1, 0, 0, 0, 0, 0)),
        (0x17, struct.pack(">BBHHHH", 1, 0, 0, 0, 8, 1)),
        (0x14, bytes((0, 0, 1, 200, 128, 128, 255))),
        (0x15, struct.pack(">HBBBHHH", 0, 0, 0xC0, 0, len(line) + 4, 8, 1) + line),
        (0x80, b""),
    )
    file = io.BytesIO(b"".join(b"PG" + struct.pack(">IIBH", 9000, 0, kind, len(part)) + part for kind, part in parts))
    with av.open(file, "r", format="sup") as titles:

        def mux(container: Any) -> None:
            for packet in titles.demux():
                if packet.size:
                    packet.stream = container.streams[1]
                    container.mux(packet)

        return make_video(
            path, EVEN, prepare=lambda container, _: container.add_stream_from_template(titles.streams[0]), extra=mux
        )


def test_a_blu_ray_stream_is_one_and_names_its_subtitles(tmp_path: Path) -> None:
    """FFmpeg goes by the name of the file: packets are 192 bytes long, and formats have other numbers."""
    source = make_titled(tmp_path / "in.mkv")
    assert transcode(source, tmp_path / "out.m2ts")[1] == ()
    data = (tmp_path / "out.m2ts").read_bytes()
    assert (len(data) % 192, set(data[4::192])) == (0, {0x47})
    with av.open(str(tmp_path / "out.m2ts")) as container:
        (titles,) = container.streams.subtitles
        assert titles.codec_context.codec.canonical_name == "hdmv_pgs_subtitle"
        assert sum(packet.size > 0 for packet in container.demux(titles)) > 0


def test_other_transport_streams_have_no_name_for_subtitles_of_a_blu_ray(tmp_path: Path) -> None:
    source = make_titled(tmp_path / "in.mkv")
    (note,) = transcode(source, tmp_path / "out.ts")[1]
    assert note.startswith("subtitle stream 1 (hdmv_pgs_subtitle) is left out: mpegts files do not hold")
    data = (tmp_path / "out.ts").read_bytes()
    assert (len(data) % 188, set(data[::188])) == (0, {0x47})
