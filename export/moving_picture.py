"""A moving picture to test with. Needs no torch, so that the runtime can be tried without it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def synthetic_frame(index: int, height: int, width: int) -> NDArray[np.uint8]:
    """Frame `index` of a moving test picture, uint8 [height, width, 3]: edges, gradients and texture at all scales."""
    y, x = np.mgrid[0:height, 0:width].astype(np.float64)
    u, v = x + 1.7 * index, y + 0.6 * index
    waves = (
        np.sin(u / 7.0) * np.cos(v / 11.0),
        np.sign(np.sin(u / 23.0 + v / 17.0)),
        np.sin((u * u + v * v) / 900.0),
    )
    levels = 127.5 + 90.0 * np.stack(waves, axis=-1) + 30.0 * np.sin(x / width * 3 + index / 9)[..., None]
    frame: NDArray[np.uint8] = np.clip(np.rint(levels), 0, 255).astype(np.uint8)
    return frame
