"""What decides the bytes of a piece is recorded; what does not is left out."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from swiftvr_trt.runtime.media.base import SinkOptions
from swiftvr_trt.runtime.restore.segments.grid import Grid
from swiftvr_trt.runtime.restore.segments.task import PiecesTask, identity_of

from .test_grid import manifest

GRID = Grid(manifest(8), 3)


@pytest.fixture
def task(tmp_path: Path) -> PiecesTask:
    (tmp_path / "in.mp4").write_bytes(b"video")
    return PiecesTask(tmp_path / "in.mp4", tmp_path / "out.mp4", 64, 48, SinkOptions())


@pytest.mark.parametrize(
    ("name", "sink"),
    [
        ("the codec", SinkOptions(codec="libx265")),
        ("the quality (crf)", SinkOptions(crf=20)),
        ("the preset", SinkOptions(preset="slow")),
        ("the pixel format", SinkOptions(pix_fmt="yuv444p")),
        ("the encoder options", SinkOptions(extra=(("tune", "film"),))),
        ("the encoder on the GPU", SinkOptions(gpu=0)),
    ],
)
def test_each_option_of_the_encoder_decides(task: PiecesTask, name: str, sink: SinkOptions) -> None:
    before, after = identity_of(task, GRID), identity_of(replace(task, sink=sink), GRID)
    assert [key for key in before if before[key] != after[key]] == [name]


def test_how_other_streams_are_copied_does_not_decide(task: PiecesTask) -> None:
    other = replace(task, sink=SinkOptions(audio=False, metadata=False, overwrite=True))
    assert identity_of(other, GRID) == identity_of(task, GRID)


def test_input_bundle_size_container_and_pieces_decide(task: PiecesTask, tmp_path: Path) -> None:
    before = identity_of(task, GRID)

    def changed(task: PiecesTask, grid: Grid = GRID) -> list[str]:
        after = identity_of(task, grid)
        return [key for key in before if before[key] != after[key]]

    (tmp_path / "other.mp4").write_bytes(b"audio")
    assert changed(replace(task, source=tmp_path / "other.mp4")) == ["the input"]
    assert changed(replace(task, width=66)) == ["the output size"]
    assert changed(replace(task, tile="64x48")) == ["the size of its tiles"]
    assert changed(replace(task, output=tmp_path / "out.mkv")) == ["the container"]
    assert changed(task, Grid(manifest(8), 4)) == ["the length of a piece"]
    assert changed(task, Grid(manifest(24), 3)) == ["the bundle"]


def test_options_are_recorded_as_short_printable_text(task: PiecesTask) -> None:
    for value in ("x" * 300, "a\x1b[31mb", "a\nb"):
        text = identity_of(replace(task, sink=SinkOptions(extra=(("o", value),))), GRID)["the encoder options"]
        assert len(text) <= 100
        assert text.isprintable()
