"""The forms in which frames enter and leave a bundle: planes of YUV as codecs have them, and RGB.

    rgb24        uint8 [h, w, 3]
    rgb48        uint16 [h, w, 3]; white is 65535
    yuv420p      uint8 [3, h/2, w]: the upper and the lower half of the luma plane, then the planes of Cb and Cr
    nv12         the same with Cb and Cr interleaved
    yuv420p10    as yuv420p in uint16; codes are 0 to 1023
    p010         as nv12 in uint16; codes lie in the upper 10 bits

A YUV frame is one block of bytes, that of FFmpeg's `rawvideo`, and its sides are even. Stages take and give bytes only:
a uint16 is two of them, the low one first, because TensorRT has no uint16.
"""

from __future__ import annotations

from dataclasses import dataclass

from ...errors import MisuseError

Sides = tuple[int | None, ...]
"""Sides of a tensor; None is free until a stream starts."""


@dataclass(frozen=True)
class PixelFormat:
    """One form of a frame.

    name: FFmpeg's, without the byte order. bits: of a code. yuv: planes of YUV with halved chroma; otherwise RGB.
    interleaved: Cb and Cr alternate. unit: what a code is multiplied by when it is stored.
    """

    name: str
    bits: int = 8
    yuv: bool = False
    interleaved: bool = False
    unit: int = 1

    @property
    def wide(self) -> bool:
        """True if a code takes two bytes."""
        return self.bits > 8

    @property
    def take(self) -> str:
        """Name of the stage that frames of this form enter by."""
        return f"take_{self.name}"

    @property
    def give(self) -> str:
        """Name of the stage that frames of this form leave by."""
        return f"give_{self.name}"

    @property
    def host_dtype(self) -> str:
        """NumPy's name of the type of a stored code."""
        return "uint16" if self.wide else "uint8"

    @property
    def free_axes(self) -> tuple[int, int]:
        """The axes of a batch of frames whose sides depend on the size of a frame."""
        return (2, 3) if self.yuv else (1, 2)

    def holds(self, height: int, width: int) -> bool:
        """Whether a frame of this size has this form."""
        return not self.yuv or height % 2 == width % 2 == 0

    def shape(self, height: int, width: int) -> tuple[int, ...]:
        """Shape of a frame in codes."""
        return (3, height // 2, width) if self.yuv else (height, width, 3)

    def byte_shape(self, height: int, width: int) -> tuple[int, ...]:
        """Shape of a frame in bytes, as stages see it."""
        return self.shape(height, width) + ((2,) if self.wide else ())

    def free_shape(self, frames: int) -> Sides:
        """Shape of a batch of frames of any size, in bytes."""
        shape: list[int | None] = [frames, *self.byte_shape(2, 1)]
        for axis in self.free_axes:
            shape[axis] = None
        return tuple(shape)

    def size_of(self, shape: tuple[int, ...]) -> tuple[int, int]:
        """Height and width of the frames in a batch of this shape."""
        height, width = (shape[axis] for axis in self.free_axes)
        return (2 * height if self.yuv else height), width


RGB24, RGB48 = PixelFormat("rgb24"), PixelFormat("rgb48", 16)
YUV420P, NV12 = PixelFormat("yuv420p", 8, yuv=True), PixelFormat("nv12", 8, yuv=True, interleaved=True)
YUV420P10 = PixelFormat("yuv420p10", 10, yuv=True)
P010 = PixelFormat("p010", 10, yuv=True, interleaved=True, unit=64)
PIXEL_FORMATS = (RGB24, RGB48, YUV420P, NV12, YUV420P10, P010)

TAKES = tuple(entry.take for entry in PIXEL_FORMATS)
GIVES = tuple(entry.give for entry in PIXEL_FORMATS)


def pixel_format(name: str) -> PixelFormat:
    """The format of this name. Raises `MisuseError` for any other."""
    for entry in PIXEL_FORMATS:
        if entry.name == name:
            return entry
    expected = ", ".join(entry.name for entry in PIXEL_FORMATS)
    raise MisuseError(f"the pixel format is {name!r}, expected one of {expected}")


def format_of_stage(stage: str) -> PixelFormat | None:
    """The format that a stage takes or gives; None for the stages of the network."""
    return next((entry for entry in PIXEL_FORMATS if stage in (entry.take, entry.give)), None)


def given_formats(height: int, width: int) -> tuple[PixelFormat, ...]:
    """The formats in which a bundle of this output size gives frames."""
    return tuple(entry for entry in PIXEL_FORMATS if entry.holds(height, width))
