"""Memory of this process and of the machine, held against what psutil says."""

from __future__ import annotations

import sys

import numpy as np
import psutil
import pytest

from swiftvr_trt.engines.compile.memory import available_memory, peak_memory

pytestmark = pytest.mark.skipif(sys.platform not in ("linux", "win32"), reason="the system does not tell")


def test_the_peak_is_no_less_than_what_is_resident_and_rises_with_it() -> None:
    before = peak_memory()
    resident = psutil.Process().memory_info().rss
    assert before is not None
    assert before >= resident * 0.95
    block = np.ones(max(before - resident, 0) // 8 + (25 << 20) // 1)
    after = peak_memory()
    assert after is not None
    assert after - before > 100 << 20
    del block


def test_available_memory_is_what_others_say_it_is() -> None:
    available = available_memory()
    assert available is not None
    assert available == pytest.approx(psutil.virtual_memory().available, rel=0.2)
