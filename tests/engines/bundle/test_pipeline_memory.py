"""Estimates of GPU memory, and parameters counted from the headers of a checkpoint."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from swiftvr_trt import CheckpointError
from swiftvr_trt.engines.bundle.geometry import Resolution
from swiftvr_trt.engines.bundle.graph import vet_graph
from swiftvr_trt.engines.bundle.pipeline_memory import (
    PUBLISHED_PARAMETERS,
    count_parameters,
    expected_gpu_bytes,
    expected_weight_bytes,
    gpu_bytes_by_target,
)
from swiftvr_trt.engines.bundle.targets import find_target
from tests.conftest import BundleFactory


def test_the_estimate_agrees_with_the_plan_of_engines_that_were_built() -> None:
    full, large = Resolution(1920, 1080), Resolution(3840, 2160)
    target = find_target("rtx5090")
    assert expected_gpu_bytes(PUBLISHED_PARAMETERS, full, target, "fp8") == pytest.approx(5.85e9, rel=0.05)
    assert expected_gpu_bytes(PUBLISHED_PARAMETERS, large, target, "fp8") == pytest.approx(10.71e9, rel=0.05)


def test_graphs_on_a_gpu_take_the_transformer_twice_and_an_arena_per_stage(mini_bundle: BundleFactory) -> None:
    """One session per stage, as ONNX Runtime has no other way to hold two graphs. A GPU holds at least this much."""
    bundle = mini_bundle()
    recipe, parameters = bundle.manifest.recipe, 1_000_000_000
    graphs, engines = (
        gpu_bytes_by_target(parameters, recipe.resolution, recipe.clip_len)(find_target(name), "fp16")
        for name in ("cuda", "local")
    )
    files = {file.name: file.size for file in bundle.manifest.files}
    held = [vet_graph(bundle.stage_path(name), files).weight_bytes for name in ("dit", "dit_edge")]
    assert held[1] == pytest.approx(held[0], rel=0.05)
    assert graphs - engines > expected_weight_bytes(parameters, "fp16")


def test_parameters_are_counted_without_reading_the_weights(tmp_path: Path) -> None:
    (tmp_path / "transformer").mkdir()
    save_file({"a": np.zeros((3, 5), np.float32)}, tmp_path / "reae.safetensors")
    save_file({"b": np.zeros(7, np.float32), "c": np.zeros((), np.float32)}, tmp_path / "transformer" / "x.safetensors")
    save_file({"prompt_emb": np.zeros((1, 9, 9), np.float32)}, tmp_path / "prompt_embedding.safetensors")
    assert count_parameters(tmp_path) == 15 + 7 + 1


@pytest.mark.parametrize("content", [b"", b"\x02\0\0\0\0\0\0\0[]", b"\xff" * 16, b"\x09\0\0\0\0\0\0\0{"])
def test_a_damaged_file_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "reae.safetensors").write_bytes(content)
    with pytest.raises(CheckpointError, match=r"reae.safetensors: .*(complete|JSON).*; download the checkpoint again$"):
        count_parameters(tmp_path)
