"""Tiles cover an output, and their shares add up to one everywhere."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from swiftvr_trt.engines.bundle.geometry import Resolution
from swiftvr_trt.errors import MisuseError
from swiftvr_trt.runtime.stream.tiles import LEAST_SIDE, OVERLAP, Tiling, auto_tile, plan_tiles


@st.composite
def tilings(draw: st.DrawFn) -> Tiling:
    overlap = draw(st.integers(1, 24))
    sides = [(draw(st.integers(2 * overlap + 1, 90)), draw(st.integers(0, 130))) for _ in range(2)]
    tile, more = [side for side, _ in sides], [extra for _, extra in sides]
    return Tiling(Resolution(tile[0] + more[0], tile[1] + more[1]), Resolution(*tile), overlap)


@settings(deadline=None, max_examples=40)
@given(tilings())
def test_shares_add_up_to_one(tiling: Tiling) -> None:
    total = np.zeros((tiling.size.height, tiling.size.width, 1), np.float32)
    for tile, weights in zip(tiling.tiles, tiling.weights, strict=True):
        assert (tile.height, tile.width) == (tiling.tile.height, tiling.tile.width)
        assert weights.shape == (tile.height, tile.width, 1)
        assert (weights >= 0).all()
        total[tile.place] += weights
    assert total == pytest.approx(np.ones_like(total), abs=1e-6)


@settings(deadline=None, max_examples=40)
@given(tilings())
def test_a_picture_cut_into_tiles_is_blended_into_itself(tiling: Tiling) -> None:
    picture = np.random.default_rng(1).integers(0, 256, (tiling.size.height, tiling.size.width, 3), np.uint8)
    parts = list(tiling.parts(picture))
    assert all((part == picture[tile.place]).all() for part, tile in zip(parts, tiling.tiles, strict=True))
    assert (tiling.blend(parts) == picture).all()


@settings(deadline=None, max_examples=40)
@given(tilings())
def test_neighbours_share_at_least_the_overlap(tiling: Tiling) -> None:
    for starts, side in (
        (sorted({tile.left for tile in tiling.tiles}), tiling.tile.width),
        (sorted({tile.top for tile in tiling.tiles}), tiling.tile.height),
    ):
        assert all(before + side - after >= tiling.overlap for before, after in pairwise(starts))


@settings(deadline=None, max_examples=40)
@given(tilings(), st.integers(1, 3), st.integers(1, 60), st.booleans())
def test_the_size_of_the_largest_part_is_known(tiling: Tiling, factor: int, other: int, fits: bool) -> None:
    height, width = (tiling.size.height * factor, tiling.size.width * factor) if fits else (other, other + 3)
    shapes = [part.shape for part in tiling.parts(np.zeros((height, width, 3), np.uint8))]
    assert tiling.part_size(height, width) == (max(shape[0] for shape in shapes), max(shape[1] for shape in shapes))


def test_the_edge_of_a_tile_counts_nothing() -> None:
    tiling = Tiling(Resolution(300, 64), Resolution(200, 64), 60)
    left, right = tiling.weights
    assert (left[:, 175:] == 0).all()
    assert (right[:, :25] == 0).all()
    assert (left[:, :125] == 1).all()
    steps = np.abs(np.diff(left[0, :, 0]))
    assert steps.max() <= 0.021  # one tile passes into the other slowly


@pytest.mark.parametrize("factor", [2, 3])
def test_whole_factors_cut_the_input_without_resizing(factor: int) -> None:
    tiling = Tiling(Resolution(64 * factor, 32 * factor), Resolution(32 * factor, 32 * factor), 4 * factor)
    frame = np.random.default_rng(1).integers(0, 256, (32, 64, 3), np.uint8)
    if all(tile.left % factor == 0 for tile in tiling.tiles):
        for part, tile in zip(tiling.parts(frame), tiling.tiles, strict=True):
            assert part.shape == (32, 32, 3)
            assert (part == frame[:, tile.left // factor :][:, :32]).all()


def test_other_factors_resize_as_the_network_does() -> None:
    """A ramp stays a ramp: pixel centres keep their place."""
    tiling = Tiling(Resolution(150, 64), Resolution(100, 64), 20)
    frame = np.broadcast_to(np.arange(100, dtype=np.uint16)[None, :, None] * 600, (64, 100, 3))
    for part, tile in zip(tiling.parts(frame), tiling.tiles, strict=True):
        expected = ((np.arange(100) + tile.left + 0.5) / 1.5 - 0.5).clip(0, 99) * 600
        assert part.dtype == np.uint16
        assert np.abs(part[0, :, 0] - expected).max() <= 0.51


@pytest.mark.parametrize(
    ("size", "tile"),
    [
        ("1920x1080", "1920x1080"),
        ("3840x2160", "1376x1152"),
        ("2560x1440", "1344x1440"),
        ("7680x4320", "1664x1184"),
        ("16384x1080", "1920x1080"),
    ],
)
def test_auto_takes_few_tiles_of_a_usual_size(size: str, tile: str) -> None:
    found = auto_tile(Resolution.parse(size))
    assert found.width * found.height <= 1920 * 1088
    assert found.width >= min(LEAST_SIDE, Resolution.parse(size).width)
    assert found.height >= min(LEAST_SIDE, Resolution.parse(size).height)
    if size != "16384x1080":
        assert str(found) == tile


def test_an_output_that_is_one_tile_needs_none() -> None:
    assert plan_tiles("auto", Resolution(1920, 1080)) is None
    assert plan_tiles("auto", Resolution(1920, 1080), Resolution(1920, 1080)) is None


def test_a_named_bundle_decides() -> None:
    tiling = plan_tiles("auto", Resolution(3840, 2160), Resolution(1920, 1080))
    assert tiling is not None
    assert (tiling.tile, tiling.overlap) == (Resolution(1920, 1080), OVERLAP)
    assert len(tiling.tiles) == 9


@pytest.mark.parametrize(
    ("wanted", "size", "bundle", "words"),
    [
        ("512x512", "3840x2160", None, "expected sides of 1024 pixels or more"),
        ("1920x1080", "3840x2160", "1024x1024", "but the bundle restores to 1024x1024"),
        ("auto", "3840x2160", "192x128", "expected sides of 1024 pixels or more"),
        ("2000x2000", "1920x1080", None, "expected at most the output"),
        ("big", "1920x1080", None, "--tile is 'big', expected auto, or WIDTHxHEIGHT"),
    ],
)
def test_tiles_that_make_no_sense_are_refused(wanted: str, size: str, bundle: str | None, words: str) -> None:
    with pytest.raises(MisuseError, match=words):
        plan_tiles(wanted, Resolution.parse(size), None if bundle is None else Resolution.parse(bundle))
