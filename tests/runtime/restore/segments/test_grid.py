"""Where pieces begin, by hand and for every length."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swiftvr_trt import Manifest
from swiftvr_trt.runtime.restore.segments.grid import Grid, Span, missing_spans
from tests.engines.fakes import RECIPE, fake_manifest


def manifest(clip_len: int = 8) -> Manifest:
    plain = fake_manifest(replace(RECIPE, clip_len=clip_len))
    return replace(plain, stages=tuple(replace(stage, reach=9) for stage in plain.stages))


@pytest.mark.parametrize(
    ("clip_len", "rate", "seconds", "chunks"),
    [
        (24, Fraction(25), 30, 31),
        (24, Fraction(30000, 1001), 30, 37),
        (8, Fraction(25), 1, 3),
        (24, Fraction(1, 10), 30, 1),
    ],
)
def test_pieces_have_whole_chunks(clip_len: int, rate: Fraction, seconds: float, chunks: int) -> None:
    assert Grid.for_rate(manifest(clip_len), rate, seconds).chunks == chunks


def test_pieces_by_hand() -> None:
    """FIRST takes 12 frames and gives 9; then 8 and 8. Three chunks per piece."""
    grid = Grid(manifest(8), 3)
    assert [grid.begin(piece) for piece in range(4)] == [0, 25, 49, 73]
    assert [grid.taken(piece) for piece in range(4)] == [0, 28, 52, 76]
    assert [grid.piece_of(frame) for frame in (0, 24, 25, 48, 49)] == [0, 0, 1, 1, 2]
    assert [grid.count(frames) for frames in (1, 25, 26, 49, 50)] == [1, 1, 2, 2, 3]


@given(st.sampled_from([4, 8, 24]), st.integers(1, 40), st.integers(0, 5000))
def test_every_frame_lies_in_its_piece(clip_len: int, chunks: int, frame: int) -> None:
    grid = Grid(manifest(clip_len), chunks)
    piece = grid.piece_of(frame)
    assert grid.begin(piece) <= frame < grid.begin(piece + 1)


@given(st.sampled_from([4, 8, 24]), st.integers(1, 5), st.integers(1, 600), st.booleans())
def test_every_piece_can_be_entered_with_the_frames_there_are(
    clip_len: int, chunks: int, frames: int, known: bool
) -> None:
    grid = Grid(manifest(clip_len), chunks)
    for piece in range(grid.count(frames)):
        cut = grid.entry(piece, frames if known else None)
        assert cut.frame <= frames
        assert cut.emitted <= grid.begin(piece)


@pytest.mark.parametrize(
    ("done", "last", "spans"),
    [
        ([], None, [Span(0, None)]),
        ([], 2, [Span(0, 3)]),
        ([0, 1], None, [Span(2, None)]),
        ([0, 1], 1, []),
        ([1, 4], 6, [Span(0, 1), Span(2, 4), Span(5, 7)]),
        ([4, 1], None, [Span(0, 1), Span(2, 4), Span(5, None)]),
        ([0, 3], 3, [Span(1, 3)]),
    ],
)
def test_missing_pieces_by_hand(done: list[int], last: int | None, spans: list[Span]) -> None:
    assert list(missing_spans(done, last)) == spans
