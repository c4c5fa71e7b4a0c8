"""The process that compiles ends with its parent and reports progress. `test_compiler.py` tests the compiling."""

from __future__ import annotations

import os
import re
import tempfile
from pathlib import Path

import onnx
import pytest

from swiftvr_trt.child import Child
from swiftvr_trt.engines.compile import compiler
from swiftvr_trt.engines.compile.compiler import compile_engine
from swiftvr_trt.errors import BuildError
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


REFUSES = """
    return None
class Builder:
    def __init__(self, logger): pass
    def create_network(self, flags): pass
class NetworkDefinitionCreationFlag: pass
class OnnxParser:
    num_errors = 1
    def __init__(self, network, logger): pass
    def parse_from_file(self, name): self.said = f"{name} beside {sorted(os.listdir())}"
    def get_error(self, number): return self
    def desc(self): return self.said
"""
PLACE = "Zoë Ångström 日本"


def test_the_parser_gets_a_name_without_the_folder_which_windows_could_not_open(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, onnx_file: Path
) -> None:
    """It opens files by names in the ANSI code page there, but gets UTF-8."""
    play(monkeypatch, tmp_path, REFUSES)
    (tmp_path / PLACE).mkdir()
    moved = onnx_file.rename(tmp_path / PLACE / onnx_file.name)
    with pytest.raises(BuildError, match=r"refused it: m\.onnx beside \['m\.onnx'\]$"):
        compile_engine(job(moved))


@real
def test_a_graph_with_weights_beside_it_is_compiled_in_any_folder(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, onnx_file: Path
) -> None:
    """Also if the folders for it and for temporary files were named relative to another folder."""
    (tmp_path / PLACE).mkdir()
    onnx.save(
        onnx.load(onnx_file),
        tmp_path / PLACE / "m.onnx",
        save_as_external_data=True,
        location="w.bin",
        size_threshold=0,
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(tempfile, "tempdir", ".")
    engine = compile_engine(job(Path(PLACE) / "m.onnx", 6))
    assert (tmp_path / PLACE / "w.bin").stat().st_size == 16 * 8 * 4
    assert (tmp_path / PLACE / "m.engine").stat().st_size == engine.nbytes > 1000
    assert engine.made.kernels


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
