"""`swiftvr-run` with a fault in it: `python -m tests.runtime.restore.faulty FAULT INPUT OUTPUT ...`.

When the fault happens, a line on standard error gives the time of the system's monotonic clock, so that a test can
measure how long the process lives on.
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
"""How often a test may try whether a process ends within a second, since other processes may slow it down."""
STUCK_S = 30.0
"""How long something stuck is stuck, in foreign code that notices nothing."""


def announce() -> None:
    """Report that the fault happens now."""
    print(f"fault {time.monotonic()}", file=sys.stderr, flush=True)


def at(nth: int, owner: Any, method: str, happens: Callable[[], None]) -> None:
    """Have something happen before the `nth` call of a method."""
    original, calls = getattr(owner, method), 0

    def counting(*arguments: Any, **options: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == nth:
            announce()
            happens()
        return original(*arguments, **options)

    setattr(owner, method, counting)


def stuck() -> None:
    time.sleep(STUCK_S)


def deaf() -> None:
    """Stay in C code that holds the interpreter's lock: Python handles no signal meanwhile."""
    hashlib.pbkdf2_hmac("sha256", b"", b"", 100_000_000)


def full_disk() -> None:
    raise OSError(28, "No space left on device")


def bug() -> None:
    raise RuntimeError("a bug")


def stage_that_raises() -> None:
    """Fail in the third chunk; each chunk runs the transformer once."""
    from swiftvr_trt.runtime.devices.cpu import _StageCall

    run, chunks = _StageCall.__call__, 0

    def failing(self: _StageCall) -> None:
        nonlocal chunks
        chunks += self.stage.startswith("dit")
        if chunks == 3:
            announce()
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
    from swiftvr_trt.runtime.restore.segments.packets import PacketWriter

    at(3, PacketWriter, "_put", full_disk)


def writer_that_hangs() -> None:
    """Hang inside the encoder, so that its file cannot be closed."""
    from swiftvr_trt.runtime.media.picture_encoder import PictureEncoder

    at(10, PictureEncoder, "encode", stuck)


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
