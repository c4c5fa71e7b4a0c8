"""Processes with a time limit."""

from __future__ import annotations

import sys
import time
from pathlib import Path

from benchmarks.processes import run


def test_what_a_process_started_ends_with_it(tmp_path: Path) -> None:
    """Such as a compiler that hangs. The pipe it has inherited delays nobody either."""
    code = "import subprocess, sys; subprocess.run([sys.executable, '-c', 'import time; time.sleep(600)'])"
    began = time.monotonic()
    ended = run([sys.executable, "-c", code], 3, tmp_path)
    assert time.monotonic() - began < 30
    assert ended.late
    assert ended.code != 0


def test_a_command_that_does_not_exist_is_a_result(tmp_path: Path) -> None:
    ended = run(["no-such-command"], 3, tmp_path)
    assert ended.code == -1
    assert "no-such-command" in ended.why
