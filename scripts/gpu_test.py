"""Test a machine with an NVIDIA GPU, from a fresh clone, with one command: `make gpu-test`, or run this file.

It looks for a GPU, makes a virtual environment in `.venv-gpu`, installs, builds small bundles, runs the tests marked
`gpu`, measures speed, and writes `gpu-test.json`, which is what to send back, whatever went wrong. Needs Python 3.11 or
newer, and the network for the packages. Nothing here is specific to one GPU.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import venv
from contextlib import suppress
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PLACE = ROOT / ".venv-gpu"
DRIVER = "nvcuda.dll" if platform.system() == "Windows" else "libcuda.so.1"
NVIDIA_INDEX = "https://pypi.nvidia.com"
PACKAGES = ("-e", ".[gpu,cuda,rtx,export,dev]", "onnxruntime-gpu[cuda,cudnn]")
_CHARACTERS = 12_000
"""How much of what a failing program printed is kept."""


class Failed(Exception):  # noqa: N818 (it is told in one line, and is no bug)
    """Why the tests could not be begun, in one line. output: what the program that failed has printed."""

    def __init__(self, line: str, output: str = "") -> None:
        super().__init__(line)
        self.output = output


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", default="gpu-test.json", help="what to write; default: gpu-test.json")
    parser.add_argument("--here", action="store_true", help="use the packages of this Python; install nothing")
    arguments = parser.parse_args()
    problem = find_problem()
    if problem:
        print(f"error: {problem}", file=sys.stderr)
        return 1
    output = Path(arguments.output).resolve()
    try:
        clear(output)
        python, notes = (Path(sys.executable), []) if arguments.here else prepare()
        return run_tests(python, output, notes)
    except Failed as error:
        print(f"error: {error}", file=sys.stderr)
        tell(output, error)
        return 1
    except KeyboardInterrupt:
        print("error: interrupted", file=sys.stderr)
        return 130


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


def clear(output: Path) -> None:
    """Remove the file of an earlier run: nobody shall send that one back if this run comes to nothing."""
    try:
        output.unlink(missing_ok=True)
    except OSError as error:
        raise Failed(f"{output} cannot be replaced ({error.strerror}): name another file with --output") from error


def tell(output: Path, error: Failed) -> None:
    """Write the file for a run that came to no tests."""
    report = {
        "passed": False,
        "complete": False,
        "error": str(error),
        "output": error.output[-_CHARACTERS:],
        "platform": platform.platform(),
        "python": sys.version,
        "tests": [],
    }
    with suppress(OSError):  # the line has been printed
        output.write_text(json.dumps(report, indent=1), encoding="utf-8")
        print(f"send {output} back, if that does not help")


def prepare() -> tuple[Path, list[str]]:
    """The Python of an environment with everything in it, and what is to be noted about that."""
    python = PLACE / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    if not has_pip(python):
        print(f"making {PLACE.name}; installing takes a few minutes and about 10 GB", flush=True)
        make_environment()
    said = install(python, *PACKAGES)
    if said is not None:
        raise Failed(
            f"the packages could not be installed ({last_error(said)}): look whether the network and 10 GB of disk are "
            "there, and run this again",
            said,
        )
    # TensorRT comes from NVIDIA's own index. Without it, only the cards that TensorRT-RTX knows run engines.
    said = install(python, "--extra-index-url", NVIDIA_INDEX, "-e", ".[tensorrt]")
    if said is None:
        return python, []
    print("TensorRT could not be installed: its tests will be skipped", flush=True)
    return python, [f"TensorRT could not be installed: {last_error(said)}"]


def has_pip(python: Path) -> bool:
    """False for an environment that is not there, was only half made, or whose Python is gone."""
    try:
        return subprocess.run([python, "-m", "pip", "--version"], capture_output=True, check=False).returncode == 0
    except OSError:
        return False


def make_environment() -> None:
    """In the place of whatever is there. What cannot be finished is removed: it would look like one."""
    try:
        if PLACE.exists():
            shutil.rmtree(PLACE)
    except OSError as error:
        raise Failed(f"{PLACE} is of no use and cannot be removed ({error.strerror}): remove it by hand") from error
    try:
        venv.create(PLACE, with_pip=True, symlinks=os.name != "nt")  # as `python -m venv` does
    except (OSError, subprocess.CalledProcessError) as error:
        shutil.rmtree(PLACE, ignore_errors=True)
        package = f"python3.{sys.version_info.minor}-venv"
        raise Failed(
            f"{sys.executable} makes no virtual environment with pip: on Debian and Ubuntu install {package} "
            f"(sudo apt install {package}), elsewhere Python from https://www.python.org/downloads; then try again",
            f"{error}\n{_text(getattr(error, 'output', None))}",
        ) from error


def _text(output: object) -> str:
    return output.decode(errors="replace") if isinstance(output, bytes) else str(output or "")


def install(python: Path, *what: str) -> str | None:
    """None, or what pip said when it failed."""
    command = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *what]
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
    return _text(done.stdout) if done.returncode else None


def last_error(said: str) -> str:
    """The line that says what is wrong: pip's last error, or the last line."""
    lines = [line.strip() for line in said.splitlines() if line.strip()] or ["pip said nothing"]
    return ([line for line in lines if line.startswith("ERROR:")] or lines)[-1]


def run_tests(python: Path, output: Path, notes: list[str]) -> int:
    """Run the tests; `Failed` if they wrote nothing, e.g. because a package that was installed does not load."""
    command = [str(python), "-X", "faulthandler", "-m", "benchmarks.gpu_test", "--output", str(output)]
    command += [part for note in notes for part in ("--note", note)]
    with tempfile.TemporaryFile() as said:
        process = subprocess.Popen(command, cwd=ROOT, stderr=said)
        code = wait(process)
        said.seek(0)
        errors = said.read().decode(errors="replace")
    print(errors, end="", file=sys.stderr)
    if not output.exists():
        raise Failed(f"the tests ended with exit code {code} before they wrote anything: {last_error(errors)}", errors)
    return code


def wait(process: subprocess.Popen[bytes]) -> int:
    """Ctrl-C reaches the process, too; it then writes what it has, and must be given the time to."""
    while True:
        try:
            return process.wait()
        except KeyboardInterrupt:
            continue


if __name__ == "__main__":
    sys.exit(main())
