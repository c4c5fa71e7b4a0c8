"""A build ends with an engine, or with one line that says why not; the parent survives whatever the compiler does.

A fake compiler harms its process in every way that a real one might. With TensorRT-RTX installed, small graphs are
compiled for real, which needs no GPU.
"""

from __future__ import annotations

import sys
import threading
import time
from pathlib import Path

import psutil
import pytest

from swiftvr_trt.engines.bundle.targets import RTX, TRT
from swiftvr_trt.engines.compile.compiler import CompileJob, compile_engine, compiler_version
from swiftvr_trt.engines.compile.log import GEMM, by_kind
from swiftvr_trt.errors import BuildError, MissingPackageError
from tests.engines.graphs import graph, node, save
from tests.patience import PATIENCE_S

from .played import job, play, real, report_often


@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
@pytest.mark.parametrize(
    ("builder", "said"),
    [
        ("os.kill(os.getpid(), signal.SIGKILL)", "was killed, most likely because memory ran out"),
        ("os.kill(os.getpid(), signal.SIGSEGV)", "crashed"),
        ("sys.exit(7)", r"failed \(code 7\)"),
        ("raise ValueError('who knows')", "ValueError: who knows"),
        ("sys.stderr.write('out of ideas\\n'); os._exit(3)", "out of ideas"),
    ],
)
def test_a_compiler_that_ends_early_is_reported_in_one_line_and_leaves_no_engine(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, onnx_file: Path, builder: str, said: str
) -> None:
    play(monkeypatch, tmp_path, builder)
    onnx_file.with_name("m.engine").write_bytes(b"half")
    with pytest.raises(BuildError, match=said) as error:
        compile_engine(job(onnx_file))
    assert str(error.value).startswith("m.onnx: ")
    assert "\n" not in str(error.value)
    assert not onnx_file.with_name("m.engine").exists()


def test_an_interrupt_ends_the_compiler_too(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, onnx_file: Path) -> None:
    pid = tmp_path / "pid"
    play(monkeypatch, tmp_path, f"open({str(pid)!r}, 'w').write(str(os.getpid())); threading.Event().wait(600)")
    report_often(tmp_path / "site")
    began = time.monotonic()

    def interrupt(_line: str) -> None:
        if pid.exists() and pid.read_text():
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        compile_engine(job(onnx_file), interrupt)
    assert time.monotonic() - began < PATIENCE_S
    assert not psutil.pid_exists(int(pid.read_text()))


def test_a_compiler_that_is_not_installed_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.metadata.packages_distributions", dict)
    with pytest.raises(MissingPackageError, match=r"TensorRT-RTX needs .* pip install .*\[rtx\]\"$"):
        compiler_version(RTX)
    with pytest.raises(MissingPackageError, match=r"building with TensorRT needs .*\[tensorrt\]"):
        compiler_version(TRT)


@real
def test_the_version_of_a_compiler_is_known_without_loading_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "tensorrt_rtx", raising=False)  # another test may have loaded it
    assert int(compiler_version(RTX).split(".")[0]) >= 1
    assert "tensorrt_rtx" not in sys.modules


@real
def test_a_graph_becomes_an_engine_with_a_profile_for_each_length(onnx_file: Path) -> None:
    engine = compile_engine(job(onnx_file, 6, 7))
    assert engine.nbytes > 1000
    assert len(engine.made.arena_bytes) == 2
    assert [by_kind(engine.made.of_profile(p))[GEMM] for p in (0, 1)] == [1, 1]
    assert 0 < engine.made.weight_bytes < 100_000
    assert engine.compiler_version == compiler_version(RTX)
    if sys.platform == "linux":
        assert engine.peak_bytes is not None
        assert 50e6 < engine.peak_bytes < 5e9


@real
def test_a_graph_that_the_compiler_cannot_compile_is_refused_with_its_reason(tmp_path: Path) -> None:
    shapes = dict.fromkeys(("q", "k", "v"), (1, 2, 64, 32))
    path = save(graph([node("Attention", "q k v", "y")], shapes, "y"), tmp_path / "attention.onnx")
    with pytest.raises(BuildError, match=r"cannot compile it; .*Attention operation was not supported"):
        compile_engine(CompileJob(path, tmp_path / "a.engine", RTX, "SM120"))
    assert not (tmp_path / "a.engine").exists()


@real
def test_a_file_that_is_not_a_graph_is_refused_with_the_parsers_words(tmp_path: Path) -> None:
    (tmp_path / "m.onnx").write_bytes(b"no graph")
    with pytest.raises(BuildError, match=r"^m.onnx: TensorRT-RTX cannot compile it; the parser refused it"):
        compile_engine(job(tmp_path / "m.onnx"))


@real
def test_builds_may_run_at_the_same_time(tmp_path: Path, onnx_file: Path) -> None:
    """One logger per process wins; so each build has a process of its own."""
    jobs = [CompileJob(onnx_file, tmp_path / f"{n}.engine", RTX, "SM120", ({"x": ((n, 16),) * 3},)) for n in (3, 9)]
    shapes = {}

    def run(number: int) -> None:
        shapes[number] = compile_engine(jobs[number]).made.kernels[0].inputs[0].shape

    threads = [threading.Thread(target=run, args=(number,)) for number in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {shape[-2] for shape in shapes.values()} == {3, 9}
