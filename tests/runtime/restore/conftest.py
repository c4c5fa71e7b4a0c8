"""Fixtures of the tests of `runtime.restore`."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from swiftvr_trt import Bundle
from tests.clips import write_clip
from tests.conftest import BundleFactory
from tests.cuda_emulator import build
from tests.runtime.devices.fake_trt import write_engine_bundle

from .fleet_lab import PrepareWorkers, path_that_runs


@pytest.fixture(scope="module")
def bundle(mini_bundle: BundleFactory) -> Bundle:
    return mini_bundle()


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    place = tmp_path_factory.mktemp("clips")
    return [write_clip(place / f"{name}.mp4", 20 + index) for index, name in enumerate("abcd")]


@pytest.fixture(scope="module")
def long_clips(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    place = tmp_path_factory.mktemp("long")
    first = write_clip(place / "l0.mp4", 600)
    return [first, *(Path(shutil.copy(first, place / f"l{index}.mp4")) for index in (1, 2))]


@pytest.fixture(scope="module")
def engines(bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    build()
    return write_engine_bundle(tmp_path_factory.mktemp("engines") / "bundle", bundle)


@pytest.fixture
def with_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> PrepareWorkers:
    def prepare(code: str) -> Path:
        started = tmp_path / "started"
        started.touch()
        # Numbered by creating a file, which only one process can do: two that start together would count each other.
        counting = (
            f"open({str(started)!r}, 'a').write('x\\n')\n"
            "import itertools\n"
            "for process in itertools.count(1):\n"
            "    try:\n"
            f"        open({str(started)!r} + str(process), 'x').close()\n"
            "        break\n"
            "    except FileExistsError:\n"
            "        pass\n"
        )
        monkeypatch.setenv("PYTHONPATH", path_that_runs(tmp_path, counting + code))
        return started

    return prepare
