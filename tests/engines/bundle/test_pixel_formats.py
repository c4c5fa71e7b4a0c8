"""The forms of frames: shapes, and which sizes have them."""

from __future__ import annotations

import pytest

from swiftvr_trt import MisuseError
from swiftvr_trt.engines.bundle.pixel_formats import (
    NV12,
    P010,
    PIXEL_FORMATS,
    RGB24,
    RGB48,
    YUV420P,
    PixelFormat,
    format_of_stage,
    given_formats,
    pixel_format,
)


@pytest.mark.parametrize(
    ("form", "codes", "free"),
    [
        (RGB24, (20, 30, 3), (4, None, None, 3)),
        (RGB48, (20, 30, 3), (4, None, None, 3, 2)),
        (YUV420P, (3, 10, 30), (4, 3, None, None)),
        (P010, (3, 10, 30), (4, 3, None, None, 2)),
    ],
    ids=lambda value: getattr(value, "name", ""),
)
def test_shapes(form: PixelFormat, codes: tuple[int, ...], free: tuple[int | None, ...]) -> None:
    assert form.shape(20, 30) == codes
    assert form.byte_shape(20, 30) == codes + (2,) * form.wide
    assert form.free_shape(4) == free
    assert form.size_of((4, *form.byte_shape(20, 30))) == (20, 30)


@pytest.mark.parametrize("form", PIXEL_FORMATS, ids=lambda form: form.name)
def test_a_format_is_found_by_its_name_and_by_its_stages(form: PixelFormat) -> None:
    assert pixel_format(form.name) is form
    assert format_of_stage(form.take) is format_of_stage(form.give) is form


def test_other_names_are_refused_and_other_stages_have_no_format() -> None:
    assert format_of_stage("encode") is None
    with pytest.raises(MisuseError, match="expected one of rgb24, rgb48, yuv420p"):
        pixel_format("yuv444p")


@pytest.mark.parametrize("size", [(37, 46), (36, 45), (37, 45)])
def test_odd_sizes_have_no_halved_chroma(size: tuple[int, int]) -> None:
    assert given_formats(*size) == (RGB24, RGB48)
    assert not NV12.holds(*size)
    assert given_formats(36, 46) == PIXEL_FORMATS
