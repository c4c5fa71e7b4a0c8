"""Runs slow library calls so that Ctrl-C still ends the program at once.

Python handles signals in the main thread only, between two of its own instructions. A call that stays in a C library
for seconds therefore runs in another thread while the main thread waits.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future, wait
from contextlib import AbstractContextManager
from typing import TypeVar

from ..budget import NOTICE_S

T = TypeVar("T")


def run_interruptibly(task: Callable[[], T]) -> T:
    """Return what `task` returns, or raise what it raises.

    After an interrupt, its thread is left behind. If that opens something after all, it is closed at once.
    """
    future: Future[T] = Future()
    try:  # an interrupt may come while the thread starts
        start_task(task, future)
        while not wait([future], NOTICE_S).done:  # a wait without a limit would not notice Ctrl-C on Windows
            pass
    except BaseException:
        future.add_done_callback(close_result)
        raise
    return future.result()


def start_task(task: Callable[[], T], future: Future[T]) -> None:
    """Begin to run a task in a thread of its own. future: gets what it returns or raises, and cannot be cancelled."""
    future.set_running_or_notify_cancel()

    def run() -> None:
        try:
            future.set_result(task())
        except BaseException as error:  # noqa: BLE001 (raised again in the calling thread)
            future.set_exception(error)

    threading.Thread(target=run, name="swiftvr-interruptible", daemon=True).start()


def close_result(opened: Future[T]) -> None:
    """Close what nobody is waiting for any more."""
    if opened.exception() is None and isinstance(result := opened.result(), AbstractContextManager):
        result.__exit__(None, None, None)
