"""Picture quality: a uint8 RGB clip [T, H, W, 3] against the clean clip of the same shape.

psnr             dB over the three channels, mean over frames
ssim             of the luma: 11x11 Gaussian window of 1.5 pixels, mean over frames (Wang et al., 2004)
temporal_error   mean absolute difference between the clip's change from frame to frame and the clean clip's, in 8-bit
                 luma steps. Flicker, swimming and lag raise it; 0 is perfect
chunk_seam       the temporal error at chunk borders, divided by that four frames to either side; 1 is invisible
window_seam      the jump of the error across window borders, divided by that across other token borders; 1 is invisible
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

Clip = NDArray[np.uint8]
_LUMA = np.array([0.299, 0.587, 0.114], dtype=np.float32)


def as_clip(x: torch.Tensor) -> Clip:
    """float [T, 3, H, W] in 0 ... 255 -> uint8 [T, H, W, 3], rounded."""
    clip: Clip = np.ascontiguousarray(x.round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1).numpy())
    return clip


def luma(clip: Clip) -> NDArray[np.float32]:
    """float32 [T, H, W] in 0 ... 255."""
    y: NDArray[np.float32] = clip.astype(np.float32) @ _LUMA
    return y


def psnr(shown: Clip, clean: Clip) -> float:
    difference = shown.astype(np.float32) - clean
    error = np.maximum(np.square(difference).mean(axis=(1, 2, 3)), 1e-6)
    return float(np.mean(10 * np.log10(255**2 / error)))


def ssim(shown: Clip, clean: Clip) -> float:
    at = torch.arange(11, dtype=torch.float32) - 5
    kernel = torch.exp(-(at**2) / (2 * 1.5**2))
    kernel = kernel / kernel.sum()

    def smooth(x: torch.Tensor) -> torch.Tensor:
        return F.conv2d(F.conv2d(x, kernel.view(1, 1, 11, 1)), kernel.view(1, 1, 1, 11))

    values = []
    for a, b in zip(luma(shown), luma(clean), strict=True):
        x, y = torch.from_numpy(a)[None, None], torch.from_numpy(b)[None, None]
        mx, my = smooth(x), smooth(y)
        vx, vy, cov = smooth(x * x) - mx * mx, smooth(y * y) - my * my, smooth(x * y) - mx * my
        c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
        values.append(float((((2 * mx * my + c1) * (2 * cov + c2)) / ((mx**2 + my**2 + c1) * (vx + vy + c2))).mean()))
    return float(np.mean(values))


def temporal_steps(shown: Clip, clean: Clip) -> NDArray[np.float32]:
    """[T - 1]: the temporal error between each frame and the next."""
    steps: NDArray[np.float32] = np.abs(np.diff(luma(shown) - luma(clean), axis=0)).mean(axis=(1, 2))
    return steps


def temporal_error(shown: Clip, clean: Clip) -> float:
    return float(temporal_steps(shown, clean).mean())


def chunk_seam(shown: Clip, clean: Clip, borders: Sequence[int], period: int = 4) -> float:
    """borders: first frames of all chunks but the first. Compared at a distance of one latent, which is four frames."""
    steps = temporal_steps(shown, clean)
    inside = [b for b in borders if period < b < len(steps) - period + 1]
    at = [float(steps[b - 1]) for b in inside]
    nearby = [float(steps[b - 1 - period] + steps[b - 1 + period]) / 2 for b in inside]
    return sum(at) / sum(nearby) if at else float("nan")


def window_seam(shown: Clip, clean: Clip, columns: Sequence[int], rows: Sequence[int], token: int = 32) -> float:
    """columns, rows: first pixels behind a window border. All other multiples of `token` are the comparison."""
    error = luma(shown) - luma(clean)
    at: list[float] = []
    elsewhere: list[float] = []
    for axis, borders in ((2, columns), (1, rows)):
        jumps = np.abs(np.diff(error, axis=axis)).mean(axis=tuple({0, 1, 2} - {axis}))
        for edge in range(token, error.shape[axis], token):
            (at if edge in borders else elsewhere).append(float(jumps[edge - 1]))
    return float(np.mean(at) / np.mean(elsewhere)) if at and elsewhere else float("nan")
