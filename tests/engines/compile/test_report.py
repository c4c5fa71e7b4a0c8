"""The report of an engine: kernels joined with counted operations, written as JSON, and read back with care."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from swiftvr_trt import BundleError
from swiftvr_trt.engines.compile.compiler import Engine
from swiftvr_trt.engines.compile.counting import GraphCount, NodeCount
from swiftvr_trt.engines.compile.log import ATTENTION, ELEMENTWISE, GEMM, BuildLog, Kernel, Tensor
from swiftvr_trt.engines.compile.report import (
    FORMAT,
    SUFFIX,
    EngineReport,
    compiled_stage,
    engine_report,
    nbytes,
    read_report,
)


def tensor(dtype: str, *shape: int) -> Tensor:
    return Tensor("t", shape, dtype)


def kernel(name: str, layer: str, output: Tensor, *sources: str) -> Kernel:
    return Kernel(name, layer, 0, (tensor("Half", 2, 4),), (tensor("FP8", 4, 3),), (output,), sources)


KERNELS = (
    kernel("gemm_0", "gemm", tensor("Half", 2, 3), "q", "k"),
    kernel("_gemm_mha_v2_0", "kgen", tensor("Half", 2, 8), "attend"),
    kernel("gemm_1", "gemm", tensor("Half", 2, 9), "q"),
    kernel("__myl_AddMul_0", "kgen", tensor("Float"), "q"),
)
COUNT = GraphCount(
    (
        NodeCount("q", "MatMul", "fp8", 400),
        NodeCount("k", "MatMul", "fp16", 10),
        NodeCount("attend", "Attention", "fp16", 7),
        NodeCount("gone", "MatMul", "fp16", 5),
    ),
    attentions=1,
)


@pytest.fixture
def report(tmp_path: Path) -> EngineReport:
    engine_file = tmp_path / "dit.engine"
    engine_file.write_bytes(bytes(1234))
    engine = Engine(engine_file, BuildLog(KERNELS, (500,), 99), "1.7", 2.345, 700, "log")
    return engine_report(engine, "TensorRT-RTX", "SM120", [compiled_stage("dit", 500, COUNT, KERNELS)])


@pytest.mark.parametrize(
    ("dtype", "shape", "size"),
    [
        ("FP4", (4, 8), 16),
        ("FP8", (3,), 3),
        ("Half", (2, 3), 12),
        ("Float", (), 4),
        ("Int64", (2,), 16),
        ("New", (2,), 8),
    ],
)
def test_the_bytes_of_a_tensor(dtype: str, shape: tuple[int, ...], size: int) -> None:
    assert nbytes(tensor(dtype, *shape)) == size


def test_operations_go_to_the_matrix_kernels_in_proportion_to_what_they_write(report: EngineReport) -> None:
    """`q` was split: its kernels write 6 and 18 elements. The elementwise kernel names it, but multiplies nothing."""
    (stage,) = report.stages
    assert [k.flops for k in stage.kernels] == [100 + 10, 7, 300, 0]
    assert [k.kind for k in stage.kernels] == [GEMM, ATTENTION, GEMM, ELEMENTWISE]
    assert stage.flops == {"fp16": 22, "fp8": 400}
    assert stage.total_flops == 422  # with the 5 of a node that no kernel names


def test_a_stage_adds_up_its_kernels(report: EngineReport) -> None:
    (stage,) = report.stages
    assert [k.nbytes for k in stage.kernels] == [28 + output for output in (12, 32, 36, 4)]
    assert stage.nbytes == 4 * 28 + 12 + 32 + 36 + 4
    assert (stage.fused, stage.attentions, stage.arena_bytes) == (1, 1, 500)
    assert stage.kernels[3].outputs == ("Float scalar",)


def test_an_engine_is_described_with_what_its_build_took(report: EngineReport) -> None:
    assert (report.compiler, report.sm) == ("TensorRT-RTX 1.7", "SM120")
    assert (report.engine_bytes, report.weight_bytes) == (1234, 99)
    assert (report.seconds, report.peak_bytes) == (2.35, 700)


def test_a_report_survives_the_round_trip_with_one_line_per_kernel(report: EngineReport, tmp_path: Path) -> None:
    path = tmp_path / f"dit{SUFFIX}"
    path.write_text(report.to_json(), encoding="utf-8")
    assert read_report(path) == report
    assert report.to_json().count("\n") == len(report.stages) + len(KERNELS)


def test_long_names_are_cut() -> None:
    long = kernel("k" * 1000, "gemm", tensor("Half", 1), *(f"{k}" * 1000 for k in range(9)))
    (cut,) = compiled_stage("dit", 0, GraphCount((), 0), [long]).kernels
    assert (len(cut.name), [len(source) for source in cut.sources]) == (160, [160] * 4)


def refusal(path: Path, text: str) -> str:
    path.write_text(text)
    with pytest.raises(BundleError, match=r"dit.report.json: .*; rebuild the bundle$") as caught:
        read_report(path)
    return str(caught.value)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        json.dumps({"format": FORMAT + 1}),
        json.dumps({"format": FORMAT, "compiler": "x", "stages": 3}),
        '{"format":1,"stages":' + "[" * 100000,
    ],
    ids=lambda text: text[:20],
)
def test_text_that_is_not_a_report_is_refused(tmp_path: Path, text: str) -> None:
    refusal(tmp_path / "dit.report.json", text)


@pytest.mark.parametrize("word", ["Half", "Half 2xx3", "Half -1x3", "<b> 2x3", "Half 2x3; x"])
def test_a_malformed_tensor_is_refused_with_the_place_of_its_kernel(
    report: EngineReport, tmp_path: Path, word: str
) -> None:
    raw: dict[str, Any] = json.loads(report.to_json())
    raw["stages"][0]["kernels"][1]["inputs"] = [word]
    assert f"stages[0].kernels[1].inputs is [{word!r}], expected types and shapes" in refusal(
        tmp_path / "dit.report.json", json.dumps(raw)
    )


def test_a_giant_report_is_not_read_whole(tmp_path: Path) -> None:
    path = tmp_path / "dit.report.json"
    with path.open("wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(BundleError, match="larger than"):
        read_report(path)
