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
_APPEARS = "transparency, which begins after the first frame"
_APPEARS_UNASKED = f"{_APPEARS} (--alpha keep enlarges it)"
"""What is lost of a frame, for people."""

Alpha = NDArray[Any]
"""uint8 or uint16 [H, W]; the largest value is opaque."""


def has_alpha(frame: VideoFrame) -> bool:
    """Whether a frame can be transparent: its pixel format has transparency, or its palette uses some."""
    return holds_alpha(frame.format.name) or (frame.format.name == "pal8" and _least_alpha(frame) < 1)


def holds_alpha(pix_fmt: str) -> bool:
    """Whether a pixel format has transparency."""
    from av.video.format import VideoFormat

    return any(component.is_alpha for component in VideoFormat(pix_fmt).components)


def alpha_of(frame: VideoFrame, matrix: DisplayMatrix | None, reformatter: VideoReformatter, *, deep: bool) -> Alpha:
    """How opaque an upright picture is, in 8 or 16 bits."""
    rgba = colour.converted(frame, reformatter, format="rgba64le" if deep else "rgba")
    pixels: Any = rgba.to_ndarray()
    return colour.upright(np.ascontiguousarray(pixels[..., 3:]), matrix)[..., 0]


def is_opaque(frame: VideoFrame) -> bool:
    """True if nothing shows through a frame."""
    return not has_alpha(frame) or _least_alpha(frame) >= 1


def _least_alpha(frame: VideoFrame) -> float:
    """How opaque a frame is where it is least so: 0 to 1. Looks at its own plane of transparency, if it has one."""
    from av.video.reformatter import VideoReformatter

    components = frame.format.components
    alpha = next((each for each in components if each.is_alpha), None)
    is_alone = alpha is not None and [each.plane for each in components].count(alpha.plane) == 1
    is_float = "f16" in frame.format.name or (alpha is not None and alpha.bits > 16)
    if alpha is None or not is_alone or is_float or frame.planes[alpha.plane].line_size < 0:
        return float(alpha_of(frame, None, VideoReformatter(), deep=False).min() / 255)
    code = np.dtype(np.uint8 if alpha.bits <= 8 else ">u2" if frame.format.is_big_endian else "<u2")
    plane = frame.planes[alpha.plane]
    whole = np.frombuffer(plane, code)  # type: ignore[call-overload]
    rows: NDArray[Any] = np.lib.stride_tricks.as_strided(
        whole, (frame.height, frame.width), (plane.line_size, code.itemsize)
    )
    return float(rows.min() / ((1 << alpha.bits) - 1))


def lost_alpha(frame: VideoFrame, wanted: str | None, *, kept: bool) -> frozenset[str]:
    """What `Stamp.lost` says of a frame that is transparent though the first one was not, if nobody asked to drop that.

    wanted: as `SourceOptions.alpha`. kept: pictures come with their transparency.
    """
    if kept or wanted == "drop" or is_opaque(frame):
        return frozenset()
    return frozenset((_APPEARS if wanted == "keep" else _APPEARS_UNASKED,))


def keeps_alpha(path: Path, wanted: str | None, first: VideoFrame, *, hidden: bool = False) -> bool:
    """Whether pictures have to come with their transparency.

    wanted: as `SourceOptions.alpha`. first: the first frame. hidden: the file has transparency that the decoder leaves
    out. Raises `MediaError` if there is some, and nobody said what becomes of it.
    """
    later = wanted == "keep" and first.format.name == "pal8"  # each frame has a palette of its own
    if not hidden and not later and not has_alpha(first):
        return False
    if not hidden and wanted != "keep" and is_opaque(first):
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
