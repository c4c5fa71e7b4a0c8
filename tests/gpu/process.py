"""A process of its own for whatever may crash or hang: shown while it runs, ended at a limit, remembered at its end."""

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

ROOT = Path(__file__).resolve().parents[2]
_LINES, _CHARACTERS = 200, 12_000
"""How much of the output is kept."""


@dataclass(frozen=True)
class Ended:
    """How a process ended. output: the end of what it printed. late: it was ended, since its time was over."""

    code: int
    output: str
    late: bool = False

    @property
    def why(self) -> str:
        """In one line: how it ended, and the last thing that it printed."""
        lines = self.output.strip().splitlines() or ["it printed nothing"]
        return f"{'ended at its time limit' if self.late else f'exit code {self.code}'}: {lines[-1].strip()}"


def run(command: list[str], limit: float, cache: Path | None = None) -> Ended:
    """Run a command, show what it prints, and keep the end of that. It is ended after `limit` seconds.

    cache: for bundles and digests, in the place of the user's. Returns whatever happens, but for Ctrl-C.
    """
    environment = {**os.environ, "PYTHONFAULTHANDLER": "1"}
    environment["PYTHONIOENCODING"] = "utf-8:backslashreplace"  # a pipe has the code page of Windows else
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
            _end(process)
    reader.join(5)  # something that the process has left running may hold the pipe
    return Ended(process.returncode, b"".join(lines.copy()).decode(errors="replace")[-_CHARACTERS:], late)


def _follow(stream: IO[bytes], lines: deque[bytes]) -> None:
    with stream:
        for line in stream:
            lines.append(line)
            with suppress(OSError, ValueError):  # nobody looks any more
                sys.stdout.buffer.write(line)
                sys.stdout.buffer.flush()


def _end(process: subprocess.Popen[bytes]) -> None:
    """And with it whatever it has started, compilers above all."""
    children: list[psutil.Process] = []
    with suppress(psutil.Error):
        children = psutil.Process(process.pid).children(recursive=True)
    process.kill()
    for child in children:
        with suppress(psutil.Error):
            child.kill()
    process.wait()
