"""The process that compiles ends with its parent and reports progress. `test_compiler.py` tests the compiling."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from swiftvr_trt.child import Child
from swiftvr_trt.engines.compile import compiler
from swiftvr_trt.engines.compile.compiler import compile_engine
from tests.patience import PATIENCE_S

from .played import job, play, real, report_often


def test_a_build_ends_when_its_parent_hangs_up(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, onnx_file: Path
) -> None:
    started = tmp_path / "started"
    play(monkeypatch, tmp_path, f"open({str(started)!r}, 'w').close(); time.sleep(60)")
    with Child("swiftvr_trt.engines.compile.compiler_process", patience_s=0.0) as child:
        child.send(compiler._order(job(onnx_file), tmp_path / "log"))
        while not started.exists():
            assert child.exit_code(0.02) is None
        child.hang_up()
        assert child.exit_code(30) == 130


@real
def test_a_long_build_reports_its_phase(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, onnx_file: Path) -> None:
    (tmp_path / "site").mkdir()
    report_often(tmp_path / "site")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path / "site"), os.environ.get("PYTHONPATH", "")]))
    lines: list[str] = []
    compile_engine(job(onnx_file, 6), lines.append)
    assert lines
    for line in lines:  # where the ticks fall depends on how quickly the machine loads the compiler
        assert re.fullmatch(r"\w[^,]*, \d+ s(, \d+\.\d GB of memory)?", line), line


def test_an_idle_process_leaves_without_an_answer() -> None:
    with Child("swiftvr_trt.engines.compile.compiler_process", patience_s=PATIENCE_S, keep_errors=True) as child:
        child.hang_up()
        assert child.exit_code(30) == 130
        assert child.errors() == ""
