"""What the tests of fleets and workers share: a display that remembers, and code that runs inside the workers."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import av
import numpy as np
import psutil
import pytest

from swiftvr_trt import Bundle
from swiftvr_trt.runtime.media import SinkOptions
from swiftvr_trt.runtime.restore.display import Result
from swiftvr_trt.runtime.restore.job import Job, JobWithBundle
from swiftvr_trt.runtime.restore.restorer import OpenOptions

from .faulty import ROOT

ONE_THREAD = OpenOptions(threads=1)


PrepareWorkers = Callable[[str], Path]
"""Has each worker run this code first, with its number in `process`. Returns a file with a line per worker."""


EMULATED = """
import itertools, time
from tests.cuda_emulator import load
emulator = load()
from swiftvr_trt.runtime.devices import gpu, tensorrt
from swiftvr_trt.runtime.restore import restorer
from tests.runtime.devices import fake_trt
library = fake_trt.FakeTensorRT(emulator)
tensorrt.import_tensorrt = lambda _compiler: library
gpu.Gpu.driver_version = lambda _gpu: "580.1"  # the emulator has no management library to ask
open_device = restorer.open_device

def when_opened(device, happens):
    def opening(bundle, name, *arguments, **options):
        opened = open_device(bundle, name, *arguments, **options)
        if name == device:
            happens()
        return opened
    restorer.open_device = opening

def breaks():
    runs = itertools.count(1)
    def running(stage):
        if stage.startswith("dit") and next(runs) == 3:  # each of the two ran once when the stream was made
            emulator.break_device(700)
    library.running = running
"""
"""Gives a worker an emulated GPU and a stand-in for TensorRT. Once it `breaks`, every call of the driver fails."""


emulates = pytest.mark.skipif(sys.platform != "linux", reason="the CUDA emulator needs Linux")


class RecordingDisplay:
    """Remembers lines, and the files with progress. `on_update` is called with the name of each file that advances."""

    def __init__(self, on_update: Callable[[str], None] = lambda _name: None) -> None:
        self.files: list[tuple[str, str]] = []
        self.lines: list[str] = []
        self.warnings: list[str] = []
        self.results: list[Result] = []
        self.open: set[str] = set()
        self.nodes: dict[str, int] = {}
        self._on_update = on_update

    def begin(self, files: Sequence[tuple[str, str]]) -> None:
        self.files = list(files)

    def say(self, line: str, name: str = "") -> None:
        self.lines.append(f"{name}: {line}" if name else line)

    def warn(self, line: str, name: str = "") -> None:
        self.warnings.append(f"{name}: {line}" if name else line)

    def update(self, name: str, done: int, _total: int | None, _remaining: float | None) -> None:
        self.open.add(name)
        if done:
            self._on_update(name)

    def show_nodes(self, frames: Mapping[str, int]) -> None:
        self.nodes = dict(frames)

    def finish(self, name: str) -> None:
        self.open.discard(name)

    def result(self, result: Result, name: str = "") -> None:
        self.results.append(result)
        failed = "failed: " if result.status == "failed" else ""
        self.say(failed + result.text, name)


def jobs_of(sources: list[Path], out: Path, bundle: Bundle) -> list[JobWithBundle]:
    """Jobs for `sources`. Lossless, because x264 does not encode the same frames the same way each time."""
    sink = SinkOptions(crf=0)
    return [JobWithBundle(Job(source, str(out / source.name), sink=sink), str(bundle.path)) for source in sources]


def frames_of(path: Path) -> list[np.ndarray]:
    with av.open(path) as container:
        return [frame.to_ndarray() for frame in container.decode(video=0)]


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def path_that_runs(place: Path, code: str) -> str:
    """A PYTHONPATH with which worker processes, and no others, run this code first."""
    site = place / "site"
    site.mkdir(exist_ok=True)
    (site / "at_first.py").write_text(code)
    (site / "sitecustomize.py").write_text(
        "import sys\nif 'swiftvr_trt.runtime.restore.worker' in sys.orig_argv:\n    import at_first\n"
    )
    return os.pathsep.join([str(site), str(ROOT)])


def processes(started: Path) -> int:
    """How many workers were started."""
    return len(started.read_text().splitlines())


def workers() -> list[psutil.Process]:
    """The workers that run. One that has ended, though nobody has collected its exit code yet, is none."""
    return [process for process in psutil.Process().children() if _is_worker(process)]


def kill_workers() -> None:
    for worker in workers():
        with suppress(psutil.NoSuchProcess):  # it has ended since
            worker.kill()


def _is_worker(process: psutil.Process) -> bool:
    try:
        return "swiftvr_trt.runtime.restore.worker" in process.cmdline()
    except psutil.NoSuchProcess:  # ended; a zombie's command line cannot be read
        return False
