"""Pixels at both ends of the network: frames of any size in, frames of the output size out. The reference for the
pixel stages of bundles, written in another way than those (`export.graph.pixel_stages`).

    in    uint8 [T, h, w, 3] RGB -> float, bilinear resize to the output size (half-pixel centres, no antialias),
          / 255, padded on the right and bottom to a multiple of 32 -> float32 [T, 3, H32, W32] in [0, 1]
    out   float32 [T, 3, H32, W32] -> cropped, * 255, rounded -> uint8 [T, H, W, 3]

The padding mirrors the picture, so that its border has plausible neighbours. The published SwiftVR code (arXiv
2606.09516) pads with black and truncates instead of rounding; `parity` follows it in the padding.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from ...engines.bundle.geometry import PIXEL_UNSHUFFLE, Resolution
from ...engines.bundle.pixel_formats import PixelFormat
from ...runtime.stream.frames import Conversion, YuvColour


def frames_to_pixels(frames: Tensor, size: Resolution, *, parity: bool) -> Tensor:
    """uint8 [T, h, w, 3] -> float32 [T, 3, H32, W32] in [0, 1]."""
    return rgb_to_pixels(frames.float().permute(0, 3, 1, 2), size, parity=parity, white=255)


def rgb_to_pixels(x: Tensor, size: Resolution, *, parity: bool, white: float = 1.0) -> Tensor:
    """float [T, 3, h, w] in [0, white] -> [T, 3, H32, W32] in [0, 1]."""
    x = F.interpolate(x, (size.height, size.width), mode="bilinear", align_corners=False, antialias=False) / white
    below, right = size.padded_height - size.height, size.padded_width - size.width
    if parity:
        return F.pad(x, (0, right, 0, below)) if below or right else x
    if below:
        x = x.index_select(2, torch.from_numpy(mirror(size.height, size.padded_height)))
    if right:
        x = x.index_select(3, torch.from_numpy(mirror(size.width, size.padded_width)))
    return x


def pixels_to_frames(x: Tensor, size: Resolution) -> Tensor:
    """float32 [T, 3, H32, W32] in [0, 1] -> uint8 [T, H, W, 3], rounded to nearest."""
    x = x[:, :, : size.height, : size.width].permute(0, 2, 3, 1)
    return torch.round(x * 255).to(torch.uint8)


def taken_pixels(
    stored: NDArray[Any], form: PixelFormat, colour: YuvColour, size: Resolution, *, parity: bool
) -> NDArray[np.float32]:
    """What the stage `take_FORMAT` makes of frames in stored codes [T, ...]: float32 [T, 12, H32/2, W32/2]."""
    codes = torch.from_numpy(stored.astype(np.float32) / form.unit)
    if form.yuv:
        luma, chroma = _split(codes, form)
        x = rgb_to_pixels(planes_to_rgb(luma, chroma, colour.to_rgb(form.bits)), size, parity=parity)
    else:
        x = rgb_to_pixels(codes.permute(0, 3, 1, 2), size, parity=parity, white=(1 << form.bits) - 1)
    taken: NDArray[np.float32] = F.pixel_unshuffle(x, PIXEL_UNSHUFFLE).numpy()
    return taken


def given_codes(
    pixels: NDArray[np.float32], form: PixelFormat, colour: YuvColour, size: Resolution
) -> NDArray[np.float32]:
    """What the stage `give_FORMAT` makes of pixels [T, 12, H32/2, W32/2]: stored codes [T, ...], as numbers."""
    rgb = F.pixel_shuffle(torch.from_numpy(pixels), PIXEL_UNSHUFFLE)[:, :, : size.height, : size.width]
    most = (1 << form.bits) - 1
    if not form.yuv:
        codes = torch.round(rgb.permute(0, 2, 3, 1) * most)
    else:
        luma, chroma = rgb_to_planes(rgb, colour.from_rgb(form.bits), most)
        rows, columns = size.height // 2, size.width // 2
        last = chroma.permute(0, 2, 3, 1) if form.interleaved else chroma
        planes = luma.reshape(-1, 2, rows, 2 * columns), last.reshape(-1, 1, rows, 2 * columns)
        codes = torch.cat(planes, 1)
    given: NDArray[np.float32] = (codes * form.unit).numpy()
    return given


def _split(codes: Tensor, form: PixelFormat) -> tuple[Tensor, Tensor]:
    """Planes [T, 3, h/2, w] as luma [T, h, w] and chroma [T, 2, h/2, w/2]."""
    count, _, rows, width = codes.shape
    luma = codes[:, :2].reshape(count, 2 * rows, width)
    if form.interleaved:
        return luma, codes[:, 2].reshape(count, rows, width // 2, 2).permute(0, 3, 1, 2)
    return luma, codes[:, 2].reshape(count, 2, rows, width // 2)


def planes_to_rgb(luma: Tensor, chroma: Tensor, conversion: Conversion) -> Tensor:
    """Codes [T, h, w] and [T, 2, h/2, w/2] -> RGB in [0, 1], [T, 3, h, w]: chroma is interpolated bilinearly."""
    across, down = conversion.siting
    chroma = _sampled(_sampled(chroma, -1, across), -2, down)
    matrix, offset = (torch.from_numpy(values).to(luma.dtype) for values in (conversion.matrix, conversion.offset))
    yuv = torch.cat([luma[:, None], chroma], 1)
    return (torch.einsum("cd,tdhw->tchw", matrix, yuv) + offset[:, None, None]).clamp(0, 1)


def rgb_to_planes(rgb: Tensor, conversion: Conversion, most: int) -> tuple[Tensor, Tensor]:
    """The inverse: rounded codes from 0 to `most`. Chroma is averaged with a triangle as wide as four luma pixels."""
    across, down = conversion.siting
    matrix, offset = (torch.from_numpy(values).to(rgb.dtype) for values in (conversion.matrix, conversion.offset))
    yuv = torch.einsum("cd,tdhw->tchw", matrix, rgb) + offset[:, None, None]
    chroma = _averaged(_averaged(yuv[:, 1:], -1, across), -2, down)
    return yuv[:, 0].round().clamp(0, most), chroma.round().clamp(0, most)


def _sampled(chroma: Tensor, axis: int, siting: float) -> Tensor:
    """Twice as many samples along an axis: sample i lies at luma position 2 i + siting."""
    count = chroma.shape[axis]
    place = ((torch.arange(2 * count) - siting) / 2).clamp(0, count - 1)
    before = place.floor().long()
    shape = [-1 if axis % chroma.ndim == k else 1 for k in range(chroma.ndim)]
    share = (place - before).to(chroma.dtype).reshape(shape)
    one, other = (chroma.index_select(axis, index) for index in (before, (before + 1).clamp(max=count - 1)))
    return one * (1 - share) + other * share


def _averaged(x: Tensor, axis: int, siting: float) -> Tensor:
    """Half as many samples along an axis."""
    length = x.shape[axis]
    parts = []
    for tap in range(-1, 3):
        index = (torch.arange(0, length, 2) + tap).clamp(0, length - 1)
        parts.append(x.index_select(axis, index) * (max(0.0, 1 - abs(tap - siting) / 2) / 2))
    return torch.stack(parts).sum(0)


def mirror(length: int, padded: int) -> NDArray[np.int64]:
    """Source pixel for each of `padded` pixels, int64: reflection that does not repeat the border pixel.

    Indices, because torch's reflecting pad must be smaller than the picture, and small pictures need more.
    """
    period = max(2 * (length - 1), 1)
    folded = np.arange(padded, dtype=np.int64) % period
    return np.minimum(folded, period - folded) if length > 1 else np.zeros(padded, dtype=np.int64)
