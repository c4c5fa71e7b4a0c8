"""The golden files: what the published implementation computes, and how far results may be from it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from swiftvr_trt import Resolution

LATENT_TOLERANCE = 2e-3
PIXEL_TOLERANCE = 1 / 255

_HERE = Path(__file__).parent / "oracle"
_NEXT_TO_CLONE = Path(__file__).parents[2] / "shared" / "oracle" / "golden"

STREAMS = ("stream_clip8", "stream_short_padded")
DITS = ("dit_odd_grid", "dit_1080p_grid")


@dataclass(frozen=True)
class Golden:
    """One file. meta: the generator's arguments (config, seed, prompt_len), then sizes and clip length by kind."""

    arrays: dict[str, NDArray[np.generic]]
    meta: dict[str, str]

    @property
    def checkpoint(self) -> tuple[str, int, int]:
        return self.meta["config"], int(self.meta["seed"]), int(self.meta["prompt_len"])

    @property
    def resolution(self) -> Resolution:
        height, width = map(int, self.meta["out"].split("x"))
        return Resolution(width, height)

    def chunk(self, kind: str, number: int) -> NDArray[np.float32]:
        """Latents of a chunk before (`z`) or after (`d`) the transformer, [T, C, h, w]."""
        latents: NDArray[np.float32] = self.arrays[f"{kind}{number}"][0].astype(np.float32)
        return latents

    @property
    def pixels(self) -> NDArray[np.float32]:
        """Output pixels 2, 6, 10, ... of both axes, in [0, 1]: [frames, H / 4, W / 4, 3]."""
        return self.arrays["out"].astype(np.float32)


def sample(frames: NDArray[np.generic]) -> NDArray[np.float64]:
    """The pixels of frames [frames, H, W, 3] that a golden file stores."""
    return frames[:, 2::4, 2::4].astype(np.float64)


def load_golden(name: str) -> Golden:
    path = next((p for p in (_HERE / f"{name}.npz", _NEXT_TO_CLONE / f"{name}.npz") if p.is_file()), None)
    if path is None:
        pytest.skip(f"{name}.npz was not found; it is too large for the repository")
    with np.load(path) as file:
        arrays = {key: file[key] for key in file.files}
    return Golden(arrays, dict(pair.split("=") for pair in str(arrays.pop("meta")).split()))
