"""Calibration: the largest inputs of quantised products, measured on real frames.

Each tensor gets one number, measured in full precision. The network is run block by block: a block's weights are
widened, every chunk passes through it, and it is released. The published transformer (5 B parameters) therefore needs
memory for its files and one widened block.

    {"format": 1, "checkpoint": "...", "source": "sample.mp4, 52 frames at 640x352", "percentile": 100.0,
     "largest": {"blocks.0.attention.qkv": 7.31, "blocks.0.attention.q": 12.9, ...}}

The file may be edited. A number is the magnitude mapped to the end of the format's range; larger values saturate.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from hashlib import sha256
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ...engines.bundle.files import sha256 as file_sha256
from ...engines.bundle.geometry import FRAMES_PER_LATENT, Resolution
from ...engines.bundle.manifest import Recipe
from ...errors import CheckpointError, MisuseError
from ...runtime.media import Picture, open_source
from ...runtime.stream.session import Frame
from ...text import LineCallback
from ..network.checkpoint import Checkpoint
from ..network.dit import widened, without_blocks
from ..network.reference import Reference
from .conditioning import condition
from .dit_stage import BlockStage, DitStage
from .layers import LayerFactory
from .precision import Precision
from .rewrites import ALL

CALIBRATION_FILE = "calibration.json"
SAMPLE_CLIP = Path(__file__).parent.with_name("sample.mp4")
"""Part of Big Buck Bunny; `sample.md` next to it gives source and licence."""
DEFAULT_PERCENTILE = 100.0
LOWEST_PERCENTILE = 90.0
MOST_PIXELS = 640 * 352
"""Calibration restores to about this many pixels at most. The numbers hardly depend on the size; the time does."""
_FORMAT = 1
_MAX_BYTES = 1 << 24


@dataclass(frozen=True)
class Calibration:
    """The largest inputs of a checkpoint's quantised products.

    checkpoint: its digest. source: the frames used, in words. percentile: of the magnitudes in each chunk; 100 is their
    maximum. largest: by name of a product's input, the largest magnitude to represent.
    """

    checkpoint: str
    source: str
    percentile: float
    largest: Mapping[str, float]

    def to_json(self) -> str:
        return json.dumps({"format": _FORMAT, **asdict(self)}, indent=1) + "\n"


@dataclass(frozen=True)
class CalibrationSource:
    """Where a build gets its calibration.

    file: written by an earlier calibration. clip: video to calibrate on if there is no file; None takes the sample
    clip. Raises `MisuseError` if a file comes with a clip or a percentile.
    """

    file: Path | None = None
    clip: Path | None = None
    percentile: float = DEFAULT_PERCENTILE

    def __post_init__(self) -> None:
        if self.file is not None and (self.clip is not None or self.percentile != DEFAULT_PERCENTILE):
            raise MisuseError("a calibration file already holds the scales; pass it without a clip or a percentile")

    @property
    def identity(self) -> str:
        """sha256 that goes into the recipe: builds with the same identity and checkpoint have the same scales.

        Raises `MisuseError` if the file or clip does not exist.
        """
        path = self.file or self.clip or SAMPLE_CLIP
        if not path.is_file():
            raise MisuseError(f"{path} does not exist, expected a calibration file or a video to calibrate on")
        text = f"{'file' if self.file else 'clip'} {file_sha256(path)} {self.percentile:g}"
        return sha256(text.encode()).hexdigest()

    def obtain(self, checkpoint: Checkpoint, recipe: Recipe, report: LineCallback) -> Calibration:
        """Read the file, or calibrate on the clip; `report` gets a line per finished step."""
        if self.file is not None:
            return read_calibration(self.file, recipe)
        clip = self.clip or SAMPLE_CLIP
        if self.clip is None:
            report("calibrating on the built-in sample clip; use --calibration-clip for one of your own")
        # Enough for a FIRST and a MIDDLE chunk.
        frames = _first_frames(clip, 2 * recipe.clip_len + FRAMES_PER_LATENT)
        return calibrate(checkpoint, recipe, frames, clip.name, self.percentile, report)


def read_calibration(path: Path, recipe: Recipe) -> Calibration:
    """Read a calibration file. Raises `MisuseError` if it is malformed or belongs to another checkpoint."""
    try:
        with path.open("rb") as file:
            raw = json.loads(file.read(_MAX_BYTES))
        if raw["format"] != _FORMAT:
            raise ValueError(f"format {raw['format']}, expected {_FORMAT}")
        largest = {str(name): float(value) for name, value in raw["largest"].items()}
        if not all(math.isfinite(value) and value >= 0 for value in largest.values()):
            raise ValueError("a magnitude is negative or not finite")
        found = Calibration(str(raw["checkpoint"]), str(raw["source"]), float(raw["percentile"]), largest)
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise MisuseError(f"{path}: not a calibration file ({error}); omit --calibration to make one") from error
    if found.checkpoint != recipe.checkpoint:
        raise MisuseError(
            f"{path}: made for checkpoint {found.checkpoint[:12]}, this one is {recipe.checkpoint[:12]}; "
            "omit --calibration to calibrate it"
        )
    return found


def calibration_size(width: int, height: int) -> Resolution:
    """Output size for frames of `width x height`: doubled, but at most about `MOST_PIXELS`."""
    factor = min(2.0, math.sqrt(MOST_PIXELS / (width * height)))
    return Resolution(max(round(width * factor), 32), max(round(height * factor), 32))


@torch.no_grad()
def calibrate(
    checkpoint: Checkpoint,
    recipe: Recipe,
    frames: Sequence[Frame],
    source: str,
    percentile: float = DEFAULT_PERCENTILE,
    report: LineCallback = lambda _: None,
) -> Calibration:
    """Run `frames` (uint8 RGB [h, w, 3], all of one size) through the transformer and measure the inputs of products.

    source: name of the clip, for the file. Raises `MisuseError` if there are no frames or the percentile is out of
    range, `CheckpointError` if a magnitude is not finite.
    """
    if not frames or not LOWEST_PERCENTILE <= percentile <= 100:
        raise MisuseError(
            f"calibration got {len(frames)} frames and percentile {percentile:g}, expected at least one frame and "
            f"a percentile from {LOWEST_PERCENTILE:g} to 100"
        )
    size = calibration_size(frames[0].shape[1], frames[0].shape[0])
    observer = _LargestSeen(percentile)
    full = replace(Precision.named(recipe.precision), compute=None, stream=None)
    factory, rewrites = LayerFactory(full, observe=observer), ALL.without(recipe.without)
    reference = Reference(checkpoint, size, clip_len=recipe.clip_len, parity=recipe.parity)
    stage = DitStage(without_blocks(checkpoint.dit), checkpoint.prompt, size, recipe.latents + 1, rewrites, factory)
    conditioning = condition(checkpoint.dit, checkpoint.prompt, rewrites)
    streams = [stage.embedded(seen) for _, seen in reference.encode(frames)]
    for layer, stored in enumerate(checkpoint.dit.blocks):
        block = BlockStage(widened(stored), conditioning, rewrites, factory.inside(f"blocks.{layer}"))
        streams = [stage.through(block, layer, x) for x in streams]
        report(f"calibrated block {layer + 1} of {len(checkpoint.dit.blocks)}")
    _require_finite(observer.largest, checkpoint.path)
    description = f"{source}, {len(frames)} frames at {size}"
    return Calibration(recipe.checkpoint, description, percentile, dict(sorted(observer.largest.items())))


class _LargestSeen:
    """By name, the largest value of the percentile in any chunk."""

    def __init__(self, percentile: float) -> None:
        self.percentile, self.largest = percentile, dict[str, float]()

    def __call__(self, name: str, x: Tensor) -> None:
        value, before = magnitude(x, self.percentile), self.largest.get(name, 0.0)
        self.largest[name] = before if value <= before else value  # keeps a NaN, which `_require_finite` reports


def magnitude(x: Tensor, percentile: float) -> float:
    """The smallest |value| of x that `percentile` percent of the values do not exceed. Not finite if x is not."""
    if percentile == 100 or not bool(torch.isfinite(x).all()):
        return float(x.abs().max())
    values = x.abs().flatten().numpy()
    rank = min(math.ceil(values.size * percentile / 100), values.size) - 1
    return float(np.partition(values, rank)[rank])


def _require_finite(largest: Mapping[str, float], path: Path) -> None:
    bad = [name for name, value in largest.items() if not math.isfinite(value)]
    if bad:
        raise CheckpointError(f"{path}: the input of {bad[0]} is not finite; the checkpoint is damaged")


def _first_frames(path: Path, count: int) -> list[Frame]:
    with open_source(path) as source:
        return list(islice((item.pixels for item in source if isinstance(item, Picture)), count))
