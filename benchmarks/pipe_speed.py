"""Compares the CPU time of a run through pipes with that of the same run from file to file.

    python -m benchmarks.pipe_speed --bundle DIR --clip FILE [--runs 5] [--threads 1]

Both read the same NUT file and encode with the same encoder. Runs alternate; the median of the ratios is the result.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

RUN = [sys.executable, "-m", "swiftvr_trt.cli.run"]


def measured(command: list[str], stdin: Path | None, stdout: Path | None) -> tuple[float, float]:
    """Seconds of CPU and of the clock that a command takes. stdin: sent through a pipe by another process."""
    began = time.monotonic()
    sender = subprocess.Popen(["cat", str(stdin)], stdout=subprocess.PIPE) if stdin else None
    receiver = None
    if stdout is not None:
        receiver = subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=stdout.open("wb"))
    process = subprocess.Popen(
        command,
        stdin=sender.stdout if sender else subprocess.DEVNULL,
        stdout=receiver.stdin if receiver else subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    for end in (sender.stdout if sender else None, receiver.stdin if receiver else None):
        if end is not None:
            end.close()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    for helper in filter(None, (sender, receiver)):
        helper.wait()
    if process.returncode:
        raise SystemExit(f"{' '.join(command)} ended with {process.returncode}")
    return usage.ru_utime + usage.ru_stime, time.monotonic() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--bundle", type=Path, required=True)
    parser.add_argument("--clip", type=Path, required=True, help="a NUT file")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--codec", default="ffv1")
    given = parser.parse_args()
    common = ["--bundle", str(given.bundle), "--threads", str(given.threads), "--codec", given.codec, "-q"]
    cpu, wall = [], []
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "out.mkv"
        for run in range(given.runs + 1):
            by_file = measured([*RUN, str(given.clip), str(out), "-y", *common], None, None)
            by_pipe = measured([*RUN, "-", "-", "--out-format", "mkv", *common], given.clip, out)
            if run:  # the first one warms up the disk
                cpu.append(by_pipe[0] / by_file[0])
                wall.append(by_pipe[1] / by_file[1])
                print(f"file {by_file[0]:.2f} s, pipes {by_pipe[0]:.2f} s of CPU; ratio {cpu[-1]:.3f}", flush=True)
    print(f"median ratio: {statistics.median(cpu):.3f} of CPU, {statistics.median(wall):.3f} of the clock")


if __name__ == "__main__":
    main()
