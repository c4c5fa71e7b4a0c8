"""What all displays share; tests/cli test the displays themselves."""

from __future__ import annotations

from swiftvr_trt.runtime.restore.display import WarnsOnce

from .fleet_lab import RecordingDisplay


def test_a_line_is_shown_once_and_remembered() -> None:
    display = RecordingDisplay()
    warn = WarnsOnce(display)
    warn("one", "two")
    warn("two", "three", "one")
    warn()
    assert display.warnings == warn.lines == ["one", "two", "three"]
