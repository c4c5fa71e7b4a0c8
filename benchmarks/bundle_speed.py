"""Speed of one bundle on this machine: the core, fed from memory, and a whole file.

    python -m benchmarks.bundle_speed BUNDLE OUT.json --seconds 20

OUT.json is written after either measurement, so the first survives if the second crashes.
"""

from __future__ import annotations

import json
import statistics
import time
from pathlib import Path
from typing import Any

import click

from swiftvr_trt import Bundle, Restorer
from swiftvr_trt.runtime.stream.session import Frame

from .clips import moving, write_video

WARM_UP, LEAST_CHUNKS, MOST_CHUNKS = 4, 3, 60
"""The first chunks of a stream record and capture; from the fifth on, all chunks are alike."""
FILE_FRAMES = 240
"""Length of the file, unless that takes too long."""

Figures = dict[str, Any]


@click.command()
@click.argument("path", type=click.Path(path_type=Path))
@click.argument("out", type=click.Path(path_type=Path))
@click.option("--seconds", type=float, required=True, help="About how long to measure the core, and again the file.")
def main(path: Path, out: Path, seconds: float) -> None:
    """Measure the bundle PATH and write the figures to OUT."""
    bundle = Bundle.open(path)
    recipe = bundle.manifest.recipe
    on_cpu = recipe.target == "cpu"
    height, width = recipe.height // 2, recipe.width // 2
    frames = moving(recipe.clip_len, height, width)
    figures: Figures = {"device": "cpu" if on_cpu else _gpu_name(), "frames_in": f"{width}x{height}"}
    began = time.perf_counter()
    with Restorer.open(bundle, device="cpu" if on_cpu else "cuda") as restorer:
        figures["load_s"] = round(time.perf_counter() - began, 3)
        figures |= core_speed(restorer, frames, seconds)
        out.write_text(json.dumps(figures), encoding="utf-8")
        expected = int(figures["core_frames_per_second"] * seconds)
        figures |= file_speed(restorer, frames, min(FILE_FRAMES, max(3 * len(frames), expected)), out.with_suffix(""))
        out.write_text(json.dumps(figures), encoding="utf-8")


def _gpu_name() -> str:
    from swiftvr_trt.runtime.devices.gpu import Gpu

    return Gpu(0).name


def core_speed(restorer: Restorer, frames: list[Frame], seconds: float) -> Figures:
    """Frames per second of a session that is fed from memory, after its first chunks. frames: those of one chunk."""
    times: list[float] = []
    with restorer.session() as session:
        while len(times) < WARM_UP + LEAST_CHUNKS or (len(times) < WARM_UP + MOST_CHUNKS and sum(times) < seconds):
            start = time.perf_counter()
            for frame in frames:
                session.feed(frame)
            times.append(time.perf_counter() - start)
        session.flush()
    steady = times[WARM_UP:]
    return {
        "first_chunks_s": [round(taken, 4) for taken in times[:WARM_UP]],
        "core_frames_per_second": round(len(steady) * len(frames) / sum(steady), 2),
        "chunk_ms_median": round(statistics.median(steady) * 1e3, 3),
        "chunk_ms_longest": round(max(steady) * 1e3, 3),
        "chunks": len(steady),
    }


def file_speed(restorer: Restorer, frames: list[Frame], count: int, folder: Path) -> Figures:
    """Frames per second from file to file, decoded and encoded in software, with the start and end of the stream."""
    from swiftvr_trt.runtime.media import open_sink, open_source
    from swiftvr_trt.runtime.restore.pipeline import restore_media

    size = restorer.manifest.recipe.resolution
    folder.mkdir()
    write_video(folder / "in.mp4", (frames[index % len(frames)] for index in range(count)), preset="veryfast")
    began = time.perf_counter()
    with (
        open_source(folder / "in.mp4") as source,
        open_sink(folder / "out.mp4", source.info, size.width, size.height) as sink,
        restorer.session() as session,
    ):
        restore_media(session, source, sink)
    seconds = time.perf_counter() - began
    return {"file_frames": count, "file_s": round(seconds, 3), "file_frames_per_second": round(count / seconds, 2)}


if __name__ == "__main__":
    main()
