"""`swiftvr-export` in a process of its own, and what a program said."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from swiftvr_trt.cli import console


@dataclass(frozen=True)
class Said:
    """Exit code and output of a program that has ended."""

    code: Any
    out: str
    err: str

    @property
    def error(self) -> str:
        """The only error: the last line on standard error, with nothing on standard output."""
        lines = self.err.splitlines()
        assert self.out == ""
        assert [line.startswith(console.ERROR) for line in lines] == [False] * (len(lines) - 1) + [True]
        assert "Traceback" not in self.err
        return lines[-1].removeprefix(console.ERROR)


Call = Callable[..., Said]


def start(*arguments: object, **environment: str) -> subprocess.Popen[str]:
    """The program in a process of its own."""
    line = [sys.executable, "-m", "swiftvr_trt.cli.export", *map(str, arguments)]
    pipe = subprocess.PIPE
    return subprocess.Popen(line, env={**os.environ, **environment}, stdout=pipe, stderr=pipe, text=True)


def finish(process: subprocess.Popen[str]) -> Said:
    out, err = process.communicate(timeout=300)
    return Said(process.returncode, out, err)
