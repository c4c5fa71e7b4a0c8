"""Frames are shrunk to what the network would sample."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from swiftvr_trt.engines.bundle.pixel_formats import NV12, YUV420P10, PixelFormat
from swiftvr_trt.runtime.stream.frames import FrameForm, Planes, YuvColour, data_of
from swiftvr_trt.runtime.stream.shrink import shrink


@pytest.mark.parametrize(
    ("before", "after"), [((90, 160), (45, 80)), ((97, 131), (31, 50)), ((64, 33), (64, 32)), ((20, 300), (40, 100))]
)
def test_the_result_is_that_of_the_network_rounded(before: tuple[int, int], after: tuple[int, int]) -> None:
    frame = np.random.default_rng(0).integers(0, 256, (*before, 3), np.uint8)
    shrunk = data_of(shrink(frame, after[1], after[0]))
    size = min(before[0], after[0]), min(before[1], after[1])
    wide = torch.from_numpy(frame).permute(2, 0, 1)[None].double()
    exact = F.interpolate(wide, size, mode="bilinear", align_corners=False)[0].permute(1, 2, 0).numpy()
    assert shrunk.shape == (*size, 3)
    assert np.abs(shrunk - exact).max() <= 0.501


def test_a_frame_that_is_not_larger_is_left_alone() -> None:
    frame = np.zeros((20, 30, 3), np.uint8)
    assert shrink(frame, 30, 20) is frame
    assert shrink(frame, 60, 40) is frame


@pytest.mark.parametrize("form", [NV12, YUV420P10], ids=lambda form: form.name)
@pytest.mark.parametrize("siting", [(0.0, 0.5), (0.5, 0.5), (0.0, 0.0)])
def test_the_chroma_of_planes_stays_in_its_place(form: PixelFormat, siting: tuple[float, float]) -> None:
    """A picture that rises evenly: wherever a chroma sample lies, its value says where."""
    planes = Planes.empty(FrameForm(form, YuvColour(siting=siting)), 96, 128)
    rows, columns = np.mgrid[0:48, 0:64]
    planes.luma[...] = np.mgrid[0:96, 0:128][1]
    planes.chroma[..., 0], planes.chroma[..., 1] = 2 * columns, 2 * rows  # luma positions, but for the siting
    shrunk = shrink(planes, 32, 24)
    assert isinstance(shrunk, Planes)
    assert shrunk.size == (24, 32)
    across, down = shrunk.form.colour.siting
    inner = slice(2, -2)
    for channel, place, before, count in ((0, across, siting[0], 16), (1, down, siting[1], 12)):
        here = (2 * np.arange(count) + place + 0.5) * 4 - 0.5 - before
        found = shrunk.chroma[6, :, 0] if channel == 0 else shrunk.chroma[:, 8, 1]
        assert np.abs(found - here)[inner].max() <= 0.51
    assert np.abs(shrunk.luma[0] - (np.arange(32) * 4 + 1.5)).max() <= 0.51


def test_planes_keep_even_sides_for_an_odd_output() -> None:
    planes = Planes.empty(FrameForm(NV12), 96, 128)
    shrunk = shrink(planes, 33, 25)
    assert isinstance(shrunk, Planes)
    assert shrunk.size == (26, 34)
