"""Speed of a machine's GPU: every bundle becomes a row, measured or with the reason why not."""

from __future__ import annotations

import shutil
import time
from pathlib import Path

import pytest

from benchmarks import gpu_speed
from benchmarks.gpu_speed import Builds, measure_all
from benchmarks.processes import Sandbox
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
    without_manifest, damaged = measure_all(Sandbox(tmp_path, rehearsal=True), bundles, lambda: tmp_path, None)
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
