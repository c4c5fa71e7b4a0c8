"""Tests on the emulator leave the process alone that runs all the others."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from . import build
from .process import SECOND

ROOT = Path(__file__).parent.parent.parent

TESTS = """
import os
import pytest

pytestmark = pytest.mark.cuda_emulator
HERE = os.getpid()

@pytest.fixture(scope="session")
def once():
    return []

def test_driver():
    from cuda.bindings import driver
    assert driver.cuDriverGetVersion() == (0, 13000)

def test_fails(tmp_path):
    assert tmp_path.name == "nothing like it"

def test_skips():
    pytest.skip("for a reason")

@pytest.mark.parametrize("how", ["first", "second"])
def test_session_fixtures_stay(once, how):
    once.append(how)
    assert once == ["first", "second"][: len(once)]

def test_crashes():
    os.abort()

def test_comes_after_the_crash(once):
    assert once == []
"""


def is_loaded() -> bool:
    return "libcuda.so.1" in Path("/proc/self/maps").read_text()


def test_this_process_has_no_driver() -> None:
    assert SECOND not in os.environ
    assert not is_loaded()


@pytest.mark.cuda_emulator
def test_the_second_process_has_the_emulator() -> None:
    assert SECOND in os.environ
    assert is_loaded()


def test_reports_crashes_and_skips_come_from_the_second_process(tmp_path: Path) -> None:
    (tmp_path / "pytest.ini").write_text("[pytest]\nmarkers = cuda_emulator: on the emulator\n")
    (tmp_path / "conftest.py").write_text("from tests.cuda_emulator.process import *\n")
    (tmp_path / "test_some.py").write_text(TESTS)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-rA", "-p", "no:cacheprovider"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    said = done.stdout
    assert "2 failed, 4 passed, 1 skipped" in said, said + done.stderr
    assert "FAILED test_some.py::test_fails - " in said
    assert "FAILED test_some.py::test_crashes - the process with the emulator ended with -6" in said
    assert "PASSED test_some.py::test_comes_after_the_crash" in said
    assert ": for a reason" in said


def test_a_machine_without_a_compiler_is_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(RuntimeError, match="needs gcc"):
        build("-DNOT_BUILT_BEFORE")


def test_source_that_does_not_compile_is_shown() -> None:
    with pytest.raises(RuntimeError, match="does not compile"):
        build("-Wno-such-warning", "-DENTER")
