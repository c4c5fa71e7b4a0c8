"""Batches for the training loop, cut from the clips that `data.py` wrote."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from swiftvr_trt.engines.bundle.geometry import Resolution
from swiftvr_trt.export.network.pixels import frames_to_pixels

from . import data, degrade

_NOISE = 0.6
"""Share of the parts that get new noise instead of the noise of a compressed version."""
Shape = tuple[int, int, int]
"""Clips, frames and side of a square batch."""


@dataclass(frozen=True)
class Batch:
    """Frames of `clips` clips one after another, float32 [clips * T, 3, H, W] in [0, 1].

    damaged     what the network sees
    clean       what it should show
    """

    clips: int
    damaged: Tensor
    clean: Tensor


class Sampler:
    """Random parts of the clips in a directory. Batch number k depends only on these clips and on k."""

    def __init__(self, root: Path, seed: int) -> None:
        self.root, self.seed = root, seed
        self.numbers = [int(p.name[:5]) for p in sorted(root.glob("*.lr0.npy"))]
        if not self.numbers:
            raise SystemExit(f"{root}: no clips found: run `python -m benchmarks.demo.data` first")

    def batch(self, number: int, shape: Shape) -> Batch:
        return self.draw(np.random.default_rng([self.seed, number]), *shape)

    def draw(self, rng: np.random.Generator, clips: int, frames: int, side: int, *, photos: bool = False) -> Batch:
        """A batch of this shape. photos: of photographs only."""
        numbers = [n for n in self.numbers if not (photos and data.is_video(n))]
        cut = [
            _cut(rng, self._clip(rng, numbers), frames, side, noise=bool(rng.random() < _NOISE)) for _ in range(clips)
        ]
        damaged, clean = (torch.cat(part) for part in zip(*cut, strict=True))
        return Batch(clips, damaged, clean)

    def _clip(self, rng: np.random.Generator, numbers: Sequence[int]) -> list[data.Frames]:
        """Clean, halved and damaged frames of one of these clips."""
        number, version = numbers[int(rng.integers(len(numbers)))], int(rng.integers(data.VERSIONS))
        paths = data.paths_of(self.root, number, version)
        return [np.load(path, mmap_mode="r") for path in paths]


def _cut(
    rng: np.random.Generator, clip: list[data.Frames], frames: int, side: int, *, noise: bool
) -> tuple[Tensor, Tensor]:
    """Damaged and clean frames of a random square part of a clip, flipped at random."""
    large = clip[0]
    start = int(rng.integers(large.shape[0] - frames + 1))
    top = 2 * int(rng.integers((large.shape[1] - side) // 2 + 1))
    left = 2 * int(rng.integers((large.shape[2] - side) // 2 + 1))
    flips = [axis for axis in (1, 2) if rng.random() < 0.5]
    if rng.random() < 0.5:
        flips.append(0)  # time backwards

    def part(frames_in: data.Frames) -> Tensor:
        scale = large.shape[1] // frames_in.shape[1]
        rows, columns = (slice(at // scale, (at + side) // scale) for at in (top, left))
        cut = np.array(frames_in[start : start + frames, rows, columns])
        return torch.from_numpy(np.ascontiguousarray(np.flip(cut, tuple(flips))))

    damaged = part(clip[2])
    if noise:
        halved = part(clip[1]).float().numpy()
        damaged = torch.from_numpy(degrade.add_noise(halved, degrade.draw_noise(rng), rng))
    clean = part(clip[0]).permute(0, 3, 1, 2).float() / 255
    return frames_to_pixels(damaged, Resolution(side, side), parity=False), clean
