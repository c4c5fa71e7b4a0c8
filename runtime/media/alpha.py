"""Transparency. The network knows none: it is kept beside the picture and enlarged as it is, or dropped, or refused."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ...errors import MediaError
from . import colour

if TYPE_CHECKING:
    from av.video.frame import VideoFrame
    from av.video.reformatter import VideoReformatter

    from .colour import DisplayMatrix

DROPPED = "transparency is dropped"
"""A line for people."""

Alpha = NDArray[Any]
"""uint8 or uint16 [H, W]; the largest value is opaque."""


def has_alpha(frame: VideoFrame) -> bool:
    """Whether the pixel format of a frame has transparency."""
    return any(component.is_alpha for component in frame.format.components)


def holds_alpha(pix_fmt: str) -> bool:
    """Whether a pixel format has transparency."""
    from av.video.format import VideoFormat

    return any(component.is_alpha for component in VideoFormat(pix_fmt).components)


def alpha_of(frame: VideoFrame, matrix: DisplayMatrix | None, reformatter: VideoReformatter, *, deep: bool) -> Alpha:
    """How opaque an upright picture is, in 8 or 16 bits."""
    rgba = colour.converted(frame, reformatter, format="rgba64le" if deep else "rgba")
    pixels: Any = rgba.to_ndarray()
    return colour.upright(np.ascontiguousarray(pixels[..., 3:]), matrix)[..., 0]


def is_opaque(frame: VideoFrame, reformatter: VideoReformatter) -> bool:
    """True if nothing shows through a frame."""
    return bool(alpha_of(frame, None, reformatter, deep=False).min() == 255)


def keeps_alpha(path: Path, wanted: str | None, first: VideoFrame, *, hidden: bool = False) -> bool:
    """Whether pictures have to come with their transparency.

    wanted: as `SourceOptions.alpha`. first: the first frame. hidden: the file has transparency that the decoder leaves
    out. Raises `MediaError` if there is some, and nobody said what becomes of it.
    """
    from av.video.reformatter import VideoReformatter

    if not hidden and not has_alpha(first):
        return False
    if not hidden and wanted != "keep" and is_opaque(first, VideoReformatter()):
        return False  # with "keep", later frames count: titles fade in
    if wanted is None:
        raise MediaError(
            f"{path} is transparent, which the network does not know: --alpha keep enlarges its transparency as it is, "
            "--alpha drop leaves it out"
        )
    if wanted == "keep" and hidden:
        raise MediaError(
            f"{path} stores its transparency where FFmpeg's decoder does not read it: convert it to FFV1 with "
            "ffmpeg -c:v libvpx-vp9 -i IN -c:v ffv1 OUT.mkv before, or leave it out with --alpha drop"
        )
    return wanted == "keep"


def enlarged(alpha: Alpha, height: int, width: int) -> Alpha:
    """The transparency at another size, bicubic."""
    from av.video.frame import VideoFrame

    frame = VideoFrame.from_ndarray(alpha, format="gray16le" if alpha.dtype == np.uint16 else "gray")
    larger: Any = colour.converted(frame, width=width, height=height, interpolation="BICUBIC").to_ndarray()
    return np.ascontiguousarray(larger, alpha.dtype)


def with_alpha(pixels: NDArray[Any], alpha: Alpha) -> NDArray[Any]:
    """RGB [H, W, 3] and transparency of any size as RGBA [H, W, 4] of the type of the pixels."""
    height, width = pixels.shape[:2]
    larger = enlarged(alpha, height, width)
    if larger.dtype != pixels.dtype:
        larger = (larger // 257 if pixels.dtype == np.uint8 else larger.astype(np.uint16) * 257).astype(pixels.dtype)
    return np.concatenate([pixels, larger[..., None]], axis=-1)
