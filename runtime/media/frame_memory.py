"""Bounds the memory that a video or an image takes, before a frame is decoded, and with each that is unlike the last.

A small file can hold huge frames. What they take is estimated from their size, codec and pixel format:

    in the decoder      as many frames as the codec keeps for others to refer to, and for showing them in order
    outside             one frame in RGB, and one more in the making

Measured at 3840x2160 by `benchmarks/input_memory.py`, in bytes per pixel more than a small video takes: FFV1 1,
MPEG-2 2, VP9 5, ProRes 9, HEVC 12, AV1 12, 10-bit HEVC 22, H.264 with 16 reference frames 25, 10-bit AV1 28. The
estimates for these are 12, 12, 12, 22, 24, 21, 42, 24 and 36: they count frames in RGB, which formats other than 4:2:0
become.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ...errors import MachineError
from ...machine import available_memory
from ...text import format_bytes

if TYPE_CHECKING:
    from av.video.codeccontext import VideoCodecContext
    from av.video.frame import VideoFrame

_MOST_PIXELS = (1 << 31) - 1
"""What FFmpeg accepts for `max_pixels`; it refuses to open a decoder for more."""

_KEPT = {"h264": 12, "hevc": 12, "vvc": 12, "av1": 10}
"""Frames that decoders of these codecs keep."""

_KEPT_BY_OTHERS = 4

_ROW = 64
"""FFmpeg counts rows as long as its vectors need them: a multiple of this many pixels, or of fewer."""

_RGB = 3
"""Bytes per pixel."""


class FrameBound:
    """Refuses the frames of one video that take more memory than there is.

    context: of a decoder that is not open yet; it will refuse frames with too many pixels. on_gpu: a GPU decodes, so
    the decoder keeps no frame here. again: it fitted before, so refuse nothing but larger frames; memory that this
    process has used and freed does not count as free. Raises `MachineError` if the frames that the header announces are
    too large.
    """

    def __init__(self, path: Path, context: VideoCodecContext, *, again: bool = False, on_gpu: bool = False) -> None:
        self._path, self._again = path, again
        self._kept = 1 if on_gpu else _KEPT.get(context.codec.canonical_name, _KEPT_BY_OTHERS)
        self._checked = _form(context)
        most = self._most_pixels(context)
        if most is not None:
            context.options = {**context.options, "max_pixels": str(min(max(most, 1), _MOST_PIXELS))}

    def check(self, frame: VideoFrame) -> None:
        """Raise `MachineError` if a decoded frame is not what the header announced, and further ones are too large."""
        if _form(frame) != self._checked:
            self._checked = _form(frame)
            self._most_pixels(frame)

    def _most_pixels(self, frame: VideoCodecContext | VideoFrame) -> int | None:
        """How many pixels frames of this format can have; None if nobody knows. Raises if this one has more."""
        free = available_memory()
        if free is None:
            return None
        per_pixel, width, height = self._bytes_per_pixel(frame), frame.width, frame.height
        needed = round(per_pixel * width * height)
        if self._again:
            return max(int(free / per_pixel), -(-width // _ROW) * _ROW * height)
        if needed > free:
            raise MachineError(
                f"{self._path}: decoding {width}x{height} frames takes about {format_bytes(needed)} of memory, "
                f"{format_bytes(free)} are free; close other programs, or shrink it on a larger machine, e.g. "
                f'ffmpeg -i "{self._path.name}" -vf scale={_fitting(width / height * free / per_pixel)}:-2 '
                f'"smaller-{self._path.name}"'
            )
        return int(free / per_pixel)

    def _bytes_per_pixel(self, frame: VideoCodecContext | VideoFrame) -> float:
        """What a pixel of such frames takes while they are read, or more, but for a twentieth."""
        decoded = frame.format.padded_bits_per_pixel / 8 if frame.format else 0
        return self._kept * (decoded or _RGB) + 2 * _RGB


def _form(frame: VideoCodecContext | VideoFrame) -> tuple[str | None, int, int]:
    """All that decides about the memory that a frame takes."""
    return frame.format.name if frame.format else None, frame.width, frame.height


def _fitting(square: float) -> int:
    """A width, even and at least 2, whose square is at most this."""
    return max(int(square**0.5) // 2 * 2, 2)
