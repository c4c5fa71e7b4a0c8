"""Graphs and engines do not get worse unnoticed."""

from __future__ import annotations

import copy
import importlib.util
import json

import pytest

from benchmarks.guard import FACTS, TRACED, measure, unnoticed

EXACT = ("flops", "attention_fused")
OF_THE_COMPILER = ("kernels", "products")


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("tensorrt_rtx") is None, reason="needs TensorRT-RTX")
def test_the_compiler_makes_the_same_of_the_network_as_before() -> None:
    """If this change is meant, write the file again: python -m benchmarks.refresh. Another compiler may differ."""
    before, now = json.loads(FACTS.read_text(encoding="utf-8")), measure()
    same_compiler = before["compiler"] == now["compiler"]
    exact = EXACT + (OF_THE_COMPILER if same_compiler else ())
    old_stages, stages = (
        {(precision, name): stage for precision, all_of in facts["stages"].items() for name, stage in all_of.items()}
        for facts in (before, now)
    )
    assert set(stages) == set(old_stages)
    for name, stage in stages.items():
        old = old_stages[name]
        assert {key: stage[key] for key in exact} == {key: old[key] for key in exact}, name
        for key in ("arena_bytes", "weight_bytes", "roofline_us"):
            assert stage[key] == pytest.approx(old[key], rel=0.01 if same_compiler else 0.1), f"{name}: {key}"
    assert now["parity_db"] > before["parity_db"] - 2.0, "another processor rounds a few pixels otherwise"
    assert unnoticed(before, now) == [], "raise form_of_graphs in engines/bundle/targets.py"
    if before["tracer"] == now["tracer"]:
        assert now["graphs"] == before["graphs"]


def test_graphs_that_change_while_their_form_does_not_are_named() -> None:
    before = json.loads(FACTS.read_text(encoding="utf-8"))
    assert unnoticed(before, before) == []
    for precision in TRACED:
        now = copy.deepcopy(before)
        now["graphs"][precision]["digests"]["dit"] = "0" * 16
        assert unnoticed(before, now) == [precision]
        assert unnoticed(before, now | {"tracer": "torch 99"}) == []
        now["graphs"][precision]["form"] += 1
        assert unnoticed(before, now) == []
