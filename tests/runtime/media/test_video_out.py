"""Videos as sinks: metadata, and nothing left behind when the work stops."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import pytest

from swiftvr_trt.errors import MediaError
from swiftvr_trt.runtime.media import Source, open_sink, open_source
from swiftvr_trt.runtime.media.trim import Trim

from .videos import STEP, UNEVEN, assert_refused, make_video, names, sink_of_same_size, transcode


def describe(container: Any, _: Any) -> None:
    container.metadata.update({"title": "Film", "artist": "Someone", "comment": "ä ö ü"})
    set_chapters(container, 0, "Eins", "Zwei")


def set_chapters(container: Any, begin: int, *titles: str) -> None:
    """Chapters of half a second each. begin: of the first one, in milliseconds."""
    container.set_chapters(
        [
            {"id": i, "start": at, "end": at + 500, "time_base": Fraction(1, 1000), "metadata": {"title": title}}
            for i, title in enumerate(titles)
            for at in [begin + 500 * i]
        ]
    )


def chapters_of(path: Path) -> list[tuple[str, Fraction, Fraction]]:
    """Their titles, and when they begin and end, in seconds."""
    with av.open(str(path)) as container:
        found: list[Any] = container.chapters()
    return [(one["metadata"]["title"], *(one[edge] * one["time_base"] for edge in ("start", "end"))) for one in found]


@pytest.mark.parametrize("start", [None, Fraction(1, 5)])
def test_chapters_move_with_the_pictures(tmp_path: Path, start: Fraction | None) -> None:
    """In a file that starts late, as after `ffmpeg -copyts -ss 300`. Chapters before its beginning are gone."""
    before, after = tmp_path / "in.mkv", tmp_path / "out.mkv"
    titles = ("gone", "Null", "Eins", "Zwei")
    make_video(
        before, [300 * 90000 + STEP * n for n in range(30)], prepare=lambda c, _: set_chapters(c, 299250, *titles)
    )
    with open_source(before, trim=Trim(start)) as source, sink_of_same_size(after, source.info) as sink:
        for item in source:
            sink.write(item)
        sink.commit()
    begin = start or 0
    moments = [(Fraction(0), Fraction(1, 4)), (Fraction(1, 4), Fraction(3, 4)), (Fraction(3, 4), Fraction(5, 4))]
    expected = [(max(one - begin, Fraction(0)), other - begin) for one, other in moments]
    assert chapters_of(after) == [(title, *moment) for title, moment in zip(titles[1:], expected, strict=True)]


@pytest.mark.parametrize("before", [".mp4", ".mkv"])
@pytest.mark.parametrize("after", [".mp4", ".mkv"])
def test_titles_and_chapters_are_kept(tmp_path: Path, before: str, after: str) -> None:
    make_video(tmp_path / f"in{before}", UNEVEN, prepare=describe)
    _, notes = transcode(tmp_path / f"in{before}", tmp_path / f"out{after}")
    with av.open(str(tmp_path / f"out{after}")) as container:
        tags = {key.lower(): value for key, value in container.metadata.items()}
    assert {key: tags[key] for key in ("title", "artist", "comment")} == {
        "title": "Film",
        "artist": "Someone",
        "comment": "ä ö ü",
    }
    assert [chapter[:2] for chapter in chapters_of(tmp_path / f"out{after}")] == [("Eins", 0), ("Zwei", Fraction(1, 2))]
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
        *((name, r"pictures that is not written, expected e\.g\. \.png") for name in ("o.dpx", "o%d.ppm", "o.heic")),
    ],
)
def test_a_suffix_that_is_not_a_container_is_refused(clip: Path, tmp_path: Path, name: str, said: str) -> None:
    assert_refused(clip, tmp_path / name, said)
