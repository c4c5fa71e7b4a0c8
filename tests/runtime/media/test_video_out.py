"""Videos as sinks: metadata, and nothing left behind when the work stops."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import pytest

from swiftvr_trt.errors import MediaError
from swiftvr_trt.runtime.media import Source, open_sink, open_source

from .videos import UNEVEN, assert_refused, make_video, names, sink_of_same_size, transcode


def describe(container: Any, _: Any) -> None:
    container.metadata.update({"title": "Film", "artist": "Someone", "comment": "ä ö ü"})
    container.set_chapters(
        [
            {"id": i, "start": 500 * i, "end": 500 * i + 500, "time_base": Fraction(1, 1000), "metadata": {"title": n}}
            for i, n in enumerate(["Eins", "Zwei"])
        ]
    )


@pytest.mark.parametrize("before", [".mp4", ".mkv"])
@pytest.mark.parametrize("after", [".mp4", ".mkv"])
def test_titles_and_chapters_are_kept(tmp_path: Path, before: str, after: str) -> None:
    make_video(tmp_path / f"in{before}", UNEVEN, prepare=describe)
    _, notes = transcode(tmp_path / f"in{before}", tmp_path / f"out{after}")
    with av.open(str(tmp_path / f"out{after}")) as container:
        tags = {key.lower(): value for key, value in container.metadata.items()}
        chapters: list[Any] = container.chapters()
    assert {key: tags[key] for key in ("title", "artist", "comment")} == {
        "title": "Film",
        "artist": "Someone",
        "comment": "ä ö ü",
    }
    assert [chapter["metadata"]["title"] for chapter in chapters] == ["Eins", "Zwei"]
    assert [chapter["start"] * chapter["time_base"] for chapter in chapters] == [0, Fraction(1, 2)]
    assert notes == ()


def test_nothing_is_left_when_the_work_stops(clip: Path, tmp_path: Path) -> None:
    def interrupted(source: Source) -> None:
        with sink_of_same_size(tmp_path / "out.mp4", source.info) as sink:
            for item in source:
                sink.write(item)
            raise KeyboardInterrupt

    with open_source(clip) as source, pytest.raises(KeyboardInterrupt):
        interrupted(source)
    assert names(tmp_path) == ["in.mp4"]


def test_nothing_is_left_without_a_commit(clip: Path, tmp_path: Path) -> None:
    with open_source(clip) as source, open_sink(tmp_path / "out.mp4", source.info, 64, 48) as sink:
        sink.write(next(iter(source)))
        assert not (tmp_path / "out.mp4").exists()
    assert names(tmp_path) == ["in.mp4"]


def test_an_output_without_pictures_is_refused(clip: Path, tmp_path: Path) -> None:
    with (
        open_source(clip) as source,
        sink_of_same_size(tmp_path / "out.mp4", source.info) as sink,
        pytest.raises(MediaError, match="no frame was written"),
    ):
        sink.commit()
    assert names(tmp_path) == ["in.mp4"]


def test_a_picture_of_another_size_is_refused(clip: Path, tmp_path: Path) -> None:
    with open_source(clip) as source, open_sink(tmp_path / "out.mp4", source.info, 128, 96) as sink:
        picture = next(iter(source))
        with pytest.raises(MediaError, match=r"expected uint8 \[96, 128, 3\]"):
            sink.write(picture)
    assert names(tmp_path) == ["in.mp4"]


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("out.zzz", r"'\.zzz', which is not a video container, expected e\.g\. \.mp4"),
        ("out.m3u8", "many files"),
    ],
)
def test_a_suffix_that_is_not_a_container_is_refused(clip: Path, tmp_path: Path, name: str, said: str) -> None:
    assert_refused(clip, tmp_path / name, said)
