"""Corrupted videos, restored from file to file: no damage is silent, and nothing else goes wrong.

    python -m benchmarks.damage_campaign --runs 300 --seed 7 --checkpoint demo

corrupts videos of six containers and codecs in six ways and restores each with a small bundle, in child processes that
take a batch of runs each. A fault is: damage that FFmpeg reports and we do not, an internal error, a message of several
lines, a run of over 30 s, a process that dies or takes over 2 GB, an output that cannot be read, and anything
left behind. It prints a line per fault and a summary, and exits with 1 if there was a fault.
"""

from __future__ import annotations

import faulthandler
import json
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import av
import click
import numpy as np
import psutil
from av import logging as log

from swiftvr_trt import SwiftVRError, restore_file
from swiftvr_trt.engines.bundle.geometry import Resolution
from swiftvr_trt.errors import InternalError
from swiftvr_trt.export.build import BuildOptions, build_bundles
from swiftvr_trt.runtime.media.colour import converted
from swiftvr_trt.runtime.media.pyav import open_input

PAIRS = [
    (".mp4", "libx264", "yuv420p"),
    (".mkv", "libx265", "yuv420p"),
    (".ts", "libx264", "yuv420p"),
    (".avi", "ffv1", "yuv420p"),
    (".webm", "libvpx-vp9", "yuv420p"),
    (".mov", "prores_ks", "yuv422p10le"),
]
"""Suffix, encoder and pixel format of the videos that are corrupted."""

LONGEST_S, LARGEST = 30.0, 2_000_000_000
"""Seconds of a run, and bytes of a process."""

_BATCH = 50
"""Runs of one process."""


@dataclass
class Result:
    """What came of a run. said: every complaint of ours. memory: the largest of the process so far, in bytes."""

    number: int
    said: list[str] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    written: bool = False
    memory: int = 0


_CHILD = (sys.executable, "-m", "benchmarks.damage_campaign")
"""The command that runs a batch."""

Corruption = Callable[[bytearray, random.Random], None]


def flip(data: bytearray, rng: random.Random) -> None:
    for _ in range(rng.randint(1, 12)):
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)


def zero(data: bytearray, rng: random.Random) -> None:
    begin = rng.randrange(len(data))
    end = min(len(data), begin + rng.randint(1, 2000))
    data[begin:end] = bytes(end - begin)


def truncate(data: bytearray, rng: random.Random) -> None:
    del data[rng.randrange(len(data) // 4, len(data)) :]


def cut_out(data: bytearray, rng: random.Random) -> None:
    begin = rng.randrange(len(data))
    del data[begin : begin + rng.randint(1, 2000)]


def shuffle(data: bytearray, rng: random.Random) -> None:
    size = rng.randint(200, max(201, len(data) // 8))
    one, other = rng.randrange(len(data) - size), rng.randrange(len(data) - size)
    data[one : one + size], data[other : other + size] = data[other : other + size], data[one : one + size]


def damage_head(data: bytearray, rng: random.Random) -> None:
    for _ in range(3):
        data[rng.randrange(min(600, len(data)))] = rng.randrange(256)


KINDS: list[Corruption] = [flip, zero, truncate, cut_out, shuffle, damage_head]


def write_originals(folder: Path) -> list[Path]:
    """One intact video of each pair: 30 frames, 64x48."""
    paths = []
    for suffix, codec, pix_fmt in PAIRS:
        paths.append(folder / f"in{suffix}")
        options = {"slicecrc": "1", "level": "3"} if codec == "ffv1" else {}
        with av.open(str(paths[-1]), "w") as container:
            stream: Any = container.add_stream(codec, rate=25, options=options)
            stream.width, stream.height, stream.pix_fmt = 64, 48, pix_fmt
            for index in range(30):
                pixels = np.full((48, 64, 3), 40 + 5 * index, np.uint8)
                pixels[:24, :32] = 220
                rgb = av.VideoFrame.from_ndarray(pixels, "rgb24")
                container.mux(stream.encode(converted(rgb, format=pix_fmt)))
            container.mux(stream.encode(None))
    return paths


def corrupted(originals: list[Path], number: int, seed: int) -> tuple[str, bytes]:
    """The suffix and the content of video `number` of the campaign with this seed."""
    original = originals[number % len(originals)]
    data = bytearray(original.read_bytes())
    KINDS[number // len(originals) % len(KINDS)](data, random.Random(f"{seed} {number}"))
    return original.suffix, bytes(data)


def ffmpeg_complains(path: Path) -> bool:
    """True if FFmpeg logs an error or fails while it reads and decodes the video."""
    log.set_level(log.ERROR)
    try:
        with log.Capture(local=True) as lines, open_input(str(path)) as container:
            stream = container.streams.video[0]
            stream.codec_context.thread_count = 1
            for _ in container.decode(stream):
                pass
            return bool(lines)
    except (av.FFmpegError, IndexError):
        return True
    finally:
        log.set_level(None)


def run_once(number: int, bundle: Path, source: Path, output: Path) -> Result:
    """Restore a file in a folder that holds nothing else."""
    result = Result(number)
    began = time.monotonic()
    try:
        result.said += restore_file(source, output, bundle=bundle, device="cpu", threads=1).notes
    except SwiftVRError as error:
        result.said.append(str(error))
        if isinstance(error, InternalError):
            result.faults.append(f"internal error: {error}")
    except Exception as error:  # noqa: BLE001 (whatever it is, it is a fault)
        result.faults.append(f"{type(error).__name__}: {error}")
    if (seconds := time.monotonic() - began) > LONGEST_S:
        result.faults.append(f"it took {seconds:.0f} s")
    result.written = output.exists()
    result.faults += [f"several lines: {line!r}" for line in result.said if "\n" in line]
    result.faults += [f"{path.name} is left" for path in output.parent.iterdir() if path not in (source, output)]
    if result.written and ffmpeg_complains(output):
        result.faults.append("the output is damaged")
    if not result.said and ffmpeg_complains(source):
        result.faults.append("FFmpeg complains, and we do not")
    result.memory = _peak_memory()
    return result


def run_batch(bundle: Path, folder: Path, runs: range, seed: int) -> None:
    """Do these runs, and print a line of JSON for each. A run that hangs ends the process."""
    originals = sorted((folder / "originals").iterdir())
    for number in runs:
        faulthandler.dump_traceback_later(2 * LONGEST_S, exit=True)
        suffix, data = corrupted(originals, number, seed)
        with tempfile.TemporaryDirectory(dir=folder) as place:
            source = Path(place, f"in{suffix}")
            source.write_bytes(data)
            result = run_once(number, bundle, source, Path(place, "out.mkv"))
        print(json.dumps(asdict(result)), flush=True)


def _peak_memory() -> int:
    """The largest memory of this process so far on Linux and Windows; elsewhere what it has now."""
    status = Path("/proc/self/status")
    if status.exists():  # not `ru_maxrss`, which counts the memory of the process that started this one
        return next(int(line.split()[1]) * 1024 for line in status.read_text().splitlines() if "VmHWM" in line)
    now = psutil.Process().memory_info()
    return int(getattr(now, "peak_wset", now.rss))


def campaign(bundle: Path, folder: Path, runs: int, seed: int) -> Iterator[Result]:
    """The result of each run. A process that dies is a fault of the run that it was at, and the next one takes over."""
    (folder / "originals").mkdir()
    write_originals(folder / "originals")
    first = 0
    while first < runs:
        batch = range(first, min(first + _BATCH, runs))
        order = [
            "--bundle",
            str(bundle),
            "--seed",
            str(seed),
            "--batch",
            str(folder),
            str(batch.start),
            str(batch.stop),
        ]
        child = subprocess.run([*_CHILD, *order], capture_output=True, text=True, check=False)
        results = [Result(**json.loads(line)) for line in child.stdout.splitlines() if line.startswith("{")]
        if len(results) < len(batch):
            last = (child.stderr.strip().splitlines() or ["no message"])[-1]
            results.append(Result(first + len(results), faults=[f"the process ended with {child.returncode}: {last}"]))
        elif "Traceback" in child.stderr:
            results[-1].faults.append("a traceback in this batch")
        if results[-1].memory > LARGEST:
            results[-1].faults.append(f"the process takes {results[-1].memory / 1e9:.1f} GB")
        yield from results
        first += len(results)


@click.command(help=__doc__)
@click.option("--runs", type=click.IntRange(1), default=300, show_default=True)
@click.option("--seed", type=int, default=0, show_default=True)
@click.option("--checkpoint", default="demo", show_default=True, help="Checkpoint of the bundle to build.")
@click.option("--bundle", type=click.Path(path_type=Path), help="Bundle for the CPU to use instead, best 64x48.")
@click.option("--batch", type=(click.Path(path_type=Path), int, int), hidden=True)
def command(runs: int, seed: int, checkpoint: str, bundle: Path | None, batch: tuple[Path, int, int] | None) -> None:
    if bundle is not None and batch is not None:
        run_batch(bundle, batch[0], range(*batch[1:]), seed)
        return
    with tempfile.TemporaryDirectory() as place:
        if bundle is None:
            options = BuildOptions(checkpoint, (Resolution(64, 48),), output=Path(place, "bundle"))
            bundle = next(built.path for built in build_bundles(options))
        (folder := Path(place, "runs")).mkdir()
        results = list(campaign(bundle, folder, runs, seed))
    for result in results:
        for fault in result.faults:
            click.echo(f"FAULT run {result.number}: {fault}")
    outcomes = Counter(
        (("written" if one.written else "refused"), ("said" if one.said else "silent")) for one in results
    )
    shown = ", ".join(f"{count} {written} and {said}" for (written, said), count in sorted(outcomes.items()))
    most = max(result.memory for result in results)
    click.echo(f"{runs} runs with seed {seed}: {shown}; at most {most / 1e6:.0f} MB")
    sys.exit(any(result.faults for result in results))


if __name__ == "__main__":
    command()
