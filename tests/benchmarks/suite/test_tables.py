"""Tables: every figure once, marked unless it was measured."""

from __future__ import annotations

from dataclasses import replace

import pytest

from swiftvr_trt.benchmarks.suite.metrics import NO_PSNR, figure, sampled
from swiftvr_trt.benchmarks.suite.record import How, State, read_run
from swiftvr_trt.benchmarks.suite.tables import figure_text, machine_of, problems_of, tables_of, told_apart

from .lab import run_of
from .sample import JSON


def test_a_table_has_a_row_per_figure_and_a_column_per_subject() -> None:
    table, *_ = tables_of(read_run(JSON))
    assert table.headings == (
        "",
        "fp8 24 frames, NVIDIA GeForce RTX 5090",
        "fp16 24 frames, NVIDIA GeForce RTX 5090",
        "published by others",
    )
    rows = {row[0]: row[1:] for row in table.rows}
    assert {len(row) for row in table.rows} == {4}
    assert rows["core"][2] == "22.4 FPS published code, RTX 5090"
    assert "projected" in rows["expected"][0]
    assert "compiled" in rows["memory: weights"][0]


def test_what_went_wrong_is_told_beside_it() -> None:
    lines = list(problems_of(read_run(JSON)))
    assert any("failed: GPU memory ran out" in line for line in lines)
    assert any("GPU clock fell by 3 %" in line for line in lines)


def test_texts_have_units_and_marks() -> None:
    assert figure_text(figure("rss_bytes", 1.5e9, How.MEASURED, "trial")) == "1.50 GB"
    assert figure_text(figure("core_fps", 31.3, How.EMULATED, "trial")) == "31.3 FPS emulated"
    assert figure_text(figure("flops", 2.5e12, How.COMPILED, "trial")) == "2.5 TFLOP compiled"
    assert figure_text(sampled("load", [1.0, 2.0, 3.0], How.MEASURED, "trial")) == "2 s (1.2 ... 2.8)"
    memory = sampled("rss_bytes", [1e8, 2e8, 3e8], How.MEASURED, "trial")
    assert figure_text(memory) == "200.0 MB (120.0 MB ... 280.0 MB)"
    assert figure_text(figure("frames_out", 361, How.MEASURED, "trial")) == "361 frames"


def test_a_run_without_figures_has_no_table() -> None:
    run = run_of([1.0])
    assert len(list(tables_of(run))) == 1


def test_the_machine_is_described_once() -> None:
    lines = list(machine_of(read_run(JSON)))
    assert lines[0].startswith("Example CPU, 16 CPUs")
    assert lines[1] == "NVIDIA GeForce RTX 5090, 34.36 GB, driver 580.65.06, power limit 575 W"
    assert "TensorRT-RTX 1.7.1.116" in lines[2]
    assert lines[3].startswith("bundle 111111111111: SwiftVR, 1920x1080, fp8")


@pytest.mark.parametrize("name", ["tail", "stage.tail", "tail.part"])
def test_a_figure_of_another_version_is_shown_as_it_is(name: str) -> None:
    run = run_of([1.0])
    (case,) = run.cases
    figures = (*case.figures, replace(case.figures[0], name=name))
    (table,) = tables_of(replace(run, cases=(replace(case, figures=figures),)))
    assert ("stage: tail" if name == "stage.tail" else name) in [row[0] for row in table.rows]


def test_subjects_that_are_called_alike_are_told_apart() -> None:
    run = run_of([1.0])
    (case,) = run.cases
    subjects = [
        *(replace(case.subject, digest=digest * 32) for digest in ("ab", "cd")),
        *(replace(case.subject, side=f"python {name}.py {{input}} {{output}}", precision="") for name in "ab"),
        replace(case.subject, side="torch"),
    ]
    cases = tuple(replace(case, subject=subject) for subject in subjects)
    (table,) = tables_of(replace(run, cases=(*cases, *cases)))
    assert table.headings == (
        "",
        "fp32 ababab 8 frames, cpu",
        "fp32 cdcdcd 8 frames, cpu",
        "python#1",
        "python#2",
        "torch",
    )
    assert len(set(told_apart(replace(run, cases=cases)).cases)) == 5
    assert told_apart(run) == run
    broken = replace(run, cases=tuple(replace(one, state=State.FAILED, problem="lost") for one in cases[:2]))
    assert list(problems_of(broken)) == ["core ababab: failed: lost", "core cdcdcd: failed: lost"]


def test_a_bundle_that_failed_renames_nothing() -> None:
    """Only what is done has a digest."""
    run = run_of([1.0])
    (case,) = run.cases
    done = replace(case, subject=replace(case.subject, digest="ab" * 32))
    failed = replace(case, name="file", suite="file", state=State.FAILED, figures=())
    both = replace(run, cases=(done, failed, replace(failed, state=State.PLANNED)))
    assert told_apart(both) == both
    (table,) = tables_of(both)
    assert table.headings == ("", "fp32 8 frames, cpu")


def test_cases_of_two_protocols_are_told_apart_by_these() -> None:
    run = run_of([1.0])
    (case,) = run.cases
    bundles = [
        replace(case.subject, digest=digest * 64, target=target) for digest, target in (("a", "cpu"), ("b", "cuda"))
    ]
    cases = (
        replace(case, subject=bundles[0]),
        replace(case, protocol="small", subject=bundles[0]),
        replace(case, protocol="small", subject=bundles[1]),
    )
    named = told_apart(replace(run, cases=cases)).cases
    assert [one.name for one in named] == ["core", "core aaaaaa", "core bbbbbb"]
    assert [one.subject.precision for one in named] == ["fp32", "fp32 aaaaaa", "fp32 bbbbbb"]
    named = told_apart(replace(run, cases=cases[:2])).cases
    assert [one.name for one in named] == ["core, trial", "core, small"]
    assert {one.subject.precision for one in named} == {"fp32"}


def test_a_psnr_that_could_not_be_measured_is_a_cell_of_its_own() -> None:
    run = run_of([1.0])
    (core,) = run.cases
    quality = replace(
        core, name="quality", suite="quality", figures=(), notes=(f"{NO_PSNR}: no --checkpoint was named",)
    )
    for cases in ((core, quality), (quality,)):
        (table,) = tables_of(replace(run, cases=cases))
        assert ("PSNR to float32", "not measured") in table.rows
    (table,) = tables_of(run)
    assert not any(row[0] == "PSNR to float32" for row in table.rows)
