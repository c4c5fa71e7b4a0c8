"""`make gpu-test`, as far as a machine without a GPU can try it."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

from swiftvr_trt.engines.doctor import has_driver

ROOT = Path(__file__).resolve().parent.parent
SCRIPT = ROOT / "scripts" / "gpu_test.py"


@pytest.mark.skipif(has_driver(), reason="this machine has a driver")
def test_without_a_gpu_it_ends_at_once_in_one_line(tmp_path: Path) -> None:
    """-I -S: it is run with whatever Python there is, before anything is installed."""
    began = time.monotonic()
    command = [sys.executable, "-I", "-S", SCRIPT, "--output", tmp_path / "out.json"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert time.monotonic() - began < 5
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.startswith("error: no NVIDIA driver was found")
    assert len(done.stderr.splitlines()) == 1
    assert list(tmp_path.iterdir()) == []
    assert not (ROOT / ".venv-gpu").exists()


@pytest.mark.slow
@pytest.mark.alone
def test_the_rehearsal_writes_what_a_gpu_would(tmp_path: Path) -> None:
    """The tests of the GPU themselves, and the way from them to the file, with the CPU in the GPU's place."""
    out = tmp_path / "out.json"
    command = [sys.executable, "-m", "benchmarks.gpu_test", "--rehearse", "--output", out]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stdout
    report = json.loads(out.read_text(encoding="utf-8"))
    assert report["rehearsal"]
    assert report["passed"]
    outcomes = {test["name"]: test["outcome"] for test in report["tests"]}
    assert outcomes["test_frames_are_those_of_the_cpu[graphs-fp32]"] == "passed"
    assert outcomes["test_a_cancelled_stream_ends_within_a_second_and_harms_no_other[graphs-fp32]"] == "passed"
    assert outcomes["test_frames_are_those_of_the_cpu[engines-fp16]"] == "skipped"
    noted = {name: value for test in report["tests"] for name, value in test["noted"].items()}
    assert float(noted["psnr_db"]) == 100.0  # a bundle against itself
    assert report["machine"]["packages"]["numpy"]
    (figure,) = report["figures"]
    assert figure["frames_per_second"] > 0
    assert figure["device"] == "cpu"
