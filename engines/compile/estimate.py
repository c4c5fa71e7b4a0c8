"""Estimates what a build will take before it starts: memory, disk and time, and the GPU memory of the result.

They serve to refuse builds that cannot work, and to say what to expect. They are not measurements: the factors were
fitted to builds with TensorRT-RTX 1.7.1 on two CPU cores (docs/engines.md).
"""

from __future__ import annotations

import json
import math
import shutil
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...errors import CheckpointError, MachineError, MisuseError, OutputError
from ...text import format_bytes
from ..bundle.manifest import Recipe
from ..bundle.targets import BYTES_PER_WEIGHT, RTX, TRT, find_target
from .memory import available_memory

_LARGEST_CARD = {RTX: 96e9, TRT: 288e9}
"""GPU memory of the largest card that each compiler builds for: RTX PRO 6000 and B300."""

_KEPT = 0.82
"""Share of the published parameters that the engines hold; rewrites turn the others into a few constants."""
_BASE_BYTES = 0.8e9
_MEMORY_PER_WEIGHT_BYTE = 2.5
_DISK_PER_WEIGHT_BYTE = 2.3
_SECONDS_PER_GB, _BASE_SECONDS = 12.0, 30.0
_ARENA_PER_PIXEL = 450
_STATE_PER_PIXEL = 231
"""Two copies of the autoencoder's state in 16 bits."""
_FRAMES_PER_PIXEL = 2 * 3
_MAX_HEADER = 1 << 27


@dataclass(frozen=True)
class Estimate:
    """Bytes and seconds of a build. gpu_bytes: GPU memory of the whole pipeline when the bundle runs."""

    weight_bytes: int
    memory_bytes: int
    disk_bytes: int
    gpu_bytes: int
    seconds: float

    def describe(self) -> str:
        """One line for the user."""
        return (
            f"estimate: about {max(self.seconds / 60, 1):.0f} min to compile, "
            f"{format_bytes(self.memory_bytes)} of memory, {format_bytes(self.disk_bytes)} of disk; "
            f"will need {format_bytes(self.gpu_bytes)} of GPU memory"
        )


def estimate(parameters: int, recipe: Recipe) -> Estimate:
    """Estimate the build of `recipe` from a checkpoint with this many parameters."""
    weights = parameters * _KEPT * BYTES_PER_WEIGHT[recipe.precision]
    size = recipe.resolution
    pixels = size.padded_width * size.padded_height
    per_pixel = _ARENA_PER_PIXEL + _STATE_PER_PIXEL + _FRAMES_PER_PIXEL * (recipe.clip_len + 4)
    return Estimate(
        weight_bytes=int(weights),
        memory_bytes=int(_BASE_BYTES + weights * _MEMORY_PER_WEIGHT_BYTE),
        disk_bytes=int(weights * _DISK_PER_WEIGHT_BYTE + 1e8),
        gpu_bytes=int(weights + pixels * per_pixel),
        seconds=_BASE_SECONDS + weights / 1e9 * _SECONDS_PER_GB,
    )


def free_disk_bytes(place: Path) -> int | None:
    """Free bytes on the disk where `place` is or will be; None if unknown."""
    while not place.exists() and place != place.parent:
        place = place.parent
    try:
        return shutil.disk_usage(place).free
    except OSError:
        return None


def check_feasible(
    expected: Estimate,
    recipe: Recipe,
    place: Path,
    *,
    available: Callable[[], int | None] = available_memory,
    free_disk: Callable[[Path], int | None] = free_disk_bytes,
) -> None:
    """Raise if the build or its result cannot fit. recipe: for a compiled target. place: where the bundle will lie.

    `MisuseError` if no card of the target has the memory, `MachineError` if this machine has too little memory, and
    `OutputError` if the disk is too full. Unknown amounts pass.
    """
    card = _LARGEST_CARD[find_target(recipe.target).compiler]
    if expected.gpu_bytes > card:
        raise MisuseError(
            f"{recipe.resolution} in {recipe.clip_len}-frame chunks would need about "
            f"{format_bytes(expected.gpu_bytes)} of GPU memory, the largest card of target {recipe.target} has "
            f"{format_bytes(card)}; choose a smaller --resolution or --clip-len"
        )
    memory = available()
    if memory is not None and memory < expected.memory_bytes:
        raise MachineError(
            f"the build would take about {format_bytes(expected.memory_bytes)} of memory, "
            f"{format_bytes(memory)} are free; close other programs, or build on a larger machine: "
            "no GPU is needed to build for an RTX target"
        )
    disk = free_disk(place)
    if disk is not None and disk < expected.disk_bytes:
        raise OutputError(
            f"{place}: the build would take about {format_bytes(expected.disk_bytes)} of disk, "
            f"{format_bytes(disk)} are free; make room, or choose another directory with -o or --cache"
        )


def count_parameters(checkpoint: Path) -> int:
    """Number of parameters of a checkpoint's networks, from the headers of its files. The prompt does not count.

    Raises `CheckpointError` if a file has no valid header.
    """
    files = [*checkpoint.glob("*.safetensors"), *(checkpoint / "transformer").glob("*.safetensors")]
    return sum(
        math.prod(entry["shape"])
        for file in files
        if file.name != "prompt_embedding.safetensors"
        for name, entry in _header(file).items()
        if name != "__metadata__"
    )


def _header(path: Path) -> dict[str, Any]:
    """The JSON header of a safetensors file, which begins with the header's length."""
    try:
        with path.open("rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
            header = json.loads(file.read(length)) if length <= _MAX_HEADER else None
        if not isinstance(header, dict):
            raise ValueError("no valid header")
        return header
    except (OSError, ValueError, struct.error) as error:
        raise CheckpointError(f"{path}: not a safetensors file ({error}); download the checkpoint again") from error
