"""The campaign notices what it is there to notice."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.live_campaign import flashes
from benchmarks.live_checks import Outcome, accounts, bounded, decodable, drift, lip_sync, steady

needs_ffmpeg = pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="ffmpeg is not installed")


class Said:
    """A run that has said this, and taken this."""

    def __init__(self, *states: dict[str, Any], samples: list[dict[str, float]] | None = None) -> None:
        self.states, self.samples = states, samples or []

    def events(self, kind: str) -> list[dict[str, Any]]:
        return list(self.states) if kind == "live" else []


@needs_ffmpeg
def test_flashes_and_beeps_are_together_and_a_recording_in_which_they_part_is_a_fault(tmp_path: Path) -> None:
    clip = flashes(tmp_path / "a.ts", 12)
    offsets = drift(clip)
    assert len(offsets) == 11
    assert np.abs(offsets).max() < 0.03
    outcome = Outcome("together")
    lip_sync(outcome, clip)
    assert decodable(outcome, clip) == 300
    assert outcome.faults == []
    slower = ["-af", "asetrate=47000,aresample=48000", "-c:v", "copy", "-c:a", "aac", str(tmp_path / "b.ts")]
    subprocess.run(["ffmpeg", "-v", "error", "-i", str(clip), *slower], check=True)
    lip_sync(outcome, tmp_path / "b.ts")
    assert any("sound drifts" in fault for fault in outcome.faults)


@pytest.mark.parametrize(
    ("changed", "fault"),
    [
        ({}, None),
        ({"frames_out": 89}, "frames are missing that nobody reported"),
        ({"frames_in": 0, "frames_out": -10}, "no frame came in"),
    ],
)
def test_frames_that_nobody_reported_are_a_fault(changed: dict[str, int], fault: str | None) -> None:
    state = {"frames_in": 100, "frames_out": 90, "dropped": 8, "unsent": 2, "delay_p95_s": 0.5, **changed}
    run: Any = Said(state)
    outcome = Outcome("counts")
    accounts(outcome, run)
    assert outcome.faults == ([] if fault is None else [fault])
    accounts(outcome, run, lossless=True)
    assert "10 frames were lost, expected none" in outcome.faults


@pytest.mark.parametrize("grown", ["rss", "descriptors", "threads", None])
def test_what_grows_is_a_fault(grown: str | None) -> None:
    samples = [
        {name: 100.0 + (number / 5 if name == grown else 0) for name in ("rss", "descriptors", "threads")}
        for number in range(120)
    ]
    run: Any = Said({}, samples=samples)
    outcome = Outcome("growth")
    steady(outcome, run)
    assert [fault.split()[0] for fault in outcome.faults] == ([grown] if grown else [])


@pytest.mark.parametrize(("delays", "grows"), [([1.0, None, 1.4, 1.2], False), ([1.0, 1.0, 1.0, 1.6], True)])
def test_a_delay_that_grows_is_a_fault(delays: list[float | None], grows: bool) -> None:
    run: Any = Said(*({"delay_p95_s": delay} for delay in delays))
    outcome = Outcome("delay")
    bounded(outcome, run)
    assert any("the delay grew" in fault for fault in outcome.faults) == grows
