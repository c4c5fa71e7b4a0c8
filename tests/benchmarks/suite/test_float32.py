"""What float32 makes of a clip: of all of it for a small network, of one chunk for a large one, or a reason."""

from __future__ import annotations

import errno
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from swiftvr_trt.benchmarks.suite import float32
from swiftvr_trt.benchmarks.suite.clips import moving
from swiftvr_trt.benchmarks.suite.faithful import FLOAT32, measure_quality
from swiftvr_trt.benchmarks.suite.float32 import comparable, in_float32
from swiftvr_trt.benchmarks.suite.likeness import psnr
from swiftvr_trt.benchmarks.suite.subjects import TorchNetwork
from swiftvr_trt.benchmarks.suite.work import CaseOrder
from swiftvr_trt.errors import MachineError
from tests.conftest import BundleFactory

from .lab import order_for, trial_bundle

FRAMES = moving(12, 32, 48)


@pytest.fixture
def order(mini_bundle: BundleFactory, mini_checkpoint: Path, tmp_path: Path) -> CaseOrder:
    return order_for(mini_bundle(), tmp_path, "quality", checkpoint=mini_checkpoint)


def test_the_frames_are_those_of_the_plain_network_and_are_kept(
    order: CaseOrder, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = in_float32(order, FRAMES)
    assert psnr(found, TorchNetwork(order).restore(FRAMES)) > 70  # the autoencoder works latent by latent
    monkeypatch.setattr(float32, "load_reference", lambda *_, **__: pytest.fail("it was restored again"))
    again = in_float32(replace(order, subject=replace(order.subject, precision="fp8")), FRAMES)
    assert np.array_equal(again, found)


def test_a_full_disk_costs_time_and_nothing_else(order: CaseOrder, monkeypatch: pytest.MonkeyPatch) -> None:
    def half(path: Path, _frames: object) -> None:
        path.write_bytes(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(np, "save", half)
    before = sorted(Path(order.folder).iterdir())
    assert len(in_float32(order, FRAMES[:5])) == 5
    assert sorted(Path(order.folder).iterdir()) == before


def test_a_large_network_restores_one_chunk(order: CaseOrder, monkeypatch: pytest.MonkeyPatch) -> None:
    assert comparable(order, FRAMES) is FRAMES
    monkeypatch.setattr(float32, "MOST_PARAMETERS", 0)
    assert len(comparable(order, FRAMES)) == order.subject.clip_len + 1
    findings = measure_quality(replace(order, first=False))
    figures = {figure.name: figure for figure in findings.figures}
    assert len(figures["psnr"].samples) == order.subject.clip_len + 1
    assert figures["psnr"].note == FLOAT32
    assert figures["psnr"].value > 55
    assert findings.notes == ()


def no_memory(monkeypatch: pytest.MonkeyPatch) -> float:
    monkeypatch.setattr(float32, "available_memory", lambda: 1000)
    return 3600.0


def no_time(_monkeypatch: pytest.MonkeyPatch) -> float:
    return 0.0


@pytest.mark.parametrize(
    ("lack", "reason"),
    [
        (no_memory, "it takes about .* MB of memory, and 0.0 MB are free"),
        (no_time, "it would take about 1 min on this"),
    ],
)
def test_what_a_machine_lacks_is_told(
    order: CaseOrder,
    monkeypatch: pytest.MonkeyPatch,
    lack: Callable[[pytest.MonkeyPatch], float],
    reason: str,
) -> None:
    order = replace(order, limit_s=lack(monkeypatch))
    with pytest.raises(MachineError, match=reason):
        in_float32(order, FRAMES)
    findings = measure_quality(order)
    assert findings.figures == ()
    (note,) = findings.notes
    assert note.startswith("PSNR to float32 is not measured: it ")
    assert len(findings.frames) == 3


def test_no_weights_are_a_reason_too(tmp_path: Path) -> None:
    with pytest.raises(MachineError, match="no --checkpoint was named"):
        comparable(order_for(trial_bundle(), tmp_path, "quality"), FRAMES)


@pytest.mark.parametrize(
    ("chunks", "allowed_s", "said"), [(1, 9.0, "1 min on this CPU, and 1"), (12, 100.0, "3 min on this CPU, and 2")]
)
def test_the_first_block_shows_how_long_all_of_them_take(chunks: int, allowed_s: float, said: str) -> None:
    """A second per block and one before: after the first of ten, 11 seconds per chunk are expected."""
    times = iter(float(second) for second in range(100))
    blocks = nn.ModuleList(nn.Identity() for _ in range(10))
    float32._watch(blocks, chunks, allowed_s, lambda: next(times))
    x = blocks[0](torch.zeros(1))
    with pytest.raises(MachineError, match=f"about {said} min are allowed, a part of --limit"):
        blocks[1](x)


def test_later_chunks_are_not_taken_for_slow_blocks() -> None:
    times = iter(float(second) for second in range(100))
    blocks = nn.Sequential(*(nn.Identity() for _ in range(10)))
    float32._watch(blocks, 3, 34.0, lambda: next(times))
    for _chunk in range(3):
        blocks(torch.zeros(1))
    assert next(times) == 11.0, "the clock is asked at the start and before each block of the first chunk, no more"
