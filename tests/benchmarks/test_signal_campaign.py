"""The campaign in small, and that it notices what it is there to notice."""

from __future__ import annotations

import re
import signal
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks import signal_campaign
from benchmarks.signal_campaign import Material, Scenario, campaign, scenarios, try_once
from tests.clips import write_clip
from tests.conftest import BundleFactory

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks for processes by their environment")


def always(_place: Path, _said: str) -> bool:
    return True


def said(_place: Path, said: str) -> bool:
    return "ready" in said


def pretend(monkeypatch: pytest.MonkeyPatch, code: str) -> Scenario:
    """A scenario whose command is this code."""
    monkeypatch.setattr(signal_campaign, "_PROGRAM", f"import os, signal, sys, time\n{code}\n# {{entry}}")
    return Scenario("pretended", lambda place: ["none", str(place)], said, 0.0, signal.SIGTERM)


IGNORE = "signal.signal(signal.SIGTERM, lambda *_: {}); print('ready', flush=True); time.sleep(60)"
WORDS = "error: interrupted; nothing was left half-written"


@pytest.mark.parametrize(
    ("code", "fault"),
    [
        (IGNORE.format(f"(print({WORDS!r}, flush=True), os._exit(130))"), None),
        (IGNORE.format(f"(print({WORDS!r}, flush=True), os._exit(1))"), "exit code 1"),
        (IGNORE.format("os._exit(130)"), "last words"),
        (IGNORE.format("exec(compile('1 / 0', 'swiftvr_trt/x.py', 'exec'))"), "a traceback"),
        ("open(sys.argv[1] + '/out/.a.part.mkv', 'x')\n" + IGNORE.format("os._exit(130)"), "a.part.mkv is left"),
        ("open(sys.argv[1] + '/tmp/x', 'x')\n" + IGNORE.format("os._exit(130)"), "tmp/x is left"),
        ("import subprocess; subprocess.Popen(['sleep', '60'])\n" + IGNORE.format("os._exit(130)"), "lives on"),
    ],
    ids=["nothing", "code", "words", "traceback", "part", "temporary file", "process"],
)
def test_faults_are_noticed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, code: str, fault: str | None) -> None:
    trial = try_once(pretend(monkeypatch, code), tmp_path / "trial", 0.0, signal.SIGTERM)
    if fault is None:
        assert trial.faults == []
    else:
        assert any(fault in found for found in trial.faults), trial.faults


@pytest.mark.parametrize(("code", "ready"), [(IGNORE.format("1 / 0"), said), ("time.sleep(60)", always)])
def test_a_signal_while_python_starts_is_counted_apart(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, code: str, ready: Callable[[Path, str], bool]
) -> None:
    """Its traceback has no line of this package, or the signal ends it before anyone can listen."""
    scenario = replace(pretend(monkeypatch, code), ready=ready)
    trial = try_once(scenario, tmp_path / "trial", 0.2, signal.SIGTERM)
    assert (trial.before_us, trial.faults) == (True, [])


def test_who_is_late_is_noticed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(signal_campaign, "_TRIES", 2)
    late = pretend(monkeypatch, IGNORE.format(f"(time.sleep(1.5), print({WORDS!r}, flush=True), os._exit(130))"))
    (fault,) = campaign([(late, 1)], tmp_path, seed=0)
    assert re.search(r"it took [1-9]\d*\.\d\d s", fault)


@pytest.mark.alone  # a busy machine sends all of them too late
def test_a_signal_that_came_too_late_is_sent_sooner(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The command takes half a second, and the first signal comes later. While Python ends, nobody would hear one."""
    code = IGNORE.format(f"(print({WORDS!r}, flush=True), os._exit(130))")
    code = code.replace("time.sleep(60)", "time.sleep(0.5); os._exit(0)")
    assert campaign([(replace(pretend(monkeypatch, code), span_s=1.5), 1)], tmp_path, seed=0) == []
    assert "1 of 1 signals" in capsys.readouterr().out


@pytest.mark.alone
@pytest.mark.slow
def test_a_small_campaign_finds_nothing(
    mini_bundle: BundleFactory, mini_checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    clip = write_clip(tmp_path / "a.mkv", frames=600)
    clips = [clip, *(tmp_path / f"{name}.mkv" for name in "bc")]
    for link in clips[1:]:
        link.symlink_to(clip)
    material = Material(str(mini_checkpoint), mini_bundle().path, clips, "100x132")
    chosen = [(scenario, max(count // 20, 1)) for scenario, count in scenarios(material).values()]
    faults = campaign(chosen, tmp_path / "trials", seed=11)
    assert faults == [], capsys.readouterr().out
