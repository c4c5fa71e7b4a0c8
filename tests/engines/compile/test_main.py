"""`python -m swiftvr_trt.engines.compile`: one graph is compiled, and what the compiler made of it is printed."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import pytest

from swiftvr_trt.engines.bundle.targets import RTX
from swiftvr_trt.engines.compile import __main__ as module
from swiftvr_trt.engines.compile.__main__ import main
from swiftvr_trt.engines.compile.compiler import CompileJob, Engine
from swiftvr_trt.engines.compile.log import BuildLog, Kernel, Tensor
from swiftvr_trt.errors import BuildError
from swiftvr_trt.text import LineCallback
from tests.engines.graphs import graph, node, ones, save

MODEL_INPUT = Tensor("x", (6, 16), "Half")
KERNEL = Kernel("gemm_0", "gemm", 0, (MODEL_INPUT,), (Tensor("w", (16, 8), "Half"),), (MODEL_INPUT,), ("y",))


@pytest.fixture
def onnx_file(tmp_path: Path) -> Path:
    """[T, 16] x [16, 8]."""
    model = graph([node("MatMul", "x w", "y")], {"x": ("T", 16)}, "y", {"w": ones(16, 8)})
    return save(model, tmp_path / "m.onnx")


@pytest.fixture
def jobs(monkeypatch: pytest.MonkeyPatch) -> list[CompileJob]:
    """The jobs of a compiler that makes one kernel of everything."""
    given: list[CompileJob] = []

    def compile_one(job: CompileJob, report: LineCallback) -> Engine:
        given.append(job)
        report("compiling")
        job.engine.write_bytes(bytes(1500))
        return Engine(job.engine, BuildLog((KERNEL,), (2_000_000,), 256), "1.7", 2.345, None, "the log")

    monkeypatch.setattr(module, "compile_engine", compile_one)
    return given


def names_beside(file: Path) -> list[str]:
    return sorted(path.name for path in file.parent.iterdir())


def test_a_fixed_shape_is_all_three_and_three_are_smallest_usual_and_largest(
    onnx_file: Path, jobs: list[CompileJob]
) -> None:
    main([str(onnx_file), "--profile", "x=6x16,y=1", "--profile", "x=1x16:4x16:7x16"])
    (job,) = jobs
    assert (job.compiler, job.sm) == (RTX, "SM120")
    assert job.profiles == ({"x": ((6, 16),) * 3, "y": ((1,),) * 3}, {"x": ((1, 16), (4, 16), (7, 16))})


@pytest.mark.parametrize(
    ("options", "sm"),
    [(["--target", "rtx4070"], "SM89"), (["--target", "h100"], None), (["--sm", "SM86"], "SM86")],
)
def test_the_compiler_is_told_the_compute_capability(
    onnx_file: Path, jobs: list[CompileJob], options: list[str], sm: str | None
) -> None:
    main([str(onnx_file), *options])
    assert jobs[0].sm == sm


def test_lines_of_text_say_what_was_compiled(
    onnx_file: Path, jobs: list[CompileJob], capsys: pytest.CaptureFixture[str]
) -> None:
    main([str(onnx_file), "--kernels"])
    assert capsys.readouterr().out.splitlines() == [
        "  compiling",
        "built in 2.3 s, peak memory unknown, engine 0.0 MB, weights 0.0 MB",
        "profile 0: activations 2.0 MB, 1 kernels",
        "      1 gemm (1 Half)",
        "        gemm                   gemm            [(6, 16, 'Half')] -> [(6, 16, 'Half')]  gemm_0  y",
    ]
    assert len(jobs) == 1
    assert names_beside(onnx_file) == ["m.onnx"]


def test_json_is_all_that_is_printed(
    onnx_file: Path, jobs: list[CompileJob], capsys: pytest.CaptureFixture[str]
) -> None:
    main([str(onnx_file), "--json"])
    assert json.loads(capsys.readouterr().out) == {
        "engine_bytes": 1500,
        "weight_bytes": 256,
        "arena_bytes": [2_000_000],
        "seconds": 2.3,
        "peak_bytes": None,
        "profiles": [
            {"kernels": {"gemm": 1}, "precisions": {"gemm": {"Half": 1}, "fused attention": {}, "convolution": {}}}
        ],
    }
    assert len(jobs) == 1


def test_engine_and_log_are_kept_where_they_are_wanted(onnx_file: Path, jobs: list[CompileJob]) -> None:
    engine, log = onnx_file.with_name("kept.engine"), onnx_file.with_name("kept.log")
    main([str(onnx_file), "--engine", str(engine), "--log", str(log)])
    assert jobs[0].engine == engine
    assert names_beside(onnx_file) == ["kept.engine", "kept.log", "m.onnx"]
    assert log.read_text() == "the log"


def test_a_build_that_fails_is_one_line(onnx_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise BuildError("m.onnx: TensorRT-RTX cannot compile it")

    monkeypatch.setattr(module, "compile_engine", fail)
    with pytest.raises(SystemExit) as caught:
        main([str(onnx_file)])
    assert caught.value.code == "error: m.onnx: TensorRT-RTX cannot compile it"


@pytest.mark.skipif(importlib.util.find_spec("tensorrt_rtx") is None, reason="needs TensorRT-RTX")
def test_one_file_is_compiled_from_the_command_line(onnx_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main([str(onnx_file), "--target", "rtx4070", "--profile", "x=6x16", "--profile", "x=1x16:4x16:7x16"])
    said = capsys.readouterr().out
    assert "profile 1: activations" in said
    assert "1 gemm (1 Float)" in said
    assert names_beside(onnx_file) == ["m.onnx"]
