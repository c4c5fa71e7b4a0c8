"""Results, errors and interrupts of a task that runs in another thread."""

from __future__ import annotations

import os
import signal
import threading
import time
from pathlib import Path
from typing import IO

import pytest

from swiftvr_trt.runtime.restore.interruptible import run_interruptibly
from tests.patience import PATIENCE_S


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


def tasks() -> set[threading.Thread]:
    """The threads of tasks, also those that earlier tests have left behind."""
    return {thread for thread in threading.enumerate() if thread.name == "swiftvr-interruptible"}


@pytest.mark.skipif(os.name != "posix", reason="sends a signal to itself")
def test_an_interrupt_leaves_the_task_behind() -> None:
    released, started = threading.Event(), threading.Event()

    def stuck() -> None:
        started.set()
        released.wait(2 * PATIENCE_S)

    def interrupt() -> None:
        started.wait(2 * PATIENCE_S)
        os.kill(os.getpid(), signal.SIGINT)

    before = tasks()
    threading.Thread(target=interrupt, daemon=True).start()
    began = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        run_interruptibly(stuck)
    assert time.monotonic() - began < PATIENCE_S
    (left,) = tasks() - before
    released.set()
    left.join(PATIENCE_S)
    assert not left.is_alive()


@pytest.mark.skipif(os.name != "posix", reason="sends a signal to itself")
@pytest.mark.parametrize("fails", [False, True])
def test_what_is_opened_after_an_interrupt_is_closed(tmp_path: Path, fails: bool) -> None:
    released, started = threading.Event(), threading.Event()
    opened: list[IO[str]] = []

    def slow() -> IO[str]:
        started.set()
        released.wait(2 * PATIENCE_S)
        if fails:
            raise OSError
        opened.append((tmp_path / "file").open("w"))
        return opened[0]

    def interrupt() -> None:
        started.wait(2 * PATIENCE_S)
        os.kill(os.getpid(), signal.SIGINT)

    before = tasks()
    threading.Thread(target=interrupt, daemon=True).start()
    with pytest.raises(KeyboardInterrupt):
        run_interruptibly(slow)
    (left,) = tasks() - before
    released.set()
    left.join(PATIENCE_S)
    assert [file.closed for file in opened] == ([] if fails else [True])
