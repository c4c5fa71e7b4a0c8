"""Run mypy --strict on the package, its tests, the benchmarks and the scripts.

The repository root is the package `swiftvr_trt`, whatever the directory is called, so mypy sees it under that name
through a link in `build/`. Tests, benchmarks and scripts import each other from the root.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = (
    *(f"swiftvr_trt.{part}" for part in ("child", "cli", "engines", "errors", "export", "page", "runtime", "text")),
    "swiftvr_trt.benchmarks.suite",
    "benchmarks",
    "scripts",
    "tests",
)


def main() -> int:
    view = ROOT / "build" / "types"
    view.mkdir(parents=True, exist_ok=True)
    link = view / "swiftvr_trt"
    if link.resolve() != ROOT:  # a clone that was moved or copied has a link to the old place
        link.unlink(missing_ok=True)
        link.symlink_to(ROOT, target_is_directory=True)
    names = [argument for package in PACKAGES for argument in ("-p", package)]
    environment = {**os.environ, "MYPYPATH": os.pathsep.join((str(view), str(ROOT)))}
    return subprocess.run([sys.executable, "-m", "mypy", *names], cwd=ROOT, env=environment, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
