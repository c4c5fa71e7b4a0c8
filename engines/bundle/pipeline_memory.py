"""How much GPU memory a bundle will take, and how many parameters a checkpoint has: estimates before anything is built.

The factors were fitted to engines of TensorRT-RTX 1.7.1 (docs/engines.md); a bundle that is there has an exact plan.
"""

from __future__ import annotations

import math
from pathlib import Path

from ...errors import CheckpointError
from ...outside import Door, read_safetensors_shapes
from .geometry import Resolution
from .targets import BYTES_PER_WEIGHT

PUBLISHED_PARAMETERS = 5_040_000_000
"""Of the published checkpoint: transformer and autoencoder."""
_KEPT = 0.82
"""Share of the published parameters that a bundle holds; rewrites turn the others into a few constants."""
_ARENA_PER_PIXEL = 450
_STATE_PER_PIXEL = 231
"""Two copies of the autoencoder's state in 16 bits."""
_OVERLAP_PER_PIXEL = 165
"""The decoder's own arena, and decoded pixels that wait for the transformer."""
_FRAMES_PER_PIXEL = 2 * 3
_DOOR = Door("safetensors file", CheckpointError, "download the checkpoint again", max_bytes=1 << 40)


def expected_weight_bytes(parameters: int, precision: str) -> float:
    """Bytes of the weights of a bundle."""
    return parameters * _KEPT * BYTES_PER_WEIGHT[precision]


def expected_gpu_bytes(
    parameters: int, size: Resolution, clip_len: int, precision: str, *, overlap: bool = False
) -> int:
    """GPU memory of the whole pipeline with one stream that comes in at the size it goes out.

    overlap: chunks are decoded beside the work on the next ones.
    """
    pixels = size.padded_width * size.padded_height
    widths = 2 if precision == "fp32" else 1  # of activations, in units of 16 bits
    per_pixel = widths * (_ARENA_PER_PIXEL + _STATE_PER_PIXEL) + _FRAMES_PER_PIXEL * (clip_len + 4)
    per_pixel += overlap * _OVERLAP_PER_PIXEL
    return int(expected_weight_bytes(parameters, precision) + pixels * per_pixel)


def count_parameters(checkpoint: Path) -> int:
    """Number of parameters of a checkpoint's networks, from the headers of its files. The prompt does not count.

    Raises `CheckpointError` if a file has no valid header.
    """
    files = [*checkpoint.glob("*.safetensors"), *(checkpoint / "transformer").glob("*.safetensors")]
    return sum(
        math.prod(shape)
        for file in files
        if file.name != "prompt_embedding.safetensors"
        for shape in read_safetensors_shapes(file, _DOOR).values()
    )
