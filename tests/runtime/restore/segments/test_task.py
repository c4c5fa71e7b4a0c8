"""What decides the bytes of a piece is recorded; what does not is left out."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import pytest

from swiftvr_trt import MediaError
from swiftvr_trt.runtime.media import source_options
from swiftvr_trt.runtime.media.base import SinkOptions
from swiftvr_trt.runtime.media.source_options import SourceOptions
from swiftvr_trt.runtime.media.trim import Excerpt
from swiftvr_trt.runtime.restore.segments import task as task_module
from swiftvr_trt.runtime.restore.segments.grid import Grid
from swiftvr_trt.runtime.restore.segments.store import Store
from swiftvr_trt.runtime.restore.segments.task import PiecesTask, identity_of

from .test_grid import manifest
from .test_store import add

GRID = Grid(manifest(8), 3)


def opened(output: Path, identity: dict[str, str]) -> Store:
    return Store.open(output, identity, resume=True, say=lambda _line: None)


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


def test_each_version_decides_and_is_named(task: PiecesTask, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of what encodes and, for graphs, of what runs them. Engines run in one version only."""
    recipe = manifest(8).recipe

    def identities() -> list[dict[str, str]]:
        both = (replace(manifest(8), recipe=replace(recipe, target=target)) for target in ("cuda", "rtx5090"))
        return [identity_of(task, Grid(each, 3)) for each in both]

    monkeypatch.setattr(task_module, "onnxruntime_version", lambda: "1.2")
    before = identities()
    monkeypatch.setattr(task_module, "onnxruntime_version", lambda: "1.3")
    monkeypatch.setattr(av, "ffmpeg_version_info", "9.9")
    changed = [
        {name: after[name] for name in after if after[name] != old[name]}
        for old, after in zip(before, identities(), strict=True)
    ]
    assert changed == [{"FFmpeg": "9.9", "ONNX Runtime": "1.3"}, {"FFmpeg": "9.9"}]


ANY_TEXT: dict[str, Callable[[PiecesTask, str], PiecesTask]] = {
    "the way to read the input": lambda task, text: replace(task, reading=SourceOptions(vf=f"noise=all_seed={text}")),
    "the size of its tiles": lambda task, text: replace(task, tile=text),
    "the container": lambda task, text: replace(task, output=task.output.with_suffix("." + text)),
    "the codec": lambda task, text: replace(task, sink=SinkOptions(codec=text)),
    "the preset": lambda task, text: replace(task, sink=SinkOptions(preset=text)),
    "the pixel format": lambda task, text: replace(task, sink=SinkOptions(pix_fmt=text)),
    "the encoder options": lambda task, text: replace(task, sink=SinkOptions(extra=(("o", text),))),
}
"""The part of the identity that a user's text gets into, and how."""


@pytest.mark.parametrize("decides", ANY_TEXT)
@pytest.mark.parametrize("text", ["x" * 300, "a\x1b[31mb", "a\nb", "ü\udcff"], ids=ascii)
def test_a_run_with_any_text_goes_on_and_one_with_another_text_does_not(
    task: PiecesTask, monkeypatch: pytest.MonkeyPatch, decides: str, text: str
) -> None:
    monkeypatch.setattr(source_options, "parse_graph", lambda _text: None)

    def identity(text: str) -> dict[str, str]:
        return identity_of(ANY_TEXT[decides](task, text), GRID)

    with opened(task.output, identity(text)) as store:
        add(store, 0)
    with opened(task.output, identity(text)) as store:
        assert sorted(store.marks) == [0]
    with pytest.raises(MediaError, match=f"{re.escape(decides)} was .*, now "):
        opened(task.output, identity(text + "y"))


def test_a_bundle_with_a_long_description_is_told_from_another(task: PiecesTask) -> None:
    """Its digest stands behind the description."""
    first = manifest(8)
    grids = [
        Grid(
            replace(first, recipe=replace(first.recipe, without=tuple(f"rewrite-{n}" for n in range(40))), files=files),
            3,
        )
        for files in (first.files, ())
    ]
    one, other = (identity_of(task, grid)["the bundle"] for grid in grids)
    assert one != other
    assert len(one) <= 256


@pytest.mark.parametrize("change", [{"frames": 9}, {"begin": 3}, {"stop": 9}, {"zero": 2}, {"zero": None}])
def test_the_part_of_the_input_decides(task: PiecesTask, change: dict[str, Any]) -> None:
    """Also where the same frames are shown earlier: --start moves them to 0, --frames does not."""
    part = Excerpt(Fraction(1, 25), frames=8, begin=2, stop=10, zero=4, until=None, wants_more=False)
    before, after = (identity_of(replace(task, excerpt=each), GRID) for each in (part, replace(part, **change)))
    assert [name for name in before if before[name] != after[name]] == ["the part of the input"]
