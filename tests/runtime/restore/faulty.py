"""`swiftvr-run` with a fault in it: `python -m tests.runtime.restore.faulty FAULT INPUT OUTPUT ...`.

Whatever is meant to go wrong is told on standard error when it does, with the time of the system's monotonic clock,
so that whoever started the process can tell how long it lived on.
"""

from __future__ import annotations

import hashlib
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[3]
TRIES = 3
"""How often a process may be tried that is to end within a second: it shares the machine with whatever else runs there.
One that is slow by itself is slow each time."""
FOR_EVER = 30.0
"""Seconds that something stuck is stuck: in somebody else's code, which notices nothing."""


def tell() -> None:
    """Now it has gone wrong."""
    print(f"fault {time.monotonic()}", file=sys.stderr, flush=True)


def at(nth: int, owner: Any, method: str, happens: Callable[[], None]) -> None:
    """Before the `nth` call of a method something happens."""
    original, calls = getattr(owner, method), 0

    def counting(*arguments: Any, **options: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == nth:
            tell()
            happens()
        return original(*arguments, **options)

    setattr(owner, method, counting)


def stuck() -> None:
    time.sleep(FOR_EVER)


def deaf() -> None:
    """Stuck in somebody else's code in whichever thread: no signal ends it, and Python hears none meanwhile."""
    hashlib.pbkdf2_hmac("sha256", b"", b"", 100_000_000)


def full_disk() -> None:
    raise OSError(28, "No space left on device")


def bug() -> None:
    raise RuntimeError("a bug")


def stage_that_raises() -> None:
    """In the third chunk: each chunk runs the transformer once."""
    from swiftvr_trt.runtime.devices.cpu import _StageCall

    run, chunks = _StageCall.__call__, 0

    def failing(self: _StageCall) -> None:
        nonlocal chunks
        chunks += self.stage.startswith("dit")
        if chunks == 3:
            tell()
            bug()
        run(self)

    _StageCall.__call__ = failing  # type: ignore[method-assign]


def stage_that_hangs() -> None:
    from swiftvr_trt.runtime.devices.cpu import _StageCall

    at(20, _StageCall, "__call__", stuck)


def reader_that_raises() -> None:
    from swiftvr_trt.runtime.media.decoder import VideoDecoder

    at(40, VideoDecoder, "_decode", bug)


def reader_that_stalls() -> None:
    from swiftvr_trt.runtime.media.video_in import VideoSource

    at(40, VideoSource, "_picture", stuck)


def writer_that_fails() -> None:
    from swiftvr_trt.runtime.media.files import PartFile

    at(3, PartFile, "_store", full_disk)


def writer_that_hangs() -> None:
    """Inside of the encoder, so that its file cannot be closed."""
    from swiftvr_trt.runtime.media.video_out import VideoSink

    at(10, VideoSink, "_encode", stuck)


def loading_that_hangs() -> None:
    from swiftvr_trt.runtime.devices import cpu

    at(2, cpu, "load_session", deaf)


FAULTS = (
    loading_that_hangs,
    stage_that_raises,
    stage_that_hangs,
    reader_that_raises,
    reader_that_stalls,
    writer_that_fails,
    writer_that_hangs,
)


def main() -> None:
    from swiftvr_trt.cli import run as cli

    {fault.__name__: fault for fault in FAULTS}[sys.argv.pop(1)]()
    cli.main()


if __name__ == "__main__":
    main()
