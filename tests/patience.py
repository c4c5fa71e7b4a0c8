"""How long tests wait for what happens at once on a machine that has nothing else to do.

Whoever measures the time that something takes is marked `alone`. All others wait as long as it takes on a busy machine.
"""

from __future__ import annotations

import time
from collections.abc import Callable

PATIENCE_S = 60.0


def wait_until(happened: Callable[[], object]) -> None:
    """Wait for something to happen, and fail if it does not."""
    deadline = time.monotonic() + PATIENCE_S
    while not happened():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.01)
