"""Pictures as the page holds them."""

from __future__ import annotations

import base64
import io
from typing import Any

import av
import numpy as np
import pytest

from swiftvr_trt.errors import MachineError
from swiftvr_trt.export.moving_picture import synthetic_frame
from swiftvr_trt.page.pictures import (
    as_8_bits,
    as_webp,
    data_uri,
    detail_ratio,
    mean_change,
    resized,
    thumbnail,
)
from swiftvr_trt.runtime.media.colour import converted


def decoded(webp: bytes) -> np.ndarray[Any, Any]:
    with av.open(io.BytesIO(webp), "r") as container:
        return converted(next(container.decode(video=0)), format="rgb24").to_ndarray()


@pytest.mark.parametrize("size", [(180, 320), (33, 57), (1, 1)])
def test_a_picture_comes_back_from_its_file(size: tuple[int, int]) -> None:
    rows, columns = (np.linspace(0, 255, side) for side in size)
    pixels = np.stack(np.broadcast_arrays(rows[:, None], columns, 128), axis=2).astype(np.uint8)
    back = decoded(as_webp(pixels))
    assert back.shape == pixels.shape
    assert np.abs(back.astype(int) - pixels).mean() < 3
    assert abs((back.astype(int) - pixels).mean()) < 2


def test_noise_is_compressed_more_to_stay_within_bounds() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (90, 160, 3), dtype=np.uint8)
    free = as_webp(noise)
    bounded = as_webp(noise, len(free) * 2 // 3)
    assert len(bounded) <= len(free) * 2 // 3
    assert len(as_webp(noise, 1)) < len(bounded), "and if nothing is enough, as far as it goes"
    assert as_webp(noise, len(free)) == free


def test_an_address_holds_the_file() -> None:
    webp = as_webp(synthetic_frame(0, 8, 8))
    address = data_uri(webp)
    assert address.startswith("data:image/webp;base64,UklGR")
    assert base64.b64decode(address.partition(",")[2]) == webp


def test_a_picture_that_webp_does_not_hold_is_refused() -> None:
    with pytest.raises(MachineError, match="16384x2 is too large for WebP"):
        as_webp(np.zeros((2, 16384, 3), np.uint8))


def test_16_bits_become_8() -> None:
    deep = np.array([[[0, 257 * 128, 65535]]], np.uint16)
    assert as_8_bits(deep).tolist() == [[[0, 128, 255]]]
    assert as_8_bits(as_8_bits(deep)).tolist() == [[[0, 128, 255]]]


def test_sizes() -> None:
    pixels = synthetic_frame(0, 100, 480)
    assert resized(pixels, 960, 200).shape == (200, 960, 3)
    assert resized(pixels, 480, 100) is pixels
    assert thumbnail(pixels).shape == (50, 240, 3)
    assert thumbnail(synthetic_frame(0, 20, 40)).shape == (20, 40, 3)


def test_change_is_in_steps_of_8_bits() -> None:
    grey = np.full((4, 6, 3), 100, np.uint8)
    assert mean_change(grey, grey) == 0
    assert mean_change(grey, grey + np.uint8(5)) == pytest.approx(5, abs=1e-3)


def test_detail_compares_steps_between_neighbours() -> None:
    flat = np.full((4, 6, 3), 100, np.uint8)
    striped = flat.copy()
    striped[:, ::2] += 10
    stronger = flat.copy()
    stronger[:, ::2] += 30
    assert detail_ratio(striped, stronger) == pytest.approx(3, abs=1e-3)
    assert detail_ratio(striped, flat) == pytest.approx(0, abs=1e-5)
    assert np.isnan(detail_ratio(flat, striped))
    assert np.isnan(detail_ratio(flat[:1], flat[:1]))
