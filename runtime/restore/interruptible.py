"""Runs slow library calls so that Ctrl-C still ends the program at once.

Python handles signals in the main thread only, between two of its own instructions. A call that stays in a C library
for seconds therefore runs in another thread while the main thread waits.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future, wait
from typing import TypeVar

from ..budget import NOTICE_S

T = TypeVar("T")


def run_interruptibly(task: Callable[[], T]) -> T:
    """Return what `task` returns, or raise what it raises. After an interrupt, its thread is left behind."""
    future: Future[T] = Future()

    def run() -> None:
        try:
            future.set_result(task())
        except BaseException as error:  # noqa: BLE001 (raised again in the calling thread)
            future.set_exception(error)

    threading.Thread(target=run, name="swiftvr-interruptible", daemon=True).start()
    while not wait([future], NOTICE_S).done:  # a wait without a limit would not notice Ctrl-C on Windows
        pass
    return future.result()
