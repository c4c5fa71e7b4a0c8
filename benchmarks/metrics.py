"""Picture quality: a uint8 RGB clip [T, H, W, 3] against the clean clip of the same shape.

mean_...        of the frames' figures in `suite/likeness.py`: PSNR, SSIM and temporal error
chunk_seam       the temporal error at chunk borders, divided by that four frames to either side; 1 is invisible
window_seam      the jump of the error across window borders, divided by that across other token borders; 1 is invisible
"""

from __future__ import annotations

from collections.abc import Sequence
from statistics import mean

import numpy as np
import torch
from numpy.typing import NDArray

from swiftvr_trt.benchmarks.suite.likeness import LUMA, frame_psnrs, frame_ssims, temporal_errors

Clip = NDArray[np.uint8]


def as_clip(x: torch.Tensor) -> Clip:
    """float [T, 3, H, W] in 0 ... 255 -> uint8 [T, H, W, 3], rounded."""
    clip: Clip = np.ascontiguousarray(x.round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1).numpy())
    return clip


def luma(clip: Clip) -> NDArray[np.float32]:
    """float32 [T, H, W] in 0 ... 255."""
    y: NDArray[np.float32] = clip.astype(np.float32) @ LUMA
    return y


def mean_psnr(shown: Clip, clean: Clip) -> float:
    return mean(frame_psnrs(list(shown), list(clean)))


def mean_ssim(shown: Clip, clean: Clip) -> float:
    return mean(frame_ssims(list(shown), list(clean)))


def mean_temporal_error(shown: Clip, clean: Clip) -> float:
    return mean(temporal_errors(list(shown), list(clean)))


def chunk_seam(shown: Clip, clean: Clip, borders: Sequence[int], period: int = 4) -> float:
    """borders: first frames of all chunks but the first. Compared at a distance of one latent, which is four frames."""
    steps = temporal_errors(list(shown), list(clean))
    inside = [b for b in borders if period < b < len(steps) - period + 1]
    at = [steps[b - 1] for b in inside]
    nearby = [(steps[b - 1 - period] + steps[b - 1 + period]) / 2 for b in inside]
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
