"""Signals that end a program politely."""

from __future__ import annotations

import signal
from types import SimpleNamespace
from typing import Any

import pytest

from swiftvr_trt import console
from swiftvr_trt.runtime import worker


@pytest.fixture
def windows(monkeypatch: pytest.MonkeyPatch) -> dict[int, Any]:
    """The signals that Windows has, by number, with the handlers that are set for them."""
    handlers: dict[int, Any] = {}
    names = {"SIGINT": 2, "SIGTERM": 15, "SIGBREAK": 21}
    fake = SimpleNamespace(**names, SIG_IGN=signal.SIG_IGN, signal=handlers.__setitem__)
    monkeypatch.setattr(console, "signal", fake)
    monkeypatch.setattr(worker, "signal", fake)
    return handlers


def test_on_windows_ctrl_break_cleans_up_as_ctrl_c_does(windows: dict[int, Any]) -> None:
    console._terminate_like_interrupt()
    assert sorted(windows) == [15, 21]  # Python itself makes an interrupt of Ctrl-C
    for handler in windows.values():
        with pytest.raises(KeyboardInterrupt):
            handler(0, None)


def test_a_process_of_a_fleet_leaves_the_terminal_to_its_parent(windows: dict[int, Any]) -> None:
    worker._listen_to_the_parent_alone()
    assert windows[2] is windows[21] is signal.SIG_IGN
    with pytest.raises(KeyboardInterrupt):
        windows[15](15, None)
