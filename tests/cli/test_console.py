"""Signals that end a program politely."""

from __future__ import annotations

import signal
import subprocess
import sys
from types import SimpleNamespace
from typing import Any

import pytest

from swiftvr_trt.cli import console
from swiftvr_trt.runtime.restore import worker


@pytest.fixture
def windows(monkeypatch: pytest.MonkeyPatch) -> dict[int, Any]:
    """The signals that Windows has, by number, with the handlers that are set for them."""
    handlers: dict[int, Any] = {}
    names = {"SIGINT": 2, "SIGTERM": 15, "SIGBREAK": 21}
    fake = SimpleNamespace(**names, SIG_IGN=signal.SIG_IGN, signal=handlers.__setitem__, getsignal=handlers.get)
    monkeypatch.setattr(console, "signal", fake)
    monkeypatch.setattr(worker, "signal", fake)
    return handlers


def test_on_windows_ctrl_break_cleans_up_as_ctrl_c_does(windows: dict[int, Any]) -> None:
    console._terminate_like_interrupt()
    assert sorted(windows) == [15, 21]  # Python itself makes an interrupt of Ctrl-C
    for handler in windows.values():
        with pytest.raises(KeyboardInterrupt):
            handler(0, None)


@pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="has no hang-up")
def test_nohup_goes_on_when_the_terminal_is_closed() -> None:
    code = (
        "import os, signal\nfrom swiftvr_trt.cli import console\nsignal.signal(signal.SIGHUP, signal.SIG_IGN)\n"
        "console._terminate_like_interrupt()\nos.kill(os.getpid(), signal.SIGHUP)\nprint('alive')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (0, "alive\n")


def test_a_process_of_a_fleet_leaves_the_terminal_to_its_parent(windows: dict[int, Any]) -> None:
    worker._listen_to_the_parent_alone()
    assert windows[2] is windows[21] is signal.SIG_IGN
    with pytest.raises(KeyboardInterrupt):
        windows[15](15, None)
