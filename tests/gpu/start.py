"""Test this machine's NVIDIA GPU from a fresh clone: `make gpu-test`, or `python tests/gpu/start.py`.

Looks for a GPU, creates a virtual environment in `.venv-gpu`, installs what the tests need and starts `runner.py`. That
builds small bundles, runs the tests marked `gpu`, measures speed and writes `gpu-test.json`, whatever goes wrong; send
that file back. Needs Python 3.11 or newer, its standard library and network access. Works for any NVIDIA GPU.
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

ROOT = Path(__file__).resolve().parents[2]
ENVIRONMENT = ROOT / ".venv-gpu"
DRIVER = "nvcuda.dll" if platform.system() == "Windows" else "libcuda.so.1"
NVIDIA_INDEX = "https://pypi.nvidia.com"
OLDEST_CUDA, USUAL_CUDA = 12000, 13000
"""The CUDA versions that a driver must offer: for the extra `cuda12`, and for `cuda`, ONNX Runtime and torch."""
_CHARACTERS = 12_000
"""How much of a failing program's output is kept."""


class Failed(Exception):  # noqa: N818 (not a bug: the user sees one line)
    """Why the tests could not start, in one line. output: what the failing program printed."""

    def __init__(self, line: str, output: str = "") -> None:
        super().__init__(line)
        self.output = output


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", default="gpu-test.json", help="file to write (default: gpu-test.json)")
    parser.add_argument("--here", action="store_true", help="use this Python's packages and install nothing")
    arguments = parser.parse_args()
    problem = find_problem()
    if problem:
        print(f"error: {problem}", file=sys.stderr)
        return 1
    output = Path(arguments.output).resolve()
    try:
        remove_old(output)
        python, notes = (Path(sys.executable), []) if arguments.here else prepare()
        return run_tests(python, output, notes)
    except Failed as error:
        print(f"error: {error}", file=sys.stderr)
        write_failure(output, error)
        return 1
    except KeyboardInterrupt:
        print("error: interrupted", file=sys.stderr)
        return 130


def find_problem() -> str | None:
    """Why this machine cannot be tested, in one line, or None if it can. Quick, and needs no packages."""
    if sys.version_info < (3, 11):  # noqa: UP036 (that is what this line is for)
        return f"Python {platform.python_version()} is too old, expected 3.11 or newer: run this with a newer Python"
    try:
        driver = ctypes.CDLL(DRIVER)
    except OSError:
        return "no NVIDIA driver was found, but the tests need one: install it from https://www.nvidia.com/drivers"
    count = ctypes.c_int()
    status = driver.cuInit(0) or driver.cuDeviceGetCount(ctypes.byref(count))
    if status or not count.value:
        return (
            f"the NVIDIA driver finds no GPU (CUDA error {status}), but the tests need one: check whether nvidia-smi "
            "lists it; start a container with --gpus all"
        )
    offered = cuda_of_driver()
    if offered < OLDEST_CUDA:
        return (
            f"the NVIDIA driver is for CUDA {in_words(offered)}, but the tests need one for {in_words(OLDEST_CUDA)}: "
            "update it to version 525, or better 580, or newer: https://www.nvidia.com/drivers"
        )
    return None


def cuda_of_driver() -> int:
    """The CUDA version that the driver offers, as it says it: 12080 for 12.8. That of the newest if it does not say."""
    version = ctypes.c_int()
    status = ctypes.CDLL(DRIVER).cuDriverGetVersion(ctypes.byref(version))
    return USUAL_CUDA if status else version.value


def in_words(version: int) -> str:
    """A CUDA version: 12080 -> `12.8`."""
    return f"{version // 1000}.{version % 1000 // 10}"


def packages_for(cuda: int) -> tuple[tuple[str, ...], list[str]]:
    """What to install for a driver that offers a CUDA version, and notes about what it cannot test."""
    old = cuda < USUAL_CUDA
    bindings = "cuda12" if old else "cuda"
    packages = ("-e", f".[gpu,{bindings},rtx,export,dev]", "onnxruntime-gpu[cuda,cudnn]")
    if not old:
        return packages, []
    return packages, [
        f"the NVIDIA driver is for CUDA {in_words(cuda)}: tests of graphs in ONNX Runtime and in torch need one for "
        f"{in_words(USUAL_CUDA)} (version 580 or newer) and will be skipped"
    ]


def remove_old(output: Path) -> None:
    """Remove the report of an earlier run, so that nobody sends that one back if this run fails."""
    try:
        output.unlink(missing_ok=True)
    except OSError as error:
        raise Failed(f"{output} cannot be replaced ({error.strerror}): choose another file with --output") from error


def write_failure(output: Path, error: Failed) -> None:
    """Write the report of a run that did not get as far as the tests."""
    report = {
        "passed": False,
        "complete": False,
        "error": str(error),
        "output": error.output[-_CHARACTERS:],
        "platform": platform.platform(),
        "python": sys.version,
        "tests": [],
    }
    with suppress(OSError):  # the error has been printed already
        output.write_text(json.dumps(report, indent=1), encoding="utf-8")
        print(f"if that does not help, send {output} back")


def prepare() -> tuple[Path, list[str]]:
    """The Python of an environment with all packages, and notes for the report."""
    python = ENVIRONMENT / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    if not has_pip(python):
        print(f"creating {ENVIRONMENT.name}; installing takes a few minutes and about 10 GB", flush=True)
        make_environment()
    packages, notes = packages_for(cuda_of_driver())
    print("".join(f"{note}\n" for note in notes), end="", flush=True)
    printed = install(python, *packages)
    if printed is not None:
        raise Failed(
            f"the packages could not be installed ({last_error(printed)}): check the network and for 10 GB of "
            "free disk space, then run this again",
            printed,
        )
    # TensorRT comes from NVIDIA's own index. Without it, only cards that TensorRT-RTX supports can run engines.
    printed = install(python, "--extra-index-url", NVIDIA_INDEX, "-e", ".[tensorrt]")
    if printed is None:
        return python, notes
    print("TensorRT could not be installed: its tests will be skipped", flush=True)
    return python, [*notes, f"TensorRT could not be installed: {last_error(printed)}"]


def has_pip(python: Path) -> bool:
    """False if the environment is missing or half made, or if its Python is gone."""
    try:
        return subprocess.run([python, "-m", "pip", "--version"], capture_output=True, check=False).returncode == 0
    except OSError:
        return False


def make_environment() -> None:
    """Create the environment anew. One that cannot be finished is removed, since it would look like a good one."""
    try:
        if ENVIRONMENT.exists():
            shutil.rmtree(ENVIRONMENT)
    except OSError as error:
        raise Failed(
            f"{ENVIRONMENT} is unusable and cannot be removed ({error.strerror}): remove it by hand"
        ) from error
    try:
        venv.create(ENVIRONMENT, with_pip=True, symlinks=os.name != "nt")  # as `python -m venv` does
    except (OSError, subprocess.CalledProcessError) as error:
        shutil.rmtree(ENVIRONMENT, ignore_errors=True)
        package = f"python3.{sys.version_info.minor}-venv"
        raise Failed(
            f"{sys.executable} cannot create a virtual environment with pip: on Debian and Ubuntu install {package} "
            f"(sudo apt install {package}), elsewhere Python from https://www.python.org/downloads; then try again",
            f"{error}\n{_text(getattr(error, 'output', None))}",
        ) from error


def _text(output: object) -> str:
    return output.decode(errors="replace") if isinstance(output, bytes) else str(output or "")


def install(python: Path, *packages: str) -> str | None:
    """Install packages. What pip printed if it failed, else None."""
    command = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *packages]
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
    return _text(done.stdout) if done.returncode else None


def last_error(printed: str) -> str:
    """The line that says what went wrong: pip's last error, or else the last line."""
    lines = [line.strip() for line in printed.splitlines() if line.strip()] or ["it printed nothing"]
    return ([line for line in lines if line.startswith("ERROR:")] or lines)[-1]


def run_tests(python: Path, output: Path, notes: list[str]) -> int:
    """Start the runner. `Failed` if it wrote nothing, e.g. because an installed package cannot be imported."""
    command = [str(python), "-X", "faulthandler", "-m", "tests.gpu.runner", "--output", str(output)]
    command += [part for note in notes for part in ("--note", note)]
    with tempfile.TemporaryFile() as stderr:
        process = subprocess.Popen(command, cwd=ROOT, stderr=stderr)
        code = wait(process)
        stderr.seek(0)
        errors = stderr.read().decode(errors="replace")
    print(errors, end="", file=sys.stderr)
    if not output.exists():
        raise Failed(f"the tests ended with exit code {code} before they wrote anything: {last_error(errors)}", errors)
    return code


def wait(process: subprocess.Popen[bytes]) -> int:
    """Wait for the process. Ctrl-C reaches it as well; it then needs time to write what it has."""
    while True:
        try:
            return process.wait()
        except KeyboardInterrupt:
            continue


if __name__ == "__main__":
    sys.exit(main())
