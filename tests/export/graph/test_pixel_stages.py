"""Pixel stages against zimg, against the standards' formulas, and by known answers."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import onnx_ir
import onnxruntime as ort
import pytest
from numpy.typing import NDArray

from swiftvr_trt.engines.bundle.manifest import Recipe
from swiftvr_trt.engines.bundle.pixel_formats import (
    NV12,
    P010,
    PIXEL_FORMATS,
    RGB24,
    YUV420P,
    YUV420P10,
    PixelFormat,
    given_formats,
)
from swiftvr_trt.export.graph.pixel_stages import PixelStage, give_stages, take_stages
from swiftvr_trt.export.graph.to_onnx import OPSET
from swiftvr_trt.export.network.pixels import given_codes, taken_pixels
from swiftvr_trt.runtime.stream.frames import MATRICES, Conversion, YuvColour
from tests import zimg

Array = NDArray[Any]
RECIPE = Recipe("0" * 64, zimg.WIDTH, zimg.HEIGHT, 4, "fp32", "onnx")
YUV = [form for form in PIXEL_FORMATS if form.yuv]
TRUTH = np.load(zimg.TRUTH)


@cache
def stages(recipe: Recipe) -> dict[str, PixelStage]:
    return {stage.name: stage for stage in (*take_stages(recipe), *give_stages(recipe))}


@cache
def session(stage: str, recipe: Recipe = RECIPE) -> ort.InferenceSession:
    graph = stages(recipe)[stage].graph
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    return ort.InferenceSession(onnx_ir.to_proto(graph.model(OPSET)).SerializeToString(), options)


def take(form: PixelFormat, stored: Array, conversion: Conversion | None = None, recipe: Recipe = RECIPE) -> Array:
    """Pixels [4, 12, H32/2, W32/2] of four equal frames in stored codes."""
    frames = np.repeat(stored.astype(form.host_dtype)[None], 4, axis=0)
    raw = frames.view(np.uint8).reshape(*frames.shape, 2) if form.wide else frames
    given = {"frames": raw, **(conversion.inputs() if conversion else {})}
    made: Array = session(form.take, recipe).run(None, given)[0]
    return made


def give(form: PixelFormat, pixels: Array, conversion: Conversion | None = None, recipe: Recipe = RECIPE) -> Array:
    """The first frame, in stored codes."""
    raw: Array = session(form.give, recipe).run(
        None, {"pixels": pixels, **(conversion.inputs() if conversion else {})}
    )[0]
    first: Array = raw[0].view(np.uint16)[..., 0] if form.wide else raw[0]
    return first


def stored_planes(form: PixelFormat, luma: Array, chroma: Array) -> Array:
    """Luma [h, w] and chroma [2, h/2, w/2] as one frame of this format."""
    height, width = luma.shape
    last = chroma.transpose(1, 2, 0) if form.interleaved else chroma
    planes = (luma.reshape(2, height // 2, width), last.reshape(1, height // 2, width))
    return np.concatenate(planes).astype(np.uint16) * np.uint16(form.unit)


def rgb_of(pixels: Array) -> Array:
    """[HEIGHT, WIDTH, 3] of the first frame."""
    count, _, rows, columns = pixels.shape
    x = pixels.reshape(count, 3, 2, 2, rows, columns).transpose(0, 1, 4, 2, 5, 3).reshape(count, 3, 2 * rows, -1)
    visible: Array = x[0, :, : zimg.HEIGHT, : zimg.WIDTH].transpose(1, 2, 0)
    return visible


def pixels_of(rgb: Array) -> Array:
    """The inverse, for four equal frames; beyond the picture lies noise."""
    rows, columns = RECIPE.resolution.pixel_grid
    x = np.random.default_rng(0).random((3, 2 * rows, 2 * columns), np.float32)
    x[:, : zimg.HEIGHT, : zimg.WIDTH] = rgb.transpose(2, 0, 1)
    split = x.reshape(3, rows, 2, columns, 2).transpose(0, 2, 4, 1, 3).reshape(12, rows, columns)
    return np.repeat(split[None], 4, axis=0)


@pytest.mark.parametrize("case", list(zimg.cases()), ids=lambda case: case.key)
def test_both_directions_are_zimgs(case: zimg.Case) -> None:
    """Colour bars and edges of chroma are within one code, of 8 and of 10 bits."""
    colour = YuvColour(case.matrix, case.full, zimg.SITINGS[case.siting])
    for form in (entry for entry in YUV if entry.bits == case.bits):
        rgb = rgb_of(take(form, stored_planes(form, *zimg.yuv_codes(case)), colour.to_rgb(case.bits)))
        assert np.abs(rgb * 4095 - TRUTH[f"{case.key} rgb"]).max() <= 4095 / ((1 << case.bits) - 1)
        planes = give(form, pixels_of(zimg.bars() / np.float32(4095)), colour.from_rgb(case.bits))
        truth = TRUTH[f"{case.key} yuv"].astype(int)
        size = zimg.HEIGHT * zimg.WIDTH
        expected = stored_planes(
            form, truth[:size].reshape(zimg.HEIGHT, -1), truth[size:].reshape(2, zimg.HEIGHT // 2, -1)
        )
        assert np.abs(planes.astype(int) - expected).max() <= form.unit


@pytest.mark.parametrize("form", YUV, ids=lambda form: form.name)
@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("matrix", sorted(MATRICES))
def test_every_matrix_range_format_and_siting_is_that_of_the_formulas(
    form: PixelFormat, full: bool, matrix: int
) -> None:
    """Resized as well as converted."""
    random = np.random.default_rng(matrix)
    for siting in ((0.0, 0.5), (0.5, 0.5), (0.0, 0.0), (1.0, 1.0), (0.3, 0.8)):
        colour = YuvColour(matrix, full, siting)
        stored = random.integers(0, 1 << form.bits, form.shape(20, 26), np.uint16) * np.uint16(form.unit)
        found = take(form, stored, colour.to_rgb(form.bits))
        expected = taken_pixels(np.repeat(stored[None], 4, 0), form, colour, RECIPE.resolution, parity=False)
        np.testing.assert_allclose(found, expected, atol=2e-5)
        pixels = random.random(found.shape, np.float32)
        codes = given_codes(pixels, form, colour, RECIPE.resolution)[0]
        assert np.abs(give(form, pixels, colour.from_rgb(form.bits)) - codes).max() <= form.unit


@pytest.mark.parametrize("form", YUV, ids=lambda form: form.name)
@pytest.mark.parametrize("full", [False, True])
def test_every_grey_comes_back_exactly(form: PixelFormat, full: bool) -> None:
    colour, step = YuvColour(9, full), 1 << (form.bits - 8)
    black, white = (0, (1 << form.bits) - 1) if full else (16 * step, 235 * step)
    for level in np.linspace(black, white, 40).astype(int):
        luma, chroma = np.full((16, 48), level), np.full((2, 8, 24), 128 * step)
        stored = stored_planes(form, luma, chroma)
        back = give(form, take(form, stored, colour.to_rgb(form.bits)), colour.from_rgb(form.bits))
        assert np.array_equal(back, stored)


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_a_ramp_of_10_bits_keeps_its_codes(precision: str) -> None:
    recipe = Recipe("0" * 64, 1024, 32, 4, precision, "onnx")
    colour = YuvColour(full=True)
    stored = stored_planes(YUV420P10, np.tile(np.arange(1024), (32, 1)), np.full((2, 16, 512), 512))
    pixels = take(YUV420P10, stored, colour.to_rgb(10), recipe)
    back = give(YUV420P10, pixels, colour.from_rgb(10), recipe)
    assert len(np.unique(back[:2])) >= 900
    assert np.abs(back.astype(int) - stored).max() <= (0 if precision == "fp32" else 1)


def test_codes_beyond_black_and_white_are_clipped_and_never_overflow() -> None:
    for form in (YUV420P, NV12, YUV420P10, P010):
        for full in (False, True):
            colour, most = YuvColour(1, full), (1 << form.bits) - 1
            for luma, chroma in ((0, 0), (most, most), (0, most), (most, 0)):
                stored = stored_planes(form, np.full((16, 48), luma), np.full((2, 8, 24), chroma))
                pixels = take(form, stored, colour.to_rgb(form.bits))
                assert 0 <= pixels.min() <= pixels.max() <= 1
                assert give(form, pixels, colour.from_rgb(form.bits)).max() <= most * form.unit
    blue = np.broadcast_to(np.array([0, 0, 1], np.float32), (16, 48, 3))
    assert give(NV12, pixels_of(blue), YuvColour(1, full=True).from_rgb(8)).max() == 255  # 255.5, rounded, is not 0


@pytest.mark.parametrize("form", PIXEL_FORMATS[:2], ids=lambda form: form.name)
def test_rgb_comes_back_exactly(form: PixelFormat) -> None:
    stored = np.random.default_rng(1).integers(0, 1 << form.bits, (16, 48, 3)).astype(form.host_dtype)
    back = give(form, take(form, stored))
    assert back.dtype == form.host_dtype
    assert np.array_equal(back, stored)


def test_odd_outputs_give_rgb_only() -> None:
    odd = Recipe("0" * 64, 45, 37, 4, "fp32", "onnx")
    assert [stage.name for stage in give_stages(odd)] == [form.give for form in given_formats(37, 45)]
    assert {form.yuv for form in given_formats(37, 45)} == {False}
    assert take(RGB24, np.zeros((5, 7, 3), np.uint8), recipe=odd).shape == (4, 12, 32, 32)
