"""`make gpu-test` before the tests start: a report is written whatever goes wrong."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from swiftvr_trt.runtime.devices.driver import has_driver

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "tests" / "gpu" / "start.py"


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> ModuleType:
    """The script as a module, in an empty clone of its own."""
    spec = importlib.util.spec_from_file_location("gpu_start", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "ROOT", tmp_path / "clone")
    monkeypatch.setattr(module, "ENVIRONMENT", tmp_path / "clone" / ".venv-gpu")
    (tmp_path / "clone").mkdir()
    return module


@pytest.mark.skipif(has_driver(), reason="this machine has a driver")
def test_without_a_gpu_it_ends_at_once_in_one_line(tmp_path: Path) -> None:
    """-I -S: it must run on any Python, before anything is installed."""
    began = time.monotonic()
    command: list[str | Path] = [sys.executable, "-I", "-S", SCRIPT, "--output", tmp_path / "out.json"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert time.monotonic() - began < 30  # it installs nothing
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.startswith("error: no NVIDIA driver was found")
    assert len(done.stderr.splitlines()) == 1
    assert list(tmp_path.iterdir()) == []
    assert not (ROOT / ".venv-gpu").exists()


def played_driver(version: int) -> Any:
    """A driver with one GPU that offers a CUDA version, as ctypes has it."""

    def fill(value: int) -> Any:
        def call(reference: Any) -> int:
            reference._obj.value = value
            return 0

        return call

    calls = {"cuDeviceGetCount": fill(1), "cuDriverGetVersion": fill(version)}
    return SimpleNamespace(cuInit=lambda _flags: 0, **calls)


@pytest.mark.parametrize(
    ("version", "extra", "note"),
    [(12000, "cuda12", "is for CUDA 12.0: "), (12090, "cuda12", "is for CUDA 12.9: "), (13000, "cuda", "")],
)
def test_an_earlier_driver_gets_earlier_bindings_and_a_note_of_what_is_skipped(
    script: ModuleType, monkeypatch: pytest.MonkeyPatch, version: int, extra: str, note: str
) -> None:
    installed = list[str]()
    monkeypatch.setattr(script.ctypes, "CDLL", lambda _name: played_driver(version))
    monkeypatch.setattr(script, "has_pip", lambda _python: True)
    monkeypatch.setattr(script, "install", lambda _python, *what: installed.extend(what))
    assert script.find_problem() is None
    _, notes = script.prepare()
    assert f".[gpu,{extra},rtx,export,dev]" in installed
    assert [note in each for each in notes] == [True] * bool(note)


def test_a_driver_too_old_for_everything_is_one_line(script: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(script.ctypes, "CDLL", lambda _name: played_driver(11080))
    problem = script.find_problem()
    assert problem.startswith("the NVIDIA driver is for CUDA 11.8, but the tests need one for 12.0: update it")
    assert "\n" not in problem


def _run_script(
    script: ModuleType, patch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], out: Path, *options: str
) -> tuple[str, dict[str, Any]]:
    """Run the script as if the machine had a GPU, and let it fail: its error line and its report."""
    out.write_text("of an earlier run", encoding="utf-8")
    patch.setattr(script, "find_problem", lambda: None)
    patch.setattr(sys, "argv", ["start.py", "--output", str(out), *options])
    assert script.main() == 1
    *_, line = capsys.readouterr().err.splitlines()
    report = json.loads(out.read_text(encoding="utf-8"))
    assert line == f"error: {report['error']}"
    assert not report["passed"]
    return line, report


def test_a_python_without_venv_is_told_what_to_install(
    script: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As on Debian without python3-venv: the environment is created, and then ensurepip is missing."""

    def create(place: Path, **_options: object) -> None:
        (place / "bin").mkdir(parents=True)
        (place / "bin" / "python").symlink_to(sys.executable)
        command = [sys.executable, "-m", "no_ensurepip"]
        subprocess.run(command, check=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)

    monkeypatch.setattr(script.venv, "create", create)
    line, report = _run_script(script, monkeypatch, capsys, tmp_path / "out.json")
    assert f"sudo apt install python3.{sys.version_info.minor}-venv" in line
    assert "No module named no_ensurepip" in report["output"]
    assert not script.ENVIRONMENT.exists()


@pytest.mark.slow
def test_a_half_made_environment_is_made_anew(script: ModuleType) -> None:
    script.venv.create(script.ENVIRONMENT, with_pip=False)
    python = script.ENVIRONMENT / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    assert python.exists()
    assert not script.has_pip(python)
    script.make_environment()
    assert script.has_pip(python)


def test_a_failed_installation_is_one_line_with_pips_reason(
    script: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The clone is empty, so pip refuses it before it uses the network."""
    monkeypatch.setattr(script, "has_pip", lambda _python: True)
    monkeypatch.setattr(script, "cuda_of_driver", lambda: 13000)
    real = script.install
    monkeypatch.setattr(script, "install", lambda _python, *what: real(Path(sys.executable), *what[:2]))
    line, report = _run_script(script, monkeypatch, capsys, tmp_path / "out.json")
    assert line.startswith("error: the packages could not be installed (ERROR: ")
    assert "does not appear to be a Python project" in line
    assert "does not appear to be a Python project" in report["output"]


@pytest.mark.parametrize(("code", "last"), [("raise ImportError('no libcublas')", "no libcublas"), ("os.abort()", "")])
def test_a_runner_that_does_not_start_leaves_a_report(
    script: ModuleType,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    code: str,
    last: str,
) -> None:
    (script.ROOT / "tests" / "gpu").mkdir(parents=True)
    (script.ROOT / "tests" / "gpu" / "runner.py").write_text(f"import os\n{code}\n", encoding="utf-8")
    line, report = _run_script(script, monkeypatch, capsys, tmp_path / "out.json", "--here")
    assert line.startswith("error: the tests ended with exit code ")
    assert last in line
    assert "gpu" in report["output"]
    assert "runner.py" in report["output"]  # the traceback, of the abort too
