"""`doctor --try`: one line that says what works, or which step fails and why."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from swiftvr_trt.cli import trial
from swiftvr_trt.cli.trial import try_installation
from swiftvr_trt.engines.bundle.files import Bundle
from swiftvr_trt.errors import MachineError

from .program import finish, start


def test_three_frames_are_restored() -> None:
    done = try_installation()
    assert "h264" in done.decoded
    assert "48x32" in done.decoded
    assert "libx264" in done.encoded
    assert "96x64" in done.encoded


def test_the_bundle_is_intact_and_small() -> None:
    """It ships with the package. scripts/make_trial_bundle.py writes it again when the format changes."""
    Bundle.open(trial.BUNDLE)
    assert sum(file.stat().st_size for file in trial.BUNDLE.iterdir()) < 1_500_000


def test_doctor_says_in_one_line_what_works() -> None:
    said = finish(start("doctor", "--try"))
    assert (said.code, said.err) == (0, "")
    assert said.out.startswith("this installation works: 3 frames decoded (")
    assert said.out.count("\n") == 1
    assert set(json.loads(finish(start("doctor", "--try", "--json")).out)) == {"decoded", "restored", "encoded"}


def test_the_trial_needs_no_exporter() -> None:
    code = (
        "import sys; from swiftvr_trt.cli.trial import try_installation; try_installation(); "
        "sys.exit(bool({'torch', 'onnx', 'onnxscript'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize(
    ("part", "step"), [("_write", "encoding"), ("_restore", "restoring"), ("_check", "decoding the result")]
)
def test_a_failure_names_its_step(monkeypatch: pytest.MonkeyPatch, part: str, step: str) -> None:
    def fail(*_: Path) -> None:
        raise ValueError("no such\nthing")

    monkeypatch.setattr(trial, part, fail)
    with pytest.raises(MachineError, match=f"the trial failed at {step}: internal error: ValueError: no such$"):
        try_installation()


def test_a_damaged_installation_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(trial, "BUNDLE", tmp_path)
    with pytest.raises(MachineError, match=r"the trial failed at restoring: .*manifest"):
        try_installation()
