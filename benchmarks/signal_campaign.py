"""Signals at random moments: every command must be gone within a second, without a traceback, and leave nothing.

    python -m benchmarks.signal_campaign --seed 7 --checkpoint demo --clip export/sample.mp4 --resolution 192x128

runs it in full: 30 signals in the first 1.2 s of a command, 40 in a run, 20 in a build, 15 on batches, and `kill -9` of
the parents, whose children must be gone within two seconds. It prints a line per fault and a table, and exits with 1 if
there was a fault. A trial that is late is tried again, up to three times, because other processes slow it down;
nothing else is forgiven. A signal that came after the command was done is sent again, sooner. Linux only.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

import click
import psutil

from swiftvr_trt.engines.bundle.geometry import Resolution
from swiftvr_trt.export.build import BuildOptions, build_bundles

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
SECOND, KILLED_S = 1.0, 2.0
"""How long a command has after a signal, and its children after it was killed."""
_LAST_WORDS = (
    "error: interrupted; nothing was left half-written\n",
    "error: interrupted; the same command with --skip-existing restores the other files\n",
    "; the same command goes on from there\n",
)
"""How a command that is interrupted ends: nothing is left, or what is kept goes on."""

_TRIES = 3
_SOONEST_S = 0.05
"""A command that is done before this had no time to be interrupted."""
_DONE_S = 0.2
"""A command that succeeds this soon after a signal had only to end."""
_LONGEST_S = 120.0
"""When a trial that does not get ready, or does not end, is given up."""
_KEPT = ("digests.json", ".lock")
"""Endings of what belongs to a cache and stays in it."""
_OWN_PART = "out/.o.*.part.mkv"
"""What a killed command leaves of its own, since nobody else knows of it; a later run removes it."""
_PROGRAM = "from swiftvr_trt.cli.start import {entry}; {entry}()"
"""What the installed commands do."""


@dataclass(frozen=True)
class Material:
    """What the commands work on. clips: one is enough; it should take seconds to restore."""

    checkpoint: str
    bundle: Path
    clips: Sequence[Path]
    resolution: str


@dataclass(frozen=True)
class Scenario:
    """A kind of trial.

    command     the arguments for trials in a folder; the first is the entry point
    ready       whether the time for signals has come, given the folder and what the command has said so far
    span_s      the signal comes at a random moment of this span, which begins when the command is ready
    number      the signal; None for one of `SIGNALS`
    """

    name: str
    command: Callable[[Path], list[str]]
    ready: Callable[[Path, str], bool]
    span_s: float
    number: signal.Signals | None = None

    @property
    def limit_s(self) -> float:
        return KILLED_S if self.number is signal.SIGKILL else SECOND


@dataclass
class Trial:
    """What happened in one trial. faults: everything that must not happen, apart from being late."""

    seconds: float
    code: int
    faults: list[str] = field(default_factory=list)
    before_us: bool = False
    """The signal came while Python was still starting, before the first instruction of this package."""
    missed: bool = False
    """The command was done before the signal came, or while it came."""


def scenarios(material: Material) -> dict[str, tuple[Scenario, int]]:
    """All scenarios by name, with the number of signals of a full campaign."""
    clip, clips = str(material.clips[0]), [str(clip) for clip in material.clips]
    bundle = ["--bundle", str(material.bundle), "--threads", "1"]

    def run(place: Path) -> list[str]:
        return ["swiftvr_run", clip, str(place / "out" / "o.mkv"), *bundle]

    def build(place: Path) -> list[str]:
        options = ["--checkpoint", material.checkpoint, "--resolution", material.resolution]
        return ["swiftvr_run", clip, str(place / "out" / "o.mkv"), *options, "--cache", str(place / "cache")]

    def export(place: Path) -> list[str]:
        options = ["--checkpoint", material.checkpoint, "--resolution", material.resolution]
        return ["swiftvr_export", "onnx", *options, "-o", str(place / "out" / "b"), "--cache", str(place / "cache")]

    def batch(*devices: str) -> Callable[[Path], list[str]]:
        return lambda place: ["swiftvr_run", *clips, str(place / "out" / "batch") + os.sep, *bundle, *devices]

    def at_once(_place: Path, _said: str) -> bool:
        return True

    def writing(place: Path, _said: str) -> bool:
        return any(".part" in name for name in leftovers(place))

    two = ("--devices", "cpu,cpu")
    kill = signal.SIGKILL

    def building(place: Path, _said: str) -> bool:
        return any((place / "cache").rglob("*.onnx"))

    chosen = (
        (Scenario("start of a run", run, at_once, 1.2), 10),
        (Scenario("start of a batch", batch(*two), at_once, 1.2), 10),
        (Scenario("start of an export", export, at_once, 1.2), 10),
        (Scenario("run", run, writing, 2.0), 40),
        (Scenario("build for a run", build, at_once, 6.0), 10),
        (Scenario("export", export, at_once, 6.0), 10),
        (Scenario("batch", batch(), writing, 2.0), 5),
        (Scenario("batch on two devices", batch(*two), writing, 2.0), 10),
        (Scenario("killed build", build, building, 3.0, kill), 5),
        (Scenario("killed batch", batch(*two), writing, 2.0, kill), 5),
    )
    return {scenario.name: (scenario, count) for scenario, count in chosen}


def leftovers(place: Path) -> list[str]:
    """Everything in the folder of a trial that a command must not leave there."""
    found = []
    for path in place.rglob("*"):
        unfinished = any(mark in path.name for mark in (".part", ".partial-", "swiftvr-"))
        if unfinished or (path.is_file() and not path.name.endswith(_KEPT) and path.parts[-2] in ("tmp", "cache")):
            found.append(str(path.relative_to(place)))
    return found


def try_once(scenario: Scenario, place: Path, moment: float, number: signal.Signals) -> Trial:
    """One trial in an empty folder. moment: seconds from being ready to the signal."""
    for name in ("out", "tmp"):
        (place / name).mkdir(parents=True)
    entry, *arguments = scenario.command(place)
    command = [sys.executable, "-c", _PROGRAM.format(entry=entry), *arguments]
    environment = {**os.environ, "TMPDIR": str(place / "tmp"), "SWIFTVR_TRIAL": str(place)}
    with (place.with_suffix(".log")).open("wb") as log:
        process = subprocess.Popen(
            command, env=environment, stdout=log, stderr=log, stdin=subprocess.DEVNULL, start_new_session=True
        )

    def said() -> str:
        return place.with_suffix(".log").read_text(errors="replace")

    try:
        _wait(lambda: process.poll() is not None or scenario.ready(place, said()), _LONGEST_S)
        time.sleep(moment)
        over = process.poll() is not None
        began = time.monotonic()
        with suppress(ProcessLookupError):
            (os.killpg if number is signal.SIGINT else os.kill)(process.pid, number)  # a terminal signals all
        process.wait(_LONGEST_S)
        if number is signal.SIGKILL:
            _wait(lambda: not list(_family(place)), KILLED_S + 1)
        seconds = time.monotonic() - began
        trial = Trial(seconds, process.returncode, missed=over or (process.returncode == 0 and seconds < _DONE_S))
        trial.before_us = number is not signal.SIGKILL and _was_python(process.returncode, said(), number)
        trial.faults += [f"process {alive.pid} lives on" for alive in _family(place)]
        left = [name for name in leftovers(place) if not (number is signal.SIGKILL and Path(name).match(_OWN_PART))]
        trial.faults += [f"{name} is left" for name in left]
        if not (trial.missed or trial.before_us):
            trial.faults += _wrong_words(process.returncode, said(), number)
        return trial
    finally:
        for process_left in [*_family(place)]:
            with suppress(psutil.Error):
                process_left.kill()


def _wrong_words(code: int, said: str, number: signal.Signals) -> Iterator[str]:
    if "Traceback" in said or "Exception ignored" in said:
        yield f"a traceback: {said[-2000:]}"
    if number is signal.SIGKILL:
        return
    if code != 130:
        yield f"exit code {code}: {said[-300:]}"
    if not said.endswith(_LAST_WORDS):
        yield f"last words {said[-300:]!r}"


def _was_python(code: int, said: str, number: signal.Signals) -> bool:
    """Whether a signal ended Python before it had run anything of this package."""
    ours = str(Path(__file__).resolve().parents[1])
    return (code == -number and not said) or ("Traceback" in said and ours not in said and "swiftvr_trt/" not in said)


def _family(place: Path) -> Iterator[psutil.Process]:
    """The processes of a trial, whoever their parent is now."""
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            ours = process.environ().get("SWIFTVR_TRIAL") == str(place)
            if ours and process.status() != psutil.STATUS_ZOMBIE:
                yield process


def _wait(done: Callable[[], bool], longest_s: float) -> None:
    deadline = time.monotonic() + longest_s
    while not done() and time.monotonic() < deadline:
        time.sleep(0.01)


def _repeated(scenario: Scenario, place: Path, moment: float, number: signal.Signals) -> Iterator[Trial]:
    """Trials until one counts. A signal that came after the end is sent sooner."""
    late = 0
    for attempt in count():
        trial = try_once(scenario, place.with_name(f"{place.name}-{attempt}"), moment, number)
        yield trial
        if trial.missed and moment > _SOONEST_S:
            moment *= 0.6
            continue
        late += trial.seconds >= scenario.limit_s
        if trial.seconds < scenario.limit_s or late == _TRIES:
            return


def campaign(
    chosen: Sequence[tuple[Scenario, int]], place: Path, seed: int, say: Callable[[str], None] = print
) -> list[str]:
    """Run trials. Returns the faults, each with what is needed to repeat it."""
    faults: list[str] = []
    for scenario, signals in chosen:
        chance = random.Random(f"{seed} {scenario.name}")
        took: list[float] = []
        odd = {"before us": 0, "missed": 0}
        for index in range(signals):
            moment, number = chance.uniform(0, scenario.span_s), scenario.number or chance.choice(SIGNALS)
            what = f"{scenario.name}, trial {index}, {number.name} after {moment:.3f} s"
            for trial in _repeated(scenario, place / f"{scenario.name}-{index}".replace(" ", "-"), moment, number):
                faults += [f"{what}: {fault}" for fault in trial.faults]
                odd["missed"] += trial.missed
            if trial.seconds >= scenario.limit_s:
                faults.append(f"{what}: it took {trial.seconds:.2f} s")
            odd["before us"] += trial.before_us
            if not (trial.missed or trial.before_us):
                took.append(trial.seconds)
        longest = f"the longest took {max(took):.2f} s" if took else "none counted"
        say(
            f"{scenario.name}: {len(took)} of {signals} signals, {longest}; {odd['before us']} while Python started, "
            f"{odd['missed']} after the end; load {os.getloadavg()[0]:.1f}"
        )
    return faults


@click.command()
@click.option("--checkpoint", required=True, help="Checkpoint to build from.")
@click.option("--clip", type=click.Path(path_type=Path, exists=True), required=True, help="Takes seconds to restore.")
@click.option("--resolution", default="192x128", show_default=True, help="Size of the bundle.")
@click.option("--seed", type=int, default=0, show_default=True)
@click.option("--only", multiple=True, help="Name of a scenario. Repeat it for more; default: all.")
@click.option("--share", type=float, default=1.0, show_default=True, help="Share of the signals to send.")
def main(checkpoint: str, clip: Path, resolution: str, seed: int, only: tuple[str, ...], share: float) -> None:
    """Send signals to every command at random moments."""
    _stop_ignoring_signals()
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        options = BuildOptions(
            Path(checkpoint), (Resolution.parse(resolution),), output=place / "bundle", cache=place / "cache"
        )
        for bundle in build_bundles(options):
            material = Material(checkpoint, bundle.path, [_link(clip, place, name) for name in "abc"], resolution)
        everything = scenarios(material)
        chosen = [everything[name] for name in only or everything]
        faults = campaign(
            [(one, max(round(count * share), 1)) for one, count in chosen], place / "trials", seed, click.echo
        )
    for fault in faults:
        click.echo(f"FAULT {fault}")
    sys.exit(1 if faults else 0)


def _stop_ignoring_signals() -> None:
    """A shell's `&` and `nohup` have this process ignore some, commands would inherit that, and they respect it."""
    for number in SIGNALS:
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, signal.SIG_DFL)


def _link(clip: Path, place: Path, name: str) -> Path:
    link = place / f"{name}{clip.suffix}"
    link.symlink_to(clip.resolve())
    return link


if __name__ == "__main__":
    main()
