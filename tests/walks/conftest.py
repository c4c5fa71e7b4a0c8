"""Walks: what a stranger does, with the wheel in a bare virtual environment and nothing of this clone on the path.

    def test_...(runtime_venv, tmp_path):
        said = runtime_venv.run("swiftvr-run", "in.mp4", "out.mp4", "--bundle", bundle, cwd=tmp_path)
        assert said.code == 0, said.err

An environment is made once per test run, for all workers of pytest-xdist.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from filelock import FileLock

from scripts.link_packages import link_packages
from tests.cli.program import Said

ROOT = Path(__file__).resolve().parent.parent.parent
WINDOWS = os.name == "nt"
# What would lead a stranger's Python back into this clone or its environment.
OURS = ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV", "COVERAGE_PROCESS_START", "COV_CORE_SOURCE", "PYTEST_ADDOPTS")


@dataclass(frozen=True)
class Venv:
    """A bare virtual environment with the wheel in it. home: the user's folder, where a cache may appear."""

    path: Path
    home: Path

    @property
    def python(self) -> Path:
        return self.program("python")

    def program(self, name: str) -> Path:
        """A program of this environment."""
        return self.path / ("Scripts" if WINDOWS else "bin") / (f"{name}.exe" if WINDOWS else name)

    def environment(self, **changes: str) -> dict[str, str]:
        """The environment variables of a user whose home is `home`."""
        inherited = {name: value for name, value in os.environ.items() if name not in OURS}
        inherited.pop("XDG_CACHE_HOME", None)
        return inherited | {"HOME": str(self.home), "USERPROFILE": str(self.home), "COLUMNS": "200"} | changes

    def run(self, program: str, *arguments: object, cwd: Path, timeout_s: float = 300, **changes: str) -> Said:
        """Run a program of this environment in `cwd`. changes: further environment variables."""
        line = [str(self.program(program)), *map(str, arguments)]
        environment = self.environment(**changes)
        done = subprocess.run(
            line, cwd=cwd, env=environment, capture_output=True, text=True, timeout=timeout_s, check=False
        )
        return Said(done.returncode, done.stdout, done.stderr)


class Watch:
    """Sees every file that programs of an environment write, but for those in the folder where they run."""

    def __init__(self, venv: Venv, folder: Path) -> None:
        """folder: empty; gets a home and a folder for temporary files."""
        self._places = {"home": folder / "home", "temporary": folder / "temporary", "packages": venv.path}
        for name in ("home", "temporary"):
            self._places[name].mkdir()
        home, temporary = str(self._places["home"]), str(self._places["temporary"])
        self.environment = {"HOME": home, "USERPROFILE": home, "TMPDIR": temporary, "TEMP": temporary}
        self._before = self._files()

    def written(self) -> set[str]:
        """Places of the files that are new, changed or gone, e.g. `home/.cache/...`."""
        return {place for place, _ in self._files() ^ self._before}

    def _files(self) -> set[tuple[str, tuple[int, int]]]:
        """Place, size and time of every file. Python may compile a package when it is first imported."""
        found = set()
        for name, folder in self._places.items():
            for path in folder.rglob("*"):
                if path.parent.name != "__pycache__" and not path.is_dir():
                    stat = path.lstat()
                    found.add((f"{name}/{path.relative_to(folder).as_posix()}", (stat.st_size, stat.st_mtime_ns)))
        return found


@pytest.fixture
def elsewhere(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty folder that is not below `tmp_path`."""
    return tmp_path_factory.mktemp("elsewhere")


Once = Callable[[str, Callable[[Path], None]], Path]


@pytest.fixture(scope="session")
def once(shared_tmp: Path) -> Once:
    """(name, make) -> the folder `name`, which `make` fills once for all workers of this test run."""

    def folder(name: str, make: Callable[[Path], None]) -> Path:
        path, done = shared_tmp / "walks" / name, shared_tmp / "walks" / f"{name}.done"
        path.mkdir(parents=True, exist_ok=True)
        with FileLock(path.with_suffix(".lock")):
            if not done.exists():
                make(path)
                done.touch()
        return path

    return folder


@pytest.fixture(scope="session")
def distributions(once: Once) -> Path:
    """A folder with the sdist, and the wheel that was built from it."""

    def build(path: Path) -> None:
        _check([sys.executable, "-m", "build", "--no-isolation", "--outdir", path, ROOT], cwd=path)

    return once("dist", build)


@pytest.fixture(scope="session")
def wheel(distributions: Path) -> Path:
    (path,) = distributions.glob("*.whl")
    return path


@pytest.fixture(scope="session")
def runtime_venv(once: Once, wheel: Path) -> Venv:
    """The wheel with the extra `cpu`: runs bundles, has no torch."""
    return Venv(
        once("runtime-venv", lambda path: install_wheel(path, wheel, "[cpu]")), once("runtime-home", make_nothing)
    )


@pytest.fixture(scope="session")
def export_venv(once: Once, wheel: Path) -> Venv:
    """The wheel with the extras `cpu` and `export`, and torch for the CPU."""
    made = once("export-venv", lambda path: install_wheel(path, wheel, "[cpu,export]", link=True))
    return Venv(made, once("export-home", make_nothing))


def install_wheel(path: Path, wheel: Path, extras: str, *, link: bool = False) -> None:
    """Make a virtual environment and install the wheel with extras.

    link: take what it needs from this environment, which is faster by a minute where torch is needed.
    """
    _check([sys.executable, "-m", "venv", path], cwd=path)
    if link:
        link_packages(path, f"swiftvr-trt{extras}")
    install = ("-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--retries", "10")
    _check([Venv(path, path).python, *install, f"{wheel}{extras}"], cwd=path)


def make_nothing(_path: Path) -> None:
    """An empty folder."""


def _check(line: list[str | Path], cwd: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if name not in OURS}
    done = subprocess.run(line, cwd=cwd, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise AssertionError(f"{' '.join(map(str, line))} failed:\n{done.stdout}\n{done.stderr}")
