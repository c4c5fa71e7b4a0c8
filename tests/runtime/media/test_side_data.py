"""What FFmpeg attaches to frames, also beside kinds that PyAV does not know."""

from __future__ import annotations

import struct
from typing import Any

import numpy as np
import pytest

from swiftvr_trt.runtime.media import colour
from swiftvr_trt.runtime.media.contents import open_image
from swiftvr_trt.runtime.media.images_out import encode_image
from swiftvr_trt.runtime.media.photo_tags import PhotoTags, write_tags
from swiftvr_trt.runtime.media.side_data import side_data


def exif(orientation: int, order: str = "<") -> bytes:
    """EXIF data with an orientation and a maker."""
    entries = struct.pack(order + "HHI4s", 0x10F, 2, 4, b"Abc\0") + struct.pack(
        order + "HHIHH", 0x112, 3, 1, orientation, 0
    )
    mark = b"II*\0" if order == "<" else b"MM\0*"
    return mark + struct.pack(order + "IH", 8, 2) + entries + struct.pack(order + "I", 0)


TURNS = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.transpose(1, 0, 2),
    6: lambda a: np.rot90(a, -1),
    7: lambda a: a[::-1, ::-1].transpose(1, 0, 2),
    8: lambda a: np.rot90(a, 1),
}
"""How a stored picture becomes upright, by the number that EXIF gives it."""


@pytest.mark.parametrize("orientation", TURNS)
def test_a_photo_is_turned_and_mirrored_as_exif_says(orientation: int) -> None:
    """EXIF data is a kind that PyAV does not know; it comes together with the matrix."""
    picture = np.zeros((16, 32, 3), np.uint8)
    picture[:8, :16], picture[:8, 16:], picture[8:, :16] = (200, 40, 40), (40, 200, 40), (40, 40, 200)
    data = write_tags(encode_image(picture, ".jpg"), ".jpg", PhotoTags(exif(orientation)))
    with open_image(data) as container:
        frame = next(container.decode(video=0))
        found = colour.upright(colour.to_rgb(frame, colour_reformatter()), colour.display_matrix(frame))
        assert "DISPLAYMATRIX" in side_data(frame)
    expected = TURNS[orientation](picture)
    assert found.shape == expected.shape
    assert np.abs(found.astype(int) - expected).mean() < 6


def colour_reformatter() -> Any:
    from av.video.reformatter import VideoReformatter

    return VideoReformatter()
