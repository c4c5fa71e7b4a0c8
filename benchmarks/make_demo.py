"""`make demo`: export a model, restore the sample clip, and draw before and after side by side.

The model is the small trained one in `export/demo` (docs/demo-model.md), not SwiftVR's published one.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import av
import click
import numpy as np
from numpy.typing import NDArray

from swiftvr_trt.runtime.media.colour import converted

from .pictures import write_picture

ROOT = Path(__file__).resolve().parent.parent
SAMPLE = ROOT / "export" / "sample.mp4"
DEMO = ROOT / "export" / "demo"
FRAME = 30
"""Which frame the picture shows."""


@click.command()
@click.option("--out", type=click.Path(path_type=Path), default=ROOT / "demo-output", help="Folder for the results.")
def main(out: Path) -> None:
    """Restore the sample clip and draw a frame before and after."""
    out.mkdir(parents=True, exist_ok=True)
    video, picture = out / "restored.mp4", out / "before-after.png"
    # The first run exports the checkpoint and builds a bundle for the CPU; later runs reuse it.
    _run("run", str(SAMPLE), str(video), "--checkpoint", str(DEMO), "--upscale", "2", "--overwrite")
    draw(SAMPLE, video, picture)
    click.echo(f"\nrestored clip:      {_shown(video)}\nbefore and after:   {_shown(picture)}")
    click.echo("Made by the demonstration model (7.9 MB), which comes nowhere near SwiftVR's published weights.")


def draw(before: Path, after: Path, path: Path, index: int = FRAME) -> None:
    """Draw one frame: on the left the input, enlarged bicubically, on the right the restored frame."""
    right = _frame(after, index)
    left = _frame(before, index, size=(right.shape[1], right.shape[0]))
    both = np.concatenate([left, np.full((right.shape[0], 6, 3), 255, np.uint8), right], axis=1)
    write_picture(path, both)


def _run(command: str, *arguments: str) -> None:
    line = [sys.executable, "-m", f"swiftvr_trt.cli.{command}", *arguments]
    outcome = subprocess.run(line, check=False)
    if outcome.returncode:
        sys.exit(outcome.returncode)  # the command has printed why


def _frame(path: Path, index: int, size: tuple[int, int] | None = None) -> NDArray[np.uint8]:
    with av.open(path) as container:
        for number, frame in enumerate(container.decode(video=0)):
            if number == index:
                if size:
                    frame = converted(frame, width=size[0], height=size[1], interpolation="BICUBIC")
                pixels: NDArray[np.uint8] = converted(frame, format="rgb24").to_ndarray().astype(np.uint8, copy=False)
                return pixels
    raise click.ClickException(f"{path} has fewer than {index + 1} frames")


def _shown(path: Path) -> str:
    """Relative to the current directory, if the path lies in it."""
    try:
        return os.fspath(path.relative_to(Path.cwd()))
    except ValueError:
        return os.fspath(path)


if __name__ == "__main__":
    main()
