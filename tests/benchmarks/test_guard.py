"""Graphs and engines do not get worse unnoticed."""

from __future__ import annotations

import importlib.util
import json

import pytest

from benchmarks.guard import FACTS, measure


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("tensorrt_rtx") is None, reason="needs TensorRT-RTX")
def test_the_compiler_makes_the_same_of_the_network_as_before() -> None:
    """If this change is meant, write the file again: python -m benchmarks.refresh. Another compiler may differ."""
    before, now = json.loads(FACTS.read_text(encoding="utf-8")), measure()
    same_compiler = before["compiler"] == now["compiler"]
    exact = ("flops", "attention_fused") + (("kernels",) if same_compiler else ())
    assert set(now["stages"]) == set(before["stages"])
    for name, stage in now["stages"].items():
        old = before["stages"][name]
        assert {key: stage[key] for key in exact} == {key: old[key] for key in exact}, name
        for key in ("arena_bytes", "weight_bytes", "roofline_us"):
            assert stage[key] == pytest.approx(old[key], rel=0.01 if same_compiler else 0.1), f"{name}: {key}"
    assert now["parity_db"] > before["parity_db"] - 2.0, "another processor rounds a few pixels otherwise"
