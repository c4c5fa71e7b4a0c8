"""Where a build gets its scales from: a file written earlier, a clip, or the sample that comes with the tool."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256
from itertools import islice
from pathlib import Path

from swiftvr_trt.engines.bundle.files import sha256 as sha256_of
from swiftvr_trt.engines.bundle.geometry import FRAMES_PER_LATENT
from swiftvr_trt.engines.bundle.manifest import Recipe
from swiftvr_trt.errors import MisuseError
from swiftvr_trt.export.network.checkpoint import Checkpoint
from swiftvr_trt.runtime.media import Picture, open_source
from swiftvr_trt.runtime.stream.session import Frame

from .calibration import Calibration, calibrate, read_calibration

SAMPLE = Path(__file__).parent.with_name("sample.mp4")
"""A part of Big Buck Bunny, see `sample.md` beside it."""
PERCENTILE = 100.0


@dataclass(frozen=True)
class Scales:
    """file: from `Calibration.to_json`. clip: what to watch, if there is no file; None takes the sample.

    `identity` goes into the recipe: two builds of one identity and one checkpoint have the same scales.
    """

    file: Path | None = None
    clip: Path | None = None
    percentile: float = PERCENTILE

    def __post_init__(self) -> None:
        if self.file is not None and (self.clip is not None or self.percentile != PERCENTILE):
            raise MisuseError("a calibration file holds the scales: expected it without a clip and a percentile")

    @property
    def identity(self) -> str:
        """sha256 over what the scales follow from."""
        source = self.file or self.clip or SAMPLE
        if not source.is_file():
            raise MisuseError(f"{source} does not exist, expected a calibration file or a video to calibrate on")
        text = f"{'file' if self.file else 'clip'} {sha256_of(source)} {self.percentile:g}"
        return sha256(text.encode()).hexdigest()

    def find(self, checkpoint: Checkpoint, recipe: Recipe, report: Callable[[str], None]) -> Calibration:
        """Read the file, or calibrate."""
        if self.file is not None:
            return read_calibration(self.file, recipe)
        clip = self.clip or SAMPLE
        if self.clip is None:
            report("calibrating on the sample clip that comes with the tool; --calibration-clip takes one of yours")
        # A FIRST and a MIDDLE chunk.
        frames = _frames(clip, 2 * recipe.clip_len + FRAMES_PER_LATENT)
        return calibrate(checkpoint, recipe, frames, clip.name, self.percentile, report)


def _frames(path: Path, count: int) -> list[Frame]:
    with open_source(path) as source:
        return list(islice((item.pixels for item in source if isinstance(item, Picture)), count))
