"""Clips for the tests of the CUDA device. The CPU device restores them to get the expected frames."""

from __future__ import annotations

import numpy as np

from swiftvr_trt.runtime.stream.session import Frame

OUT = (32, 48)
"""Height and width of restored frames."""
CLIP_LEN = 4
CLIPS = {
    # frames, height, width, seed
    "long": (26, 21, 27, 1),  # several MIDDLE chunks; at this size slots are not aligned
    "short": (3, 21, 27, 2),  # LAST alone
    "edges": (9, 21, 27, 3),  # FIRST and LAST
    "even": (17, *OUT, 4),  # slots are aligned
    "endless": (8 + 40 * CLIP_LEN, 21, 27, 5),
}


def clip(name: str) -> list[Frame]:
    """The frames of a clip, uint8 [H, W, 3]. No two are equal."""
    frames, height, width, seed = CLIPS[name]
    generator = np.random.default_rng(seed)
    scene = generator.integers(0, 256, (height, width, 3), np.uint8)
    return [np.roll(scene, index, axis=1) // 2 + np.uint8(3 * index % 128) for index in range(frames)]
