"""Tags in MP4 and MOV: those that phones write are kept, and covers and tags of iTunes are not given up for nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import av
import pytest
from av.stream import Disposition

from swiftvr_trt.runtime.media.quicktime import tag_options, titled

from .videos import EVEN, add_tone, cover_picture, make_video, mux_tone, transcode

KEYS = {
    "com.apple.quicktime.make": "Apple",
    "com.apple.quicktime.model": "iPhone 13",
    "com.apple.quicktime.location.ISO6709": "+48.1+011.5+500/",
    "com.apple.quicktime.creationdate": "2021-06-01T12:00:00+0200",
}
ANY_KEY = {"movflags": "use_metadata_tags"}


@pytest.mark.parametrize(
    ("format_name", "tags", "has_cover", "expected"),
    [
        ("mp4", KEYS, False, ANY_KEY),
        ("mov", KEYS, True, ANY_KEY),
        ("mp4", KEYS, True, {}),
        ("mp4", {"title": "A film", "artist": "Somebody"}, False, {}),
        ("mov", {"title": "A film"}, False, {}),
        ("matroska", KEYS, False, {}),
        ("mp4", {}, False, {}),
    ],
)
def test_keys_are_used_only_where_a_tag_needs_them(
    format_name: str, tags: dict[str, str], has_cover: bool, expected: dict[str, str]
) -> None:
    assert tag_options(format_name, tags, has_cover=has_cover) == expected


@pytest.mark.parametrize("after", [".mov", ".mp4", ".mkv"])
def test_the_keys_of_a_phone_are_kept(tmp_path: Path, after: str) -> None:
    make_video(tmp_path / "in.mkv", EVEN, prepare=lambda container, _: container.metadata.update(KEYS))
    _, notes = transcode(tmp_path / "in.mkv", tmp_path / f"out{after}")
    with av.open(str(tmp_path / f"out{after}")) as container:
        found = {name.casefold(): text for name, text in container.metadata.items()}
    assert {name.casefold(): text for name, text in KEYS.items()}.items() <= found.items()
    assert notes == ()


def test_a_cover_in_mp4_is_worth_more_than_keys_which_are_named(tmp_path: Path) -> None:
    def prepare(container: Any, _: Any) -> None:
        container.metadata.update(KEYS)
        container.add_attachment("cover.jpg", "image/jpeg", cover_picture())

    make_video(tmp_path / "in.mkv", EVEN, prepare=prepare)
    _, notes = transcode(tmp_path / "in.mkv", tmp_path / "out.mp4")
    with av.open(str(tmp_path / "out.mp4")) as container:
        assert [bool(s.disposition & Disposition.attached_pic) for s in container.streams.video] == [False, True]
    assert [("com.apple.quicktime" in note.casefold(), "mp4 files do not keep" in note) for note in notes] == [
        (True, True)
    ]


def test_the_name_of_a_track_is_its_title() -> None:
    assert titled({"name": "Ton", "language": "deu"}) == {"title": "Ton", "language": "deu"}
    assert titled({"name": "Ton", "title": "Original"}) == {"title": "Original"}
    assert titled({"language": "deu"}) == {"language": "deu"}


@pytest.mark.parametrize(
    ("after", "kept"), [(".mp4", "name"), (".mov", "name"), (".mkv", "title"), (".webm", "title"), (".3gp", None)]
)
def test_names_of_tracks_are_kept_or_named(tmp_path: Path, after: str, kept: str | None) -> None:
    """FFmpeg reads them from MP4 and MOV as `name`, and writes them from `title`."""

    def prepare(container: Any, video: Any) -> None:
        video.metadata.update({"title": "Bild"})
        add_tone(container)

    make_video(tmp_path / "in.mp4", EVEN[:5], prepare=prepare, extra=mux_tone)
    _, notes = transcode(tmp_path / "in.mp4", tmp_path / f"out{after}")
    lost = [note for note in notes if "the title of the video, the title of the audio" in note]
    assert len(lost) == (kept is None)
    with av.open(str(tmp_path / f"out{after}")) as container:
        tags = [stream.metadata for stream in container.streams]
    assert kept is None or [each[kept] for each in tags] == ["Bild", "Ton"]
