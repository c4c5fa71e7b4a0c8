"""Converts FFmpeg's frames to RGB pixels and back, with the matrix and the range of their tags.

The scaler (swscale) reads the tags of the frames, so this module sets them. PyAV's arguments `src_colorspace` and
`dst_colorspace` are not used here: their numbers mean one thing in swscale and another in the tags.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TypedDict, Unpack

import numpy as np
from numpy.typing import NDArray

from .base import Colour
from .side_data import side_data

if TYPE_CHECKING:
    from av.video.frame import VideoFrame
    from av.video.reformatter import VideoReformatter

RGB, BT709, UNSPECIFIED, BT601, BT2020 = 0, 1, 2, 6, 9
LIMITED, FULL = 1, 2
HDR_TRANSFERS = {16: "PQ", 18: "HLG"}
"""Code points of the transfer functions of HDR video, and their names."""

_SCALED = frozenset({1, 4, 5, 6, 7, 9})
"""Matrices that swscale can compute with. 10 (constant luminance) is treated as 9; others depend on the size."""

_HD_WIDTH, _SD_LINES = 1280, 576
"""Players assume BT.709 for video without tags that is so wide, or higher than that."""

_READ_BEYOND = 256
"""Bytes that swscale may read after the last pixel: a few of its widest vectors."""

_ONE_THREAD = 1
"""PyAV otherwise gives each thread some rows. FFmpeg's code for vectors writes beyond the end of a row, and so into the
rows of another thread, unless the width is a multiple of 32: up to 17 % of the frames of 328x184 in RGBA were damaged
by that with eight threads on a busy machine."""

DisplayMatrix = tuple[int, int, int, int]
"""a, b, c, d of x' = ax + cy, y' = bx + dy, in 1/65536."""

_MATRICES = {1: "bt709", 4: "fcc", 5: "bt601", 6: "bt601", 7: "smpte240m", 9: "bt2020", 10: "bt2020"}


class _Conversion(TypedDict, total=False):
    """What a frame becomes, as `VideoReformatter.reformat` takes it."""

    width: int
    height: int
    format: str
    interpolation: int | str
    src_color_range: int | str
    dst_colorspace: int
    dst_color_range: int | str


def converted(frame: VideoFrame, reformatter: VideoReformatter | None = None, **how: Unpack[_Conversion]) -> VideoFrame:
    """The frame in another pixel format or size. All conversions by PyAV come here: several threads damage frames.

    reformatter: keeps what it has set up, for frames of one kind. how: see `VideoReformatter.reformat`.
    """
    from av.video.reformatter import VideoReformatter

    return (reformatter or VideoReformatter()).reformat(frame, threads=_ONE_THREAD, **how)


def _flags() -> int:
    """Bicubic, exact rounding, chroma at full resolution. The faster paths repeat chroma and are off by 3 levels."""
    from av.video.reformatter import Interpolation

    return int(
        Interpolation.BICUBIC | Interpolation.ACCURATE_RND | Interpolation.FULL_CHR_H_INT | Interpolation.FULL_CHR_H_INP
    )


def usable_matrix(matrix: int, width: int, height: int) -> int:
    """`matrix` if swscale can compute with it; else the one that players assume for a picture of this size."""
    if matrix == 10:
        return BT2020
    if matrix in _SCALED:
        return matrix
    return BT709 if width >= _HD_WIDTH or height > _SD_LINES else BT601


def matrix_name(frame: VideoFrame) -> str:
    """FFmpeg's name of the matrix of a frame, or of the one that players assume; empty for RGB, which has none."""
    return "" if is_rgb(frame) else _MATRICES[usable_matrix(int(frame.colorspace), frame.width, frame.height)]


def is_rgb(frame: VideoFrame) -> bool:
    """True if the frame holds RGB, or a palette of RGB, and so has no matrix."""
    return frame.format.is_rgb or frame.format.name == "pal8"


def _is_grey(frame: VideoFrame) -> bool:
    return frame.format.name.startswith(("gray", "ya", "mono"))


def is_full(frame: VideoFrame) -> bool:
    """True if a frame has full range, or RGB."""
    name = frame.format.name
    if name.startswith("yuvj") or is_rgb(frame):
        return True
    if frame.color_range in (LIMITED, FULL):
        return frame.color_range == FULL
    return _is_grey(frame)  # swscale, too, takes untagged grey for full range


def colour_of(frame: VideoFrame) -> Colour:
    """The colour tags of a frame. RGB and grey frames have no matrix, and their range is not kept."""
    no_matrix = is_rgb(frame) or _is_grey(frame)
    return Colour(
        matrix=UNSPECIFIED if no_matrix else int(frame.colorspace),
        primaries=int(frame.color_primaries),
        transfer=int(frame.color_trc),
        full=not no_matrix and is_full(frame),
    )


def output_colour(source: Colour, size: tuple[int, int], pix_fmt: str) -> Colour:
    """The tags of the output: those of the source, but always with a matrix.

    If the source has none, the output gets the one that players assume for its `size`, width and height in pixels. So
    players that read tags and players that ignore them show the same colours.
    """
    if pix_fmt.startswith(("rgb", "bgr", "gbr", "0rgb", "0bgr")):
        return Colour(RGB, source.primaries, source.transfer, full=True)
    full = source.full or pix_fmt.startswith("yuvj")
    return Colour(usable_matrix(source.matrix, *size), source.primaries, source.transfer, full)


def describe_colour(colour: Colour) -> str:
    """The colour in a few words, e.g. "bt709 limited"."""
    words = [_MATRICES.get(colour.matrix, "untagged"), "full" if colour.full else "limited"]
    if colour.transfer in HDR_TRANSFERS:
        words.append(HDR_TRANSFERS[colour.transfer])
    return " ".join(words)


def to_rgb(frame: VideoFrame, reformatter: VideoReformatter, *, deep: bool = False) -> NDArray[Any]:
    """The frame as uint8 [H, W, 3] RGB, oriented as it is stored; `upright` turns it. deep: as uint16."""
    full, tags = is_full(frame), (frame.colorspace, frame.color_range)
    if not is_rgb(frame):
        frame.colorspace = usable_matrix(int(frame.colorspace), frame.width, frame.height)
    frame.color_range = FULL if full else LIMITED
    name = "rgb48le" if deep else "rgb24"
    rgb = converted(frame, reformatter, format=name, interpolation=_flags(), dst_color_range=FULL)
    frame.colorspace, frame.color_range = tags  # do not leave a guess in the frame
    pixels: Any = rgb.to_ndarray()  # may be a view with gaps between its rows
    return np.ascontiguousarray(pixels)


def from_rgb(pixels: NDArray[Any], colour: Colour, pix_fmt: str, reformatter: VideoReformatter) -> VideoFrame:
    """A frame in `pix_fmt` from uint8 or uint16 RGB or RGBA [H, W, 3 or 4], converted by and tagged with `colour`."""
    from av.video.frame import VideoFrame

    names = ("rgb48le", "rgba64le") if pixels.dtype == np.uint16 else ("rgb24", "rgba")
    name = names[pixels.shape[2] == 4]
    frame = VideoFrame.from_numpy_buffer(_padded(pixels), format=name)
    frame.color_range = FULL
    if colour.matrix != RGB:
        frame.colorspace = colour.matrix
    frame.color_primaries, frame.color_trc = colour.primaries, colour.transfer
    level = FULL if colour.full else LIMITED
    return converted(frame, reformatter, format=pix_fmt, interpolation=_flags(), dst_color_range=level)


def _padded(pixels: NDArray[Any]) -> NDArray[Any]:
    """A copy with spare memory behind it.

    If the width is not a multiple of 16 pixels, swscale reads past the end of rows. It crashes if the memory behind the
    last row is not ours.
    """
    room = np.empty(pixels.size + _READ_BEYOND, pixels.dtype)
    copy = room[: pixels.size].reshape(pixels.shape)
    copy[:] = pixels
    return copy


def display_matrix(frame: VideoFrame) -> DisplayMatrix | None:
    """How to turn the frame for display; None if it is upright."""
    return matrix_of(side_data(frame))


def matrix_of(attached: Mapping[str, bytes]) -> DisplayMatrix | None:
    """The same, from the frame's side data."""
    data = attached.get("DISPLAYMATRIX")
    if data is None:
        return None
    values = np.frombuffer(data, np.int32)
    return int(values[0]), int(values[1]), int(values[3]), int(values[4])


def is_turned(matrix: DisplayMatrix | None) -> bool:
    """True if the matrix swaps width and height."""
    return matrix is not None and abs(matrix[1]) + abs(matrix[2]) > abs(matrix[0]) + abs(matrix[3])


def upright_size(frame: VideoFrame) -> tuple[int, int]:
    """Width and height of the frame as it is displayed."""
    return (frame.height, frame.width) if is_turned(display_matrix(frame)) else (frame.width, frame.height)


def upright(pixels: NDArray[Any], matrix: DisplayMatrix | None) -> NDArray[Any]:
    """The pixels as they are displayed: turned by multiples of 90 degrees and mirrored as `matrix` says."""
    if matrix is None:
        return pixels
    a, b, c, d = matrix
    if is_turned(matrix):
        pixels = pixels.transpose(1, 0, 2)
        left, up = c < 0, b < 0
    else:
        left, up = a < 0, d < 0
    return np.ascontiguousarray(pixels[:: -1 if up else 1, :: -1 if left else 1])
