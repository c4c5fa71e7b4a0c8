"""The runner of the GPU tests, on a machine without a GPU: crashes, hangs and failures all end up in the report."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from click.testing import CliRunner

from benchmarks.processes import Sandbox
from swiftvr_trt.runtime.devices.driver import has_driver

from . import REHEARSED, runner
from .runner import Part, run_part

ROOT = Path(__file__).resolve().parents[2]
CRASHING = """
import os, time
import pytest

pytestmark = pytest.mark.gpu

def test_before(record_property):
    record_property("figure", 7)

def test_crashes():
    print("the library says why", flush=True)
    os.abort()

def test_between():
    pytest.skip("no such card")

def test_leaves():
    os._exit(0)

def test_warns():
    import warnings
    warnings.warn("of an unknown driver", UserWarning)

def test_fails():
    assert 1 == 2
"""


CONFTEST = """
def pytest_addoption(parser):
    parser.addoption("--gpu-bundles")
    parser.addoption("--rehearse", action="store_true")
"""


def _part(path: Path, text: str) -> Part:
    """Tests outside of `tests/`, so the options of its conftest come from one of their own."""
    path.write_text(text, encoding="utf-8")
    path.with_name("conftest.py").write_text(CONFTEST, encoding="utf-8")
    return Part("crash", (str(path), "-c", str(ROOT / "pyproject.toml")))


def test_a_crash_takes_one_test_with_it(tmp_path: Path) -> None:
    summary, tests = run_part(_part(tmp_path / "test_crashing.py", CRASHING), Sandbox(tmp_path))
    found = {test["name"]: test for test in tests}
    outcomes = ["passed", "failed", "skipped", "failed", "passed", "failed"]
    assert [found[name]["outcome"] for name in found] == outcomes
    assert list(found) == [f"test_{name}" for name in ("before", "crashes", "between", "leaves", "warns", "fails")]
    assert found["test_before"]["noted"] == {"figure": 7}
    assert found["test_between"]["why"] == "Skipped: no such card"
    assert "the process ended in this test" in found["test_crashes"]["why"]
    assert "exit code 0" in found["test_leaves"]["why"]
    assert "assert 1 == 2" in found["test_fails"]["why"]
    assert len(summary["exit_codes"]) == 3
    assert summary["exit_codes"][0] != 0
    assert summary["exit_codes"][-1] == 1
    assert "the library says why" in summary["outputs"][0]
    assert "Fatal Python error: Aborted" in summary["outputs"][0]
    assert "in test_crashes" in summary["outputs"][0]


def test_an_import_error_is_in_the_output(tmp_path: Path) -> None:
    summary, tests = run_part(_part(tmp_path / "test_broken.py", "import no_such_library\n"), Sandbox(tmp_path))
    assert tests == []
    assert summary["exit_codes"] == [2]
    assert "No module named 'no_such_library'" in summary["outputs"][0]


@pytest.mark.slow
def test_a_test_that_hangs_is_ended(tmp_path: Path) -> None:
    text = "import pytest, time\n@pytest.mark.gpu\ndef test_hangs(): time.sleep(600)\n"
    part = _part(tmp_path / "test_hanging.py", text)
    for limit in (10, 40, 160):  # on a busy machine the test has not even begun at the first
        began = time.monotonic()
        summary, tests = run_part(part, Sandbox(tmp_path), limit)
        assert time.monotonic() - began < limit + 30
        assert summary["late"]
        if tests:
            break
    assert [test["outcome"] for test in tests] == ["failed"]
    assert "ended at its time limit" in tests[0]["why"]


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The whole program with two tests, one of which crashes, and no bundle to measure."""
    text = "import os, pytest\npytestmark = pytest.mark.gpu\ndef test_one(): pass\ndef test_two(): os.abort()\n"
    monkeypatch.setattr(runner, "PARTS", (_part(tmp_path / "test_two.py", text),))


@pytest.mark.usefixtures("quick")
def test_files_that_cannot_be_removed_do_not_cost_the_report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Windows cannot remove files that are open or mapped."""

    def refuse(path: object, *_arguments: object, **_options: object) -> None:
        raise PermissionError(13, "the file is in use", path)

    monkeypatch.setattr(os, "unlink", refuse)
    monkeypatch.setattr(os, "rmdir", refuse)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    out = tmp_path / "out.json"
    result = CliRunner().invoke(runner.main, ["--rehearse", "--output", str(out), "--note", "no TensorRT"])
    assert list(tmp_path.glob("gpu-test-*/crash-0.jsonl"))  # could not be removed
    report = json.loads(out.read_text(encoding="utf-8"))
    assert result.exit_code == 1
    assert "1 passed, 1 failed, 0 skipped" in result.output
    assert report["complete"]
    assert not report["passed"]
    assert report["notes"] == ["no TensorRT"]
    assert [test["outcome"] for test in report["tests"]] == ["passed", "failed"]


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("error", [KeyboardInterrupt(), RuntimeError("a bug in the program")])
def test_what_was_known_before_an_error_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    def measure(*_arguments: object) -> None:
        raise error

    monkeypatch.setattr(runner, "measure_all", measure)
    out = tmp_path / "out.json"
    result = CliRunner().invoke(runner.main, ["--rehearse", "--output", str(out)])
    assert result.exit_code == 1
    report = json.loads(out.read_text(encoding="utf-8"))
    assert [test["outcome"] for test in report["tests"]] == ["passed", "failed"]
    assert not report["complete"]
    assert "interrupted" in report["error"] or "a bug in the program" in report["error"]


def test_if_every_test_is_skipped_the_run_has_not_passed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = "import pytest\n@pytest.mark.gpu\n@pytest.mark.skip\ndef test_one(): pass\n"
    monkeypatch.setattr(runner, "PARTS", (_part(tmp_path / "test_one.py", text),))
    out = tmp_path / "out.json"
    assert CliRunner().invoke(runner.main, ["--rehearse", "--output", str(out)]).exit_code == 1
    report = json.loads(out.read_text(encoding="utf-8"))
    assert report["complete"]
    assert not report["passed"]


def test_a_report_that_cannot_be_written_is_an_error_at_once(tmp_path: Path) -> None:
    result = CliRunner().invoke(runner.main, ["--rehearse", "--output", str(tmp_path / "none" / "out.json")])
    assert result.exit_code == 1
    assert "cannot be written" in result.output


@pytest.mark.skipif(has_driver(), reason="this machine has a driver")
def test_a_gpu_that_cannot_be_described_is_an_entry_with_the_reason(tmp_path: Path) -> None:
    (gpu,) = runner.describe_gpus(Sandbox(tmp_path))
    assert "no NVIDIA driver was found" in gpu["error"]


@pytest.mark.slow
def test_a_rehearsal_writes_the_report_that_a_gpu_would(tmp_path: Path) -> None:
    """The GPU tests themselves and their way into the report, on the CPU."""
    out = tmp_path / "out.json"
    command: list[str | Path] = [sys.executable, "-m", "tests.gpu.runner", "--rehearse", "--output", out]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stdout
    report = json.loads(out.read_text(encoding="utf-8"))
    assert report["rehearsal"]
    assert report["passed"]
    assert report["complete"]
    assert [part["name"] for part in report["parts"]] == [*REHEARSED, "video"]
    assert {code for part in report["parts"] for code in part["exit_codes"]} == {0}
    outcomes = {test["name"]: test["outcome"] for test in report["tests"]}
    assert outcomes["test_frames_are_those_of_the_cpu[graphs-fp32]"] == "passed"
    assert outcomes["test_a_cancelled_stream_ends_within_a_second_and_harms_no_other[graphs-fp32]"] == "passed"
    assert outcomes["test_frames_are_those_of_the_cpu[engines-fp16]"] == "skipped"
    assert outcomes["test_video_is_encoded_by_the_gpu"] == "passed"
    noted = {name: value for test in report["tests"] for name, value in test["noted"].items()}
    assert float(noted["psnr_db"]) == 100.0  # a bundle against itself
    assert report["machine"]["packages"]["numpy"]
    assert [figure["status"] for figure in report["figures"]] == ["measured", "measured"]
    for figure, size in zip(report["figures"], ("320x180", "192x108"), strict=True):
        assert figure["bundle"].startswith(size)
        assert figure["core_frames_per_second"] > 0
        assert figure["file_frames_per_second"] > 0
        assert figure["device"] == "cpu"
