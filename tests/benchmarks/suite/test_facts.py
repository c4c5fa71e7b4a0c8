"""What a record says about this machine."""

from __future__ import annotations

from dataclasses import replace

import psutil
import pytest

from swiftvr_trt.benchmarks.suite.facts import busy_share, describe_host, find_gpu_card, how_measured
from swiftvr_trt.benchmarks.suite.record import GraphicsCard, How


def test_the_machine_is_described() -> None:
    host = describe_host("cpu")
    assert host.cpus >= 1
    assert host.memory_bytes > 1 << 28
    assert host.cpu
    assert {"swiftvr-trt", "python", "numpy", "av"} <= set(host.versions)
    assert host.gpu is None


def test_only_what_runs_now_counts_as_other_work(monkeypatch: pytest.MonkeyPatch) -> None:
    waited: list[float] = []

    def percent(seconds: float) -> float:
        waited.append(seconds)
        return 37.5

    monkeypatch.setattr(psutil, "cpu_percent", percent)
    assert busy_share() == 0.375
    assert waited == [1.0]
    assert describe_host("cpu", 0.375).load == 0.375
    assert describe_host("cpu").load is None


def test_the_cpu_is_no_card() -> None:
    card, nvml = find_gpu_card("cpu")
    assert card is None
    assert not nvml.found


def test_what_an_emulated_gpu_measures_is_emulated() -> None:
    card = GraphicsCard("NVIDIA GeForce RTX 5090", "580", "12.0")
    assert how_measured(None) is how_measured(card) is How.MEASURED
    assert how_measured(replace(card, emulated=True)) is How.EMULATED
