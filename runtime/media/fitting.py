"""Frames whose size changes in the middle of a video, as in broadcasts, calls and recordings of a screen.

The output has one size. Frames of another one are scaled into the first, with their shape kept and black beside them.
"""

from __future__ import annotations

from fractions import Fraction
from typing import TYPE_CHECKING

from .filters import FilterChain, FilterInput, FrameFilter

if TYPE_CHECKING:
    from av.video.frame import VideoFrame


class Fitter:
    """Makes frames as large as the first one."""

    def __init__(self, size: tuple[int, int], aspect: Fraction | None) -> None:
        """size: width and height as they are stored. aspect: width : height of a pixel; None for a square."""
        self._size, self._aspect = size, aspect or Fraction(1)
        self._filters: dict[tuple[int, int, str], FrameFilter] = {}
        self._changes: dict[tuple[int, int], int] = {}

    def fit(self, frame: VideoFrame, number: int, aspect: Fraction | None) -> VideoFrame:
        """The frame with this number. aspect: of its pixels. Raises `MediaError` if it cannot be scaled."""
        size = frame.width, frame.height
        if size == self._size:
            return frame
        self._changes.setdefault(size, number)
        kind = *size, frame.format.name
        if kind not in self._filters:
            self._filters = {kind: self._filter(frame, aspect or Fraction(1))}
        return next(self._filters[kind].feed(frame))

    def _filter(self, frame: VideoFrame, aspect: Fraction) -> FrameFilter:
        (width, height), outer = inner_size((frame.width, frame.height), aspect, self._size, self._aspect), self._size
        chain = FilterChain((f"scale={width}:{height}:flags=bicubic", f"pad={outer[0]}:{outer[1]}:-1:-1:black"))
        clock = Fraction(frame.time_base or 1)
        return FrameFilter(chain, FilterInput(clock, 1 / clock, aspect), frame)

    @property
    def notes(self) -> tuple[str, ...]:
        """One line for each size that was fitted."""
        width, height = self._size
        return tuple(
            f"from frame {number} on, frames are {size[0]}x{size[1]}, not {width}x{height}: they are fitted into that"
            for size, number in self._changes.items()
        )


def inner_size(
    size: tuple[int, int], aspect: Fraction, outer: tuple[int, int], outer_aspect: Fraction
) -> tuple[int, int]:
    """The largest size within `outer` in which a picture keeps its shape. aspects: width : height of the pixels."""
    width, height = outer
    shape = Fraction(*size) * aspect / outer_aspect  # in pixels of the outer picture
    if shape >= Fraction(width, height):
        return width, max(1, round(width / shape))
    return max(1, round(height * shape)), height
