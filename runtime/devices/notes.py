"""Lines about a device, for whoever watches: what takes a while, and what is done another way than usual.

The commands print them. For programs they are records of the logger `swiftvr_trt.notes`.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

NOTES = logging.getLogger(f"{__name__.split('.')[0]}.notes")
_EVERY_S = 20.0


@contextmanager
def noted(line: str, every: float = _EVERY_S) -> Iterator[None]:
    """Note what the block does, and again every so many seconds, with the time it has taken."""
    ended, began = threading.Event(), time.monotonic()

    def repeat() -> None:
        while not ended.wait(every):
            NOTES.info("%s, %.0f s", line, time.monotonic() - began)

    NOTES.info("%s", line)
    thread = threading.Thread(target=repeat, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
