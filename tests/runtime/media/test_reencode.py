"""Sound and subtitles that change their format: their times, and what they hold."""

from __future__ import annotations

import re
import types
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from swiftvr_trt.errors import MediaError, MisuseError
from swiftvr_trt.runtime.media import SinkOptions, open_source
from swiftvr_trt.runtime.media.opening import open_sink
from swiftvr_trt.runtime.media.reencode import SoundConverter, encodes
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


@pytest.mark.parametrize(
    ("codec", "layouts"),
    [("ac3", ("stereo", "5.1(side)")), ("ac3", ("5.1(side)", "stereo", "mono")), ("aac", ("mono", "stereo"))],
)
def test_sound_may_change_its_channels_on_the_way(tmp_path: Path, codec: str, layouts: tuple[str, ...]) -> None:
    """As in broadcasts, between films and advertisements."""
    parts = [make_sound(tmp_path / f"{layout}.ts", codec, layout) for layout in layouts]
    (tmp_path / "in.ts").write_bytes(b"".join(part.read_bytes() for part in parts))
    _, notes = transcode(tmp_path / "in.ts", tmp_path / "out.webm")
    assert any(f"its channels change from {' to '.join(layouts)}, all are written as " in note for note in notes)
    assert [note for note in notes if "left out" in note] == []
    quiet = [moment for moment, level in loudness(tmp_path / "out.webm") if level < 0.02]
    assert sound_of(tmp_path / "out.webm")[2] == pytest.approx(0.6 * len(parts), abs=0.1)
    joins = [0.6 * number for number in range(len(parts) + 1)]
    assert all(min(abs(moment - join) for join in joins) < 0.1 for moment in quiet), quiet


def loudness(path: Path) -> list[tuple[float, float]]:
    """For every frame of the sound, when it is heard, and how loud it is."""
    found = []
    with av.open(str(path)) as container:
        frames: Any = container.decode(audio=0)
        for frame in frames:
            found.append((float(seconds(frame)), float(np.abs(frame.to_ndarray().astype(float)).mean())))
    return found


def test_the_rate_of_sound_may_change_on_the_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each part lasts as long as before, and what lies between them is silence."""
    source = make_sound(tmp_path / "in.mov", "pcm_s16le", "stereo", 0.1)
    encoded: list[Any] = []
    with open_source(source) as opened, av.open(str(tmp_path / "out.mka"), "w") as container:
        converter = SoundConverter(container, opened.info.copies[0], "flac")
        container.start_encoding()
        for rate, begin in ((48000, Fraction(0)), (44100, Fraction(1)), (8000, Fraction(3, 2))):
            frame = av.AudioFrame.from_ndarray(np.full((1, rate), 9000, np.int16), "s16", "stereo")
            frame.sample_rate, frame.time_base, frame.pts = rate, Fraction(1, 1000), int(begin * 1000)
            monkeypatch.setattr(converter, "_decoder", types.SimpleNamespace(decode=lambda _, frame=frame: [frame]))
            encoded += converter.convert(av.Packet(0))
        container.mux([*encoded, *converter.finish()])
    samples = np.concatenate([frame.to_ndarray() for frame in decoded_sound(tmp_path / "out.mka")], 1)[0, ::2]
    for first, last, level in ((0.01, 0.49, 9000), (0.51, 0.99, 0), (1.01, 1.99, 9000)):
        assert np.abs(samples[int(first * 48000) : int(last * 48000)] - level).max() < 90, first
    assert len(samples) == pytest.approx(2 * 48000, abs=10)


def decoded_sound(path: Path) -> list[Any]:
    with av.open(str(path)) as container:
        return list(container.decode(audio=0))


@pytest.mark.parametrize("count", [9, 16])
def test_channels_that_belong_nowhere_are_left_out_with_the_reason(tmp_path: Path, count: int) -> None:
    """As in recordings of 16 microphones: whoever mixes them must know where they stood."""
    layout = f"{count} channels"
    with av.open(str(tmp_path / "in.mov"), "w") as container:
        video: Any = container.add_stream("libx264", rate=25)
        video.width, video.height = 64, 48
        sound: Any = container.add_stream("pcm_s16le", rate=48000, layout=layout)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, count * 4800), np.int16), "s16", layout)
        frame.sample_rate, frame.pts = 48000, 0
        picture = av.VideoFrame.from_ndarray(np.zeros((48, 64, 3), np.uint8), "rgb24")
        container.mux([*video.encode(picture), *video.encode(None), *sound.encode(frame)])
    for after in (".webm", ".mp4"):
        (line,) = transcode(tmp_path / "in.mov", tmp_path / f"out{after}")[1]
        assert f"is left out: {after[1:]} files do not hold pcm_s16le, and nothing says to which loudspeakers" in line
    assert transcode(tmp_path / "in.mov", tmp_path / "out.mkv")[1] == ()


def test_sound_of_no_loudspeakers_is_not_planned_for_them() -> None:
    """FFmpeg cannot mix ambisonic sound; that is tried before anything is encoded."""
    sphere: Any = av.CodecContext.create("pcm_s16le", "w")
    sphere.layout, sphere.format, sphere.sample_rate = "ambisonic 1", "s16", 48000
    assert encodes("webm", sphere, "libopus") is False
    sphere.layout = "4.0"
    assert encodes("webm", sphere, "libopus") is True
