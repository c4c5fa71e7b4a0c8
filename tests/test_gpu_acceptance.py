"""`make gpu-test`, as far as a machine without a GPU can try it: above all, a file is there whatever goes wrong."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from click.testing import CliRunner

from benchmarks import gpu_test
from benchmarks.gpu_test import Part, Report, Work, measure_all, run_part
from swiftvr_trt.runtime.devices.driver import has_driver
from tests.gpu.conftest import run_build
from tests.gpu.machine import MOST_GROWTH_PER_CHUNK, growth_per_chunk, need_video, no_encoder
from tests.gpu.process import run

from .conftest import BundleFactory
from .gpu import ROUTES

ROOT = Path(__file__).resolve().parent.parent
SCRIPT = ROOT / "scripts" / "gpu_test.py"
MIB = 1 << 20

without_driver = pytest.mark.skipif(has_driver(), reason="this machine has a driver")


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> ModuleType:
    """The script as a module, in a clone of its own that holds nothing."""
    spec = importlib.util.spec_from_file_location("gpu_test_script", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "ROOT", tmp_path / "clone")
    monkeypatch.setattr(module, "PLACE", tmp_path / "clone" / ".venv-gpu")
    (tmp_path / "clone").mkdir()
    return module


@without_driver
def test_without_a_gpu_it_ends_at_once_in_one_line(tmp_path: Path) -> None:
    """-I -S: it is run with whatever Python there is, before anything is installed."""
    began = time.monotonic()
    command: list[str | Path] = [sys.executable, "-I", "-S", SCRIPT, "--output", tmp_path / "out.json"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert time.monotonic() - began < 5
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.startswith("error: no NVIDIA driver was found")
    assert len(done.stderr.splitlines()) == 1
    assert list(tmp_path.iterdir()) == []
    assert not (ROOT / ".venv-gpu").exists()


def _run_script(
    script: ModuleType, patch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], out: Path, *options: str
) -> tuple[str, dict[str, Any]]:
    """Run the script on a machine that has a GPU, as far as it knows, to no good end; its one line, and the file."""
    out.write_text("of an earlier run", encoding="utf-8")
    patch.setattr(script, "find_problem", lambda: None)
    patch.setattr(sys, "argv", ["gpu_test.py", "--output", str(out), *options])
    assert script.main() == 1
    *_, line = capsys.readouterr().err.splitlines()
    report = json.loads(out.read_text(encoding="utf-8"))
    assert line == f"error: {report['error']}"
    assert not report["passed"]
    return line, report


def test_a_python_without_venv_is_told_what_to_install(
    script: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As on Debian without python3-venv: the environment is made, and then ensurepip is not there."""

    def create(place: Path, **_options: object) -> None:
        (place / "bin").mkdir(parents=True)
        (place / "bin" / "python").symlink_to(sys.executable)
        command = [sys.executable, "-m", "no_ensurepip"]
        subprocess.run(command, check=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)

    monkeypatch.setattr(script.venv, "create", create)
    line, report = _run_script(script, monkeypatch, capsys, tmp_path / "out.json")
    assert f"sudo apt install python3.{sys.version_info.minor}-venv" in line
    assert "No module named no_ensurepip" in report["output"]
    assert not script.PLACE.exists()


@pytest.mark.slow
def test_an_environment_that_is_half_made_is_made_anew(script: ModuleType) -> None:
    script.venv.create(script.PLACE, with_pip=False)
    python = script.PLACE / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    assert python.exists()
    assert not script.has_pip(python)
    script.make_environment()
    assert script.has_pip(python)


def test_packages_that_cannot_be_installed_are_told_in_one_line(
    script: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The clone is empty, so pip refuses it before it looks at the network."""
    monkeypatch.setattr(script, "has_pip", lambda _python: True)
    real = script.install
    monkeypatch.setattr(script, "install", lambda _python, *what: real(Path(sys.executable), *what[:2]))
    line, report = _run_script(script, monkeypatch, capsys, tmp_path / "out.json")
    assert line.startswith("error: the packages could not be installed (ERROR: ")
    assert "does not appear to be a Python project" in line
    assert "does not appear to be a Python project" in report["output"]


@pytest.mark.parametrize(("code", "last"), [("raise ImportError('no libcublas')", "no libcublas"), ("os.abort()", "")])
def test_tests_that_do_not_even_begin_leave_a_file(
    script: ModuleType,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    code: str,
    last: str,
) -> None:
    (script.ROOT / "benchmarks").mkdir()
    (script.ROOT / "benchmarks" / "gpu_test.py").write_text(f"import os\n{code}\n", encoding="utf-8")
    line, report = _run_script(script, monkeypatch, capsys, tmp_path / "out.json", "--here")
    assert line.startswith("error: the tests ended with exit code ")
    assert last in line
    assert "benchmarks" in report["output"]
    assert "gpu_test.py" in report["output"]  # the traceback, of the abort too


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
    """Tests that lie outside of `tests/`, and so have the options of its conftest from one of their own."""
    path.write_text(text, encoding="utf-8")
    path.with_name("conftest.py").write_text(CONFTEST, encoding="utf-8")
    return Part("crash", (str(path), "-c", str(ROOT / "pyproject.toml")))


def test_a_crash_takes_one_test_with_it(tmp_path: Path) -> None:
    told, tests = run_part(_part(tmp_path / "test_crashing.py", CRASHING), Work(tmp_path))
    found = {test["name"]: test for test in tests}
    outcomes = ["passed", "failed", "skipped", "failed", "passed", "failed"]
    assert [found[name]["outcome"] for name in found] == outcomes
    assert list(found) == [f"test_{name}" for name in ("before", "crashes", "between", "leaves", "warns", "fails")]
    assert found["test_before"]["noted"] == {"figure": 7}
    assert found["test_between"]["why"] == "Skipped: no such card"
    assert "the process ended in this test" in found["test_crashes"]["why"]
    assert "exit code 0" in found["test_leaves"]["why"]
    assert "assert 1 == 2" in found["test_fails"]["why"]
    assert len(told["exit_codes"]) == 3
    assert told["exit_codes"][0] != 0
    assert told["exit_codes"][-1] == 1
    assert "the library says why" in told["outputs"][0]
    assert "Fatal Python error: Aborted" in told["outputs"][0]
    assert "in test_crashes" in told["outputs"][0]


def test_tests_that_do_not_load_are_seen_in_the_output(tmp_path: Path) -> None:
    told, tests = run_part(_part(tmp_path / "test_broken.py", "import no_such_library\n"), Work(tmp_path))
    assert tests == []
    assert told["exit_codes"] == [2]
    assert "No module named 'no_such_library'" in told["outputs"][0]


@pytest.mark.slow
def test_a_test_that_hangs_is_ended(tmp_path: Path) -> None:
    text = "import pytest, time\n@pytest.mark.gpu\ndef test_hangs(): time.sleep(600)\n"
    part = _part(tmp_path / "test_hanging.py", text)
    for limit in (10, 40, 160):  # on a busy machine the test has not even begun at the first
        began = time.monotonic()
        told, tests = run_part(part, Work(tmp_path), limit)
        assert time.monotonic() - began < limit + 30
        assert told["late"]
        if tests:
            break
    assert [test["outcome"] for test in tests] == ["failed"]
    assert "ended at its time limit" in tests[0]["why"]


def test_what_a_process_started_ends_with_it(tmp_path: Path) -> None:
    """A compiler that hangs, say. The pipe that it has inherited holds nobody up either."""
    code = "import subprocess, sys; subprocess.run([sys.executable, '-c', 'import time; time.sleep(600)'])"
    began = time.monotonic()
    ended = run([sys.executable, "-c", code], 3, tmp_path)
    assert time.monotonic() - began < 30
    assert ended.late
    assert ended.code != 0


def test_a_build_that_fails_gives_its_reason() -> None:
    code = "import sys; print('first'); print('error: no memory for it', file=sys.stderr); sys.exit(3)"
    with pytest.raises(pytest.fail.Exception, match="the build failed, exit code 3: error: no memory for it"):
        run_build([sys.executable, "-c", code], 120)
    with pytest.raises(pytest.fail.Exception, match="Fatal Python error: Aborted"):
        run_build([sys.executable, "-c", "import os; os.abort()"], 120)
    with pytest.raises(pytest.fail.Exception, match="the build failed, ended at its time limit"):
        run_build([sys.executable, "-c", "import time; time.sleep(600)"], 2)
    run_build([sys.executable, "-c", ""], 120)


def test_bundles_that_are_none_are_lines_or_nothing(
    tmp_path: Path, mini_bundle: BundleFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A killed build leaves a directory; TensorRT-RTX a file with kernels, beside the bundle."""
    monkeypatch.setattr(gpu_test, "REHEARSED_SIZES", ())
    bundles = tmp_path / "bundles"
    (bundles / "rtx3090-fp16.partial-0123abcd").mkdir(parents=True)
    (bundles / "rtx3090-fp16.0123abcd.kernels").write_bytes(b"kernels")
    (bundles / "rtx3090-bf16").mkdir()
    shutil.copytree(mini_bundle().path, bundles / "zz-damaged")
    (bundles / "zz-damaged" / "weights.bin").write_bytes(b"other")
    without_manifest, damaged = measure_all(Work(tmp_path, rehearse=True), None)
    assert without_manifest["bundle"] == "rtx3090-bf16"
    assert without_manifest["status"] == "not measured"
    assert "no manifest.json in it" in without_manifest["error"]
    assert damaged["status"] == "not measured"
    assert "the manifest says" in damaged["error"]


def test_a_size_that_cannot_be_built_or_has_no_room_is_a_line(tmp_path: Path, mini_bundle: BundleFactory) -> None:
    recipe = mini_bundle().manifest.recipe
    now, work = time.monotonic(), Work(tmp_path, rehearse=True)
    full = gpu_test.build_and_measure(recipe, work, 1000, now + 600)
    assert full["status"] == "not measured"
    assert "of GPU memory are needed, 0.0 MB are free" in full["error"]
    late = gpu_test.build_and_measure(recipe, work, None, now + 1)
    assert late == {"status": "not measured", "error": "no time is left: slower parts took it"}
    failed = gpu_test.build_and_measure(recipe, work, None, now + 600)  # `onnx` is no target of build-engine
    assert failed["status"] == "not measured"
    assert "the build failed, exit code 2: error: target 'onnx' is not known" in failed["error"]


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The whole program with two tests, of which one crashes, and with no bundle to measure."""
    text = "import os, pytest\npytestmark = pytest.mark.gpu\ndef test_one(): pass\ndef test_two(): os.abort()\n"
    monkeypatch.setattr(gpu_test, "PARTS", (_part(tmp_path / "test_two.py", text),))


@pytest.mark.usefixtures("quick")
def test_files_that_cannot_be_removed_take_nothing_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Windows does not remove files that are open or mapped."""

    def refuse(path: object, *_arguments: object, **_options: object) -> None:
        raise PermissionError(13, "the file is in use", path)

    monkeypatch.setattr(os, "unlink", refuse)
    monkeypatch.setattr(os, "rmdir", refuse)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    out = tmp_path / "out.json"
    result = CliRunner().invoke(gpu_test.main, ["--rehearse", "--output", str(out), "--note", "no TensorRT"])
    assert list(tmp_path.glob("gpu-test-*/crash.jsonl"))  # they are still there
    report = json.loads(out.read_text(encoding="utf-8"))
    assert result.exit_code == 1
    assert "1 passed, 1 failed, 0 skipped" in result.output
    assert report["complete"]
    assert not report["passed"]
    assert report["notes"] == ["no TensorRT"]
    assert [test["outcome"] for test in report["tests"]] == ["passed", "failed"]


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("error", [KeyboardInterrupt(), RuntimeError("a bug in the program")])
def test_what_was_known_by_then_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    def measure(*_arguments: object) -> None:
        raise error

    monkeypatch.setattr(gpu_test, "measure_all", measure)
    out = tmp_path / "out.json"
    result = CliRunner().invoke(gpu_test.main, ["--rehearse", "--output", str(out)])
    assert result.exit_code == 1
    report = json.loads(out.read_text(encoding="utf-8"))
    assert [test["outcome"] for test in report["tests"]] == ["passed", "failed"]
    assert not report["complete"]
    assert "interrupted" in report["error"] or "a bug in the program" in report["error"]


def test_where_all_is_skipped_nothing_has_passed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = "import pytest\n@pytest.mark.gpu\n@pytest.mark.skip\ndef test_one(): pass\n"
    monkeypatch.setattr(gpu_test, "PARTS", (_part(tmp_path / "test_one.py", text),))
    out = tmp_path / "out.json"
    assert CliRunner().invoke(gpu_test.main, ["--rehearse", "--output", str(out)]).exit_code == 1
    report = json.loads(out.read_text(encoding="utf-8"))
    assert report["complete"]
    assert not report["passed"]


def test_a_place_that_cannot_be_written_is_told_at_once(tmp_path: Path) -> None:
    result = CliRunner().invoke(gpu_test.main, ["--rehearse", "--output", str(tmp_path / "none" / "out.json")])
    assert result.exit_code == 1
    assert "cannot be written" in result.output


def test_a_file_that_somebody_has_open_is_written_when_it_is_closed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As Windows has it."""
    real, refusals = os.replace, [PermissionError(13, "in use"), PermissionError(13, "in use")]

    def replace(source: Path, target: Path) -> None:
        if refusals:
            raise refusals.pop()
        real(source, target)

    monkeypatch.setattr(os, "replace", replace)
    report = Report(tmp_path / "out.json", known=1)
    report.add(more=2)
    assert json.loads(report.path.read_text(encoding="utf-8")) == {"known": 1, "more": 2}


@without_driver
def test_a_gpu_that_cannot_be_described_is_a_line(tmp_path: Path) -> None:
    (gpu,) = gpu_test.describe_gpus(Work(tmp_path))
    assert "no NVIDIA driver was found" in gpu["error"]


def _taken(growth: int, chunks: int) -> list[int]:
    """Readings of a GPU with a desktop on it: windows come (50 MiB) and go (300 MiB)."""
    others = [0, 0, 50, 50, 50, 55, 0, -300, -300, -250, -250]
    return [(other + growth * index * chunks // MIB) * MIB for index, other in enumerate(others)]


def test_growth_is_told_from_what_others_do() -> None:
    assert growth_per_chunk(_taken(0, 100), 100) == 0
    assert growth_per_chunk(_taken(43_200, 100), 100) > MOST_GROWTH_PER_CHUNK  # a frame that came in, each time


def test_without_the_driver_video_is_skipped_with_the_doctors_reason() -> None:
    if has_driver():
        pytest.skip("this machine has a driver")
    for purpose in ("decode", "encode"):
        with pytest.raises(pytest.skip.Exception, match=f"{purpose} video on the GPU.*NVIDIA driver.* missing"):
            need_video(purpose)


SOFTWARE = "encoding in software with libx264, not on the GPU: "


@pytest.mark.parametrize(
    ("capability", "words", "skipped"),
    [
        ("9.0", "No capable devices found", True),  # an H100 has no NVENC, whatever FFmpeg calls that
        ("6.1", "OpenEncodeSessionEx failed: unsupported device (2): (no details)", True),
        ("8.6", "Driver does not support the required nvenc API version. Required: 13.0 Found: 12.1", True),
        ("8.6", "The minimum required Nvidia driver for nvenc is 570.0 or newer", True),
        ("8.6", "InitializeEncoder failed: invalid param (8)", False),  # of our making
    ],
)
def test_a_gpu_without_an_encoder_is_told_from_an_encoder_that_fails(
    capability: str, words: str, skipped: bool
) -> None:
    assert bool(no_encoder((SOFTWARE + words,), capability)) == skipped
    assert no_encoder((), capability) == ""


@pytest.mark.slow
@pytest.mark.alone
def test_the_rehearsal_writes_what_a_gpu_would(tmp_path: Path) -> None:
    """The tests of the GPU themselves, and the way from them to the file, with the CPU in the GPU's place."""
    out = tmp_path / "out.json"
    command: list[str | Path] = [sys.executable, "-m", "benchmarks.gpu_test", "--rehearse", "--output", out]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stdout
    report = json.loads(out.read_text(encoding="utf-8"))
    assert report["rehearsal"]
    assert report["passed"]
    assert report["complete"]
    assert [part["name"] for part in report["parts"]] == [*ROUTES, "video"]
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
