"""Pixels at both ends of the network: uint8 frames of any size in, uint8 frames of the output size out.

    in    uint8 [T, h, w, 3] RGB -> float, bilinear resize to the output size (half-pixel centres, no antialias),
          / 255, padded on the right and bottom to a multiple of 32 -> float32 [T, 3, H32, W32] in [0, 1]
    out   float32 [T, 3, H32, W32] -> cropped, * 255, rounded -> uint8 [T, H, W, 3]

The padding mirrors the picture, so that its border has plausible neighbours. The published SwiftVR code (arXiv
2606.09516) pads with black and truncates instead of rounding; `parity` follows it in the padding.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from ...engines.bundle.geometry import Resolution


def frames_to_pixels(frames: Tensor, size: Resolution, *, parity: bool) -> Tensor:
    """uint8 [T, h, w, 3] -> float32 [T, 3, H32, W32] in [0, 1]."""
    x = frames.float().permute(0, 3, 1, 2)  # first, because TensorRT takes uint8 at the boundary only
    x = F.interpolate(x, (size.height, size.width), mode="bilinear", align_corners=False, antialias=False) / 255
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


def mirror(length: int, padded: int) -> NDArray[np.int64]:
    """Source pixel for each of `padded` pixels, int64: reflection that does not repeat the border pixel.

    Indices, because torch's reflecting pad must be smaller than the picture, and small pictures need more.
    """
    period = max(2 * (length - 1), 1)
    folded = np.arange(padded, dtype=np.int64) % period
    return np.minimum(folded, period - folded) if length > 1 else np.zeros(padded, dtype=np.int64)
