"""What the tables of `swiftvr-export` say."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from swiftvr_trt.cli import tables
from swiftvr_trt.cli.doctor import Diagnosis, Purpose
from swiftvr_trt.engines.compile.report import CompiledKernel, CompiledStage, EngineReport
from swiftvr_trt.engines.report.inspect import BundleReport, EnginesSummary, LinearReport, StageReport, StageSummary
from swiftvr_trt.engines.report.roofline import Projection
from swiftvr_trt.export.verify import Comparison
from swiftvr_trt.runtime.stream.plan import BufferPlace

DIT = StageSummary(
    stage="dit",
    kernels={"gemm": 5, "attention": 2},
    gemms={"FP8": 4, "BF16": 1},
    sixteen_bits=("BF16",),
    fused_attention=2,
    expected_attention=2,
    weight_bytes=2_500_000_000,
    arena_bytes=757_000_000,
    flops={"fp8": 3_000_000_000, "fp16": 1_400_000_000},
    unattributed_flops=0,
    kernel_bytes=9_000_000,
)
DECODE = replace(
    DIT,
    stage="decode",
    kernels={"conv": 9},
    gemms={},
    sixteen_bits=(),
    expected_attention=0,
    fused_attention=0,
    flops={},
)
ENGINES = EnginesSummary(
    stages=(DIT, DECODE),
    memory={"weights": 2_500_000_000, "arena": 757_000_000},
    gpu_bytes=3_257_000_000,
    chunk_flops={"fp8": 2_000_000_000_000, "fp16": 500_000_000_000},
    chunk_bytes=1_250_000_000,
    build_seconds=61.4,
    build_peak_bytes=7_100_000_000,
    projected=(
        Projection("RTX 5090", {"dit": 0.3}, {"gemm": 0.3}, 62.04, 32e9),
        Projection("GTX 5000", {}, {}, 20.0, 3e9),
    ),
)
ENCODE = StageReport("encode", "encode.engine", 10, "uint8 [4, any, any, 3]", "float16 [1, 48, 68, 120]", 1_500_000)
REPORT = BundleReport(
    recipe={
        "width": 1920,
        "height": 1080,
        "precision": "fp8",
        "target": "rtx5090",
        "clip_len": 24,
        "parity": False,
        "checkpoint": "c0" * 32,
    },
    made_by="swiftvr-trt 0.1.0",
    compiler="TensorRT-RTX 1.7.1",
    compute_capability="12.0",
    takes=("rgb24", "yuv420p"),
    gives=("rgb24",),
    stages=(
        StageReport("encode", "encode.engine", 10, "uint8 [4, any, any, 3]", "float16 [1, 48, 68, 120]", 1_500_000),
    ),
    files={"encode.engine": 10},
    bytes_on_disk=3_000_000_000,
    stream_input="960x540",
    stream_bytes=480_000_000,
    buffers=(),
)


@pytest.fixture(autouse=True)
def wide(monkeypatch: pytest.MonkeyPatch) -> None:
    """A terminal in which no cell is wrapped."""
    monkeypatch.setenv("COLUMNS", "200")


def cells(text: str, first: str) -> list[str]:
    """The cells of the only row of a table that begins with `first`."""
    rows = [[cell.strip() for cell in line.strip("│┃ ").replace("┃", "│").split("│")] for line in text.splitlines()]
    [row] = [row for row in rows if row[0] == first]
    return row


def test_every_comparison_is_a_row_with_its_limit_and_verdict(capsys: pytest.CaptureFixture[str]) -> None:
    good = Comparison("dit", "latents", 1.5e-4, 2e-5, 71.26, "fp32", finite=True)
    rows = [
        good,
        replace(good, subject="decode", unit="levels", largest=3.0),
        replace(good, subject="encode", finite=False),
        replace(good, subject="whole loop", precision="fp16", decibels=39.9),
    ]
    tables.print_comparisons(rows)
    said = capsys.readouterr().out
    assert cells(said, "dit") == ["dit", "latents", "1.50e-04", "2.00e-05", "71.3 dB", "<= 0.002", "ok"]
    assert cells(said, "decode")[-2:] == ["<= 1", "differs"]
    assert cells(said, "encode")[-1] == "not finite"
    assert cells(said, "whole loop")[-3:] == ["39.9 dB", ">= 40 dB", "differs"]


def test_a_bundle_of_graphs_is_described_without_engines(capsys: pytest.CaptureFixture[str]) -> None:
    tables.print_report(Path("b1080"), REPORT)
    said = capsys.readouterr().out
    assert said.startswith("b1080: 1920x1080, fp8, target rtx5090\n")
    for fact in (
        "24 frames\n",
        "c0" * 32,
        "swiftvr-trt 0.1.0 with TensorRT-RTX 1.7.1",
        "3.00 GB",
        "480.0 MB of buffers",
    ):
        assert fact in said
    assert "for 960x540 input" in said
    row = ["encode", "uint8 [4, any, any, 3]", "float16 [1, 48, 68, 120]", "1.5 MB", "encode.engine"]
    assert cells(said, "encode") == row
    assert "GPU memory" not in said


def test_linears_of_int8_are_counted_and_those_in_16_bits_named(capsys: pytest.CaptureFixture[str]) -> None:
    linears = (LinearReport("a.up", 8, 36.25), LinearReport("a.down", 16, 21.4), LinearReport("b.up", 8, 35.0))
    tables.print_report(Path("b"), replace(REPORT, linears=linears))
    tables.print_report(Path("b"), replace(REPORT, linears=linears[:1]))
    tables.print_report(Path("b"), replace(REPORT, linears=linears[1:2]))
    tables.print_report(
        Path("b"), replace(REPORT, linears=(linears[0], LinearReport("c.4", 8, 59.0, convolution=True)))
    )
    said = [line.split("INT8  ")[1].strip() for line in capsys.readouterr().out.splitlines() if "INT8  " in line]
    assert said == [
        "2 of 3 linears, the least exact b.up with 35.0 dB; in 16 bits: a.down (21.4 dB)",
        "1 of 1 linears, the least exact a.up with 36.2 dB",
        "0 of 1 linears; in 16 bits: a.down (21.4 dB)",
        "1 of 1 linears, the least exact a.up with 36.2 dB",
        "1 of 1 convolutions, the least exact c.4 with 59.0 dB",
    ]


def test_a_bundle_of_the_published_protocol_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    tables.print_report(Path("b"), replace(REPORT, recipe={**REPORT.recipe, "parity": True}))
    assert "24 frames, published protocol (--parity)" in capsys.readouterr().out


def test_engines_are_described_by_stage_kernel_memory_and_speed(capsys: pytest.CaptureFixture[str]) -> None:
    tables.print_report(Path("b1080"), replace(REPORT, engines=ENGINES))
    said = capsys.readouterr().out
    assert cells(said, "decode") == ["decode", "9", "-", "-", "-", "2.50 GB", "757.0 MB", "-", "9.0 MB"]
    row = ["dit", "7", "4 FP8, 1 BF16", "BF16", "2 of 2", "2.50 GB", "757.0 MB", "3 fp8, 1 fp16", "9.0 MB"]
    assert cells(said, "dit") == row
    assert cells(said, "kernels") == ["kernels", "dit", "decode"]
    assert [cells(said, kind)[1:] for kind in ("gemm", "attention", "conv")] == [["5", "-"], ["2", "-"], ["-", "9"]]
    assert cells(said, "whole pipeline, one stream")[1] == "3.26 GB"
    assert "61 s, 7.10 GB of memory (measured)" in said
    assert "2.50 TFLOP, 1.25 GB moved (counted)" in said
    assert "RTX 5090    at most 62.0 frames/s (projected, docs/roofline.md; not measured)" in said
    assert "GTX 5000    does not fit: 3.00 GB of memory" in said


def test_an_unknown_peak_of_the_build_is_left_out(capsys: pytest.CaptureFixture[str]) -> None:
    tables.print_engines(replace(ENGINES, build_peak_bytes=None))
    assert "the build   61 s (measured)" in capsys.readouterr().out


def test_a_diagnosis_lists_each_purpose_and_each_remedy_once(capsys: pytest.CaptureFixture[str]) -> None:
    purposes = (
        Purpose("export a checkpoint", ready=True, missing=(), remedy=""),
        Purpose(
            "target rtx5090",
            ready=False,
            missing=("polygraphy",),
            remedy="pip install x",
            note="to build",
            driver="version 580",
        ),
        Purpose("target rtx4090", ready=False, missing=("polygraphy", "cuda-core"), remedy="pip install x"),
    )
    packages = {"numpy": "2.3.0", "torch": None}
    tables.print_diagnosis(Diagnosis("3.12.1", "Linux x86_64", False, packages, purposes, "/cache", None))
    said = capsys.readouterr().out
    assert said.startswith("Python 3.12.1 on Linux x86_64; NVIDIA driver: no\nbundle cache: /cache (unknown free)\n")
    assert "installed: numpy 2.3.0\n" in said
    assert cells(said, "export a checkpoint") == ["export a checkpoint", "yes", "-", "-"]
    assert cells(said, "target rtx5090") == ["target rtx5090", "to build", "580", "polygraphy"]
    assert cells(said, "target rtx4090") == ["target rtx4090", "no", "-", "polygraphy, cuda-core"]
    assert said.endswith("rtx5090, rtx4090:\n    pip install x\n")


def test_buffers_are_listed_with_their_places(capsys: pytest.CaptureFixture[str]) -> None:
    tables.print_buffers([BufferPlace("frames", 4096, 256, 0, None), BufferPlace("latents", 64, None, None, "frames")])
    said = capsys.readouterr().out
    assert cells(said, "frames") == ["frames", "4096", "256", "0", "-"]
    assert cells(said, "latents") == ["latents", "64", "-", "-", "frames"]


def test_kernels_are_listed_in_the_order_in_which_they_run(capsys: pytest.CaptureFixture[str]) -> None:
    kernel = CompiledKernel("gemm_tn", "gemm", "FP8", 2_500_000_000, 4_000_000, ("x", "y"), (), ("z",), ())
    stage = CompiledStage("dit", 0, 0, {}, (kernel, replace(kernel, name="softmax", kind="other")))
    tables.print_kernels([EngineReport("TensorRT-RTX 1.7.1", "SM120", 0, 0, 0.0, None, (stage,))])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "dit: 2 kernels"
    assert lines[1].split() == ["gemm", "FP8", "2.50", "GFLOP", "4.00", "MB", "gemm_tn", "x,", "y", "->", "z"]
    assert "softmax" in lines[2]


HOSTILE = "[/x][red]\x1b[2J\u202e:smile:\x07"


def test_no_table_takes_text_for_markup_or_passes_on_what_a_terminal_obeys(capsys: pytest.CaptureFixture[str]) -> None:
    stage = replace(ENCODE, name=HOSTILE, file=HOSTILE, takes=HOSTILE, gives=HOSTILE)
    summary = replace(DIT, stage=HOSTILE, kernels={HOSTILE: 1}, gemms={HOSTILE: 1}, flops={HOSTILE: 1})
    engines = replace(
        ENGINES, stages=(summary,), memory={HOSTILE: 1}, projected=(replace(ENGINES.projected[0], gpu=HOSTILE),)
    )
    recipe = {**REPORT.recipe, "checkpoint": HOSTILE, "target": HOSTILE}
    report = replace(REPORT, recipe=recipe, made_by=HOSTILE, compiler=HOSTILE, stages=(stage,), engines=engines)
    tables.print_report(Path(HOSTILE), report)
    purpose = Purpose(HOSTILE, False, (HOSTILE,), HOSTILE)
    tables.print_diagnosis(Diagnosis(HOSTILE, HOSTILE, False, {HOSTILE: HOSTILE}, (purpose,), HOSTILE, 0))
    tables.print_buffers([BufferPlace(HOSTILE, 1, 0, None, HOSTILE)])
    tables.print_comparisons([Comparison(HOSTILE, "latents", 0.0, 0.0, 1.0, "fp32", True)])
    kernel = CompiledKernel(HOSTILE, HOSTILE, HOSTILE, 1, 1, (HOSTILE,), (), (HOSTILE,), ())
    compiled = EngineReport(
        "TensorRT-RTX 1.7.1", "SM120", 0, 0, 0.0, None, (CompiledStage(HOSTILE, 0, 0, {}, (kernel,)),)
    )
    tables.print_kernels([compiled])
    printed = capsys.readouterr().out
    assert printed.count("[/x][red]") >= 15
    assert all(character.isprintable() or character == "\n" for character in printed)
