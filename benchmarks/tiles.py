"""Compares pictures restored in tiles with whole ones: PSNR and seams against the overlap.

    python -m benchmarks.tiles --clip FILE [--frames 9] [--checkpoint demo] [--json FILE]

The output is 1920x1080, whole and in two columns of tiles. A seam would show as steeper gradients across the border of
a tile than elsewhere.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from swiftvr_trt import Restorer
from swiftvr_trt.benchmarks.suite.likeness import frame_psnrs
from swiftvr_trt.engines.bundle.geometry import Resolution
from swiftvr_trt.runtime.media import Picture, open_source
from swiftvr_trt.runtime.media.colour import converted
from swiftvr_trt.runtime.restore.bundle_request import BundleRequest
from swiftvr_trt.runtime.restore.selection import find_or_build_bundle
from swiftvr_trt.runtime.restore.tiled import TiledSession
from swiftvr_trt.runtime.stream.tiles import Tiling

SIZE = Resolution(1920, 1080)
OVERLAPS = (32, 64, 128, 256)
CLIP_LEN = 4
BAND = 2
"""Columns on each side of a border whose gradients count as those across it."""

Frame = NDArray[np.uint8]


def frames_of(clip: Path, count: int) -> list[Frame]:
    """The first frames of a clip, at half the size of the output."""
    from av.video.frame import VideoFrame

    def halved(pixels: Frame) -> Frame:
        frame = VideoFrame.from_ndarray(pixels, "rgb24")
        return np.asarray(converted(frame, width=SIZE.width // 2, height=SIZE.height // 2).to_ndarray(), np.uint8)

    with open_source(clip) as source:
        pictures = (item.pixels for item in source if isinstance(item, Picture))
        return [halved(pixels) for pixels in islice(pictures, count)]


def gradient_ratio(frames: list[Frame], tiling: Tiling) -> float:
    """The mean gradient between columns near borders of tiles, against that of all others."""
    steps = np.mean([np.abs(np.diff(frame.astype(np.int16), axis=1)).mean((0, 2)) for frame in frames], 0)
    edges = {side for tile in tiling.tiles for side in (tile.left, tile.left + tile.width) if 0 < side < SIZE.width}
    near = sorted({edge - 1 + offset for edge in edges for offset in range(-BAND, BAND + 1)})
    return float(steps[near].mean() / np.delete(steps, near).mean())


def restored(bundle_size: Resolution, checkpoint: str, frames: list[Frame], tiling: Tiling | None) -> Iterator[Frame]:
    request = BundleRequest(checkpoint=checkpoint, clip_len=CLIP_LEN)
    bundle = find_or_build_bundle(request, bundle_size, lambda line: print(line, file=sys.stderr))
    with Restorer.open(bundle) as restorer:
        if tiling is None:
            yield from restorer.restore(iter(frames))
            return
        with TiledSession(restorer, tiling) as session:
            for frame in frames:
                yield from session.feed(frame)
            yield from session.flush()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--clip", type=Path, required=True)
    parser.add_argument("--frames", type=int, default=9)
    parser.add_argument("--checkpoint", default="demo")
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    frames = frames_of(given.clip, given.frames)
    began = time.monotonic()
    whole = list(restored(SIZE, given.checkpoint, frames, None))
    rows = [{"overlap": None, "tile": str(SIZE), "seconds": time.monotonic() - began}]
    for overlap in OVERLAPS:
        tiling = Tiling(SIZE, Resolution((SIZE.width + overlap) // 2, SIZE.height), overlap)
        began = time.monotonic()
        tiled = list(restored(tiling.tile, given.checkpoint, frames, tiling))
        worst = min(frame_psnrs(whole, tiled))
        ratio = gradient_ratio(tiled, tiling) / gradient_ratio(whole, tiling)
        rows.append(
            {
                "overlap": overlap,
                "tile": str(tiling.tile),
                "lowest_psnr_db": worst,
                "gradient_across_borders": ratio,
                "seconds": time.monotonic() - began,
            }
        )
        print(rows[-1], flush=True)
    print(json.dumps(rows, indent=2))
    if given.json:
        given.json.write_text(json.dumps(rows, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
