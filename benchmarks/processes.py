"""Child processes with a time limit: native code that crashes or hangs takes down its own process only."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections import deque
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import psutil

ROOT = Path(__file__).resolve().parents[1]
_LINES, _CHARACTERS = 200, 12_000
"""How much of the output is kept."""


@dataclass(frozen=True)
class Ended:
    """How a process ended.

    output     the end of what it printed, to stdout and stderr
    late       it was killed because its time was up
    """

    code: int
    output: str
    late: bool = False

    @property
    def why(self) -> str:
        """How it ended and the last line that it printed, in one line."""
        lines = self.output.strip().splitlines() or ["it printed nothing"]
        return f"{'ended at its time limit' if self.late else f'exit code {self.code}'}: {lines[-1].strip()}"


@dataclass(frozen=True)
class Sandbox:
    """Where one run keeps its files.

    rehearsal     the CPU stands in for the GPU, on a machine that may be busy, so time limits are ten times longer
    """

    folder: Path
    rehearsal: bool = False

    @property
    def patience(self) -> float:
        """The factor on all time limits."""
        return 10.0 if self.rehearsal else 1.0

    def run(self, command: list[str], limit: float) -> Ended:
        """Run a command for at most `limit` seconds, with a bundle cache of its own."""
        return run(command, limit * self.patience, self.folder / "cache")


def run(command: list[str], limit: float, cache: Path | None = None) -> Ended:
    """Run a command, show what it prints and keep the end of that. After `limit` seconds it is killed.

    cache: directory for bundles, instead of the user's. Never raises, except for Ctrl-C.
    """
    environment = {**os.environ, "PYTHONFAULTHANDLER": "1"}
    environment["PYTHONIOENCODING"] = "utf-8:backslashreplace"  # otherwise a pipe uses the code page of Windows
    if cache is not None:
        environment["SWIFTVR_CACHE"] = str(cache)
    try:
        process = subprocess.Popen(
            command,
            cwd=ROOT,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
    except OSError as error:
        return Ended(-1, str(error))
    assert process.stdout is not None
    lines: deque[bytes] = deque(maxlen=_LINES)
    reader = threading.Thread(target=_follow, args=(process.stdout, lines), daemon=True)
    reader.start()
    late = False
    try:
        process.wait(limit)
    except subprocess.TimeoutExpired:
        late = True
    finally:
        if process.poll() is None:
            _kill(process)
    reader.join(5)  # a process that it left running may hold the pipe open
    return Ended(process.returncode, b"".join(lines.copy()).decode(errors="replace")[-_CHARACTERS:], late)


def _follow(stream: IO[bytes], lines: deque[bytes]) -> None:
    with stream:
        for line in stream:
            lines.append(line)
            with suppress(OSError, ValueError):  # our own stdout is closed
                sys.stdout.buffer.write(line)
                sys.stdout.buffer.flush()


def _kill(process: subprocess.Popen[bytes]) -> None:
    """Kill a process and everything that it has started, compilers above all."""
    children: list[psutil.Process] = []
    with suppress(psutil.Error):
        children = psutil.Process(process.pid).children(recursive=True)
    process.kill()
    for child in children:
        with suppress(psutil.Error):
            child.kill()
    process.wait()
