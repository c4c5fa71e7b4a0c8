"""Measures bundles against the plain torch network on this machine's CPU, both in turn, and writes the tables.

    python -m benchmarks.paired                    eight minutes or less on two idle cores
    python -m benchmarks.paired --only demo

Three checkpoints: `demo` is the demonstration model, `tiny` has the published autoencoder and a small transformer, and
`slice` the published dimensions with 2 of 30 blocks. Their weights are made first, if need be. Writes
`benchmarks/results/paired-*.json`, and the tables in the documents that follow from them.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from . import documents

CHECKPOINTS = ("demo", "tiny", "slice")
OPTIONS = ("--target", "cpu", "--protocol", "small", "--suite", "core,file", "--against", "torch")
_MAKE = Path(__file__).resolve().parents[1] / "tests" / "oracle" / "make_checkpoint.py"


def checkpoint_of(name: str, folder: Path) -> str:
    """What --checkpoint names; made in `folder` unless it ships with the package."""
    if name == "demo":
        return name
    subprocess.run([sys.executable, str(_MAKE), name, str(folder / name)], check=True, stdout=subprocess.DEVNULL)
    return name  # relative, so that no record names a folder of this machine


def measure(name: str, folder: Path, turns: int) -> Path:
    """One paired run; returns its record."""
    record = f"paired-{name}.json"
    command = [sys.executable, "-m", "swiftvr_trt.cli.bench", "--checkpoint", checkpoint_of(name, folder), *OPTIONS]
    command += ["--turns", str(turns), "-o", record]
    subprocess.run([*command, "-y", "-q"], check=True, cwd=folder, stdout=subprocess.DEVNULL)
    return folder / record


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", action="append", choices=CHECKPOINTS, help="may be repeated (default: all)")
    parser.add_argument("--turns", type=int, default=3, help="how often each side is measured (default %(default)s)")
    given = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="swiftvr-paired-") as folder:
        for name in given.only or CHECKPOINTS:
            began = time.monotonic()
            record = measure(name, Path(folder), given.turns)
            shutil.copy(record, documents.RESULTS)  # only once it is whole
            print(f"{record.name}: {time.monotonic() - began:.0f} s")
    documents.main()


if __name__ == "__main__":
    main()
