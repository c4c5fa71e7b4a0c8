"""What dividing a video into pieces costs, what two processes gain, and whether a long film stays whole.

    python -m benchmarks.segments OUT.json                    five minutes of video, three turns; about 10 minutes
    python -m benchmarks.segments OUT.json --film 90000       a film of so many frames, once

The first measures, on two idle cores and with the tiny bundle of `doctor --try` unless another is named:

    pieces          pieces of 30 s against one piece, on one device                  at most 4 % more
    divided         `--devices cpu,cpu` on two cores against `--devices cpu` on one  wall time at most 0.56x

A device that may use one thread of ONNX Runtime still reads and writes in others, so one device alone would keep more
than one core busy, and two could not be twice as fast on two cores. Hence a core each. The tiny bundle restores so fast
that starting processes counts, so its video to divide is four times as long.

Both sides of a pair run one after the other, in turn, and the median of their ratios counts. CPU time is noted beside
wall time: on a machine with other work, only that says something. The second restores the film in pieces, and fails
unless every frame comes out at its time, and the peak of the memory is at most 1.1 times that of a film of four pieces.
Linux only.
"""

from __future__ import annotations

import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise, product
from pathlib import Path
from typing import Any

import av
import click
import numpy as np

from swiftvr_trt.benchmarks.suite.clips import write_video
from swiftvr_trt.cli.trial import BUNDLE
from swiftvr_trt.runtime.stream.session import Frame

RATE = 25
LONGER = 4
PIECE_S, ONE_PIECE_S = 30.0, 1e6
MOST_DIVIDED, MOST_PIECES = 0.56, 1.04
"""The largest ratios of wall times that are no fault."""
SHORT_FILM, MOST_MEMORY = 3000, 1.1
"""Frames of a film of four pieces, and by how much the peak of a longer one may be larger."""

_PROGRAM = """
import os, sys
os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:{cores}])
from swiftvr_trt.runtime.restore.segments import grid
grid.PIECE_S = {seconds}
from swiftvr_trt.cli.run import command
command.main(sys.argv[1:], standalone_mode=False)
print(next(line for line in open("/proc/self/status") if line.startswith("VmHWM")).split()[1])
"""
"""What the installed command does on so many cores with pieces of this length, and the peak of its memory in KiB."""


@dataclass(frozen=True)
class Spent:
    """What a run took: seconds on the clock, and of all its processes on the CPU; the parent's peak in MB."""

    wall: float
    cpu: float
    peak_mb: float


@dataclass(frozen=True)
class Side:
    """One side of a pair. piece_s: length of a piece in seconds. cores: for its processes. options: of the command."""

    name: str
    piece_s: float
    cores: int = 2
    options: tuple[str, ...] = ()


def moving_frames(count: int, width: int, height: int) -> Iterator[Frame]:
    """Frames of a film of any length: a pattern that moves and changes, so that no two neighbours are equal."""
    y, x = np.mgrid[0:height, 0:width]
    picture = np.stack([(x * 5 + y) % 256, (y * 7) % 256, (x ^ y) % 256], axis=-1).astype(np.uint8)
    for number in range(count):
        yield np.roll(picture, (number, 2 * number), axis=(0, 1))


def write_film(path: Path, frames: int) -> Path:
    """A film of tiny frames."""
    write_video(path, moving_frames(frames, 48, 32), preset="ultrafast")
    return path


def run_once(clip: Path, output: Path, bundle: Path, side: Side) -> Spent:
    """Restore a clip. Raises `RuntimeError` with the last words of a run that fails."""
    program = _PROGRAM.format(seconds=side.piece_s, cores=side.cores)
    command = [sys.executable, "-c", program, str(clip), str(output), "--bundle", str(bundle), *side.options]
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    done = subprocess.run(
        [*command, "--threads", "1", "-q", "-y", "--no-resume"], capture_output=True, text=True, check=False
    )
    wall, after = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode:
        raise RuntimeError(f"exit code {done.returncode}: {done.stderr.strip()[-500:]}")
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Spent(wall, cpu, int(done.stdout.split()[-1]) * 1024 / 1e6)


def compare(folder: Path, bundle: Path, seconds: int, turns: int, only: str | None) -> dict[str, Any]:
    """Both pairs, in turn, or only one."""
    pairs: dict[str, tuple[int, Side, Side]] = {
        "pieces": (1, Side("pieces", PIECE_S), Side("one piece", ONE_PIECE_S)),
        "divided": (
            LONGER if bundle == BUNDLE else 1,
            Side("two devices", PIECE_S, 2, ("--devices", "cpu,cpu")),
            Side("one device", PIECE_S, 1, ("--devices", "cpu")),
        ),
    }
    figures: dict[str, Any] = {"runs": {}}
    for pair, (times, *sides) in pairs.items() if only is None else [(only, pairs[only])]:
        clip = write_film(folder / "in.mkv", times * seconds * RATE)
        spent: list[list[Spent]] = [[], []]
        for turn, (side, taken) in product(range(turns), zip(sides, spent, strict=True)):
            taken.append(run_once(clip, folder / "out.mkv", bundle, side))
            click.echo(f"turn {turn + 1}, {side.name:12} {taken[-1].wall:6.1f} s, CPU {taken[-1].cpu:6.1f} s", err=True)
        figures["runs"] |= {side.name: [vars(one) for one in taken] for side, taken in zip(sides, spent, strict=True)}
        figures[pair] = _ratios(*spent) | {"busy": round(statistics.median(one.cpu / one.wall for one in spent[1]), 2)}
    return figures


def _ratios(these: list[Spent], those: list[Spent]) -> dict[str, float]:
    return {
        name: round(
            statistics.median(
                getattr(one, name) / getattr(other, name) for one, other in zip(these, those, strict=True)
            ),
            4,
        )
        for name in ("wall", "cpu")
    }


def restore_film(folder: Path, bundle: Path, frames: int) -> tuple[dict[str, Any], list[str]]:
    """Restore a film of so many tiny frames. Returns what it took, and the faults."""
    spent = run_once(write_film(folder / "film.mkv", frames), folder / "out.mkv", bundle, Side("film", PIECE_S))
    times = shown_at(folder / "out.mkv")
    steps = {round((after - before) * RATE, 2) for before, after in pairwise(times)}
    faults = [f"{len(times)} frames came out of {frames}"] if len(times) != frames else []
    faults += [f"frames follow each other by {sorted(steps)} frames"] if steps != {1.0} else []
    faults += [f"{path.name} is left" for path in folder.iterdir() if path.suffix == ".segments"]
    return {"frames": frames, **vars(spent), "frames_out": len(times)}, faults


def restore_films(folder: Path, bundle: Path, frames: int) -> tuple[dict[str, Any], list[str]]:
    """Restore a film of a few pieces, and one of so many frames. Returns what the second one took, and the faults."""
    short, faults = restore_film(folder, bundle, min(frames, SHORT_FILM))
    figures, more = restore_film(folder, bundle, frames)
    peak, least = figures["peak_mb"], short["peak_mb"]
    if peak > MOST_MEMORY * least:
        more.append(
            f"the peak is {peak:.0f} MB, expected at most {MOST_MEMORY} times that of a short film, {least:.0f} MB"
        )
    return figures | {"short_peak_mb": least}, faults + more


def shown_at(path: Path) -> list[float]:
    """When each decoded frame is shown, in seconds."""
    with av.open(str(path)) as container:
        return [float(frame.time) for frame in container.decode(video=0) if frame.time is not None]


@click.command()
@click.argument("out", type=click.Path(path_type=Path))
@click.option("--bundle", type=click.Path(path_type=Path, exists=True), default=BUNDLE, help="For the CPU.")
@click.option("--seconds", default=300, show_default=True, help="Length of the clip.")
@click.option("--turns", default=3, show_default=True)
@click.option("--only", type=click.Choice(["pieces", "divided"]), help="Measure one pair.")
@click.option("--film", type=int, help="Restore a film of so many frames instead.")
def main(
    out: Path, bundle: Path, seconds: int, turns: int, only: str | None, film: int | None
) -> None:  # many parameters: those of the command
    """Measure, write the figures to OUT, and exit with 1 if one is too large."""
    with tempfile.TemporaryDirectory(prefix="swiftvr-") as name:
        folder = Path(name)
        if film is not None:
            figures, faults = restore_films(folder, bundle, film)
        else:
            figures = compare(folder, bundle, seconds, turns, only)
            limits = {"divided": MOST_DIVIDED, "pieces": MOST_PIECES}
            faults = [
                f"{pair}: {figures[pair]['wall']}x, expected at most {most}x"
                for pair, most in limits.items()
                if pair in figures and figures[pair]["wall"] > most
            ]
    figures |= {"faults": faults, "cores": os.cpu_count(), "load": round(os.getloadavg()[0], 2)}
    out.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    click.echo(json.dumps({name: value for name, value in figures.items() if name != "runs"}, indent=2))
    sys.exit(1 if faults else 0)


if __name__ == "__main__":
    main()
