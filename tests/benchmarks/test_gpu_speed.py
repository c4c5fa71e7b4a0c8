"""Speed of a machine's GPU: every bundle becomes a row, measured or with the reason why not."""

from __future__ import annotations

import shutil
import time
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks import gpu_speed
from benchmarks.gpu_speed import Builds, extrapolated, figures_of, measure, measure_all, measure_widths, read_figures
from benchmarks.processes import Sandbox
from swiftvr_trt.benchmarks.suite.metrics import figure
from swiftvr_trt.benchmarks.suite.record import How, write_run
from swiftvr_trt.engines.bundle.manifest import Recipe
from tests.benchmarks.suite.lab import run_of
from tests.conftest import BundleFactory


def test_damaged_bundles_are_rows_and_leftovers_are_not(
    tmp_path: Path, mini_bundle: BundleFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A killed build leaves a directory; TensorRT-RTX leaves a file with kernels next to the bundle."""
    monkeypatch.setattr(gpu_speed, "REHEARSAL_SIZES", ())
    bundles = tmp_path / "bundles"
    (bundles / "rtx3090-fp16.partial-0123abcd").mkdir(parents=True)
    (bundles / "rtx3090-fp16.0123abcd.kernels").write_bytes(b"kernels")
    (bundles / "rtx3090-bf16").mkdir()
    shutil.copytree(mini_bundle().path, bundles / "zz-damaged")
    (bundles / "zz-damaged" / "weights.bin").write_bytes(b"other")
    without_manifest, damaged = measure_all(
        Sandbox(tmp_path, rehearsal=True), bundles, lambda: tmp_path, None, lambda: tmp_path
    )
    assert without_manifest["bundle"] == "rtx3090-bf16"
    assert without_manifest["status"] == "not measured"
    assert "it has no manifest.json" in without_manifest["error"]
    assert damaged["status"] == "not measured"
    assert "the manifest says" in damaged["error"]


def test_a_size_that_cannot_be_built_is_a_row_with_the_reason(
    tmp_path: Path, mini_bundle: BundleFactory, mini_checkpoint: Path
) -> None:
    def builds(free_bytes: int | None, seconds: float) -> Builds:
        sandbox = Sandbox(tmp_path, rehearsal=True)
        return Builds(sandbox, lambda: mini_checkpoint, free_bytes, time.monotonic() + seconds)

    recipe = mini_bundle().manifest.recipe
    full = builds(1000, 600).measure(recipe)
    assert full["status"] == "not measured"
    assert "of GPU memory are needed, 0.0 MB are free" in full["error"]
    late = builds(None, 1).measure(recipe)
    assert late == {"status": "not measured", "error": "no time is left: slower parts took it"}
    failed = builds(None, 600).measure(recipe)  # `onnx` is no target of build-engine
    assert failed["status"] == "not measured"
    assert "the build failed, exit code 2: error: target 'onnx' is not known" in failed["error"]


def test_only_what_was_measured_stands_among_the_measured_figures(tmp_path: Path) -> None:
    core, memory = (
        replace(case, suite=suite, figures=figures, subject=replace(case.subject, device=device))
        for case in run_of([1.0]).cases
        for suite, device, figures in (
            ("core", "cuda:0", ()),
            (
                "memory",
                "Example GPU",
                (
                    figure("core_fps", 30, How.MEASURED, "p"),
                    figure("planned_bytes", 5, How.COMPILED, "p"),
                    figure("roof_fps", 60, How.PROJECTED, "p"),
                    figure("rss_bytes", 7, How.MEASURED, "p"),
                ),
            ),
        )
    )
    other = replace(core, suite="file", figures=(figure("rss_bytes", 9, How.MEASURED, "p"),))
    write_run(replace(run_of([1.0]), cases=(core, memory, other)), tmp_path / "run.json")
    assert figures_of(tmp_path / "run.json") == {
        "core_frames_per_second": 30,
        "rss_bytes": 7,
        "compiled": {"planned_bytes": 5},
        "projected": {"roof_fps": 60},
        "device": "Example GPU",
    }


def test_what_thirty_blocks_would_take_stands_apart_from_what_two_took() -> None:
    row = extrapolated({"status": "measured", "chunk": 100.0, "stage.dit": 20.0, "core_frames_per_second": 240.0})
    assert row == {"extrapolated": {"stage.dit": 300.0, "chunk": 380.0, "core_frames_per_second": 63.1579}}


@pytest.mark.parametrize(
    "figures",
    [{"status": "not measured"}, {"status": "emulated", "chunk": 1.0, "stage.dit": 1.0}, {"status": "measured"}],
)
def test_nothing_is_extrapolated_from_what_was_not_measured(figures: dict[str, object]) -> None:
    assert extrapolated(figures) == {}


def test_each_kind_of_bundle_is_measured_once_with_the_published_widths(
    tmp_path: Path, mini_bundle: BundleFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = mini_bundle().manifest.recipe
    kinds = (recipe, replace(recipe, width=64, clip_len=4), replace(recipe, precision="fp16"))
    built: list[str] = []

    def measure(_build: Builds, wanted: Recipe) -> dict[str, object]:
        built.append(wanted.describe())
        if wanted.precision == "fp16":
            raise RuntimeError("no checkpoint could be made")
        return {"status": "measured", "chunk": 10.0, "stage.dit": 1.0}

    monkeypatch.setattr(Builds, "measure", measure)
    first, second = measure_widths(Builds(Sandbox(tmp_path), lambda: tmp_path, None, 0.0), kinds)
    assert [row["bundle"] for row in (first, second)] == built
    assert built == ["1920x1080, fp32, 24-frame chunks, target onnx", "1920x1080, fp16, 24-frame chunks, target onnx"]
    assert first["network"] == "the published widths, 2 of 30 blocks"
    assert first["extrapolated"]["chunk"] == 24.0
    assert second["error"] == "RuntimeError: no checkpoint could be made"


@pytest.mark.parametrize(
    ("limit", "overlap", "expected"),
    [
        (100.0, True, [("core,file,memory",), ("core,memory", "--overlap")]),
        (100.0, False, [("core,file,memory",)]),
        (0.0, True, [("core,file,memory",)]),
    ],
)
def test_overlap_is_measured_in_the_time_that_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: float, overlap: bool, expected: list[tuple[str, ...]]
) -> None:
    asked: list[tuple[str, ...]] = []

    def measured(_bundle: Path, _sandbox: Sandbox, seconds: float, *how: str) -> dict[str, object]:
        asked.append(how)
        assert seconds <= limit
        return {"status": "measured", "core_frames_per_second": 10.0 * len(asked)}

    monkeypatch.setattr(gpu_speed, "_measured", measured)
    row = measure(tmp_path, Sandbox(tmp_path), limit, overlap=overlap)
    assert asked == expected
    assert row["core_frames_per_second"] == 10.0
    assert row.get("overlap", {}).get("core_frames_per_second") == (20.0 if len(expected) == 2 else None)


@pytest.mark.parametrize("text", ["", "{", "[1]", '{"a": 1, "a": 2}', "[" * 100_000])
def test_what_a_child_did_not_write_properly_is_nothing(tmp_path: Path, text: str) -> None:
    (tmp_path / "out.json").write_text(text)
    assert read_figures(tmp_path / "out.json") == {}
    assert read_figures(tmp_path / "none.json") == {}
