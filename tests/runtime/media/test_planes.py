"""Planes go from FFmpeg's frames into pictures and back without a change, and are turned as RGB is."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import av
import numpy as np
import pytest

from swiftvr_trt.engines.bundle.pixel_formats import NV12, P010, RGB24, RGB48, YUV420P, YUV420P10, PixelFormat
from swiftvr_trt.errors import MediaError
from swiftvr_trt.runtime.media import colour
from swiftvr_trt.runtime.media.base import Colour, Picture, Stamp
from swiftvr_trt.runtime.media.colour import DisplayMatrix, upright
from swiftvr_trt.runtime.media.planes import (
    FrameReader,
    FrameWriter,
    check_pixels,
    form_of_frame,
    form_of_output,
    turned,
)
from swiftvr_trt.runtime.stream.frames import (
    LEFT,
    RGB,
    RGB16,
    FrameForm,
    Planes,
    YuvColour,
    data_of,
    owned,
)
from swiftvr_trt.runtime.stream.shrink import shrink

STAMP = Stamp(0, 0, 1, Fraction(1, 25))
PLANAR = {"yuv420p": YUV420P, "nv12": NV12, "yuv420p10le": YUV420P10, "p010le": P010}
ONE = 1 << 16
QUARTERS: list[DisplayMatrix] = [(0, ONE, -ONE, 0), (-ONE, 0, 0, -ONE), (0, -ONE, ONE, 0), (-ONE, 0, 0, ONE)]
"""Turned by 90, 180 and 270 degrees, and mirrored."""


def noise(pix_fmt: str, width: int = 38, height: int = 22) -> av.VideoFrame:
    """A frame whose planes hold different values everywhere, and rows longer than its width."""
    frame = av.VideoFrame(width, height, pix_fmt)
    random = np.random.default_rng(3)
    for plane in frame.planes:
        size = plane.buffer_size
        if pix_fmt.endswith("le"):
            codes = random.integers(0, 1024, size // 2).astype(np.uint16) << (6 if pix_fmt == "p010le" else 0)
            plane.update(codes.tobytes())
        else:
            plane.update(random.integers(16, 236, size).astype(np.uint8).tobytes())
    frame.colorspace, frame.color_range = 6, colour.LIMITED
    return frame


def rawvideo(frame: av.VideoFrame) -> bytes:
    """The bytes of a frame as FFmpeg's encoder `rawvideo` writes them."""
    context: Any = av.CodecContext.create("rawvideo", "w")
    context.width, context.height, context.pix_fmt = frame.width, frame.height, frame.format.name
    context.time_base = Fraction(1, 25)
    return b"".join(bytes(packet) for packet in (*context.encode(frame), *context.encode(None)))


def planes_of(frame: av.VideoFrame, form: FrameForm, matrix: DisplayMatrix | None = None) -> Planes:
    """A frame as it is read."""
    read = FrameReader(form, LEFT).read(frame, matrix)
    assert isinstance(read, Planes)
    assert read.form == form
    return read


@pytest.mark.parametrize(("pix_fmt", "form"), PLANAR.items(), ids=list(PLANAR))
def test_planes_arrive_and_leave_unchanged(pix_fmt: str, form: PixelFormat) -> None:
    frame = noise(pix_fmt)
    found = form_of_frame(frame, LEFT, None)
    assert found == FrameForm(form, YuvColour(6, siting=LEFT))
    read = FrameReader(found, LEFT).read(frame, None)
    written = FrameWriter(pix_fmt, Colour(6, 5, 4)).frame(Picture(read, STAMP), 38, 22)
    assert data_of(read).tobytes() == rawvideo(frame)
    assert rawvideo(written) == rawvideo(frame)
    tags = (written.colorspace, written.color_range, written.color_primaries, written.color_trc)
    assert tuple(map(int, tags)) == (6, colour.LIMITED, 5, 4)


@pytest.mark.parametrize("pix_fmt", PLANAR)
def test_planes_of_a_decoder_are_those_of_their_copy_and_need_none_to_be_shrunk(pix_fmt: str) -> None:
    frame = noise(pix_fmt)
    form = form_of_frame(frame, LEFT, None)
    lent, copy = planes_of(frame, form), owned(planes_of(frame, form))
    assert isinstance(copy, Planes)
    assert type(copy) is Planes
    small = shrink(lent, 16, 12)
    assert lent.size == copy.size == (22, 38)
    assert lent.nbytes == copy.nbytes == copy.data.nbytes
    assert np.array_equal(lent.luma, copy.luma)
    assert "data" not in vars(lent)
    assert np.array_equal(data_of(small), data_of(shrink(copy, 16, 12)))
    assert np.array_equal(lent.data, copy.data)
    pairs = zip((*lent.layers, lent.luma, lent.chroma), (*copy.layers, copy.luma, copy.chroma), strict=True)
    for mine, theirs in pairs:
        assert np.shares_memory(mine, lent.data)  # the decoder has its frame back
        assert np.array_equal(mine, theirs)


@pytest.mark.parametrize("matrix", QUARTERS)
@pytest.mark.parametrize("pix_fmt", ["yuv420p", "p010le"])
def test_planes_are_turned_as_rgb_is(pix_fmt: str, matrix: DisplayMatrix) -> None:
    frame = noise(pix_fmt)
    form = form_of_frame(frame, LEFT, matrix)
    straight = planes_of(frame, form_of_frame(frame, LEFT, None))
    found = planes_of(frame, form, matrix)
    assert np.array_equal(found.luma, upright(straight.luma[..., None], matrix)[..., 0])
    assert np.array_equal(found.chroma, upright(straight.chroma, matrix))


@pytest.mark.parametrize(
    ("pix_fmt", "form"), [("yuv420p", NV12), ("nv12", YUV420P), ("yuv420p10le", P010), ("p010le", YUV420P10)]
)
def test_chroma_in_one_plane_or_in_two_makes_no_difference(pix_fmt: str, form: PixelFormat) -> None:
    """As where a video begins on the GPU and goes on in software."""
    frame = noise(pix_fmt)
    own = form_of_frame(frame, LEFT, None)
    wanted = FrameForm(form, own.colour)
    found, given = (FrameReader(each, LEFT).read(frame, None) for each in (wanted, own))
    assert isinstance(found, Planes)
    assert isinstance(given, Planes)
    assert found.form == wanted
    for ours, theirs in ((found.luma, given.luma), (found.chroma, given.chroma)):
        assert np.array_equal(ours // form.unit, theirs // own.format.unit)


@pytest.mark.parametrize(
    ("matrix", "expected"),
    [(None, (0, 0.5)), *zip(QUARTERS, [(0.5, 0), (1, 0.5), (0.5, 1), (1, 0.5)], strict=True)],
)
def test_chroma_stays_where_it_was_when_a_picture_is_turned(
    matrix: DisplayMatrix | None, expected: tuple[float, float]
) -> None:
    """A grid of luma positions is turned in the same way: the sample on the left of its two is then above, or right."""
    place = turned(LEFT, matrix)
    assert place == expected
    grid = np.zeros((2, 2, 2))
    grid[..., 0], grid[..., 1] = np.meshgrid([0, 1], [0, 1])  # across, down before turning
    after = upright(grid, matrix)
    weights = np.outer([1 - place[1], place[1]], [1 - place[0], place[0]])[..., None]
    assert np.allclose((after * weights).sum((0, 1)), LEFT)


@pytest.mark.parametrize(
    ("pix_fmt", "size", "form"),
    [
        ("yuv422p", (38, 22), RGB24),
        ("yuv444p10le", (38, 22), RGB48),
        ("yuv420p12le", (38, 22), RGB48),
        ("gray", (38, 22), RGB24),
        ("rgb48le", (38, 22), RGB48),
        ("yuv420p", (37, 22), RGB24),
        ("yuv420p10le", (38, 21), RGB48),
    ],
)
def test_other_formats_and_odd_sizes_are_rgb_of_as_many_bits(
    pix_fmt: str, size: tuple[int, int], form: PixelFormat
) -> None:
    frame = av.VideoFrame(*size, pix_fmt)
    assert form_of_frame(frame, LEFT, None).format is form
    assert data_of(FrameReader(form_of_frame(frame, LEFT, None), LEFT).read(frame, None)).dtype == form.host_dtype


def test_a_frame_with_other_tags_than_the_first_is_converted_to_its_form() -> None:
    first, later = noise("yuv420p"), noise("nv12")
    form = form_of_frame(first, LEFT, None)
    for plane, value in zip(later.planes, (200, 128), strict=True):
        plane.update(bytes([value]) * plane.buffer_size)
    later.color_range = colour.FULL
    found = planes_of(later, form)
    assert np.abs(found.luma.astype(int) - round(16 + 200 * 219 / 255)).max() <= 1
    assert np.abs(found.chroma.astype(int) - 128).max() <= 1


@pytest.mark.parametrize(
    ("pix_fmt", "size", "form"),
    [
        ("yuv420p", (64, 48), YUV420P),
        ("yuvj420p", (64, 48), YUV420P),
        ("p010le", (64, 48), P010),
        ("yuv420p", (63, 48), RGB24),
        ("yuv444p", (64, 48), RGB24),
        ("yuv422p10le", (64, 48), RGB48),
    ],
)
def test_encoders_get_planes_where_they_take_them(pix_fmt: str, size: tuple[int, int], form: PixelFormat) -> None:
    found = form_of_output(pix_fmt, Colour(9, full=True), "libx265", size)
    assert found == (FrameForm(form, YuvColour(9, full=True)) if form.yuv else RGB16 if form.wide else RGB)


@pytest.mark.parametrize("form", [RGB, RGB16, FrameForm(NV12, YuvColour(6)), FrameForm(YUV420P10, YuvColour(1))])
def test_pictures_of_any_form_are_written_in_the_format_of_the_encoder(form: FrameForm) -> None:
    grey: Any
    if form.format.yuv:
        planes = Planes.empty(form, 22, 38)
        planes.luma[...] = 126 << (form.format.bits - 8)
        planes.chroma[...] = 128 << (form.format.bits - 8)
        grey = planes
    else:
        grey = np.full((22, 38, 3), 128 * (257 if form.format.wide else 1), form.format.host_dtype)
    for pix_fmt, expected in (("yuv420p", 126), ("yuv422p10le", 504), ("rgb24", 128)):
        frame = FrameWriter(pix_fmt, Colour(0 if pix_fmt == "rgb24" else 6)).frame(Picture(grey, STAMP), 38, 22)
        assert frame.format.name == pix_fmt
        assert np.abs(frame.to_ndarray().reshape(-1)[:38].astype(int) - expected).max() <= 2


def test_pictures_of_another_size_are_refused() -> None:
    form = FrameForm(NV12)
    picture = Picture(Planes.empty(form, 22, 38), STAMP)
    with pytest.raises(MediaError, match=r"nv12 \[3, 11, 38\], expected \[3, 24, 40\]"):
        FrameWriter("yuv420p", Colour(1)).frame(picture, 40, 48)


def test_pixels_become_contiguous() -> None:
    turned = np.arange(24, dtype=np.uint8).reshape(2, 4, 3).transpose(1, 0, 2)
    checked = check_pixels(turned, width=2, height=4)
    assert checked.flags.c_contiguous
    assert np.array_equal(checked, turned)


@pytest.mark.parametrize("wrong", [np.zeros((4, 2, 3), np.float32), np.zeros((2, 4, 3), np.uint8)])
def test_pixels_of_another_type_or_size_are_refused(wrong: np.ndarray) -> None:
    with pytest.raises(MediaError, match=r"expected uint8 \[4, 2, 3\]"):
        check_pixels(wrong, width=2, height=4)
