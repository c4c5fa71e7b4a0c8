"""Batches for the training loop, cut from the clips that `data.py` wrote."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from swiftvr_trt.engines.geometry import Resolution
from swiftvr_trt.export.pixels import frames_in

from . import data

_SHAPES = ((1, 8, 192), (1, 12, 160), (1, 16, 128), (1, 20, 128))
"""Clips, frames and side of a square batch: each about 0.3 million pixels, half a second on one slow core."""


@dataclass(frozen=True)
class Batch:
    """Frames of `clips` clips one after another, float32 [clips * T, 3, H, W] in [0, 1].

    damaged: what the network sees. clean: what it should show. soft: the clean picture at the network's input, that
    is, without what half the size cannot carry. cuts: lengths of the chunks in latents.
    """

    clips: int
    damaged: Tensor
    clean: Tensor
    soft: Tensor
    cuts: list[int]


class Sampler:
    """Random cuts of the clips in a directory; batch number k depends on the clips there and on k alone."""

    def __init__(self, root: Path, seed: int) -> None:
        self.root, self.seed = root, seed
        self.numbers = [int(p.name[:5]) for p in sorted(root.glob("*.lr.npy"))]
        if not self.numbers:
            raise SystemExit(f"{root}: no clips; run `python -m benchmarks.demo.data` first")

    def batch(self, step: int) -> Batch:
        rng = np.random.default_rng([self.seed, step])
        clips, frames, side = _SHAPES[int(rng.integers(len(_SHAPES)))]
        pairs = [self._pair(rng)]
        height, width = pairs[0][0].shape[1:3]
        if min(height, width) < side:  # a long one: nearly whole, alone, and short
            clips, frames = 1, 12
            size = (min(height, 256), min(width, 512)) if min(height, width) == 64 else (96, 96)
        elif (height, width) == (288, 512):
            clips, frames = 1, 12
            size = (96, 320)
        else:
            size = (side, side)
        while len(pairs) < clips:
            pair = self._pair(rng)
            if pair[0].shape[1:3] == (256, 256):
                pairs.append(pair)
        cut = [self._cut(rng, *pair, frames, *size) for pair in pairs]
        damaged, clean, soft = (torch.cat(part) for part in zip(*cut, strict=True))
        return Batch(clips, damaged, clean, soft, _chunks(rng, frames // 4))

    def _pair(self, rng: np.random.Generator) -> tuple[data.Frames, data.Frames]:
        hr, lr = data.paths_of(self.root, self.numbers[int(rng.integers(len(self.numbers)))])
        return np.load(hr, mmap_mode="r"), np.load(lr, mmap_mode="r")

    def clean_clip(self, number: int) -> Tensor:
        """A whole clean clip, float32 [T, 3, H, W]."""
        return torch.from_numpy(np.load(data.paths_of(self.root, number)[0])).permute(0, 3, 1, 2).float() / 255

    @staticmethod
    def _cut(
        rng: np.random.Generator, hr: data.Frames, lr: data.Frames, frames: int, height: int, width: int
    ) -> tuple[Tensor, Tensor, Tensor]:
        start = int(rng.integers(hr.shape[0] - frames + 1))
        top = 2 * int(rng.integers((hr.shape[1] - height) // 2 + 1))
        left = 2 * int(rng.integers((hr.shape[2] - width) // 2 + 1))
        sharp = np.array(hr[start : start + frames, top : top + height, left : left + width])
        small = np.array(lr[start : start + frames, top // 2 : (top + height) // 2, left // 2 : (left + width) // 2])
        flips = [axis for axis in (1, 2) if rng.random() < 0.5]
        if rng.random() < 0.5:
            flips.append(0)  # time backwards
        sharp, small = (np.ascontiguousarray(np.flip(part, tuple(flips))) for part in (sharp, small))
        size = Resolution(width, height)
        clean = torch.from_numpy(sharp).permute(0, 3, 1, 2).float() / 255
        return frames_in(torch.from_numpy(small), size, parity=False), clean, soften(clean)


def soften(clean: Tensor) -> Tensor:
    """Half the size and back, as an undamaged input would arrive."""
    half = torch.nn.functional.avg_pool2d(clean, 2)
    return torch.nn.functional.interpolate(half, scale_factor=2, mode="bilinear", align_corners=False)


def _chunks(rng: np.random.Generator, latents: int) -> list[int]:
    """All latents in one chunk, or in two."""
    if latents < 4 or rng.random() < 0.5:
        return [latents]
    first = int(rng.integers(2, latents - 1))
    return [first, latents - first]
