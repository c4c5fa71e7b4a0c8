"""What outputs keep beside pictures and streams. Whatever is lost has a line; the tests come from the tables."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import pytest
from av.sidedata.sidedata import Type
from av.stream import Disposition

from swiftvr_trt.runtime.media import SinkOptions
from swiftvr_trt.runtime.media.kept import (
    CARRIED,
    SIDE_DATA,
    STEREOSCOPIC,
    Look,
    Told,
    about_side_data,
    lost_side_data,
    read_back,
)

from .videos import EVEN, add_tone, as_is, frames_of, make_video, mux_tone, transcode

AUDIO_KINDS = {"MATRIXENCODING", "DOWNMIX_INFO", "REPLAYGAIN", "SKIP_SAMPLES", "AUDIO_SERVICE_TYPE"}

TAGS = {"title": "A film", "com.apple.quicktime.make": "Apple", "comment": "Nice"}

NOTHING = Told({}, 0, (("video", {}, 0),), Look("h264", Fraction(1), (2, 2, 2)))

CONTAINERS = {
    ".mkv": (),
    ".mov": (),
    ".mp4": (),
    ".nut": (),
    ".flv": ("title of the audio",),
    ".avi": ("com.apple.quicktime.make",),
    ".ts": ("title", "comment", "com.apple.quicktime.make"),
    ".mpg": ("title", "comment", "com.apple.quicktime.make"),
    ".h264": ("title", "comment", "com.apple.quicktime.make"),
}
"""By container, words of the line about lost tags."""


@pytest.mark.parametrize("kind", [kind.name for kind in Type if kind.name not in AUDIO_KINDS])
def test_every_kind_of_side_data_is_carried_or_named(kind: str) -> None:
    lost = lost_side_data({kind: b"something with a position"})
    expected = SIDE_DATA.get(kind, f"side data of the kind {kind}")
    assert lost == (frozenset() if expected == CARRIED else {expected})
    assert len(about_side_data(lost, NOTHING, "mp4")) == len(lost)


def test_a_kind_that_nobody_knows_yet_is_named() -> None:
    (line,) = about_side_data(lost_side_data({"SMELL": b"", "AFD": b"1"}), NOTHING, "mp4")
    assert line == "not carried over from the input: side data of the kind SMELL, the active picture area (AFD)"


def test_what_a_decoder_attaches_to_every_frame_is_no_loss(tmp_path: Path) -> None:
    """MPEG-2 video has pan and scan without a position, and the time codes of its groups."""
    make_video(tmp_path / "in.mp4", EVEN)
    transcode(tmp_path / "in.mp4", tmp_path / "in.mpg", options=SinkOptions(codec="mpeg2video"))
    assert [note for note in transcode(tmp_path / "in.mpg", tmp_path / "out.mkv")[1] if "carried" in note] == []
    assert lost_side_data({"PANSCAN": bytes(13) + b"1" + bytes(10)})


@pytest.mark.parametrize(
    ("suffix", "codec", "shape", "tags"),
    [
        (".mp4", "libx264", None, False),
        (".mkv", "libx265", None, False),
        (
            ".mkv",
            "ffv1",
            "this program cannot write into matroska with ffv1 that pixels are 9:8",
            False,
        ),
        (
            ".webm",
            "libvpx-vp9",
            "this program cannot write into webm with vp9 that pixels are 9:8",
            False,
        ),
        (".webm", "libvpx", "this program cannot write into webm with vp8 that pixels are 9:8", None),
        (".avi", "mpeg4", None, True),
        (".mpg", "mpeg2video", "this program cannot write into mpeg with mpeg2video that pixels are 9:8", False),
    ],
)
def test_a_picture_of_another_look_is_named(
    tmp_path: Path, suffix: str, codec: str, shape: str | None, tags: bool | None
) -> None:
    def prepare(_: Any, stream: Any) -> None:
        context = stream.codec_context
        context.sample_aspect_ratio = Fraction(9, 8)
        context.color_primaries = context.color_trc = context.colorspace = 1

    make_video(tmp_path / "in.mp4", EVEN, prepare=prepare)
    _, notes = transcode(tmp_path / "in.mp4", tmp_path / f"out{suffix}", options=SinkOptions(codec=codec))
    shown = [note for note in notes if note.startswith("players show the picture ")]
    assert len(shown) == (shape is not None)
    assert shape is None or shape in shown[0]
    if tags is not None:
        assert any("the colour tags of the video" in note for note in notes) is tags


def test_the_settings_of_the_old_encoder_are_no_loss(tmp_path: Path) -> None:
    """x264 writes them into the first frame of any video."""
    make_video(tmp_path / "in.mp4", EVEN)
    assert transcode(tmp_path / "in.mp4", tmp_path / "out.mp4")[1] == ()


@pytest.mark.parametrize("after", CONTAINERS)
def test_tags_are_kept_or_named(tmp_path: Path, after: str) -> None:
    def prepare(container: Any, _: Any) -> None:
        container.metadata.update(TAGS)
        add_tone(container)

    make_video(tmp_path / "in.mkv", EVEN, prepare=prepare, extra=mux_tone)
    _, notes = transcode(tmp_path / "in.mkv", tmp_path / f"out{after}")
    said = " ".join(note for note in notes if "do not keep" in note)
    assert [words for words in CONTAINERS[after] if words.casefold() not in said.casefold()] == []
    with av.open(str(tmp_path / f"out{after}")) as container:
        found = {name.casefold() for name in container.metadata}
    assert {name for name in TAGS if name not in said.casefold()} <= found | {"comment"}


@pytest.mark.parametrize(("after", "kept"), [(".mkv", True), (".mp4", True), (".avi", False)])
def test_chapters_are_kept_or_named(tmp_path: Path, after: str, kept: bool) -> None:
    chapter: Any = {"id": 1, "start": 0, "end": 500, "time_base": Fraction(1, 1000), "metadata": {"title": "One"}}
    make_video(tmp_path / "in.mkv", EVEN, prepare=lambda container, _: container.set_chapters([chapter]))
    _, notes = transcode(tmp_path / "in.mkv", tmp_path / f"out{after}")
    assert any("1 chapter" in note for note in notes) != kept


@pytest.mark.parametrize(("after", "kept"), [(".mkv", True), (".avi", False)])
def test_marks_of_tracks_are_kept_or_named(tmp_path: Path, after: str, kept: bool) -> None:
    def prepare(container: Any, video: Any) -> None:
        video.disposition = Disposition.default | Disposition.original
        add_tone(container, "ac3").disposition = Disposition.hearing_impaired

    make_video(tmp_path / "in.mkv", EVEN, prepare=prepare, extra=mux_tone)
    _, notes = transcode(tmp_path / "in.mkv", tmp_path / f"out{after}")
    for mark in ("'original' of the video", "'hearing_impaired' of the audio"):
        assert any(mark in note for note in notes) != kept
    with av.open(str(tmp_path / f"out{after}")) as container:
        assert bool(container.streams.video[0].disposition & Disposition.original) == kept


def test_a_stream_that_players_do_not_find_is_named(tmp_path: Path) -> None:
    make_video(tmp_path / "in.mkv", EVEN[:3], prepare=lambda container, _: add_tone(container), extra=mux_tone)
    more: Any = [("video", {}, 0), ("audio", {}, 0), ("audio", {}, 0), ("subtitle", {}, 0)]
    streams, _ = read_back(tmp_path / "in.mkv", replace(NOTHING, streams=tuple(more)), "mpegts")
    assert streams == (
        "mpegts files have no name for the format of 1 of 2 audio streams, so players do not find it",
        "mpegts files have no name for the format of the subtitle stream, so players do not find it",
    )


def test_nothing_is_said_of_an_output_that_keeps_everything(tmp_path: Path) -> None:
    make_video(tmp_path / "in.mp4", EVEN, prepare=as_is)
    for after in (".mp4", ".mkv", ".mov", ".avi", ".ts", ".webm"):
        notes = transcode(tmp_path / "in.mp4", tmp_path / f"out{after}")[1]
        assert [note for note in notes if "do not keep" in note] == []


@pytest.mark.parametrize(("after", "kept"), [(".mkv", True), (".mp4", False), (".ts", False)])
@pytest.mark.parametrize(("packing", "mode"), [("3", "left_right"), ("4", "top_bottom")])
def test_stereoscopic_video_stays_marked_or_is_named(
    tmp_path: Path, packing: str, mode: str, after: str, kept: bool
) -> None:
    packed: Any = {"x264-params": f"frame-packing={packing}"}
    make_video(tmp_path / "in.mp4", EVEN, **packed)
    _, notes = transcode(tmp_path / "in.mp4", tmp_path / f"out{after}")
    assert any(STEREOSCOPIC in note for note in notes) != kept
    with av.open(str(tmp_path / f"out{after}")) as container:
        assert (container.streams.video[0].metadata.get("stereo_mode") == mode) == kept


def test_transparency_beside_the_picture_is_named(tmp_path: Path) -> None:
    """VP9 in WebM stores it apart, and FFmpeg's decoder leaves it out."""
    simple: Any = {"auto-alt-ref": "0"}
    make_video(tmp_path / "in.webm", EVEN[:3], "libvpx-vp9", frames_of(pix_fmt="yuva420p"), **simple)
    _, notes = transcode(tmp_path / "in.webm", tmp_path / "out.mkv")
    assert "transparency is dropped" in notes
    with av.open(str(tmp_path / "out.mkv")) as container:
        assert "alpha_mode" not in container.streams.video[0].metadata
