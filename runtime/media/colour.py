"""Frames of FFmpeg become RGB pixels, and RGB pixels become frames, with the matrix and range that the tags say.

The scaler is driven by the tags of the frames themselves, set here explicitly: what PyAV does with its own
`src_colorspace` and `dst_colorspace` arguments depends on numbers that mean one thing in swscale and another in the
tags. Known answers for every matrix and range are in the tests.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from .base import Colour, Pixels

if TYPE_CHECKING:
    from av.video.frame import VideoFrame
    from av.video.reformatter import VideoReformatter

RGB, BT709, UNSPECIFIED, BT601, BT2020 = 0, 1, 2, 6, 9
LIMITED, FULL = 1, 2
PQ, HLG = 16, 18

_SCALED = frozenset({1, 4, 5, 6, 7, 9})
"""Matrices that swscale knows. 10 (constant luminance) is taken for 9; the others are guessed from the size."""

_HD_LINES = 720

_READ_BEYOND = 256
"""Bytes; several vectors of the widest kind there is."""

_TRANSFERS = {1: "bt709", 6: "bt601", 13: "sRGB", PQ: "PQ", HLG: "HLG"}
_MATRICES = {1: "bt709", 4: "fcc", 5: "bt601", 6: "bt601", 7: "smpte240m", 9: "bt2020", 10: "bt2020"}


def _flags() -> int:
    """Bicubic, exact rounding, and chroma at full resolution: the quick paths repeat chroma and are off by 3 levels."""
    from av.video.reformatter import Interpolation

    return int(
        Interpolation.BICUBIC | Interpolation.ACCURATE_RND | Interpolation.FULL_CHR_H_INT | Interpolation.FULL_CHR_H_INP
    )


def usable_matrix(matrix: int, lines: int) -> int:
    """`matrix` if it can be computed with, else what players assume for a picture of so many lines."""
    if matrix == 10:
        return BT2020
    if matrix in _SCALED:
        return matrix
    return BT709 if lines >= _HD_LINES else BT601


def is_rgb(frame: VideoFrame) -> bool:
    """True if the frame has no matrix: red, green and blue, or a palette of them."""
    return frame.format.is_rgb or frame.format.name == "pal8"


def _is_full(frame: VideoFrame) -> bool:
    name = frame.format.name
    if name.startswith("yuvj") or is_rgb(frame):
        return True
    if frame.color_range in (LIMITED, FULL):
        return frame.color_range == FULL
    return name.startswith(("gray", "ya", "mono"))  # as swscale: grey without a tag is full


def colour_of(frame: VideoFrame) -> Colour:
    """What the frame says about its colours. RGB and grey frames have no matrix and no range worth keeping."""
    grey = is_rgb(frame) or frame.format.name.startswith(("gray", "ya", "mono"))
    return Colour(
        matrix=UNSPECIFIED if grey else int(frame.colorspace),
        primaries=int(frame.color_primaries),
        transfer=int(frame.color_trc),
        full=False if grey else _is_full(frame),
    )


def output_colour(source: Colour, lines: int, pix_fmt: str) -> Colour:
    """How the output is tagged: as the source, with the matrix always said.

    Where the source leaves it open, the output has what players assume for its own height, so that those that
    read tags and those that do not show the same.
    """
    if pix_fmt.startswith(("rgb", "bgr", "gbr", "0rgb", "0bgr")):
        return Colour(RGB, source.primaries, source.transfer, full=True)
    full = source.full or pix_fmt.startswith("yuvj")
    return Colour(usable_matrix(source.matrix, lines), source.primaries, source.transfer, full)


def describe(colour: Colour) -> str:
    """A few words for people, e.g. "bt709 limited"."""
    words = [_MATRICES.get(colour.matrix, "untagged"), "full" if colour.full else "limited"]
    if colour.transfer in (PQ, HLG):
        words.append(_TRANSFERS[colour.transfer])
    return " ".join(words)


def to_rgb(frame: VideoFrame, reformatter: VideoReformatter) -> Pixels:
    """The frame as uint8 [H, W, 3] RGB, as stored: turning it upright is `upright`'s business."""
    full, said = _is_full(frame), (frame.colorspace, frame.color_range)
    if not is_rgb(frame):
        frame.colorspace = usable_matrix(int(frame.colorspace), frame.height)
    frame.color_range = FULL if full else LIMITED
    shown = reformatter.reformat(frame, format="rgb24", interpolation=_flags(), dst_color_range=FULL)
    frame.colorspace, frame.color_range = said  # a guess is no tag
    pixels: Any = shown.to_ndarray()  # a view with gaps between its rows, unless the width is a round number
    return np.ascontiguousarray(pixels)


def from_rgb(pixels: Pixels, colour: Colour, pix_fmt: str, reformatter: VideoReformatter) -> VideoFrame:
    """uint8 [H, W, 3] RGB as a frame of `pix_fmt`, computed with and tagged with `colour`."""
    from av.video.frame import VideoFrame

    frame = VideoFrame.from_numpy_buffer(_padded(pixels), format="rgb24")
    frame.color_range = FULL
    if colour.matrix != RGB:
        frame.colorspace = colour.matrix
    frame.color_primaries, frame.color_trc = colour.primaries, colour.transfer
    level = FULL if colour.full else LIMITED
    return reformatter.reformat(frame, format=pix_fmt, interpolation=_flags(), dst_color_range=level)


def _padded(pixels: Pixels) -> Pixels:
    """A copy behind which memory goes on: swscale reads past the end of rows whose width is no multiple of 16 pixels,
    and crashes where the last one is followed by memory that is not ours."""
    room = np.empty(pixels.size + _READ_BEYOND, np.uint8)
    copy = room[: pixels.size].reshape(pixels.shape)
    copy[:] = pixels
    return copy


def display_matrix(frame: VideoFrame) -> tuple[int, int, int, int] | None:
    """a, b, c, d of the frame's display matrix, x' = ax + cy, y' = bx + dy; None if it has none."""
    try:
        data: Any = frame.side_data.get("DISPLAYMATRIX")
    except ValueError:  # PyAV reads all side data at once and knows no EXIF, among others
        return _quarter_turns(frame.rotation)
    if data is None:
        return None
    values = np.frombuffer(bytes(data), np.int32)
    return int(values[0]), int(values[1]), int(values[3]), int(values[4])


def _quarter_turns(degrees: int) -> tuple[int, int, int, int] | None:
    """The matrix of a counterclockwise rotation, to the nearest quarter turn. A mirrored picture cannot be told."""
    one = 1 << 16
    turns = round(degrees / 90) % 4
    return (None, (0, -one, one, 0), (-one, 0, 0, -one), (0, one, -one, 0))[turns]


def is_turned(matrix: tuple[int, int, int, int] | None) -> bool:
    """True if the matrix swaps width and height."""
    return matrix is not None and abs(matrix[1]) + abs(matrix[2]) > abs(matrix[0]) + abs(matrix[3])


def upright(pixels: Pixels, matrix: tuple[int, int, int, int] | None) -> Pixels:
    """The pixels as they are to be shown: turned in steps of 90 degrees and mirrored as `matrix` says."""
    if matrix is None:
        return pixels
    a, b, c, d = matrix
    if is_turned(matrix):
        pixels = pixels.transpose(1, 0, 2)
        left, up = c < 0, b < 0
    else:
        left, up = a < 0, d < 0
    return np.ascontiguousarray(pixels[:: -1 if up else 1, :: -1 if left else 1])
