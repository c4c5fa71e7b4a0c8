"""Memory of this process and of the machine."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator

import numpy as np
import psutil
import pytest

from swiftvr_trt.engines.compile.memory import PeakMemory

BLOCK_BYTES = 200 << 20


@pytest.fixture
def peak() -> Iterator[PeakMemory]:
    with PeakMemory() as made:
        yield made


def test_closing_ends_the_thread() -> None:
    peak = PeakMemory()
    assert peak._thread in threading.enumerate()
    for _ in range(2):
        peak.close()
        assert peak._thread not in threading.enumerate()
    assert peak.nbytes


def test_the_peak_includes_what_is_resident_now(peak: PeakMemory) -> None:
    before = peak.nbytes
    assert before is not None
    assert before >= psutil.Process().memory_info().rss * 0.95
    headroom = before - psutil.Process().memory_info().rss  # on Windows the peak may be an earlier one
    block = np.ones((max(headroom, 0) + BLOCK_BYTES) // 8)
    after = peak.nbytes
    assert after is not None
    assert after - before > BLOCK_BYTES // 2
    del block


def test_the_peak_remembers_memory_that_was_released(peak: PeakMemory) -> None:
    block = np.ones(BLOCK_BYTES // 8)
    resident = psutil.Process().memory_info().rss
    deadline = time.monotonic() + 30
    while peak._largest < resident * 0.95 and time.monotonic() < deadline:
        time.sleep(0.05)  # nobody asks: the thread samples by itself
    del block
    assert psutil.Process().memory_info().rss < resident - BLOCK_BYTES // 2
    largest = peak.nbytes
    assert largest is not None
    assert largest >= resident * 0.95


@pytest.mark.alone
def test_short_peaks_are_seen() -> None:
    with PeakMemory() as peak:
        seen = 0
        for _ in range(10):
            peak._largest = 0
            block = np.ones(BLOCK_BYTES // 8)
            resident = psutil.Process().memory_info().rss
            time.sleep(0.03)
            del block
            seen += peak._largest >= resident * 0.95
    assert seen >= 7


def test_memory_is_unknown_without_psutil(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "psutil", None)
    with PeakMemory() as peak:
        assert peak.nbytes is None
