"""Pixels in and out, against NumPy and by known answers."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from swiftvr_trt import Resolution
from swiftvr_trt.export.network.pixels import frames_to_pixels, mirror, pixels_to_frames


def noise(height: int, width: int) -> torch.Tensor:
    """uint8 [2, height, width, 3]."""
    return torch.randint(0, 256, (2, height, width, 3), generator=torch.Generator().manual_seed(1), dtype=torch.uint8)


def slow_resize(frames: NDArray[np.uint8], height: int, width: int) -> NDArray[np.float64]:
    """Bilinear with half-pixel centres and no antialias, one axis after the other in float64."""
    x = frames.astype(np.float64)
    for axis, length in ((1, height), (2, width)):
        size = x.shape[axis]
        lines = []
        for k in range(length):
            centre = min(max((k + 0.5) * size / length - 0.5, 0.0), size - 1.0)
            low = int(centre)
            high = min(low + 1, size - 1)
            lines.append(x.take(low, axis) * (low + 1 - centre) + x.take(high, axis) * (centre - low))
        x = np.stack(lines, axis)
    return x


@pytest.mark.parametrize(
    ("length", "padded", "expected"),
    [
        (3, 8, [0, 1, 2, 1, 0, 1, 2, 1]),
        (2, 5, [0, 1, 0, 1, 0]),
        (1, 4, [0, 0, 0, 0]),
        (4, 4, [0, 1, 2, 3]),
        (4, 5, [0, 1, 2, 3, 2]),
    ],
)
def test_a_mirror_does_not_repeat_the_border(length: int, padded: int, expected: list[int]) -> None:
    assert mirror(length, padded).tolist() == expected


@given(st.integers(2, 70), st.integers(0, 70))
def test_a_mirror_is_numpys(length: int, extra: int) -> None:
    np.testing.assert_array_equal(mirror(length, length + extra), np.pad(np.arange(length), (0, extra), "reflect"))


@pytest.mark.parametrize("parity", [False, True])
@pytest.mark.parametrize(
    ("source", "target"),
    [((33, 57), (100, 132)), ((90, 122), (31, 45)), ((1, 1), (5, 7)), ((2, 300), (64, 3)), ((40, 50), (40, 50))],
)
def test_the_visible_part_is_the_frame_resized_bilinearly(
    source: tuple[int, int], target: tuple[int, int], parity: bool
) -> None:
    frames, (height, width) = noise(*source), target
    x = frames_to_pixels(frames, Resolution(width, height), parity=parity)
    visible = x[:, :, :height, :width].permute(0, 2, 3, 1).double() * 255
    np.testing.assert_allclose(visible, slow_resize(frames.numpy(), height, width), rtol=0, atol=2e-3)


@pytest.mark.parametrize("parity", [False, True])
@pytest.mark.parametrize(("height", "width"), [(64, 96), (60, 100), (3, 33), (1, 1), (64, 33), (33, 64)])
def test_the_rest_is_the_mirrored_picture_or_black(height: int, width: int, parity: bool) -> None:
    frames, size = noise(height, width), Resolution(width, height)
    rest = ((0, 0), (0, size.padded_height - height), (0, size.padded_width - width), (0, 0))
    expected = np.pad(frames.numpy(), rest, "constant" if parity else "reflect").transpose(0, 3, 1, 2)
    x = frames_to_pixels(frames, size, parity=parity)
    assert x.dtype == torch.float32
    np.testing.assert_allclose(x * 255, expected, rtol=0, atol=1e-3)


def test_all_levels_come_back_as_they_went_in() -> None:
    levels = torch.arange(256, dtype=torch.uint8).reshape(1, 16, 16, 1).expand(1, 16, 16, 3)
    size = Resolution(16, 16)
    np.testing.assert_array_equal(pixels_to_frames(frames_to_pixels(levels, size, parity=False), size), levels)


@pytest.mark.parametrize(("value", "level"), [(0.0, 0), (0.49, 0), (0.51, 1), (99.6, 100), (254.4, 254), (255.0, 255)])
def test_pixels_are_rounded_not_truncated(value: float, level: int) -> None:
    out = pixels_to_frames(torch.full((1, 3, 32, 32), value / 255), Resolution(2, 3))
    assert (out.dtype, out.shape) == (torch.uint8, (1, 3, 2, 3))
    assert set(out.flatten().tolist()) == {level}


def test_the_top_left_of_the_padded_picture_comes_out() -> None:
    x = torch.arange(32.0).expand(1, 3, 32, 32) / 255  # a column's level is its number
    assert pixels_to_frames(x, Resolution(5, 1))[0, 0, :, 0].tolist() == [0, 1, 2, 3, 4]
