"""Memory: parts that add up to the plan, and the process's own peak."""

from __future__ import annotations

from pathlib import Path

from swiftvr_trt.benchmarks.suite.footprint import measure_memory, plan_figures
from swiftvr_trt.benchmarks.suite.record import How
from swiftvr_trt.runtime.stream.plan import plan_memory

from .lab import order_for, trial_bundle


def test_the_parts_add_up() -> None:
    manifest = trial_bundle().manifest
    *parts, total = plan_figures(manifest, 32, 48)
    assert total.name == "planned_bytes"
    assert sum(part.value for part in parts) == total.value
    assert {part.name for part in parts} >= {"memory.weights", "memory.frames", "memory.state"}
    stream = plan_memory(manifest, 32, 48).device.nbytes
    assert sum(part.value for part in parts if part.name != "memory.weights") == stream
    assert all(part.how is How.COMPILED for part in (*parts, total))


def test_the_plan_is_told_beside_what_is_measured(tmp_path: Path) -> None:
    figures = {
        figure.name: figure.how for figure in measure_memory(order_for(trial_bundle(), tmp_path, "memory")).figures
    }
    assert figures["planned_bytes"] is How.COMPILED
    assert figures["rss_bytes"] is How.MEASURED
