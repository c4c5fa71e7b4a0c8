"""Pictures enlarged plainly, in every form."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from swiftvr_trt.engines.bundle.pixel_formats import NV12, P010, YUV420P, YUV420P10
from swiftvr_trt.runtime.media import Picture, Stamp
from swiftvr_trt.runtime.media.plainly import PlainScaler
from swiftvr_trt.runtime.stream.frames import RGB, RGB16, FrameForm, Planes

FORMS = [RGB, RGB16, *map(FrameForm, (YUV420P, NV12, YUV420P10, P010))]


def grey(form: FrameForm, size: tuple[int, int]) -> Picture:
    """A picture of one middle grey. size: width and height."""
    width, height = size
    stamp = Stamp(3, 9, 1, Fraction(1, 25))
    if not form.format.yuv:
        shape = (height, width, 3)
        wide = form is RGB16
        return Picture(np.full(shape, 32767, np.uint16) if wide else np.full(shape, 127, np.uint8), stamp)
    planes = Planes.empty(form, height, width)
    unit = {YUV420P: 1, NV12: 1, YUV420P10: 4, P010: 256}[form.format]
    planes.luma[...], planes.chroma[...] = 126 * unit, 128 * unit
    return Picture(planes, stamp)


@pytest.mark.parametrize("target", FORMS, ids=str)
@pytest.mark.parametrize("form", FORMS, ids=str)
def test_grey_stays_grey_in_every_form_and_the_stamp_is_kept(form: FrameForm, target: FrameForm) -> None:
    scaled = PlainScaler(target, (64, 48)).scale(grey(form, (32, 24)))
    expected = grey(target, (64, 48))
    assert (scaled.form, scaled.pixels.shape, scaled.stamp) == (expected.form, expected.pixels.shape, expected.stamp)
    top = 65535 if target.format.wide else 255
    assert np.abs(scaled.pixels.astype(int) - expected.pixels.astype(int)).max() <= 0.02 * top
