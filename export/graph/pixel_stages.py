"""The pixel stages of a bundle, written as graphs directly: they hold no weights of the checkpoint.

    take_FORMAT    4 frames of any size -> the network's pixels at the output size
    give_FORMAT    the network's pixels -> 4 frames of the output size

    take   bytes -> codes -> chroma at luma's positions -> RGB in [0, 1] -> resize -> pad -> pixel-unshuffle
    give   pixel-shuffle and crop -> Y, and Cb and Cr at half the size -> rounded codes -> bytes

RGB skips the conversion. YUV stages read how to convert: a matrix and an offset (`x -> matrix x + offset`, from codes
to RGB in [0, 1] or back), and the siting of chroma, across and down, in luma pixels: 0 on the left (top) of its two,
0.5 between them, 1 on the right (bottom).

Both filters of chroma are linear in the siting s, so that blending two fixed filters is exact:

    take   bilinear     (1 - s) u[x] + s u[x-1]                       u: samples, and the means of neighbours between
    give   triangle     (1-s, 2-s, 1+s, s) / 4 at luma pixels 2i-1 ... 2i+2
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from ...engines.bundle.geometry import FRAMES_PER_LATENT, PIXEL_UNSHUFFLE, Resolution
from ...engines.bundle.manifest import COLOUR_INPUTS, PIXEL_CHANNELS, Recipe, Role
from ...engines.bundle.pixel_formats import PIXEL_FORMATS, PixelFormat, given_formats
from ..network.pixels import mirror
from .graph_writer import GraphWriter, Value

_T = FRAMES_PER_LATENT
_TYPES = {"fp32": "float32", "bf16": "bfloat16"}
"""Precision -> type of the network's pixels; the others compute in float16."""


@dataclass(frozen=True)
class PixelStage:
    """A graph, and the name and role of each tensor that goes in or comes out.

    free_size: inputs whose sides stay free until a stream starts.
    """

    name: str
    graph: GraphWriter
    inputs: tuple[tuple[str, Role], ...]
    outputs: tuple[tuple[str, Role], ...]
    free_size: tuple[str, ...] = ()


def take_stages(recipe: Recipe) -> Iterator[PixelStage]:
    """The stages that frames enter by, one per format."""
    for form in PIXEL_FORMATS:
        graph = GraphWriter(form.take)
        frames = graph.input("frames", "uint8", _named(form))
        colour = _colour_inputs(graph, form)
        planes = _planes(graph, form, graph.cast(frames, "float32"))
        if form.yuv:
            rgb = _to_rgb(graph, planes, colour)
            pixels = graph.resized(rgb, (_T, 3, recipe.height, recipe.width))
        else:
            larger = graph.resized(planes[0], (_T, 3, recipe.height, recipe.width))
            pixels = graph.div(larger, (1 << form.bits) - 1.0)
        padded = _padded(graph, pixels, recipe.resolution, parity=recipe.parity)
        graph.output(_unshuffled(graph, graph.cast(padded, _pixel_type(recipe)), recipe.resolution), "pixels")
        inputs = (("frames", Role.FRAMES), *((name, Role.COLOUR) for name in colour))
        yield PixelStage(form.take, graph, inputs, (("pixels", Role.PIXELS),), ("frames",))


def give_stages(recipe: Recipe) -> Iterator[PixelStage]:
    """The stages that frames leave by, one per format that the output size allows."""
    size = recipe.resolution
    for form in given_formats(recipe.height, recipe.width):
        graph = GraphWriter(form.give)
        pixels = graph.input("pixels", _pixel_type(recipe), (_T, PIXEL_CHANNELS, *size.pixel_grid))
        colour = _colour_inputs(graph, form)
        wide = graph.cast(pixels, "float32")
        codes = _yuv_codes(graph, form, wide, colour, size) if form.yuv else _rgb_codes(graph, form, wide, size)
        graph.output(_bytes(graph, form, codes), "frames")
        inputs = (("pixels", Role.PIXELS), *((name, Role.COLOUR) for name in colour))
        yield PixelStage(form.give, graph, inputs, (("frames", Role.FRAMES),))


def _named(form: PixelFormat) -> tuple[int | str, ...]:
    """The shape of a batch of frames, its free sides by name."""
    names = iter(("half_height" if form.yuv else "height", "width"))
    return tuple(next(names) if side is None else side for side in form.free_shape(_T))


def _colour_inputs(graph: GraphWriter, form: PixelFormat) -> dict[str, Value]:
    if not form.yuv:
        return {}
    return {name: graph.input(name, "float32", shape) for name, shape in COLOUR_INPUTS.items()}


def _pixel_type(recipe: Recipe) -> str:
    return _TYPES.get(recipe.precision, "float16")


def _planes(graph: GraphWriter, form: PixelFormat, raw: Value) -> tuple[Value, ...]:
    """Bytes as float -> codes: RGB [4, 3, height, width], or luma [4, 1, ...] and chroma [4, 2, half ...]."""
    codes = _codes(graph, form, raw) if form.wide else raw
    if not form.yuv:
        return (graph.transpose(codes, (0, 3, 1, 2)),)
    luma = graph.sliced(codes, 1, 0, 2, (_T, 2, "half_height", "width"))
    chroma = graph.sliced(codes, 1, 2, 3, (_T, 1, "half_height", "width"))
    luma = graph.reshaped(luma, (0, 1, -1, 0), (_T, 1, "height", "width"))
    if not form.interleaved:
        return luma, graph.reshaped(chroma, (0, 2, 0, -1), (_T, 2, "half_height", "half_width"))
    rows = graph.squeezed(chroma, 1, (_T, "half_height", "width"))
    pairs = graph.reshaped(rows, (0, 0, -1, 2), (_T, "half_height", "half_width", 2))
    return luma, graph.transpose(pairs, (0, 3, 1, 2))


def _codes(graph: GraphWriter, form: PixelFormat, raw: Value) -> Value:
    """Pairs of bytes [..., 2], the low one first -> codes [...]."""
    axis, shape = len(raw.shape) - 1, raw.shape[:-1]
    low, high = (graph.squeezed(graph.sliced(raw, axis, k, k + 1, (*shape, 1)), axis, shape) for k in range(2))
    if form.unit > 1:
        low = graph.mul(low, 1 / form.unit)
    return graph.add(low, graph.mul(high, 256 / form.unit))


def _to_rgb(graph: GraphWriter, planes: tuple[Value, ...], colour: dict[str, Value]) -> Value:
    """Luma [4, 1, height, width] and chroma at half of both sides -> RGB [4, 3, height, width] in [0, 1]."""
    luma, chroma = planes
    full = (_T, 2, "height", "width")
    beyond = graph.padded_before(graph.doubled(chroma, full), (_T, 2, "height_1", "width_1"))
    rows = _shifted(graph, beyond, 2, graph.sliced(colour["siting"], 0, 1, 2, (1,)), (_T, 2, "height", "width_1"))
    blended = _shifted(graph, rows, 3, graph.sliced(colour["siting"], 0, 0, 1, (1,)), full)
    channels = (luma, *(graph.sliced(blended, 1, k, k + 1, (_T, 1, "height", "width")) for k in range(2)))
    return graph.clipped(_mixed(graph, channels, colour, range(3)), 0.0, 1.0)


def _shifted(graph: GraphWriter, x: Value, axis: int, siting: Value, shape: tuple[int | str, ...]) -> Value:
    """(1 - s) x[i + 1] + s x[i] along an axis."""
    after, before = graph.sliced(x, axis, 1, None, shape), graph.sliced(x, axis, 0, -1, shape)
    return graph.add(after, graph.mul(graph.sub(before, after), siting))


def _mixed(graph: GraphWriter, channels: tuple[Value, ...], colour: dict[str, Value], rows: range) -> Value:
    """These rows of matrix x + offset; x: three tensors with one channel each, on axis 1."""
    count, ones = len(rows), (1,) * (len(channels[0].shape) - 2)
    part = colour["matrix"]
    if count < 3:
        part = graph.sliced(part, 0, rows.start, rows.stop, (count, 3))
    mixed: Value | None = None
    for k, channel in enumerate(channels):
        column = graph.reshaped(graph.sliced(part, 1, k, k + 1, (count, 1)), (count, *ones), (count, *ones))
        product = graph.mul(channel, column)
        mixed = product if mixed is None else graph.add(mixed, product)
    assert mixed is not None
    offset = colour["offset"]
    if count < 3:
        offset = graph.sliced(offset, 0, rows.start, rows.stop, (count,))
    return graph.add(mixed, graph.reshaped(offset, (count, *ones), (count, *ones)))


def _padded(graph: GraphWriter, x: Value, size: Resolution, *, parity: bool) -> Value:
    """To a multiple of 32 on the right and at the bottom, as `network.pixels` does."""
    below, right = size.padded_height - size.height, size.padded_width - size.width
    if parity:
        return graph.zero_padded(x, below, right) if below or right else x
    if below:
        x = graph.gathered(x, 2, mirror(size.height, size.padded_height))
    return graph.gathered(x, 3, mirror(size.width, size.padded_width)) if right else x


def _unshuffled(graph: GraphWriter, x: Value, size: Resolution) -> Value:
    rows, columns = size.pixel_grid
    step = PIXEL_UNSHUFFLE
    split = graph.reshaped(x, (_T, 3, rows, step, columns, step), (_T, 3, rows, step, columns, step))
    shape = (_T, PIXEL_CHANNELS, rows, columns)
    return graph.reshaped(graph.transpose(split, (0, 1, 3, 5, 2, 4)), shape, shape)


def _rgb_codes(graph: GraphWriter, form: PixelFormat, pixels: Value, size: Resolution) -> Value:
    x = graph.shuffled(pixels)
    x = graph.sliced(x, 2, 0, size.height, (_T, 3, size.height, size.padded_width))
    x = graph.sliced(x, 3, 0, size.width, (_T, 3, size.height, size.width))
    return graph.rounded(graph.mul(graph.transpose(x, (0, 2, 3, 1)), (1 << form.bits) - 1.0))


def _yuv_codes(
    graph: GraphWriter, form: PixelFormat, pixels: Value, colour: dict[str, Value], size: Resolution
) -> Value:
    """[4, 12, rows, columns], the network's pixels -> [4, 3, H/2, W], the codes of a frame's planes."""
    rows, columns = size.height // 2, size.width // 2
    x = graph.sliced(pixels, 2, 0, rows, (_T, PIXEL_CHANNELS, rows, size.pixel_grid[1]))
    x = graph.sliced(x, 3, 0, columns, (_T, PIXEL_CHANNELS, rows, columns))
    phases = (_T, 3, 4, rows, columns)
    x = graph.reshaped(x, phases, phases)
    luma = _mixed(graph, _channels(graph, x), colour, range(1))
    luma = graph.shuffled(graph.reshaped(luma, (_T, 4, rows, columns), (_T, 4, rows, columns)))
    halved = _halved(graph, x, colour["siting"], rows, columns)
    chroma = _mixed(graph, _channels(graph, halved), colour, range(1, 3))
    if form.interleaved:
        chroma = graph.transpose(chroma, (0, 2, 3, 1))
    top, bottom = (_T, 2, rows, size.width), (_T, 1, rows, size.width)
    planes = graph.concatenated([graph.reshaped(luma, top, top), graph.reshaped(chroma, bottom, bottom)], 1)
    return graph.clipped(graph.rounded(planes), 0.0, (1 << form.bits) - 1.0)


def _channels(graph: GraphWriter, x: Value) -> tuple[Value, ...]:
    return tuple(graph.sliced(x, 1, k, k + 1, (_T, 1, *x.shape[2:])) for k in range(3))


def _halved(graph: GraphWriter, x: Value, siting: Value, rows: int, columns: int) -> Value:
    """[4, 3, 4, rows, columns], two luma rows of two pixels at each place -> [4, 3, rows, columns]."""
    pair = (_T, 3, 2, rows, columns)
    upper, lower = graph.sliced(x, 2, 0, 2, pair), graph.sliced(x, 2, 2, 4, pair)
    rowwise = _decimated(graph, upper, lower, 3, graph.sliced(siting, 0, 1, 2, (1,)))
    one = (_T, 3, 1, rows, columns)
    left, right = graph.sliced(rowwise, 2, 0, 1, one), graph.sliced(rowwise, 2, 1, 2, one)
    both = _decimated(graph, left, right, 4, graph.sliced(siting, 0, 0, 1, (1,)))
    return graph.reshaped(both, (_T, 3, rows, columns), (_T, 3, rows, columns))


def _decimated(graph: GraphWriter, even: Value, odd: Value, axis: int, siting: Value) -> Value:
    """Even and odd pixels along an axis -> one value for each two of them."""
    length = int(even.shape[axis])

    def part(x: Value, begin: int, end: int) -> Value:
        shape = list(x.shape)
        shape[axis] = end - begin
        return graph.sliced(x, axis, begin, end, tuple(shape))

    if length == 1:
        before, after = even, odd
    else:
        before = graph.concatenated([part(even, 0, 1), part(odd, 0, length - 1)], axis)
        after = graph.concatenated([part(even, 1, length), part(odd, length - 1, length)], axis)
    slopes, begins = np.array([-1, -1, 1, 1], np.float32) / 4, np.array([1, 2, 1, 0], np.float32) / 4
    taps = graph.add(graph.mul(siting, slopes), begins)
    total: Value | None = None
    for k, x in enumerate((before, even, odd, after)):
        product = graph.mul(x, graph.sliced(taps, 0, k, k + 1, (1,)))
        total = product if total is None else graph.add(total, product)
    assert total is not None
    return total


def _bytes(graph: GraphWriter, form: PixelFormat, codes: Value) -> Value:
    """Codes [...] -> bytes [...], or [..., 2] with the low one first."""
    if not form.wide:
        return graph.cast(codes, "uint8")
    stored = graph.mul(codes, float(form.unit)) if form.unit > 1 else codes
    high = graph.floored(graph.mul(stored, 1 / 256))
    low = graph.sub(stored, graph.mul(high, 256.0))
    axis = len(codes.shape)
    pair = graph.concatenated([graph.unsqueezed(low, axis), graph.unsqueezed(high, axis)], axis)
    return graph.cast(pair, "uint8")
