"""Shrinks frames before they are buffered, exactly where the network would sample them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .frames import AnyFrame, FrameForm, Planes

_MUCH_LARGER = 4
"""Up to so many times the pixels of the output, the device shrinks frames faster than this process could."""

_ROWS = 32
"""Rows of the result that are computed at a time."""

Codes = NDArray[Any]


def is_much_larger(frame: tuple[int, int], output: tuple[int, int]) -> bool:
    """Whether a frame is better shrunk before it is buffered. Both: height and width."""
    return frame[0] * frame[1] > _MUCH_LARGER * output[0] * output[1]


def shrink(frame: AnyFrame, width: int, height: int) -> AnyFrame:
    """The frame with at most `height` rows and `width` columns, in the same form; those of YUV stay even.

    Samples bilinearly with half-pixel centres and without antialiasing, as the first operation of the network does, so
    the result differs from what the network would compute by rounding only: at most half a level. Needs memory for the
    result and a few rows.
    """
    if not isinstance(frame, Planes):
        return _shrink_array(frame, width, height)
    before, form = frame.size, frame.form
    rows, columns = (min(side, limit + limit % 2) for side, limit in zip(before, (height, width), strict=True))
    if (rows, columns) == before:
        return frame
    # Samples are taken at the centres of larger pixels, so chroma comes closer to them.
    across, down = (
        0.5 + (place - 0.5) * after / side
        for place, after, side in zip(form.colour.siting, (columns, rows), before[::-1], strict=True)
    )
    colour = replace(form.colour, siting=(across, down))
    shrunk = Planes.empty(FrameForm(form.format, colour), rows, columns)
    for target, source in zip(shrunk.layers, frame.layers, strict=True):
        np.copyto(target, _shrink_array(source, target.shape[1], target.shape[0]))
    return shrunk


def _shrink_array(frame: Codes, width: int, height: int) -> Codes:
    """[h, w, channels] -> [min(h, height), min(w, width), channels]."""
    rows, columns = min(frame.shape[0], height), min(frame.shape[1], width)
    if (rows, columns) == frame.shape[:2]:
        return frame
    top, bottom, down = taps(frame.shape[0], rows)
    left, right, across = taps(frame.shape[1], columns)
    shrunk = np.empty((rows, columns, frame.shape[2]), frame.dtype)
    for begin in range(0, rows, _ROWS):
        part = slice(begin, begin + _ROWS)
        upper, lower = (
            mix(frame[lines][:, left], frame[lines][:, right], across[:, None]) for lines in (top[part], bottom[part])
        )
        shrunk[part] = np.rint(mix(upper, lower, down[part, None, None]))
    return shrunk


def mix(one: NDArray[np.generic], other: NDArray[np.generic], weight: NDArray[np.float32]) -> NDArray[np.float32]:
    """`one` where the weight is 0, `other` where it is 1."""
    first = one.astype(np.float32)
    return first + (other.astype(np.float32) - first) * weight


def taps(before: int, after: int) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.float32]]:
    """For every position after resizing, the two positions before it lies between, and the weight of the second."""
    exact = np.clip((np.arange(after) + 0.5) * (before / after) - 0.5, 0, before - 1)
    first = np.floor(exact).astype(np.intp)
    return first, np.minimum(first + 1, before - 1), (exact - first).astype(np.float32)
