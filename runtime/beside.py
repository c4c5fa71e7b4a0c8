"""What may take long in somebody else's code, done beside the main thread, which is the only one to hear signals."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

_POLL_S = 0.1
"""Windows hears Ctrl-C between two waits, not in one."""


def beside(task: Callable[[], T]) -> T:
    """What `task` returns or raises. An interrupt is heard at once, and leaves behind what is still running."""
    results: list[T] = []
    errors: list[BaseException] = []
    finished = threading.Event()

    def run() -> None:
        try:
            results.append(task())
        except BaseException as error:  # noqa: BLE001 (it is raised again where it can be handled)
            errors.append(error)
        finally:
            finished.set()

    threading.Thread(target=run, name="swiftvr-beside", daemon=True).start()
    while not finished.wait(_POLL_S):
        pass
    if errors:
        raise errors[0]
    return results[0]
