"""How much GPU memory a bundle will take, and how many parameters a checkpoint has: estimates before anything is built.

The factors were fitted to engines of TensorRT-RTX 1.7.1 (docs/engines.md); a bundle that is there has an exact plan.
Graphs on a GPU are counted as the least that ONNX Runtime can do with (docs/decisions.md, 63); nobody has measured it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

from ...errors import CheckpointError
from ...outside import Door, read_safetensors_shapes
from .geometry import Resolution
from .targets import BYTES_PER_WEIGHT, Target

PUBLISHED_PARAMETERS = 5_040_000_000
"""Of the published checkpoint: transformer and autoencoder."""
_KEPT = 0.82
"""Share of the published parameters that a bundle holds; rewrites turn the others into a few constants."""
_ARENA_PER_PIXEL = 450
_ORT_TRANSFORMERS = 2
"""ONNX Runtime loads the transformer for each length of a chunk, since its graphs have one shape and a session each."""
_ORT_ARENAS_PER_PIXEL = 946
"""The sum over stages, each of which has an arena of its own there (`vet_graph`, fp16, chunks of 24)."""
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
    parameters: int, size: Resolution, target: Target, precision: str, clip_len: int = 24, *, overlap: bool = False
) -> int:
    """GPU memory of the whole pipeline with one stream that comes in at the size it goes out.

    overlap: chunks are decoded beside the work on the next ones.
    """
    pixels = size.padded_width * size.padded_height
    widths = 2 if precision == "fp32" else 1  # of activations, in units of 16 bits
    arena, copies = (_ARENA_PER_PIXEL, 1) if target.compiled else (_ORT_ARENAS_PER_PIXEL, _ORT_TRANSFORMERS)
    per_pixel = widths * (arena + _STATE_PER_PIXEL) + _FRAMES_PER_PIXEL * (clip_len + 4)
    per_pixel += overlap * _OVERLAP_PER_PIXEL
    return int(copies * expected_weight_bytes(parameters, precision) + pixels * per_pixel)


def gpu_bytes_by_target(
    parameters: int, size: Resolution, clip_len: int, *, overlap: bool = False
) -> Callable[[Target, str], int]:
    """`expected_gpu_bytes` of any target and precision, for `auto`."""
    return lambda target, precision: expected_gpu_bytes(parameters, size, target, precision, clip_len, overlap=overlap)


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
