"""A part of a video: the frames that FFmpeg's `trim` filter selects, for the codecs and containers that people have."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import pytest
from av.filter import Graph
from av.video.reformatter import VideoReformatter

from swiftvr_trt import MisuseError
from swiftvr_trt.runtime.media import Picture, colour, open_sink, open_source
from swiftvr_trt.runtime.media import trimmed as module
from swiftvr_trt.runtime.media.index import index_video
from swiftvr_trt.runtime.media.trim import Trim
from swiftvr_trt.runtime.media.trimmed import TrimmedVideo, reopen

from .test_copies import add_subtitles, mux_subtitles
from .test_video_out import describe
from .test_video_range import KINDS, Kind, write
from .videos import (
    STEP,
    add_cover,
    add_tone,
    make_unreadable,
    make_video,
    mux_cover,
    mux_tone,
    one_line,
    packets,
    times,
)

ALL = {**KINDS, "mpeg4 b frames avi": Kind(".avi", "mpeg4", {"g": "12", "b": "2000k"}, b=2)}


def digest(pixels: Any) -> str:
    return hashlib.sha256(pixels.tobytes()).hexdigest()


def cut_by_ffmpeg(path: Path, start: Fraction, end: Fraction) -> list[tuple[str, float]]:
    """Digest and time of the frames that FFmpeg's `trim` selects from a decoding of the whole file."""
    with av.open(str(path)) as container:
        begin = Fraction(container.start_time or 0, 1_000_000)
        stream = container.streams.video[0]
        graph = Graph()
        reformatter = VideoReformatter()
        source = graph.add_buffer(template=stream)
        trim = graph.add("trim", f"start={float(begin + start)}:end={float(begin + end)}")
        sink = graph.add("buffersink")
        source.link_to(trim)
        trim.link_to(sink)
        graph.configure()
        return [
            (digest(colour.to_rgb(frame, reformatter)), float(frame.time - begin))
            for frame in through(graph, container.decode(stream))
            if frame.time is not None
        ]


def through(graph: Graph, frames: Iterator[av.VideoFrame]) -> Iterator[av.VideoFrame]:
    for frame in (*frames, None):
        graph.vpush(frame)
        while True:
            try:
                yield graph.vpull()
            except (av.BlockingIOError, av.EOFError):
                break


def trimmed(path: Path, trim: Trim) -> list[Picture]:
    with open_source(path, trim=trim) as source:
        pictures = [item for item in source if isinstance(item, Picture)]
        assert source.info.frames == len(pictures)
        assert source.shortfall is None
        assert source.damage == ()
    return pictures


RANGES = [("0", "0.5"), ("0.2", "0.4"), ("0.47", "0.33"), ("1", "1.2"), ("2.99", "0.1"), ("2.5", "100")]


@pytest.mark.parametrize("name", ALL)
def test_the_frames_of_a_part_are_those_that_ffmpeg_selects(tmp_path: Path, name: str) -> None:
    path = write(tmp_path / f"in{ALL[name].suffix}", ALL[name])
    for start, duration in ((Fraction(one), Fraction(other)) for one, other in RANGES):
        expected = cut_by_ffmpeg(path, start, start + duration)
        assert expected
        pictures = trimmed(path, Trim(start, duration))
        assert [digest(picture.pixels) for picture in pictures] == [one for one, _ in expected], (start, duration)
        assert [picture.stamp.index for picture in pictures] == list(range(len(pictures)))
        times = [float(picture.stamp.pts * picture.stamp.time_base) for picture in pictures]
        first = expected[0][1] if start else expected[0][1] - times[0]
        assert times == pytest.approx([time - first for _, time in expected], abs=1e-3)
        fewer = trimmed(path, Trim(start, duration, 2))
        assert [digest(picture.pixels) for picture in fewer] == [one for one, _ in expected[:2]]


def joined(tmp_path: Path) -> Path:
    """Two recordings in one file, whose clock jumps back in the middle."""
    one = write(tmp_path / "one.ts", KINDS["mpeg2 ts"]).read_bytes()
    path = tmp_path / "in.ts"
    path.write_bytes(one + one)
    return path


@pytest.mark.parametrize(
    ("trim", "first", "stop"),
    [
        (Trim(Fraction(1), Fraction(1)), 25, 50),
        (Trim(Fraction(4), Fraction(1)), 100, 125),
        (Trim(Fraction(3), frames=10), 75, 85),
        (Trim(Fraction(6)), 150, None),
        (Trim(frames=3), 0, 3),
    ],
)
def test_a_video_without_an_index_is_read_in_order_and_that_is_said(
    tmp_path: Path, trim: Trim, first: int, stop: int | None
) -> None:
    path = joined(tmp_path)
    with open_source(path) as source:
        whole = [digest(item.pixels) for item in source if isinstance(item, Picture)]
    with open_source(path, trim=trim) as source:
        assert source.notes == ("in.ts is read from its beginning to the first frame, since its clock jumps",)
        pictures = [item for item in source if isinstance(item, Picture)]
        assert source.info.frames == len(pictures)
    assert [digest(picture.pixels) for picture in pictures] == whole[first:stop]
    assert pictures[0].stamp.pts == 0
    with pytest.raises(MisuseError, match="--start is 9 s, but the last frame of"):
        open_source(path, trim=Trim(Fraction(9)))


def test_a_wrong_index_is_noticed_and_the_frames_are_right(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "in.mp4", KINDS["h264 b frames"])
    expected = [digest(picture.pixels) for picture in trimmed(path, Trim(Fraction(1), Fraction(1)))]
    right = index_video

    def wrong(info: Any) -> Any:
        index = right(info)
        assert not isinstance(index, str)
        return replace(index, times=(*index.times[:30], *(time + 1 for time in index.times[30:])))

    monkeypatch.setattr(module, "index_video", wrong)
    with open_source(path, trim=Trim(Fraction(1), Fraction(1))) as source:
        found = [item for item in source if isinstance(item, Picture)]
        assert any(note.endswith("the video is read in order instead") for note in source.notes)
    assert [digest(picture.pixels) for picture in found] == expected
    assert [picture.stamp.index for picture in found] == list(range(25))


@pytest.mark.parametrize(
    ("trim", "said"),
    [
        (
            Trim(Fraction(100)),
            "--start is 100 s, but the last frame of .* is shown at 3.16 s: choose an earlier moment",
        ),
        (
            Trim(Fraction(1, 20), Fraction(1, 100)),
            "shows no new frame from 0.05 s to 0.06 s, and the next one at 0.08 s: choose a longer --duration",
        ),
    ],
)
@pytest.mark.parametrize("name", ["h264 b frames", "hevc ts"])
def test_a_part_without_a_frame_is_refused(tmp_path: Path, name: str, trim: Trim, said: str) -> None:
    path = write(tmp_path / f"in{ALL[name].suffix}", ALL[name])
    with pytest.raises(MisuseError, match=said) as error:
        open_source(path, trim=trim)
    assert one_line(error)


@pytest.mark.parametrize(
    ("trim", "complete"),
    [
        (Trim(Fraction(1)), False),
        (Trim(Fraction(1), Fraction(1, 2)), True),
        (Trim(frames=5), True),
        (Trim(Fraction(1), frames=1000), False),
        (Trim(Fraction(1), Fraction(1000)), False),
    ],
)
def test_only_a_part_that_misses_the_end_is_incomplete(tmp_path: Path, trim: Trim, complete: bool) -> None:
    """The file is cut off: its header promises more than it holds."""
    path = write(tmp_path / "in.mkv", KINDS["ffv1"])
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) * 2 // 3])
    with open_source(path) as source:
        list(source)
        assert source.shortfall is not None
    with open_source(path, trim=trim) as source:
        assert list(source)
        assert (source.shortfall is None) == complete


@pytest.mark.parametrize(
    ("trim", "found", "lacks"),
    [
        (Trim(None, Fraction(1)), 25, False),
        (Trim(Fraction(1), Fraction(1)), 24, True),
        (Trim(Fraction(1), frames=25), 24, True),
        (Trim(Fraction(2)), 25, False),
    ],
)
@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_a_frame_that_cannot_be_decoded_is_missing_in_the_part_that_should_hold_it(
    tmp_path: Path, suffix: str, trim: Trim, found: int, lacks: bool
) -> None:
    path = make_unreadable(tmp_path / f"in{suffix}", 75, 30)
    with open_source(path, trim=trim) as source:
        assert sum(isinstance(item, Picture) for item in source) == found
        line = "this part of the input promises 25 frames, but only 24 could be read"
        assert source.shortfall == (line if lacks else None)


def cut(before: Path, after: Path, trim: Trim) -> None:
    """Write a part of a video, and the packets to copy."""
    with open_source(before, trim=trim) as source:
        assert isinstance(source, TrimmedVideo)
        info = source.info
        with (
            open_sink(after, info, info.width, info.height) as sink,
            reopen(info, source.excerpt) as again,
        ):
            for item in (*source, *again.copied_packets()):
                sink.write(item)
            sink.commit()


SOUND_S = Fraction(1024, 48000)


def frames_of_sound(path: Path) -> list[tuple[bytes, Fraction]]:
    """AAC frames, which have a header in a transport stream, and their times."""
    return [(data[7:] if data[:2] == b"\xff\xf1" else data, time) for data, time in packets(path, "audio")]


@pytest.mark.parametrize("after", [".mp4", ".mov", ".mkv", ".ts"])
@pytest.mark.parametrize("before", [".mp4", ".mkv", ".ts"])
def test_sound_is_cut_to_within_a_packet_and_stays_in_time(tmp_path: Path, before: str, after: str) -> None:
    source, output = tmp_path / f"in{before}", tmp_path / f"out{after}"
    stamps = [STEP * number for number in range(30)]
    make_video(source, stamps, prepare=lambda container, _: add_tone(container), extra=mux_tone)
    cut(source, output, Trim(Fraction(2, 5), Fraction(2, 5)))
    whole, part = dict(frames_of_sound(source)), frames_of_sound(output)
    assert len(times(output)) == 10
    shift = times(source)[10] - times(output)[0]
    assert all(abs(whole[data] - time - shift) < Fraction(2, 1000) for data, time in part)
    begin, end = part[0][1] - times(output)[0], part[-1][1] + SOUND_S - times(output)[0]
    assert abs(begin) < SOUND_S
    assert abs(end - Fraction(2, 5)) < SOUND_S
    assert begin <= 0 or after in (".mkv", ".ts")
    if before == after == ".mp4":
        assert times(output)[0] == 0


def test_a_part_from_the_beginning_has_the_beginning_of_the_sound(tmp_path: Path) -> None:
    source, output = tmp_path / "in.mp4", tmp_path / "out.mp4"
    make_video(source, [STEP * n for n in range(30)], prepare=lambda container, _: add_tone(container), extra=mux_tone)
    cut(source, output, Trim(frames=10))
    whole, part = packets(source, "audio"), packets(output, "audio")
    assert part == whole[: len(part)]
    assert Fraction(2, 5) <= part[-1][1] + SOUND_S < Fraction(2, 5) + SOUND_S


@pytest.mark.parametrize(
    ("trim", "texts", "chapters"),
    [
        (Trim(Fraction(1, 5), Fraction(2, 5)), [(b"un", 0, 200)], [("Eins", 0, 300), ("Zwei", 300, 400)]),
        (Trim(Fraction(4, 5)), [(b"deux", 0, 201)], [("Zwei", 0, 200)]),
        (Trim(duration=Fraction(1, 5)), [(b"un", 100, 100)], [("Eins", 0, 200)]),
        (Trim(Fraction(1, 5), frames=2), [(b"un", 0, 80)], [("Eins", 0, 80)]),
    ],
)
def test_subtitles_and_chapters_are_cut_and_moved(
    tmp_path: Path, trim: Trim, texts: list[tuple[bytes, int, int]], chapters: list[tuple[str, int, int]]
) -> None:
    source, output = tmp_path / "in.mkv", tmp_path / "out.mkv"

    def prepare(container: Any, stream: Any) -> None:
        describe(container, stream)
        add_subtitles(container)

    make_video(source, [STEP * n for n in range(30)], prepare=prepare, extra=mux_subtitles)
    cut(source, output, trim)
    with av.open(str(output)) as container:
        found: list[Any] = container.chapters()
        subtitles = [(bytes(p), p.pts, p.duration) for p in container.demux(container.streams.subtitles) if p.size]
    assert subtitles == texts
    milliseconds = [[round(1000 * one[at] * one["time_base"]) for at in ("start", "end")] for one in found]
    assert [(one["metadata"]["title"], *ms) for one, ms in zip(found, milliseconds, strict=True)] == chapters


def test_a_cover_is_kept(tmp_path: Path) -> None:
    source, output = tmp_path / "in.mp4", tmp_path / "out.mp4"
    make_video(source, [STEP * n for n in range(30)], prepare=add_cover, extra=mux_cover)
    cut(source, output, Trim(Fraction(4, 5)))
    with av.open(str(output)) as container:
        assert len(container.streams.video) == 2


def test_images_are_counted(tmp_path: Path) -> None:
    for number in range(10):
        av.VideoFrame(16, 16, "rgb24").save(str(tmp_path / f"{number:02}.png"))
    with open_source(tmp_path, rate=Fraction(10), trim=Trim(Fraction(1, 4), Fraction(3, 10))) as source:
        pictures = [item for item in source if isinstance(item, Picture)]
    assert [(one.stamp.name, one.stamp.index, one.stamp.pts) for one in pictures] == [
        ("03", 0, 0),
        ("04", 1, 1),
        ("05", 2, 2),
    ]
    with pytest.raises(MisuseError, match=r"--start is 5 s, but the last frame of .* is shown at 0.36 s"):
        open_source(tmp_path, trim=Trim(Fraction(5)))
