"""Processes whose parent is gone. Process 1 inherits them, and in a container it may never collect their exit codes."""

from __future__ import annotations

import time
from collections.abc import Sequence

import psutil

from .patience import PATIENCE_S


def has_ended(process: psutil.Process) -> bool:
    """Whether it no longer runs; nobody need have collected its exit code."""
    try:
        return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def wait_for_the_end(processes: Sequence[psutil.Process], patience_s: float = PATIENCE_S) -> None:
    deadline = time.monotonic() + patience_s
    while not all(map(has_ended, processes)):
        assert time.monotonic() < deadline, [process for process in processes if not has_ended(process)]
        time.sleep(0.01)
