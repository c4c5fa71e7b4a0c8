"""Pictures as the page holds them: WebP in `data:` addresses, and what can be said of one picture against another."""

from __future__ import annotations

import base64
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from ..errors import MachineError
from ..runtime.media.base import Pixels
from ..runtime.media.colour import converted

THUMBNAIL_WIDTH = 240
_QUALITIES = (92, 80, 65, 45)
"""Of WebP, 0 to 100. What the first one loses cannot be seen at twice the size; the others are for noise."""
_LARGEST_SIDE = 16383
"""Of a picture in this format."""


def as_8_bits(pixels: NDArray[np.uint8] | NDArray[np.uint16]) -> Pixels:
    """RGB pixels with 8 bits, uint8 [H, W, 3]; 16 bits are rounded."""
    if pixels.dtype == np.uint8:
        return pixels.astype(np.uint8, copy=False)
    return ((pixels.astype(np.uint32) * 255 + 32767) // 65535).astype(np.uint8)


def resized(pixels: Pixels, width: int, height: int) -> Pixels:
    """A picture at another size, with bicubic interpolation."""
    if pixels.shape[:2] == (height, width):
        return pixels
    from av.video.frame import VideoFrame

    frame = VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="rgb24")
    larger = converted(frame, width=width, height=height, interpolation="BICUBIC")
    return np.asarray(larger.to_ndarray(), np.uint8)


def thumbnail(pixels: Pixels) -> Pixels:
    """A small copy of a picture."""
    height, width = pixels.shape[:2]
    scale = min(THUMBNAIL_WIDTH / width, THUMBNAIL_WIDTH / height, 1)
    from av.video.frame import VideoFrame

    frame = VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="rgb24")
    width, height = max(round(width * scale), 1), max(round(height * scale), 1)
    return np.asarray(converted(frame, width=width, height=height, interpolation="AREA").to_ndarray(), np.uint8)


def as_webp(pixels: Pixels, most_bytes: int | None = None) -> bytes:
    """A picture in RGB as a WebP file, of lower quality if it would have more than `most_bytes`.

    Raises `MachineError` if FFmpeg here cannot make one.
    """
    for quality in _QUALITIES:
        webp = _encoded(pixels, quality)
        if most_bytes is None or len(webp) <= most_bytes:
            break
    return webp


def _encoded(pixels: Pixels, quality: int) -> bytes:
    from av.codec import CodecContext
    from av.error import FFmpegError
    from av.video.codeccontext import VideoCodecContext
    from av.video.frame import VideoFrame
    from av.video.reformatter import Colorspace

    height, width = pixels.shape[:2]
    if max(height, width) > _LARGEST_SIDE:
        raise MachineError(f"a picture of {width}x{height} is too large for WebP, expected at most {_LARGEST_SIDE}")
    try:
        encoder = CodecContext.create("libwebp", "w")
        assert isinstance(encoder, VideoCodecContext)
        encoder.width, encoder.height, encoder.pix_fmt, encoder.time_base = width, height, "yuv420p", Fraction(1)
        encoder.options = {"quality": str(quality), "compression_level": "3"}
        frame = VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="rgb24")
        frame = converted(frame, format="yuv420p", dst_colorspace=Colorspace.ITU601, dst_color_range="MPEG")
        frame.pts = 0
        packets = [*encoder.encode(frame), *encoder.encode(None)]
    except (FFmpegError, ValueError) as error:
        raise MachineError(f"this FFmpeg makes no WebP pictures ({error}): install the wheel of PyAV") from error
    return b"".join(map(bytes, packets))


def data_uri(webp: bytes) -> str:
    """The address of a WebP file that a page holds itself."""
    return f"data:image/webp;base64,{base64.b64encode(webp).decode('ascii')}"


def luma(pixels: Pixels) -> NDArray[np.float32]:
    """Brightness of each pixel, 0 to 255 (BT.709, in whole numbers, so that equal pixels are equal), float32 [H, W]."""
    red, green, blue = (pixels[..., channel].astype(np.int32) for channel in range(3))
    brightness: NDArray[np.float32] = ((54 * red + 183 * green + 19 * blue) / 256).astype(np.float32)
    return brightness


def mean_change(before: Pixels, after: Pixels) -> float:
    """The mean absolute difference in brightness, in steps of 8 bits."""
    return float(np.abs(luma(before) - luma(after)).mean())


def detail_ratio(before: Pixels, after: Pixels) -> float:
    """How much stronger the finest detail is than before: the ratio of the mean steps between neighbouring pixels.

    NaN if there was none before. Noise counts as detail, so a denoised picture may well have less.
    """
    was, now = (_mean_step(luma(pixels)) for pixels in (before, after))
    return now / was if was else float("nan")


def _mean_step(brightness: NDArray[np.float32]) -> float:
    if min(brightness.shape) < 2:
        return 0.0
    return float(np.abs(np.diff(brightness, axis=0)).mean() + np.abs(np.diff(brightness, axis=1)).mean())
