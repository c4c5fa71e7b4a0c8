"""Files that do not answer, as on a dead mount: see `stall.c`, which decides by their names."""

from __future__ import annotations

import subprocess
from pathlib import Path

SOURCE = Path(__file__).with_name("stall.c")
FLAGS = ("-std=gnu11", "-Wall", "-Wextra", "-Werror", "-O1", "-fPIC", "-shared")


def build(place: Path) -> Path:
    """Compile the library to preload."""
    library = place / "stall.so"
    subprocess.run(["gcc", *FLAGS, str(SOURCE), "-o", str(library), "-ldl"], check=True)
    return library


def environment(library: Path, stamp: Path) -> dict[str, str]:
    """What to add to the environment of a process. stamp: the file that is created when a call stalls."""
    return {"LD_PRELOAD": str(library), "STALL_STAMP": str(stamp)}
