"""Test a machine with an NVIDIA GPU, from a fresh clone, with one command: `make gpu-test`, or run this file.

It looks for a GPU, makes a virtual environment in `.venv-gpu`, installs, builds small bundles, runs the tests marked
`gpu` and a measurement, and writes `gpu-test.json`, which is what to send back. Needs Python 3.11 or newer, and the
network for the packages. Nothing here is specific to one GPU.
"""

from __future__ import annotations

import argparse
import ctypes
import os
import platform
import subprocess
import sys
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PLACE = ROOT / ".venv-gpu"
DRIVER = "nvcuda.dll" if platform.system() == "Windows" else "libcuda.so.1"
NVIDIA_INDEX = "https://pypi.nvidia.com"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", default="gpu-test.json", help="what to write; default: gpu-test.json")
    parser.add_argument("--here", action="store_true", help="use the packages of this Python; install nothing")
    arguments = parser.parse_args()
    problem = find_problem()
    if problem:
        print(f"error: {problem}", file=sys.stderr)
        return 1
    python = Path(sys.executable) if arguments.here else prepare()
    command = [str(python), "-m", "benchmarks.gpu_test", "--output", str(Path(arguments.output).resolve())]
    return subprocess.run(command, cwd=ROOT, check=False).returncode


def find_problem() -> str | None:
    """Why this machine cannot be tested, in one line; None if it can. Quick, and needs no packages."""
    if sys.version_info < (3, 11):  # noqa: UP036 (whoever has an older one shall be told)
        return f"Python {platform.python_version()} is too old, expected 3.11 or newer: run this with another one"
    try:
        driver = ctypes.CDLL(DRIVER)
    except OSError:
        return "no NVIDIA driver was found, the tests need one: install it from https://www.nvidia.com/drivers"
    count = ctypes.c_int()
    status = driver.cuInit(0) or driver.cuDeviceGetCount(ctypes.byref(count))
    if status or not count.value:
        return (
            f"the NVIDIA driver finds no GPU (CUDA error {status}), the tests need one: look whether nvidia-smi does; "
            "in a container, start it with --gpus all"
        )
    return None


def prepare() -> Path:
    """The Python of an environment with everything in it."""
    python = PLACE / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    if not python.exists():
        print(f"making {PLACE.name}; installing takes a few minutes and about 10 GB", flush=True)
        venv.create(PLACE, with_pip=True)
    install = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*install, "-e", ".[gpu,cuda,rtx,export,dev]", "onnxruntime-gpu[cuda,cudnn]"], cwd=ROOT, check=True)
    # TensorRT comes from NVIDIA's own index. Without it, only the cards that TensorRT-RTX knows run engines.
    tensorrt = subprocess.run([*install, "--extra-index-url", NVIDIA_INDEX, "-e", ".[tensorrt]"], cwd=ROOT, check=False)
    if tensorrt.returncode:
        print("TensorRT could not be installed: its tests will be skipped", flush=True)
    return python


if __name__ == "__main__":
    sys.exit(main())
