"""Calibration: the largest inputs of quantised products, measured on real frames.

Each tensor gets one number, measured in full precision. The network is run block by block: a block's weights are
widened, every chunk passes through it, and it is released. The published transformer (5 B parameters) therefore needs
memory for its files and one widened block. `engines/bundle/calibration` describes the file that the numbers go into.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from itertools import islice
from pathlib import Path

import torch
from torch import Tensor, nn

from ...engines.bundle.calibration import LOWEST_PERCENTILE, Calibration, Int8Scales
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
from .calibration_file import read_fitting_calibration
from .conditioning import condition
from .convolutions import choose_convolutions, observed_convolutions
from .dit_stage import BlockStage, DitStage
from .int8_search import Int8Search, channel_magnitudes
from .layers import LayerFactory, Observed
from .precision import Precision
from .rewrites import ALL, Affine

SAMPLE_CLIP = Path(__file__).parent.with_name("sample.mp4")
"""Part of Big Buck Bunny; `sample.md` next to it gives source and licence."""
DEFAULT_PERCENTILE = 100.0
MOST_PIXELS = 640 * 352
"""Calibration restores to about this many pixels at most. The numbers hardly depend on the size; the time does."""
_PATCH_SIDE, _PATCH_LATENTS = 6, 2
"""In latents: the part of the first chunk on which the convolutions of the decoder are tried, one by one."""


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
            return read_fitting_calibration(self.file, checkpoint, recipe)
        clip = self.clip or SAMPLE_CLIP
        if self.clip is None:
            report("calibrating on the built-in sample clip; use --calibration-clip for one of your own")
        # Enough for a FIRST and a MIDDLE chunk.
        frames = _first_frames(clip, 2 * recipe.clip_len + FRAMES_PER_LATENT)
        return calibrate(checkpoint, recipe, frames, clip.name, self.percentile, report)


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
    full = Precision.named(recipe.precision).exact()
    observer = _Observer(percentile, int8=full.linears == "int8")
    factory, rewrites = LayerFactory(full, observe=observer), ALL.without(recipe.without)
    reference = Reference(checkpoint, size, clip_len=recipe.clip_len, parity=recipe.parity)
    stage = DitStage(without_blocks(checkpoint.dit), checkpoint.prompt, size, recipe.latents + 1, rewrites, factory)
    conditioning = condition(checkpoint.dit, checkpoint.prompt, rewrites)
    chunks = list(reference.encode(frames))
    streams = [stage.embedded(seen) for _, seen in chunks]
    for layer, stored in enumerate(checkpoint.dit.blocks):
        block = BlockStage(widened(stored), conditioning, rewrites, factory.inside(f"blocks.{layer}"))
        observer.begin(block)
        streams = [stage.through(block, layer, x) for x in streams]
        _require_finite(observer.largest, checkpoint.path)
        observer.finish()
        report(f"calibrated {layer + 1} of {len(checkpoint.dit.blocks)}")
    if recipe.autoencoder:
        restored = (stage.restored(x, seen)[chunk.context :] for x, (chunk, seen) in zip(streams, chunks, strict=True))
        observer.int8 |= _calibrate_decoder(checkpoint, torch.cat(list(restored)), percentile)
        report("calibrated the decoder")
    description = f"{source}, {len(frames)} frames at {size}"
    largest, int8 = dict(sorted(observer.largest.items())), dict(sorted(observer.int8.items()))
    return Calibration(recipe.checkpoint, description, percentile, largest, int8)


def _calibrate_decoder(checkpoint: Checkpoint, restored: Tensor, percentile: float) -> dict[str, Int8Scales]:
    """Decode a stream, then choose the convolutions that are computed in INT8. restored: its latents, [k, C, h, w]."""
    decoder, seen = checkpoint.reae.decoder, _Observer(percentile, int8=False)
    state = decoder.initial_state(*restored.shape[2:])
    with observed_convolutions(decoder, seen):
        for latent in restored.split(1):
            _, state = decoder(latent, state)
    _require_finite(seen.largest, checkpoint.path)
    top, left = (max(0, (side - _PATCH_SIDE) // 2) for side in restored.shape[2:])
    patch = restored[:_PATCH_LATENTS, :, top : top + _PATCH_SIDE, left : left + _PATCH_SIDE]
    return choose_convolutions(decoder, patch, seen.largest)


class _Observer:
    """What calibration finds. largest: by name, the largest value of the percentile in any chunk. int8: by linear."""

    def __init__(self, percentile: float, *, int8: bool) -> None:
        """int8: search the scales of linears in INT8, too."""
        self.percentile, self.searches_int8 = percentile, int8
        self.largest, self.int8 = dict[str, float](), dict[str, Int8Scales]()
        self._searches = dict[str, Int8Search]()

    def __call__(self, name: str, x: Tensor) -> None:
        value, before = magnitude(x, self.percentile), self.largest.get(name, 0.0)
        self.largest[name] = before if value <= before else value  # keeps a NaN, which `_require_finite` reports
        if name in self._searches:
            self._searches[name].see(x)

    def begin(self, block: nn.Module) -> None:
        """Watch the linears of a block, which no longer hold weights after `finish`."""
        for part in block.modules() if self.searches_int8 else ():
            if isinstance(part, Observed) and isinstance(part.module, nn.Linear):
                self._searches[part.names[0]] = Int8Search(Affine.of(part.module), self.percentile)

    def finish(self) -> None:
        """Choose the scales of the block's linears."""
        while self._searches:
            name, search = self._searches.popitem()
            self.int8[name] = search.choose()


def magnitude(x: Tensor, percentile: float) -> float:
    """The smallest |value| of x that `percentile` percent of the values do not exceed. Not finite if x is not."""
    if percentile == 100 or not bool(torch.isfinite(x).all()):
        return float(x.abs().max())
    return float(channel_magnitudes(x.reshape(-1, 1), percentile))


def _require_finite(largest: Mapping[str, float], path: Path) -> None:
    bad = [name for name, value in largest.items() if not math.isfinite(value)]
    if bad:
        raise CheckpointError(f"{path}: the input of {bad[0]} is not finite; the checkpoint is damaged")


def _first_frames(path: Path, count: int) -> list[Frame]:
    with open_source(path) as source:
        return list(islice((item.pixels for item in source if isinstance(item, Picture)), count))
