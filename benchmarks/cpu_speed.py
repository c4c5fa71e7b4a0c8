"""Speed and memory of restoring a file on the CPU: a bundle on ONNX Runtime against the plain torch network.

Both use the same reader and writer. The torch network runs chunk by chunk, as the published code does. Each measurement
is a process of its own. The two sides take turns, so a machine that slows down slows both, and the ratio is taken pair
by pair.

    python -m benchmarks.cpu_speed compare --checkpoint DIR --resolution 512x288 --frames 52 --repeat 3 clip.mp4
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from swiftvr_trt.engines.bundle.geometry import Resolution
from swiftvr_trt.engines.compile.memory import PeakMemory
from swiftvr_trt.runtime.media import Item, Picture, Source, SourceInfo, open_sink, open_source

SIDES = ("torch", "bundle")


class FirstFrames:
    """The first `count` pictures of a source."""

    def __init__(self, source: Source, count: int) -> None:
        self._source, self._count = source, count
        self.info: SourceInfo = source.info

    @property
    def notes(self) -> tuple[str, ...]:
        return self._source.notes

    @property
    def shortfall(self) -> str | None:
        return self._source.shortfall

    def __iter__(self) -> Iterator[Item]:
        left = self._count
        for item in self._source:
            yield item
            left -= isinstance(item, Picture)
            if not left:
                return

    def close(self) -> None:
        self._source.close()

    def __enter__(self) -> FirstFrames:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


@click.group(invoke_without_command=True, context_settings={"ignore_unknown_options": True})
@click.pass_context
def main(context: click.Context) -> None:
    """Compare a bundle with the torch network on the CPU."""
    if context.invoked_subcommand is None:
        click.echo(context.get_help())


@main.command()
@click.argument("clip", type=click.Path(exists=True, path_type=Path))
@click.option("--checkpoint", type=click.Path(exists=True, path_type=Path), required=True)
@click.option("--resolution", default="512x288", show_default=True)
@click.option("--clip-len", default=24, show_default=True)
@click.option("--frames", default=52, show_default=True, help="How many frames of the clip to restore.")
@click.option("--repeat", default=3, show_default=True, help="Measurements of each side.")
@click.option("--json", "json_path", type=click.Path(path_type=Path), help="Also write each measurement here, as JSON.")
def compare(  # many parameters: one for each option
    clip: Path, checkpoint: Path, resolution: str, clip_len: int, frames: int, repeat: int, json_path: Path | None
) -> None:
    """Build the bundle, then measure both sides by turns."""
    with tempfile.TemporaryDirectory() as scratch:
        bundle = Path(scratch) / "bundle"
        build = [sys.executable, "-m", "swiftvr_trt.cli.export", "onnx", "--quiet", "--checkpoint", str(checkpoint)]
        build += ["--resolution", resolution, "--clip-len", str(clip_len), "-o", str(bundle)]
        subprocess.run(build, check=True, stdout=subprocess.DEVNULL)
        measured: dict[str, list[dict[str, Any]]] = {side: [] for side in SIDES}
        for turn in range(repeat):
            for side in SIDES:
                network = bundle if side == "bundle" else checkpoint
                out = Path(scratch) / f"{side}-{turn}.mkv"
                arguments = [side, str(clip), str(network), str(out), resolution, str(clip_len), str(frames)]
                command = [sys.executable, "-m", "benchmarks.cpu_speed", "measure", *arguments]
                done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
                measured[side].append(json.loads(done.stdout))
                click.echo(f"turn {turn + 1}, {side}: {measured[side][-1]}", err=True)
    _print(measured, f"{checkpoint.name}, {resolution}, clip length {clip_len}, {frames} frames, {repeat} turns")
    if json_path:
        json_path.write_text(json.dumps(measured, indent=1) + "\n", encoding="utf-8")


@main.command(hidden=True)
@click.argument("side", type=click.Choice(SIDES))
@click.argument("clip", type=click.Path(path_type=Path))
@click.argument("network", type=click.Path(path_type=Path))
@click.argument("out", type=click.Path(path_type=Path))
@click.argument("resolution")
@click.argument("clip_len", type=int)
@click.argument("frames", type=int)
def measure(  # many parameters: one for each argument
    side: str, clip: Path, network: Path, out: Path, resolution: str, clip_len: int, frames: int
) -> None:
    """Measure one side once and print JSON."""
    size = Resolution.parse(resolution)
    began, memory = time.perf_counter(), PeakMemory()
    run = _run_torch if side == "torch" else _run_bundle
    with FirstFrames(open_source(clip), frames) as source, open_sink(out, source.info, size.width, size.height) as sink:
        loaded = run(network, source, sink, size, clip_len)
    now = time.perf_counter()
    click.echo(
        json.dumps(
            {
                "s_per_frame": round((now - loaded) / frames, 4),
                "load_s": round(loaded - began, 2),
                "peak_mb": round((memory.nbytes or 0) / 1e6),
            }
        )
    )


def _run_torch(checkpoint: Path, source: Source, sink: Any, size: Resolution, clip_len: int) -> float:
    from collections import deque

    from swiftvr_trt.export.network.checkpoint import load_checkpoint
    from swiftvr_trt.export.network.reference import Reference

    reference = Reference(load_checkpoint(checkpoint), size, clip_len=clip_len)
    loaded = time.perf_counter()
    stamps: deque[Picture] = deque()

    def pictures() -> Iterator[Any]:
        for item in source:
            if isinstance(item, Picture):
                stamps.append(item)
                yield item.pixels

    for pixels in reference.restore(pictures()):
        sink.write(stamps.popleft().with_pixels(pixels))
    sink.commit()
    return loaded


def _run_bundle(bundle: Path, source: Source, sink: Any, _size: Resolution, _clip_len: int) -> float:
    from swiftvr_trt import Restorer
    from swiftvr_trt.runtime.restore.pipeline import restore_media

    with Restorer.open(bundle) as restorer, restorer.session() as session:
        loaded = time.perf_counter()
        restore_media(session, source, sink)
    return loaded


def _print(measured: dict[str, list[dict[str, Any]]], title: str) -> None:
    click.echo(title)
    click.echo(f"{'':22}{'torch':>10}{'bundle':>10}{'bundle/torch':>14}")
    for key, unit in (("s_per_frame", "seconds per frame"), ("peak_mb", "peak memory, MB"), ("load_s", "load, s")):
        sides = [[row[key] for row in measured[side]] for side in SIDES]
        ratio = statistics.median(b / t for t, b in zip(*sides, strict=True))
        medians = [statistics.median(values) for values in sides]
        click.echo(f"{unit:22}{medians[0]:>10.3g}{medians[1]:>10.3g}{ratio:>14.2f}")


if __name__ == "__main__":
    main()
