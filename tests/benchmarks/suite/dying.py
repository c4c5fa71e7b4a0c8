"""Processes of cases that do not answer: `die.main` is killed, `sleep.main` hangs. For `runner._WORKER`."""

from __future__ import annotations

import os
import signal
import time

from swiftvr_trt.child import Parent


def main(parent: Parent) -> None:
    """Killed for its first suite, hangs for the other."""
    order = parent.receive() or {}
    if order["suite"] == "latency":
        time.sleep(600)
    os.kill(os.getpid(), signal.SIGKILL)
