"""Streams that are copied: what is kept, and what is left out and named."""

from __future__ import annotations

import functools
import io
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from av.stream import Discard, Disposition

from swiftvr_trt.runtime.media import CopiedStream, SinkOptions
from swiftvr_trt.runtime.media.base import Template
from swiftvr_trt.runtime.media.copies import _make_decoding_time_advance, _Track

from .videos import (
    EVEN,
    UNEVEN,
    add_cover,
    add_tone,
    cover_picture,
    make_video,
    mux_cover,
    mux_tone,
    packets,
    times,
    transcode,
)


@pytest.mark.parametrize("late", [0, 28])
@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_sound_is_copied_byte_for_byte(tmp_path: Path, suffix: str, late: int) -> None:
    before = tmp_path / f"in{suffix}"
    make_video(before, UNEVEN, prepare=lambda container, _: add_tone(container), extra=mux_tone)
    transcode(before, tmp_path / f"out{suffix}", late=late)
    assert len(packets(before, "audio")) > 50
    assert packets(tmp_path / f"out{suffix}", "audio") == packets(before, "audio")
    assert times(tmp_path / f"out{suffix}") == times(before)
    with av.open(str(tmp_path / f"out{suffix}")) as container:
        assert container.streams.audio[0].language in ("deu", "ger")


def cut_without_encoding(before: Path, after: Path, seconds: Fraction) -> None:
    """A copy whose edit list hides its beginning, as `ffmpeg -ss 0.6 -c copy` writes it."""
    with av.open(str(before)) as source, av.open(str(after), "w") as cut:
        streams = [cut.add_stream_from_template(stream) for stream in source.streams]
        for packet in source.demux():
            if packet.size and packet.pts is not None and packet.dts is not None:
                ticks = round(seconds / packet.time_base)
                packet.pts, packet.dts = packet.pts - ticks, packet.dts - ticks
                packet.stream = streams[packet.stream_index]
                cut.mux(packet)


SKIPPED = int(av.__version__.split(".")[0]) >= 19
"""FFmpeg 9 tells players of Matroska what to skip."""


@pytest.mark.parametrize(("suffix", "hidden"), [(".mkv", 29 if SKIPPED else 1), (".nut", 1), (".mp4", 29)])
def test_sound_that_an_edit_list_hides_stays_hidden(tmp_path: Path, suffix: str, hidden: int) -> None:
    make_video(tmp_path / "in.mp4", EVEN, prepare=lambda container, _: add_tone(container), extra=mux_tone)
    cut_without_encoding(tmp_path / "in.mp4", tmp_path / "cut.mp4", Fraction(3, 5))
    transcode(tmp_path / "cut.mp4", tmp_path / f"out{suffix}")
    assert len(times(tmp_path / f"out{suffix}")) == 15
    sound, heard = packets(tmp_path / f"out{suffix}", "audio"), packets(tmp_path / "cut.mp4", "audio")
    assert [data for data, _ in sound] == [data for data, _ in heard[29 - hidden :]]
    with av.open(str(tmp_path / f"out{suffix}")) as container:
        audible = list(container.decode(audio=0))
    assert 0.6 < sum(frame.samples for frame in audible) / 48_000 < 0.7
    assert audible[0].time is not None
    assert abs(audible[0].time - float(times(tmp_path / f"out{suffix}")[0])) < 0.05


def test_sound_can_be_left_out(tmp_path: Path) -> None:
    make_video(tmp_path / "in.mp4", UNEVEN, prepare=lambda container, _: add_tone(container), extra=mux_tone)
    transcode(tmp_path / "in.mp4", tmp_path / "out.mp4", options=SinkOptions(audio=False))
    with av.open(str(tmp_path / "out.mp4")) as container:
        assert [stream.type for stream in container.streams] == ["video"]


@functools.cache
def subtitle_file() -> Any:
    """A container with a stream of SubRip text, whose header is copied."""
    text = b"1\n00:00:00,100 --> 00:00:00,500\nun\n\n2\n00:00:00,700 --> 00:00:01,000\ndeux\n\n"
    return av.open(io.BytesIO(text), format="srt")


def add_subtitles(container: Any) -> None:
    stream = container.add_stream_from_template(subtitle_file().streams.subtitles[0], opaque=True)
    stream.metadata.update({"language": "fra", "title": "Sous-titres"})
    stream.disposition = Disposition.forced


def mux_subtitles(container: Any) -> None:
    for index, (start, text) in enumerate([(100, b"un"), (700, b"deux")]):
        packet = av.Packet(text)
        packet.pts = packet.dts = start
        packet.duration, packet.time_base = 300 + index, Fraction(1, 1000)
        packet.stream = container.streams.subtitles[0]
        container.mux(packet)


def test_subtitles_keep_text_time_language_and_disposition(tmp_path: Path) -> None:
    make_video(tmp_path / "in.mkv", UNEVEN, prepare=lambda container, _: add_subtitles(container), extra=mux_subtitles)
    transcode(tmp_path / "in.mkv", tmp_path / "out.mkv", late=28)
    assert packets(tmp_path / "out.mkv", "subtitle") == packets(tmp_path / "in.mkv", "subtitle")
    assert [data for data, _ in packets(tmp_path / "out.mkv", "subtitle")] == [b"un", b"deux"]
    with av.open(str(tmp_path / "out.mkv")) as container:
        stream = container.streams.subtitles[0]
        assert stream.metadata["language"] in ("fre", "fra")  # Matroska writes the bibliographic code
        assert stream.metadata["title"] == "Sous-titres"
        assert stream.disposition & Disposition.forced


def test_a_stream_that_the_container_refuses_is_left_out_and_named(tmp_path: Path) -> None:
    make_video(tmp_path / "in.mkv", UNEVEN, prepare=lambda container, _: add_subtitles(container), extra=mux_subtitles)
    _, notes = transcode(tmp_path / "in.mkv", tmp_path / "out.avi")
    assert any("subtitle stream 1 (subrip) is left out" in note and ".mkv" in note for note in notes)
    assert len(times(tmp_path / "out.avi")) == 30


@pytest.mark.parametrize("after", [".mp4", ".mkv"])
def test_a_cover_picture_is_not_the_video_and_is_kept(tmp_path: Path, after: str) -> None:
    make_video(tmp_path / "in.mp4", UNEVEN, prepare=add_cover, extra=mux_cover)
    info, notes = transcode(tmp_path / "in.mp4", tmp_path / f"out{after}")
    assert (info.width, info.height) == (64, 48)
    assert notes == ()
    with av.open(str(tmp_path / f"out{after}")) as container:
        (cover,) = (s for s in container.streams.video if s.disposition & Disposition.attached_pic)
        assert [bytes(p) for p in container.demux(cover) if p.size] == [cover_picture()]
    assert len(times(tmp_path / f"out{after}")) == 30


def attach_font(container: Any, _: Any) -> None:
    container.add_attachment("a.ttf", "font/ttf", b"\0\1\0\0font")


def test_attached_fonts_are_kept_if_the_container_takes_them(tmp_path: Path) -> None:
    make_video(tmp_path / "in.mkv", UNEVEN, prepare=attach_font)
    _, kept = transcode(tmp_path / "in.mkv", tmp_path / "out.mkv")
    _, lost = transcode(tmp_path / "in.mkv", tmp_path / "out.mp4")
    with av.open(str(tmp_path / "out.mkv")) as container:
        (font,) = container.streams.attachments
        assert (font.name, font.mimetype, font.data[:8]) == ("a.ttf", "font/ttf", b"\0\1\0\0font")
    assert kept == ()
    assert any("attachment" in note for note in lost)


def add_pcm(container: Any, _: Any) -> None:
    container.add_stream("pcm_s16le", rate=48000)


def mux_pcm(container: Any) -> None:
    frame = av.AudioFrame.from_ndarray(np.zeros((1, 9600), np.int16), format="s16", layout="stereo")
    frame.sample_rate = 48000
    container.mux(container.streams.audio[0].encode(frame))


@pytest.mark.parametrize("after", [".mp4", ".mov"])
def test_sound_that_would_fail_at_the_end_is_described_from_the_start(tmp_path: Path, after: str) -> None:
    """Matroska does not say how PCM channels are laid out; MP4 has to, and asks when the file is closed."""
    make_video(tmp_path / "in.mkv", UNEVEN, prepare=add_pcm, extra=mux_pcm)
    _, kept = transcode(tmp_path / "in.mkv", tmp_path / f"out{after}")
    assert kept == ()
    old, new = (b"".join(data for data, _ in packets(tmp_path / n, "audio")) for n in ("in.mkv", f"out{after}"))
    assert old == new  # in packets of other sizes


@pytest.mark.parametrize(
    ("after", "kept"), [(".mov", True), (".mp4", True), (".mkv", True), (".mxf", True), (".avi", False)]
)
def test_time_codes_are_kept_or_named(tmp_path: Path, after: str, kept: bool) -> None:
    make_video(
        tmp_path / "in.mov", UNEVEN, prepare=lambda _, stream: stream.metadata.update({"timecode": "01:02:03:04"})
    )
    _, notes = transcode(tmp_path / "in.mov", tmp_path / f"out{after}")
    with av.open(str(tmp_path / f"out{after}")) as container:
        tags = {**container.metadata, **container.streams.video[0].metadata}
    assert ("01:02:03:04" in tags.values()) == kept
    assert any("the timecode of the video" in note for note in notes) != kept


@pytest.mark.parametrize(
    ("last", "pts", "dts", "step", "expected"),
    [
        (None, None, None, 1, (1, 1)),
        (None, 7, None, 1, (7, 7)),
        (None, None, 5, 1, (5, 5)),
        (4, 9, 8, 1, (9, 8)),  # in order: unchanged
        (8, 8, 8, 1, (9, 9)),  # repeated: one tick later
        (8, 8, 8, 0, (8, 8)),  # where that is allowed: unchanged
        (8, 20, 3, 1, (20, 9)),  # stepped back: decoded later, shown when it was
        (8, 20, 3, 0, (20, 8)),
    ],
)
def test_decoding_times_of_a_copied_stream_advance(
    last: int | None, pts: int | None, dts: int | None, step: int, expected: tuple[int, int]
) -> None:
    packet = av.Packet(b"sound")
    packet.pts, packet.dts = pts, dts
    track = _Track(None, CopiedStream(1, "audio", "aac", Template(None)), last, step=step)
    _make_decoding_time_advance(packet, track)
    assert (packet.pts, packet.dts) == expected
    assert track.last == expected[1]


def test_packets_shorter_than_a_tick_keep_their_times(tmp_path: Path) -> None:
    """TrueHD has 1200 packets a second, and Matroska 1000 ticks: with one tick for each, sound came ever later."""

    def mux_short(container: Any) -> None:
        for index in range(1200):
            packet = av.Packet(bytes((index % 256, index // 256)) * 40)
            packet.pts = packet.dts = 40 * index
            packet.time_base, packet.stream = Fraction(1, 48000), container.streams.audio[0]
            container.mux(packet)

    make_video(tmp_path / "in.mkv", UNEVEN, prepare=add_pcm, extra=mux_short)
    transcode(tmp_path / "in.mkv", tmp_path / "out.mkv")
    assert packets(tmp_path / "out.mkv", "audio") == packets(tmp_path / "in.mkv", "audio")


def test_telemetry_is_kept_in_a_file_with_chapters(tmp_path: Path) -> None:
    """FFmpeg calls GoPro's data `bin_data`, and QuickTime's track of titles, too, which muxers write themselves."""
    chapter: Any = {"id": 1, "start": 0, "end": 500, "time_base": Fraction(1, 1000), "metadata": {"title": "One"}}
    make_video(tmp_path / "in.mov", UNEVEN, prepare=lambda container, _: container.set_chapters([chapter]))
    data = (tmp_path / "in.mov").read_bytes()
    entry = data.rindex(b"text", 0, data.rindex(b"stts"))
    (tmp_path / "camera.mov").write_bytes((data[:entry] + b"gpmd" + data[entry + 4 :]).replace(b"chap", b"free"))
    _, notes = transcode(tmp_path / "camera.mov", tmp_path / "out.mov")
    assert notes == ()
    assert data_tracks(tmp_path / "out.mov") == ["telemetry", "titles"]
    (line,) = transcode(tmp_path / "camera.mov", tmp_path / "out.mkv")[1]
    assert line.startswith("data stream 1 (bin_data) is left out")
    assert transcode(tmp_path / "in.mov", tmp_path / "again.mov")[1] == ()
    assert data_tracks(tmp_path / "again.mov") == ["titles"]


def data_tracks(path: Path) -> list[str]:
    with av.open(str(path)) as container:
        return ["titles" if s.discard == Discard.all else "telemetry" for s in container.streams if s.type == "data"]


@pytest.mark.parametrize(("suffix", "length", "cut"), [(".mxf", 3.0, True), (".mxf", 1.2, False), (".mov", 3.0, False)])
def test_sound_behind_the_last_picture_of_an_mxf_is_missed(
    tmp_path: Path, suffix: str, length: float, cut: bool
) -> None:
    def sound(container: Any) -> None:
        mux_tone(container, length)

    path = make_video(tmp_path / "in.mkv", EVEN, prepare=lambda container, _: add_tone(container), extra=sound)
    _, notes = transcode(path, tmp_path / f"out{suffix}")
    said = [note for note in notes if "cut off" in note]
    assert bool(said) == cut
    assert not cut or said == [
        "the last 1.81 s of audio stream 1 (aac) are cut off: mxf files end with the last picture"
    ]
