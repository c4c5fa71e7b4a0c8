"""The whole path of the tool on a GPU, on an emulated driver: it works, and its record never says `measured`."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from swiftvr_trt.benchmarks.suite.record import How, State, read_run
from tests.conftest import BundleFactory
from tests.cuda_emulator import build
from tests.runtime.devices.fake_trt import write_engine_bundle
from tests.runtime.restore.faulty import ROOT
from tests.runtime.restore.fleet_lab import EMULATED, emulates

from .lab import trial_bundle

SUITES = ("core", "file", "memory", "latency", "quality", "startup")
"""A process each, but for starts, which have three."""


def emulated_environment(folder: Path, then: str = "") -> dict[str, str]:
    """Gives the tool and its processes an emulated GPU and a stand-in for TensorRT before they do anything else."""
    (folder / "at_first.py").write_text(EMULATED + then)
    (folder / "sitecustomize.py").write_text(
        "import sys\n"
        "if {'swiftvr_trt.cli.bench', 'swiftvr_trt.benchmarks.suite.worker'} & set(sys.orig_argv):\n"
        "    import at_first\n"
    )
    return {**os.environ, "PYTHONPATH": os.pathsep.join([str(folder), str(ROOT)])}


@emulates
def test_what_an_emulated_gpu_does_is_emulated(
    mini_bundle: BundleFactory, mini_checkpoint: Path, tmp_path: Path
) -> None:
    build()
    bundle = write_engine_bundle(tmp_path / "engines", mini_bundle())
    (tmp_path / "site").mkdir()
    record = tmp_path / "run.json"
    command = [sys.executable, "-m", "swiftvr_trt.cli.bench", "--bundle", str(bundle.path), "--protocol", "trial"]
    command += [
        "--checkpoint",
        str(mini_checkpoint),
        "--suite",
        ",".join(SUITES),
        "--page",
        str(tmp_path / "run.html"),
        "-o",
        str(record),
    ]
    done = subprocess.run(
        command, env=emulated_environment(tmp_path / "site"), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    run = read_run(record)
    assert [(case.suite, case.state) for case in run.cases] == [(suite, State.DONE) for suite in SUITES]
    assert run.host.gpu is not None
    assert run.host.gpu.emulated
    assert {case.subject.device for case in run.cases} == {"CUDA emulator (host memory)"}
    hows = {figure.how for case in run.cases for figure in case.figures}
    assert hows == {How.EMULATED, How.COMPILED}
    names = {figure.name for case in run.cases for figure in case.figures}
    assert names >= {"chunk", "stage.dit", "file_fps", "memory.arena", "rss_bytes", "psnr"}
    assert "emulated" in done.stdout
    page = (tmp_path / "run.html").read_text(encoding="utf-8")
    assert 'class="mark emulated"' in page
    assert 'class="mark measured"' not in page


@emulates
def test_a_lost_device_fails_its_case_and_the_record_says_so(tmp_path: Path) -> None:
    build()
    bundle = write_engine_bundle(tmp_path / "engines", trial_bundle())
    (tmp_path / "site").mkdir()
    record = tmp_path / "run.json"
    command = [sys.executable, "-m", "swiftvr_trt.cli.bench", "--bundle", str(bundle.path), "--protocol", "trial"]
    command += ["--suite", "latency", "-o", str(record)]
    environment = emulated_environment(tmp_path / "site", "breaks()\n")
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.endswith(f"error: 1 of 1 cases failed; {record} says why\n")
    (case,) = read_run(record).cases
    assert case.state is State.FAILED
    assert "CUDA_ERROR_ILLEGAL_ADDRESS" in case.problem
    assert "\n" not in case.problem
