"""Calibration: how large the inputs of quantised products get, found by watching real frames go through.

One scale per tensor, in full precision, block by block: a block's weights are widened, all chunks go through it, and it
is let go, so that the published transformer (5 B parameters) calibrates in the memory of one block beside its files.

    {"format": 1, "checkpoint": "...", "source": "sample.mp4, 52 frames at 640x352", "percentile": 100.0,
     "largest": {"blocks.0.attention.qkv": 7.31, "blocks.0.attention.q": 12.9, ...}}

The file may be edited: a number is the magnitude that becomes the end of the format's range; what exceeds it saturates.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from hashlib import sha256
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from swiftvr_trt.engines.bundle.geometry import Resolution
from swiftvr_trt.engines.bundle.manifest import Recipe
from swiftvr_trt.errors import CheckpointError, MisuseError
from swiftvr_trt.export.network.checkpoint import Checkpoint
from swiftvr_trt.export.network.dit import widened, without_blocks
from swiftvr_trt.export.network.reference import Reference
from swiftvr_trt.runtime.stream.session import Frame

from .dit_stage import BlockStage, DitStage, condition
from .lowering import Lowering
from .precision import precision
from .rewrites import ALL

FORMAT = 1
FILE = "calibration.json"
MOST_PIXELS = 640 * 352
"""Calibration runs at a size of at most about this many pixels: scales hardly depend on the size, and time does."""
_MAX_BYTES = 1 << 24
_LOWEST_PERCENTILE = 90.0


@dataclass(frozen=True)
class Calibration:
    """largest: by name of a product's input, the magnitude that is still to be represented.

    checkpoint: digest of what was calibrated. source: which frames, in words. percentile: of the magnitudes of each
    chunk; 100 is their maximum.
    """

    checkpoint: str
    source: str
    percentile: float
    largest: Mapping[str, float]

    def to_json(self) -> str:
        return json.dumps({"format": FORMAT, **asdict(self)}, indent=1) + "\n"

    @property
    def digest(self) -> str:
        """sha256 of what decides about the engine."""
        return sha256(json.dumps(dict(self.largest), sort_keys=True).encode()).hexdigest()


def read_calibration(path: Path, recipe: Recipe) -> Calibration:
    """Read a file that was written for the checkpoint of `recipe`; `MisuseError` in one line if it is none."""
    try:
        with path.open("rb") as file:
            raw = json.loads(file.read(_MAX_BYTES))
        if raw["format"] != FORMAT:
            raise ValueError(f"format {raw['format']}, expected {FORMAT}")
        largest = {str(name): float(value) for name, value in raw["largest"].items()}
        if not all(math.isfinite(value) and value >= 0 for value in largest.values()):
            raise ValueError("a magnitude is negative or not finite")
        found = Calibration(str(raw["checkpoint"]), str(raw["source"]), float(raw["percentile"]), largest)
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise MisuseError(f"{path}: not a calibration file ({error}); make one by leaving --calibration out") from error
    if found.checkpoint != recipe.checkpoint:
        raise MisuseError(
            f"{path}: calibrated checkpoint {found.checkpoint[:12]}, this one is {recipe.checkpoint[:12]}; "
            "leave --calibration out to calibrate it"
        )
    return found


def calibration_size(width: int, height: int) -> Resolution:
    """The output size at which frames of `width x height` are watched: doubled, but not above the limit."""
    factor = min(2.0, math.sqrt(MOST_PIXELS / (width * height)))
    return Resolution(max(round(width * factor), 32), max(round(height * factor), 32))


@torch.no_grad()
def calibrate(
    checkpoint: Checkpoint,
    recipe: Recipe,
    frames: Sequence[Frame],
    source: str,
    percentile: float = 100.0,
    report: Callable[[str], None] = lambda _: None,
) -> Calibration:
    """Watch `frames` (uint8 RGB, all of one size) go through the transformer of `checkpoint`.

    Raises `MisuseError` for no frames or a percentile that makes no sense, `CheckpointError` if a magnitude is not
    finite.
    """
    if not frames or not _LOWEST_PERCENTILE <= percentile <= 100:
        raise MisuseError(
            f"calibration got {len(frames)} frames and percentile {percentile:g}; expected frames, and "
            f"{_LOWEST_PERCENTILE:g} to 100"
        )
    size = calibration_size(frames[0].shape[1], frames[0].shape[0])
    observer = _Observer(percentile)
    shape = replace(precision(recipe.precision), compute=None, stream=None)
    lowering, rewrites = Lowering(shape, observe=observer), ALL.without(recipe.without)
    reference = Reference(checkpoint, size, clip_len=recipe.clip_len, parity=recipe.parity)
    stage = DitStage(without_blocks(checkpoint.dit), checkpoint.prompt, size, recipe.latents + 1, rewrites, lowering)
    conditioning = condition(checkpoint.dit, checkpoint.prompt, rewrites)
    streams = [stage.embedded(seen) for _, seen in reference.encode(frames)]
    for layer, stored in enumerate(checkpoint.dit.blocks):
        block = BlockStage(widened(stored), conditioning, rewrites, lowering.inside(f"blocks.{layer}"))
        streams = [stage.through(block, layer, x) for x in streams]
        report(f"calibrated block {layer + 1} of {len(checkpoint.dit.blocks)}")
    _check(observer.largest, checkpoint.path)
    description = f"{source}, {len(frames)} frames at {size}"
    return Calibration(recipe.checkpoint, description, percentile, dict(sorted(observer.largest.items())))


class _Observer:
    """Keeps the largest percentile that any chunk showed."""

    def __init__(self, percentile: float) -> None:
        self.percentile, self.largest = percentile, dict[str, float]()

    def __call__(self, name: str, x: Tensor) -> None:
        value, before = magnitude(x, self.percentile), self.largest.get(name, 0.0)
        self.largest[name] = before if value <= before else value  # a NaN stays, and is found at the end


def magnitude(x: Tensor, percentile: float) -> float:
    """The percentile of |x|, the nearest value from above: what so many percent of the values do not exceed."""
    if percentile == 100 or not bool(torch.isfinite(x).all()):
        return float(x.abs().max())
    values = x.abs().flatten().numpy()
    rank = min(math.ceil(values.size * percentile / 100), values.size) - 1
    return float(np.partition(values, rank)[rank])


def _check(largest: Mapping[str, float], path: Path) -> None:
    bad = [name for name, value in largest.items() if not math.isfinite(value)]
    if bad:
        raise CheckpointError(f"{path}: {bad[0]} gets values that are not finite; the checkpoint is damaged")
