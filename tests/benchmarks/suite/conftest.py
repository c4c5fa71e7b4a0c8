"""What all tests of measuring share."""

from __future__ import annotations

import pytest

from swiftvr_trt.benchmarks.suite import runner


@pytest.fixture(autouse=True)
def _idle_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs do not look for a second how busy this machine is."""
    monkeypatch.setattr(runner, "busy_share", lambda: 0.0)
