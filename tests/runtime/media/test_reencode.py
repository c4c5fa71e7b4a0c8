"""Sound and subtitles that change their format: their times, and what they hold."""

from __future__ import annotations

import re
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from swiftvr_trt.errors import MediaError, MisuseError
from swiftvr_trt.runtime.media import SinkOptions, open_source
from swiftvr_trt.runtime.media.opening import open_sink
from tests.clips import seconds

from .test_holding import make_sound, sound_of
from .videos import UNEVEN, make_video, times, transcode

EVENTS = [(0, 900, "first"), (1000, 1000, "second"), (2500, 1000, "two\nlines")]
"""Begin and length in milliseconds, and the text."""


def make_subtitled(path: Path, codec: str) -> Path:
    """A video with `EVENTS` as subtitles in this text format."""
    header = (
        b"[Script Info]\nScriptType: v4.00+\n\n[V4+ Styles]\nFormat: Name, Fontname, Fontsize\n"
        b"Style: Default,Arial,16\n"
        b"\n[Events]\nFormat: Layer, Start, End, Style, Name, MarginL, MarginR, MarginV, Effect, Text\n"
    )

    def prepare(container: Any, _: Any) -> None:
        stream = container.add_stream(codec)
        stream.codec_context.time_base = stream.time_base = Fraction(1, 1000)
        stream.codec_context.subtitle_header = header
        stream.metadata["language"] = "deu"

    def mux(container: Any) -> None:
        stream = container.streams.subtitles[0]
        for number, (begin, length, text) in enumerate(EVENTS):
            line = f"{number},0,Default,,0,0,0,,".encode() + text.replace("\n", "\\N").encode()
            packet = stream.codec_context.encode_subtitle(av.subtitles.subtitle.SubtitleSet.create(line, 0, length))
            packet.stream, packet.time_base = stream, Fraction(1, 1000)
            packet.pts, packet.dts, packet.duration = begin, begin, length
            container.mux(packet)

    return make_video(path, [3600 * index for index in range(30)], prepare=prepare, extra=mux)


def events(path: Path) -> list[tuple[Fraction, str]]:
    """When the subtitles of a file begin, in seconds, and their first lines, without colours and the like."""
    found = []
    with av.open(str(path)) as container:
        stream = container.streams.subtitles[0]
        for packet in container.demux(stream):
            rects: Any = stream.decode(packet) if packet.size else ()
            for rect in rects:
                text = re.sub(r"\{.*?\}", "", rect.ass.split(b",", 8)[-1].decode())
                found += [(seconds(packet), text.split("\\N")[0])] if text else []
    return found


@pytest.mark.parametrize(
    ("before", "codec", "after", "becomes"),
    [
        (".mkv", "subrip", ".mp4", "mov_text"),
        (".mkv", "ass", ".mp4", "mov_text"),
        (".mkv", "ass", ".mov", "mov_text"),
        (".mp4", "mov_text", ".mkv", "subrip"),
        (".mkv", "subrip", ".webm", "webvtt"),
        (".mkv", "subrip", ".mkv", None),
    ],
)
def test_text_subtitles_become_what_the_container_holds(
    tmp_path: Path, before: str, codec: str, after: str, becomes: str | None
) -> None:
    source = make_subtitled(tmp_path / f"in{before}", codec)
    _, notes = transcode(source, tmp_path / f"out{after}")
    assert [note for note in notes if "subtitle" in note and "becomes" not in note] == []
    assert any(f"becomes {becomes}" in note for note in notes) == (becomes is not None)
    assert events(tmp_path / f"out{after}") == events(source)
    assert [text for _, text in events(source)] == ["first", "second", "two"]
    with av.open(str(tmp_path / f"out{after}")) as container:
        assert container.streams.subtitles[0].language in ("deu", "ger")


def test_sound_is_encoded_as_asked(tmp_path: Path) -> None:
    source = make_sound(tmp_path / "in.wmv", "wmav2")
    transcode(source, tmp_path / "out.mp4", options=SinkOptions(audio_fallback="opus"))
    assert sound_of(tmp_path / "out.mp4")[0] == "opus"


@pytest.mark.parametrize(
    ("wanted", "error", "said"),
    [
        ("fail", MediaError, "cannot be copied"),
        ("none", MisuseError, "expected auto"),
        ("libx264", MisuseError, "aac"),
    ],
)
def test_a_wish_that_cannot_be_met_is_refused(tmp_path: Path, wanted: str, error: type[Exception], said: str) -> None:
    source = make_sound(tmp_path / "in.wmv", "wmav2")
    with open_source(source) as opened, pytest.raises(error, match=said):
        open_sink(tmp_path / "out.mp4", opened.info, 64, 48, SinkOptions(audio_fallback=wanted))
    assert not (tmp_path / "out.mp4").exists()


def test_encoded_sound_stays_in_place(tmp_path: Path) -> None:
    """A click in the middle is heard at the same moment. WMA has a delay of 2048 samples that no file tells."""
    with av.open(str(tmp_path / "in.mov"), "w") as container:
        video: Any = container.add_stream("libx264", rate=25)
        video.width, video.height = 64, 48
        sound: Any = container.add_stream("pcm_s16le", rate=48000, layout="stereo")
        samples = np.zeros((1, 2 * 48000), np.int16)
        samples[0, 48000 : 48000 + 200] = 20000
        frame = av.AudioFrame.from_ndarray(samples, "s16", "stereo")
        frame.sample_rate, frame.pts = 48000, 0
        for index in range(25):
            picture = av.VideoFrame.from_ndarray(np.zeros((48, 64, 3), np.uint8), "rgb24")
            picture.pts = index
            container.mux(video.encode(picture))
        container.mux(sound.encode(frame))
        container.mux([*video.encode(None), *sound.encode(None)])
    before = click_of(tmp_path / "in.mov")
    for after in (".ts", ".webm", ".flv", ".mpg", ".wmv"):
        transcode(tmp_path / "in.mov", tmp_path / f"out{after}")
        assert abs(click_of(tmp_path / f"out{after}") - before) < (0.05 if after == ".wmv" else 0.03), after


def click_of(path: Path) -> float:
    """When the sound is loudest, in seconds after the first frame."""
    begin, loudest, moment = times(path)[0], 0.0, 0.0
    with av.open(str(path)) as container:
        frames: Any = container.decode(audio=0)
        for frame in frames:
            level = np.abs(frame.to_ndarray().astype(float))
            level = level.max(axis=0) if frame.format.is_planar else level.reshape(-1, 2).max(axis=1)
            if level.max() > loudest:
                loudest = float(level.max())
                moment = float(seconds(frame)) + int(level.argmax()) / frame.sample_rate
    return moment - float(begin)


def test_tracks_that_change_their_format_keep_language_and_title(tmp_path: Path) -> None:
    source = make_sound(tmp_path / "in.mkv", "flac")
    named = tmp_path / "named.mkv"
    with av.open(str(source)) as before, av.open(str(named), "w") as after:
        streams = {stream.index: after.add_stream_from_template(stream) for stream in before.streams}
        streams[1].metadata.update({"language": "fra", "title": "Commentary"})
        for packet in before.demux():
            if packet.size:
                packet.stream = streams[packet.stream_index]
                after.mux(packet)
    transcode(named, tmp_path / "out.mov")
    with av.open(str(tmp_path / "out.mov")) as container:
        assert container.streams.audio[0].language in ("fra", "fre")


def test_uneven_videos_still_work(tmp_path: Path) -> None:
    make_video(tmp_path / "in.mkv", UNEVEN)
    assert transcode(tmp_path / "in.mkv", tmp_path / "out.mp4")[1] == ()


@pytest.mark.parametrize("after", [".webm", ".ts", ".mov", ".avi", ".wmv"])
@pytest.mark.parametrize("layout", ["2.1", "quad", "5.1(side)", "6.1"])
def test_any_loudspeakers_are_heard(tmp_path: Path, layout: str, after: str) -> None:
    """Encoders know few layouts; as many channels in another one are better than none."""
    source = make_sound(tmp_path / "in.mkv", "flac", layout, 0.2)
    _, notes = transcode(source, tmp_path / f"out{after}")
    assert [note for note in notes if "left out" in note] == []
    with av.open(str(tmp_path / f"out{after}")) as container:
        channels = container.streams.audio[0].layout.nb_channels
    assert channels == len(av.AudioLayout(layout).channels) or (channels == 2 and after in (".avi", ".wmv"))
