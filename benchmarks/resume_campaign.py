"""Kills at random moments: the same command must then go on, and make the file of a run without interruption.

    python -m benchmarks.resume_campaign --seed 7 --kills 20 --checkpoint demo --clip export/sample.mp4

kills `swiftvr-run` so many times (SIGKILL), in turn at any moment, while a piece is written, while the pieces are
joined, and once the output has its name; interrupts it half as often (SIGTERM, SIGINT); damages a piece half as often;
and, as root on Linux, fills a small disk four times. After each, the same command is run to its end. Decoded pictures,
packets and their time stamps must be those of the uninterrupted run, and nothing may be left over. It prints a line per
trial and per fault, and exits with 1 if there was a fault. Pieces are a few chunks long here.
"""

from __future__ import annotations

import hashlib
import os
import random
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import av
import click

from swiftvr_trt.engines.bundle.geometry import Resolution
from swiftvr_trt.export.build import BuildOptions, build_bundles

_PROGRAM = """
from swiftvr_trt.cli.start import swiftvr_run
from swiftvr_trt.runtime.restore.segments import grid
grid.PIECE_S = {seconds}
swiftvr_run()
"""
"""What the installed command does, with shorter pieces."""
_LONGEST_S = 300.0
_POLL_S = 0.001
_SPARE = 40_000
"""Bytes of a small disk beyond those that are filled: less than an output needs, more than a folder does."""
_OUTPUT = "o.mkv"

Moment = Callable[[Path], bool]
"""Whether the time for a kill has come, given the folder of the output."""


@dataclass(frozen=True)
class Material:
    """What is restored. piece_s: the length of a piece. options: more of the command."""

    bundle: Path
    clip: Path
    piece_s: float
    options: tuple[str, ...] = ()

    def command(self, output: Path) -> list[str]:
        program = _PROGRAM.format(seconds=self.piece_s)
        options = ["--bundle", str(self.bundle), "--threads", "1", *self.options]
        return [sys.executable, "-c", program, str(self.clip), str(output), *options]


@dataclass(frozen=True)
class Whole:
    """The output of a run without interruption, and how long its restoring took once there was a folder of pieces."""

    content: dict[str, list[Any]]
    span_s: float
    size: int


@dataclass(frozen=True)
class Kill:
    """A kind of kill. after: the moment that it waits for. spread: of the span of a run, to which chance adds."""

    name: str
    number: signal.Signals
    after: Moment
    spread: float


@dataclass
class Run:
    """A command that is running or has ended. words: what it said."""

    process: subprocess.Popen[bytes]
    log: Path

    @property
    def words(self) -> str:
        return self.log.read_text(errors="replace")

    def wait(self) -> int:
        return self.process.wait(_LONGEST_S)


def begun(place: Path) -> bool:
    return (place / f"{_OUTPUT}.segments" / "job.json").exists()


def writing_a_piece(place: Path) -> bool:
    return any((place / f"{_OUTPUT}.segments").glob("*.piece.part"))


def a_piece_is_finished(place: Path) -> bool:
    return any((place / f"{_OUTPUT}.segments").glob("0*.json"))


def joining(place: Path) -> bool:
    return begun(place) and any(place.glob(".o.*.part.mkv"))


def named(place: Path) -> bool:
    return (place / _OUTPUT).exists()


KILLS = (
    Kill("at any moment", signal.SIGKILL, begun, 1.0),
    Kill("in a piece", signal.SIGKILL, writing_a_piece, 0.05),
    Kill("in the join", signal.SIGKILL, joining, 0.002),
    Kill("after the join", signal.SIGKILL, named, 0.0),
)
"""Ways to kill a run. Those without chance come at the very moment, give or take a millisecond."""


def start(material: Material, output: Path) -> Run:
    log = _log(output.parent)
    with log.open("wb") as said:
        process = subprocess.Popen(
            material.command(output), stdout=said, stderr=said, stdin=subprocess.DEVNULL, start_new_session=True
        )
    return Run(process, log)


def content(path: Path) -> dict[str, list[Any]]:
    """Pictures as decoded, packets of the other streams, and time stamps of all: what equal outputs share."""
    with av.open(str(path)) as container:
        pictures = [
            (frame.pts, frame.time_base, hashlib.sha256(frame.to_ndarray().tobytes()).hexdigest())
            for frame in container.decode(container.streams.video[0])
        ]
    with av.open(str(path)) as container:
        packets = [
            (packet.stream_index, packet.pts, packet.dts, packet.duration, hashlib.sha256(bytes(packet)).hexdigest())
            for packet in container.demux()
            if packet.size
        ]
        length = [container.duration]
    return {"pictures": pictures, "packets": packets, "length": length}


def restore_whole(material: Material, place: Path) -> Whole:
    """Run the command without interruption. Raises `RuntimeError` if it fails."""
    place.mkdir(parents=True)
    run = start(material, place / _OUTPUT)
    _wait(lambda: begun(place) or run.process.poll() is not None)
    began = time.monotonic()
    if run.wait():
        raise RuntimeError(f"the uninterrupted run failed: {run.words[-500:]}")
    output = place / _OUTPUT
    return Whole(content(output), time.monotonic() - began, output.stat().st_size)


def kill_once(material: Material, whole: Whole, kill: Kill, place: Path, chance: random.Random) -> Iterator[str]:
    """Kill a run and have the same command finish it. Yields the faults; where the kill hit comes first."""
    place.mkdir(parents=True)
    run = start(material, place / _OUTPUT)
    _wait(lambda: kill.after(place) or run.process.poll() is not None)
    time.sleep(chance.uniform(0, kill.spread * whole.span_s))
    with suppress(ProcessLookupError):
        run.process.send_signal(kill.number)
    code = run.wait()
    yield where(place, code)
    if kill.number is not signal.SIGKILL and code != 0:
        yield from _interrupted_badly(run, code, place)
    yield from finish(material, whole, place)


def where(place: Path, code: int) -> str:
    """What a run was at when it was killed."""
    marks = list((place / f"{_OUTPUT}.segments").glob("0*.json"))
    if code == 0:
        return "it was done"
    if named(place):
        return "the output had its name"
    if joining(place):
        return f"joining {len(marks)} pieces"
    return f"{len(marks)} pieces were finished"


def finish(material: Material, whole: Whole, place: Path) -> Iterator[str]:
    """Run the same command to its end, and compare. A run that was killed once its output had its name is done."""
    complete = named(place)
    run = start(material, place / _OUTPUT)
    code = run.wait()
    if complete and (code != 2 or "already exists" not in run.words):
        yield f"exit code {code} though the output is complete: {run.words[-300:]}"
    if not complete and code:
        yield f"exit code {code}: {run.words[-300:]}"
    if "Traceback" in run.words:
        yield f"a traceback: {run.words[-2000:]}"
    yield from differences(whole, place)


def differences(whole: Whole, place: Path) -> Iterator[str]:
    """What is not as in the uninterrupted run, in the output or beside it."""
    yield from (f"{path.name} is left" for path in place.iterdir() if path.name != _OUTPUT)
    if not named(place):
        yield "there is no output"
        return
    found = content(place / _OUTPUT)
    for kind, expected in whole.content.items():
        if found[kind] != expected:
            pairs = enumerate(zip(found[kind], expected, strict=False))
            first = next((index for index, (one, other) in pairs if one != other), "the end")
            yield f"{len(found[kind])} {kind}, expected {len(expected)}; they differ from {first} on"


def damage_once(material: Material, whole: Whole, place: Path, chance: random.Random) -> Iterator[str]:
    """Kill a run, change a byte of a finished piece, and have the same command finish it."""
    place.mkdir(parents=True)
    run = start(material, place / _OUTPUT)
    _wait(lambda: a_piece_is_finished(place) or run.process.poll() is not None)
    time.sleep(chance.uniform(0, 0.5 * whole.span_s))
    run.process.kill()
    code = run.wait()
    yield where(place, code)
    marks = sorted((place / f"{_OUTPUT}.segments").glob("0*.json"))
    pieces = [mark.with_suffix(".piece") for mark in marks if mark.with_suffix(".piece").exists()]
    if not pieces or not (place / f"{_OUTPUT}.segments" / "job.json").exists():
        return  # nothing is finished yet, or the kill came while finished pieces were removed
    piece = chance.choice(pieces)
    data = bytearray(piece.read_bytes())
    data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
    piece.write_bytes(data)
    yield from finish(material, whole, place)
    if f"piece {int(piece.stem)}: " not in (words := _log(place).read_text()):
        yield f"nothing was said about {piece.name}: {words[-500:]}"


def fill_once(material: Material, whole: Whole, place: Path, chance: random.Random) -> Iterator[str]:
    """Run on a disk that gets full at some moment, free space, and have the same command finish it."""
    room = round(whole.size * chance.uniform(0.2, 1.9)) + _SPARE
    with small_disk(place, 4 * whole.size + 10 * _SPARE) as filler:
        filler(room)
        run = start(material, place / _OUTPUT)
        code = run.wait()
        yield f"room for {room} bytes of an output of {whole.size}, exit code {code}"
        if code == 0:  # there was room enough
            filler(None)
            yield from differences(whole, place)
            return
        last = run.words.strip().splitlines()[-1]
        if code != 1 or "free some space and run the same command" not in last or "Traceback" in run.words:
            yield f"last words {last!r}, exit code {code}"
        if any(place.glob(".o.*")):
            yield "a part of the output is left"
        filler(None)
        yield from finish(material, whole, place)


@contextmanager
def small_disk(place: Path, size: int) -> Iterator[Callable[[int | None], None]]:
    """A file system of its own at `place`. Yields what fills all of it but so many bytes; None empties it again."""
    place.mkdir(parents=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(place)], check=True, capture_output=True)
    other = place / ".filler"

    def fill(room: int | None) -> None:
        other.unlink(missing_ok=True)
        if room is not None:
            free = os.statvfs(place).f_bavail * os.statvfs(place).f_frsize
            with other.open("wb") as file:
                os.posix_fallocate(file.fileno(), 0, max(free - room, 1))

    try:
        yield fill
    finally:
        subprocess.run(["umount", str(place)], check=True)


def can_mount() -> bool:
    """Whether this process may mount a small disk."""
    if sys.platform != "linux" or os.geteuid() != 0:
        return False
    with tempfile.TemporaryDirectory() as folder:
        try:
            with small_disk(Path(folder) / "disk", 100_000):
                return True
        except (OSError, subprocess.CalledProcessError):
            return False


def campaign(
    material: Material, place: Path, seed: int, counts: dict[str, int], say: Callable[[str], None] = print
) -> list[str]:
    """Run trials. counts: how many of each of `KINDS`. Returns the faults, each with what is needed to repeat it."""
    whole = restore_whole(material, place / "whole")
    say(f"{len(whole.content['pictures'])} frames, {whole.span_s:.1f} s without interruption")
    faults: list[str] = []
    for name, count in counts.items():
        hit: Counter[str] = Counter()
        for index in range(count):
            folder = place / f"{name}-{index}".replace(" ", "-")
            trial = _trial(name, index, material, whole, folder, random.Random(f"{seed} {name} {index}"))
            hit[moment := next(trial)] += 1
            found = [f"{name}, trial {index} ({moment}), seed {seed}: {fault}" for fault in trial]
            say(f"{name} {index}: {moment}: {len(found) or 'no'} faults; load {os.getloadavg()[0]:.1f}")
            faults += found
    return faults


KINDS = ("kill", "interrupt", "damage", "full disk")


def _trial(
    name: str, index: int, material: Material, whole: Whole, place: Path, chance: random.Random
) -> Iterator[str]:
    if name == "damage":
        return damage_once(material, whole, place, chance)
    if name == "full disk":
        return fill_once(material, whole, place, chance)
    kill = KILLS[index % len(KILLS)]
    if name == "interrupt":
        kill = replace(kill, number=chance.choice((signal.SIGTERM, signal.SIGINT)))
    return kill_once(material, whole, kill, place, chance)


def _interrupted_badly(run: Run, code: int, place: Path) -> Iterator[str]:
    if code != 130:
        yield f"exit code {code} after a signal: {run.words[-300:]}"
    if "Traceback" in run.words or not re.search(r"error: interrupted; .*\n$", run.words):
        yield f"last words {run.words[-300:]!r}"
    yield from (f"{path.name} is left by a signal" for path in place.rglob("*.part*"))


def _log(place: Path) -> Path:
    return place.parent / f"{place.name}.log"


def _wait(done: Callable[[], bool]) -> None:
    deadline = time.monotonic() + _LONGEST_S
    while not done() and time.monotonic() < deadline:
        time.sleep(_POLL_S)


@click.command()
@click.option("--checkpoint", required=True, help="Checkpoint to build from.")
@click.option("--clip", type=click.Path(path_type=Path, exists=True), required=True, help="Takes seconds to restore.")
@click.option("--resolution", default="192x128", show_default=True, help="Size of the bundle.")
@click.option("--piece", "piece_s", type=float, default=1.0, show_default=True, help="Length of a piece in seconds.")
@click.option("--seed", type=int, default=0, show_default=True)
@click.option("--kills", type=int, default=20, show_default=True)
@click.option("--devices", help="Of the command, e.g. cpu,cpu.")
def main(  # many parameters: those of the command
    checkpoint: str, clip: Path, resolution: str, piece_s: float, seed: int, kills: int, devices: str | None
) -> None:
    """Kill swiftvr-run at random moments, and have the same command finish."""
    counts = {"kill": kills, "interrupt": kills // 2, "damage": kills // 2, "full disk": 4 if can_mount() else 0}
    if not counts["full disk"]:
        click.echo("full disk: skipped, a small disk can be mounted by root on Linux only")
    shared = () if devices is None else ("--devices", devices)
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        options = BuildOptions(
            Path(checkpoint), (Resolution.parse(resolution),), output=place / "bundle", cache=place / "cache"
        )
        (bundle,) = build_bundles(options)
        faults = campaign(Material(bundle.path, clip, piece_s, shared), place / "trials", seed, counts, click.echo)
    for fault in faults:
        click.echo(f"FAULT {fault}")
    click.echo(f"{sum(counts.values())} trials, {len(faults)} faults")
    sys.exit(1 if faults else 0)


if __name__ == "__main__":
    main()
