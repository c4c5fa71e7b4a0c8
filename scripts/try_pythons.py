"""Test the package on every supported Python that this machine has, and once with the lowest versions it allows.

    python -m scripts.try_pythons            needs two Pythons at least, and the network

For each Python: a bare environment in build/pythons with the newest dependencies, its size, the time of `--help`, then
`doctor --try` and the tests of reading and writing media and of VapourSynth; not on the Python that runs this, since
`make test` has run them. No torch there: its wheels take gigabytes. With the lowest versions, on the oldest Python: the
same, and the tests of the exporter's first steps and of every name of a library.
Two environments are tried at the same time. Prints the figures, and exits with 1 if a test fails or the installation is
too large.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from scripts.link_packages import link_packages

ROOT = Path(__file__).resolve().parent.parent
PLACE = ROOT / "build" / "pythons"
SUPPORTED = ("3.11", "3.12", "3.13", "3.14")
TESTS_NEED = ("pytest", "pytest-xdist", "pytest-reportlog", "hypothesis", "filelock", "pyyaml")
LIGHT_TESTS = (
    "tests/runtime/media",
    "tests/runtime/restore/test_vapoursynth.py",
    "tests/cli/test_trial.py",
    "tests/export/test_moving_picture.py",
)
LOWEST_TESTS = (
    *LIGHT_TESTS,
    "tests/test_libraries.py",
    "tests/runtime/stream/test_session.py",
    "tests/export/network/test_reference.py",
)
MAIN = "{}.{}".format(*sys.version_info)
"""The Python that runs this: `make test` runs these tests, among all, on it."""
LARGE = ("av", "numpy")
"""PyAV, with its FFmpeg, and NumPy: what they take is not ours to change."""
LARGEST_MB = 36
"""Everything else in an installation without an extra, and without pip."""


@dataclass(frozen=True)
class Environment:
    """A virtual environment: its Python, and what its tests are called in the output."""

    python: Path
    name: str

    def run(self, *arguments: str | Path) -> None:
        """Run Python with these arguments, and print what it prints in one piece. Raises `CalledProcessError`."""
        done = subprocess.run(
            [self.python, *arguments],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        print(f"+ [{self.name}] python {' '.join(map(str, arguments))}\n{done.stdout}", end="", flush=True)
        done.check_returncode()

    def install(self, *arguments: str | Path) -> None:
        self.run("-m", "pip", "install", "--quiet", "--disable-pip-version-check", *arguments)

    def test(self, *tests: str) -> None:
        shared = ("-n", "2", "--dist", "loadfile")  # one file at a time on each of two cores
        self.run("-m", "pytest", "-q", *shared, "-p", "no:cacheprovider", "-m", "not alone and not slow", *tests)


def find_pythons(search: Iterator[Path] | None = None) -> dict[str, Path]:
    """Version -> interpreter, of the supported versions that run. search: interpreters to try; None looks for them."""
    found: dict[str, Path] = {}
    for candidate in search if search is not None else candidates():
        version = _version(candidate)
        if version in SUPPORTED:
            found.setdefault(version, candidate)
    return dict(sorted(found.items(), key=lambda item: SUPPORTED.index(item[0])))


def _version(python: Path) -> str:
    """E.g. 3.12; empty if this does not run, like a shim of pyenv for a version that is not chosen."""
    line: list[str | Path] = [python, "-c", "import sys; print(*sys.version_info[:2], sep='.')"]
    try:
        return subprocess.run(line, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return ""


def candidates() -> Iterator[Path]:
    """Every interpreter on the path, and those of pyenv."""
    yield Path(sys.executable)
    for version in SUPPORTED:
        place = shutil.which(f"python{version}")
        if place:
            yield Path(place)
        pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
        yield from sorted(pyenv.glob(f"{version}.*/bin/python"))


def create(name: str, python: Path) -> Environment:
    """A new environment in build/pythons."""
    path = PLACE / name
    shutil.rmtree(path, ignore_errors=True)
    subprocess.run([python, "-m", "venv", path], check=True)
    return Environment(path / ("Scripts" if os.name == "nt" else "bin") / "python", name)


def megabytes(path: Path) -> dict[str, float]:
    """Sizes of the packages in an environment, compiled files included: each of `LARGE`, and the "rest".

    Without pip and setuptools, which came with the environment.
    """
    packages = next(path.glob("lib*/**/site-packages"))
    sizes = dict.fromkeys((*LARGE, "rest"), 0.0)
    for file in packages.rglob("*"):
        name = re.split(r"[-.]", file.relative_to(packages).parts[0])[0]
        if file.is_file() and name not in ("pip", "setuptools", "pkg_resources"):
            sizes[name if name in LARGE else "rest"] += file.stat().st_size / 1e6
    return sizes


def seconds_of_help(environment: Environment, runs: int = 5) -> float:
    """The fastest of some runs: a slower one had company on this machine."""
    times = []
    for _ in range(runs):
        began = time.perf_counter()
        subprocess.run([environment.python.with_name("swiftvr-run"), "--help"], check=True, capture_output=True)
        times.append(time.perf_counter() - began)
    return min(times)


def try_newest(version: str, python: Path) -> None:
    """The newest dependencies on one Python."""
    environment = create(version, python)
    environment.install(ROOT)
    sizes = megabytes(PLACE / version)
    parts = ", ".join(f"{name} {size:.0f}" for name, size in sizes.items())
    print(
        f"[{version}] base installation {sum(sizes.values()):.0f} MB ({parts}), "
        f"swiftvr-run --help {seconds_of_help(environment):.2f} s",
        flush=True,
    )
    if sizes["rest"] > LARGEST_MB:
        raise SystemExit(
            f"the base installation without {' and '.join(LARGE)} takes {sizes['rest']:.0f} MB on Python {version}, "
            f"expected at most {LARGEST_MB}"
        )
    if version == MAIN:
        return
    environment.install(f"{ROOT}[cpu,vapoursynth]", *TESTS_NEED)
    environment.run("-m", "swiftvr_trt.cli.export", "doctor", "--try")
    environment.test(*LIGHT_TESTS)


def try_lowest(version: str, python: Path) -> None:
    """The lowest versions that pyproject.toml allows, on the oldest Python."""
    environment = create("lowest", python)
    constraints = PLACE / "lowest.txt"
    extras = ("cpu", "export", "cuda", "ray", "live", "bench")
    pins: list[str | Path] = [sys.executable, ROOT / "scripts" / "lowest_versions.py", *extras]
    constraints.write_bytes(subprocess.run(pins, check=True, capture_output=True).stdout)
    if version == MAIN:
        link_packages(PLACE / "lowest", "torch")
    environment.install("torch==2.13.0")
    environment.install("--constraint", constraints, f"{ROOT}[{','.join(extras)}]", *TESTS_NEED)
    print(f"[lowest] Python {version} with\n{constraints.read_text()}", flush=True)
    environment.run("-m", "swiftvr_trt.cli.export", "doctor", "--try")
    environment.test(*LOWEST_TESTS)


def main() -> int:
    pythons = find_pythons()
    if len(pythons) < 2:
        print(
            f"found Python {', '.join(pythons) or 'of no supported version'}, expected at least two of "
            f"{', '.join(SUPPORTED)}: install another, e.g. with pyenv",
            file=sys.stderr,
        )
        return 1
    try:
        with ThreadPoolExecutor(2) as pool:
            longest = partial(try_lowest, *next(iter(pythons.items())))
            tried = [pool.submit(longest), *(pool.submit(try_newest, *each) for each in pythons.items())]
        for each in tried:
            each.result()
    except subprocess.CalledProcessError as error:
        print(f"failed: {' '.join(map(str, error.cmd))}", file=sys.stderr)
        return 1
    print(f"passed on Python {', '.join(pythons)}, and with the lowest versions")
    return 0


if __name__ == "__main__":
    sys.exit(main())
