"""What may take long in somebody else's code, done beside the main thread, which is the only one to hear signals."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future, wait
from typing import TypeVar

T = TypeVar("T")

_POLL_S = 0.1
"""Windows hears Ctrl-C between two waits, not in one."""


def beside(task: Callable[[], T]) -> T:
    """What `task` returns or raises. An interrupt is heard at once, and leaves behind what is still running."""
    future: Future[T] = Future()

    def run() -> None:
        try:
            future.set_result(task())
        except BaseException as error:  # noqa: BLE001 (it is raised again where it can be handled)
            future.set_exception(error)

    threading.Thread(target=run, name="swiftvr-beside", daemon=True).start()
    while not wait([future], _POLL_S).done:
        pass
    return future.result()
