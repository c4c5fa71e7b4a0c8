"""Results, errors and interrupts of a task that runs in another thread."""

from __future__ import annotations

import os
import signal
import threading
import time

import pytest

from swiftvr_trt.runtime.restore.interruptible import run_interruptibly


def test_the_result_and_the_error_of_the_task_come_through() -> None:
    assert run_interruptibly(lambda: threading.current_thread().name) == "swiftvr-interruptible"

    def fail() -> None:
        raise KeyError("x")

    with pytest.raises(KeyError, match="x"):
        run_interruptibly(fail)


def test_an_exit_in_the_task_is_one_here() -> None:
    def leave() -> None:
        raise SystemExit(3)

    with pytest.raises(SystemExit, match="3"):
        run_interruptibly(leave)


@pytest.mark.skipif(os.name != "posix", reason="sends a signal to itself")
def test_an_interrupt_leaves_the_task_behind() -> None:
    released, started = threading.Event(), threading.Event()

    def stuck() -> None:
        started.set()
        released.wait(60)

    def interrupt() -> None:
        started.wait(60)
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=interrupt, daemon=True).start()
    began = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        run_interruptibly(stuck)
    assert time.monotonic() - began < 30
    left = [thread for thread in threading.enumerate() if thread.name == "swiftvr-interruptible"]
    assert len(left) == 1
    released.set()
    left[0].join(10)
    assert not left[0].is_alive()
