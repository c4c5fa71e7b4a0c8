"""A run of `swiftvr-run --live`, and whether it did as promised: its counts, delays, memory and recording."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from swiftvr_trt.runtime.media.colour import converted

_RUN = "from swiftvr_trt.cli.start import swiftvr_run; swiftvr_run()"
_DRIFT_S = 0.020
_GROWTH = 1.05


@dataclass
class Outcome:
    """What a scenario measured. faults: what was not as promised, one line each."""

    name: str
    measured: dict[str, Any] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)

    def check(self, holds: bool, fault: str) -> None:
        if not holds:
            self.faults.append(fault)


class LiveProcess:
    """`swiftvr-run --live --json`, and what it says and takes."""

    def __init__(self, place: Path, bundle: Path, source: str, output: str, *options: str) -> None:
        """place: a folder for what it says."""
        line = [sys.executable, "-c", _RUN, source, output, "--live", "--json", "-y", "--bundle", str(bundle)]
        self._log = (place / f"events-{time.monotonic_ns()}.jsonl").open("w+b")
        self.process = subprocess.Popen([*line, *options], stdout=self._log, stderr=subprocess.DEVNULL)
        self.samples: list[dict[str, float]] = []

    def events(self, kind: str) -> list[dict[str, Any]]:
        """What it has said so far."""
        text = Path(self._log.name).read_text(encoding="utf-8")
        found = [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith("\n")]
        return [event for event in found if event["event"] == kind]

    def sample(self) -> None:
        """Note the memory, descriptors and threads of the program and its child."""
        with suppress(psutil.Error):
            parent = psutil.Process(self.process.pid)
            family = [parent, *parent.children(recursive=True)]
            self.samples.append(
                {
                    "rss": float(sum(each.memory_info().rss for each in family)),
                    "descriptors": float(sum(each.num_fds() for each in family)),
                    "threads": float(sum(each.num_threads() for each in family)),
                }
            )

    def wait_until(self, happened: Callable[[], bool], patience_s: float = 60.0) -> bool:
        deadline = time.monotonic() + patience_s
        while not happened() and time.monotonic() < deadline and self.process.poll() is None:
            time.sleep(0.1)
        return happened()

    def begins(self) -> bool:
        """Wait until it has begun."""
        return self.wait_until(lambda: bool(self.events("live")))

    def watch(self, seconds: float) -> None:
        """Let it run, and take a sample every second."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline and self.process.poll() is None:
            self.sample()
            time.sleep(1.0)

    def end(self) -> int:
        """Ask for an orderly end."""
        self.process.send_signal(signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(60)
        self.process.kill()
        return int(self.process.wait())


def accounts(outcome: Outcome, run: LiveProcess, *, lossless: bool = False) -> dict[str, Any]:
    """Check the last counts: frames out are frames in minus those reported. Returns them."""
    states = run.events("live")
    last: dict[str, Any] = states[-1] if states else {}
    lost = sum(last.get(name, 0) for name in ("dropped", "unsent", "disordered"))
    outcome.measured["counts"] = last
    outcome.measured["notes"] = [event["text"] for event in run.events("note") if event["level"] == "warning"][:60]
    outcome.check(bool(last) and last["frames_in"] > 0, "no frame came in")
    outcome.check(
        last.get("frames_in", 0) == last.get("frames_out", -1) + lost, "frames are missing that nobody reported"
    )
    outcome.check(not lossless or lost == 0, f"{lost} frames were lost, expected none")
    delays = [state["delay_p95_s"] for state in states if state["delay_p95_s"] is not None]
    outcome.measured["worst_p95_s"] = max(delays, default=None)
    return last


def steady(outcome: Outcome, run: LiveProcess) -> None:
    """Check that nothing grows after the first minute, or the first third of a short run."""
    begin = min(60, len(run.samples) // 3)
    rest = run.samples[begin:]
    if len(rest) < 10:
        return
    size = max(len(rest) // 10, 1)
    for name in ("rss", "descriptors", "threads"):
        first = float(np.median([each[name] for each in rest[:size]]))
        last = float(np.median([each[name] for each in rest[-size:]]))
        outcome.measured[name] = {"first": first, "last": last, "samples": len(rest)}
        outcome.check(last <= first * _GROWTH, f"{name} grew from {first:.0f} to {last:.0f}")
    minutes = [run.samples[begin : begin + 60] for begin in range(0, len(run.samples), 60)]
    outcome.measured["mb_by_minute"] = [
        round(float(np.median([each["rss"] for each in minute])) / 1e6, 1) for minute in minutes
    ]


def bounded(outcome: Outcome, run: LiveProcess) -> None:
    """Check that the delay is no longer in the second half of a run than in the first."""
    delays = [state["delay_p95_s"] for state in run.events("live") if state["delay_p95_s"] is not None]
    first, second = (max(part, default=0.0) for part in (delays[: len(delays) // 2], delays[len(delays) // 2 :]))
    outcome.measured["longest_delay_s"] = {"first": first, "second": second}
    outcome.check(second <= 1.5 * first, f"the delay grew from {first:.1f} to {second:.1f} s")


def decodable(outcome: Outcome, path: Path) -> int:
    """Check that FFmpeg decodes a recording of the output without an error. Returns the number of its frames."""
    said = subprocess.run(
        ["ffmpeg", "-v", "error", "-nostdin", "-i", path, "-map", "0:v", "-f", "rawvideo", "-y", "/dev/null"],
        capture_output=True,
        text=True,
    ).stderr
    outcome.check(not said, f"FFmpeg says of the output: {said[:200]}")
    times = video_times(path)
    outcome.measured["recorded"] = len(times)
    outcome.check(bool(np.all(np.diff(times) > 0)), "time stamps of the output do not increase")
    return len(times)


def video_times(path: Path) -> Any:
    """When the frames of a recording are shown, in seconds."""
    import av

    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        return np.array(
            sorted(float(packet.pts * packet.time_base) for packet in container.demux(stream) if packet.pts is not None)
        )


def drift(path: Path) -> list[float]:
    """Beep minus flash in seconds, for each that has both, in order."""
    import av

    bright, loud = [], []
    with av.open(str(path)) as container:
        for frame in container.decode(video=0):
            bright.append((float(frame.time or 0.0), float(converted(frame, format="gray").to_ndarray().mean())))
    with av.open(str(path)) as container:
        for sound in container.decode(audio=0):
            samples = np.abs(sound.to_ndarray()).reshape(-1)
            times = float(sound.time or 0.0) + np.arange(len(samples)) / sound.sample_rate
            loud += [(float(times[k]), float(samples[k : k + 48].max())) for k in range(0, len(samples), 48)]
    lights, beeps = _beginnings(bright, 128.0), _beginnings(loud, 0.2)
    offsets = [beeps[np.argmin(np.abs(beeps - light))] - light for light in lights] if len(beeps) else []
    return [float(each) for each in offsets if abs(each) < 0.4]


def _beginnings(levels: Sequence[tuple[float, float]], threshold: float) -> Any:
    """When a level rises above a threshold after having been below it for half a second."""
    times, above = [], -1.0
    for time_s, level in levels:
        if level > threshold:
            if above < 0 or time_s - above > 0.5:
                times.append(time_s)
            above = time_s
    return np.array(times[1:])  # the first may be cut off


def lip_sync(outcome: Outcome, path: Path) -> None:
    """Check that sound and picture are as far apart at the end as at the beginning."""
    offsets = drift(path)
    outcome.measured["flashes"] = len(offsets)
    outcome.check(len(offsets) >= 5, "too few flashes and beeps came out to compare")
    if len(offsets) >= 5:
        fifth = max(len(offsets) // 5, 2)
        first, last = float(np.median(offsets[:fifth])), float(np.median(offsets[-fifth:]))
        outcome.measured["offset_s"] = {"first": first, "last": last}
        outcome.check(abs(last - first) < _DRIFT_S, f"sound drifts from {first:.3f} to {last:.3f} s")
