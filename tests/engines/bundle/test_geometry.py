"""Pixels, latents and tokens: known answers."""

from __future__ import annotations

import pytest

from swiftvr_trt import MisuseError, Resolution
from swiftvr_trt.engines.bundle.geometry import check_clip_len


@pytest.mark.parametrize(
    ("text", "padded", "latent", "tokens"),
    [
        ("1920x1080", (1920, 1088), (120, 68), (60, 34)),
        ("2560X1440", (2560, 1440), (160, 90), (80, 45)),
        ("33x57", (64, 64), (4, 4), (2, 2)),
        ("1x1", (32, 32), (2, 2), (1, 1)),
        ("16384x32", (16384, 32), (1024, 2), (512, 1)),
    ],
)
def test_the_grids_of_a_resolution(
    text: str, padded: tuple[int, int], latent: tuple[int, int], tokens: tuple[int, int]
) -> None:
    size = Resolution.parse(text)
    assert str(size) == text.lower()
    assert (size.padded_width, size.padded_height) == padded
    assert (size.latent_width, size.latent_height) == latent
    assert (size.token_columns, size.token_rows) == tokens


@pytest.mark.parametrize(
    "text",
    [
        *("", "x", "1920", "1920x", "x1080", "1920x1080x3", "19 20x1080"),
        *("-1x5", "+1x5", "1.5x2", "1_0x5", "٣x٣", "²x2"),
        *("0x5", "5x0", "16385x1", "9" * 5000 + "x1"),
    ],
    ids=lambda text: text[:12],
)
def test_anything_but_a_resolution_is_refused_in_one_line(text: str) -> None:
    with pytest.raises(MisuseError, match=r"^resolution is .*, expected .*$"):
        Resolution.parse(text)


@pytest.mark.parametrize("sides", [(0, 1), (1, -1), (16385, 1)])
def test_a_side_out_of_range_is_refused(sides: tuple[int, int]) -> None:
    with pytest.raises(MisuseError, match="from 1 to 16384"):
        Resolution(*sides)


@pytest.mark.parametrize("frames", [4, 8, 24, 1024])
def test_clip_lengths_of_the_protocol_are_accepted(frames: int) -> None:
    assert check_clip_len(frames) == frames


@pytest.mark.parametrize("frames", [-4, 0, 1, 5, 23, 1028])
def test_other_clip_lengths_are_refused(frames: int) -> None:
    with pytest.raises(MisuseError, match=f"clip length is {frames} frames"):
        check_clip_len(frames)
