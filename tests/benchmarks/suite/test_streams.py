"""Chunks, stages and delays of a real bundle on the CPU."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from swiftvr_trt.benchmarks.suite.footprint import measure_memory
from swiftvr_trt.benchmarks.suite.protocols import PROTOCOLS
from swiftvr_trt.benchmarks.suite.record import How
from swiftvr_trt.benchmarks.suite.streams import (
    chunks_before,
    measure_core,
    measure_latency,
    time_chunks,
    time_recordings,
)
from swiftvr_trt.runtime.devices import gpu, tensorrt
from swiftvr_trt.runtime.stream.device import DONE, Submission
from tests.cuda_emulator import emulated
from tests.runtime.devices.fake_trt import FakeTensorRT, write_engine_bundle

from .lab import TINY, order_for, trial_bundle


def test_the_core_is_measured_chunk_by_chunk_and_stage_by_stage(tmp_path: Path) -> None:
    findings = measure_core(order_for(trial_bundle(), tmp_path, "core"))
    figures = {figure.name: figure for figure in findings.figures}
    assert set(figures) == {"chunk", "core_fps", "cpu_per_frame", "stage.encode", "stage.dit", "stage.decode"}
    assert all(figure.how is How.MEASURED and figure.value > 0 for figure in figures.values())
    assert len(figures["chunk"].samples) == 3
    assert figures["core_fps"].samples == pytest.approx([4e3 / taken for taken in figures["chunk"].samples])
    assert findings.device == "cpu"
    assert findings.roofline is None


@pytest.mark.cuda_emulator
@pytest.mark.parametrize("options", ["", "--overlap", "--no-graphs", "--no-graphs --overlap"])
def test_engines_are_run_as_the_subject_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: str) -> None:
    order = order_for(write_engine_bundle(tmp_path / "engines", trial_bundle()), tmp_path, "core", device="cuda:0")
    order = replace(order, subject=replace(order.subject, options=options))
    with emulated() as emulator:
        monkeypatch.setattr(tensorrt, "import_tensorrt", lambda _compiler: FakeTensorRT(emulator))
        monkeypatch.setattr(gpu.Gpu, "driver_version", lambda _gpu: "580.1")
        core = {figure.name for figure in measure_core(order).figures}
        assert ("cuGraphLaunch" in emulator.call_log()) == ("--no-graphs" not in options)
        memory = {figure.name for figure in measure_memory(order).figures}
    assert core >= {"chunk", "stage.encode", "stage.dit", "stage.decode"}
    assert ("memory.decoder arena" in memory) == ("--overlap" in options)


def test_the_torch_network_is_measured_on_the_same_frames(mini_checkpoint: Path, tmp_path: Path) -> None:
    order = order_for(trial_bundle(), tmp_path, "core", checkpoint=mini_checkpoint)
    findings = measure_core(replace(order, subject=replace(order.subject, side="torch")))
    figures = {figure.name: figure for figure in findings.figures}
    assert set(figures) == {"chunk", "core_fps", "cpu_per_frame", "stage.encode", "stage.dit", "stage.decode"}
    assert {len(figure.samples) for figure in figures.values()} == {3}


def test_a_delay_is_that_of_a_whole_chunk(tmp_path: Path) -> None:
    first, later = measure_latency(order_for(trial_bundle(), tmp_path, "latency")).figures
    assert (first.name, later.name) == ("first_frame", "chunk_latency")
    assert len(later.samples) == 3
    assert min(later.samples) > 0


class Slow:
    """A stream whose chunks are counted."""

    def __init__(self) -> None:
        self.chunks = 0

    def __iter__(self) -> Iterator[None]:
        return self

    def __next__(self) -> None:
        self.chunks += 1
        time.sleep(0.002)


@pytest.mark.parametrize(
    ("side", "device", "protocol", "expected"),
    [
        ("bundle", "cuda:0", "quick", 6),
        ("bundle", "cuda", "paper-1080p", 6),
        ("bundle", "cpu", "quick", 1),
        ("torch", "cpu", "quick", 1),
    ],
)
def test_chunks_that_record_and_capture_are_never_counted(
    tmp_path: Path, side: str, device: str, protocol: str, expected: int
) -> None:
    order = order_for(trial_bundle(), tmp_path, "core")
    subject = replace(order.subject, side=side, device=device)
    assert chunks_before(replace(order, subject=subject, protocol=PROTOCOLS[protocol])) == expected


class Replayed:
    """A recording that says what is replayed."""

    def __init__(self, log: list[str], name: str) -> None:
        self.log, self.name = log, name

    def submit(self) -> Submission:
        self.replay()
        return DONE

    def replay(self) -> None:
        self.log.append(self.name)


def test_a_stage_is_not_timed_while_it_is_recorded_and_captured() -> None:
    log: list[str] = []
    times = time_recordings({stage: Replayed(log, stage) for stage in ("encode", "dit")}, 3)
    assert log == ["encode", "dit"] * 5
    assert {stage: len(found) for stage, found in times.items()} == {"encode": 3, "dit": 3}


@pytest.mark.parametrize(
    ("chunks", "seconds", "counted"), [(60, 0.0, 3), (5, 1e9, 5), (2, 1e9, 3)], ids=["least", "most", "never fewer"]
)
def test_warm_up_does_not_count_and_time_is_limited(chunks: int, seconds: float, counted: int) -> None:
    slow = Slow()
    times, busy = time_chunks(iter(slow), replace(TINY, chunks=chunks, seconds=seconds), 2)
    assert len(times) == counted
    assert slow.chunks == counted + 2
    assert min(times) >= 0.002
    assert len(busy) == counted
    assert min(busy) >= 0.0
