"""Faults in the pipeline, with real files: it does not hang or leak, and leaves nothing half-written.

First within one process, then in whole processes, which must be gone within a second of the fault. `test_pipeline.py`
tests the pipeline alone; `tests/cli/test_run.py` and `test_fleet.py` send signals to processes without a fault.
"""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from swiftvr_trt import OutputError, Restorer, StageError, SwiftVRError
from swiftvr_trt.errors import InternalError, MachineError
from swiftvr_trt.runtime.devices import cpu as ort
from swiftvr_trt.runtime.media import Item, Picture, Sink, Source, open_sink, open_source
from swiftvr_trt.runtime.restore.pipeline import Progress, restore_media
from tests.cli.test_run import SECOND
from tests.clips import write_clip
from tests.conftest import BundleFactory
from tests.patience import wait_until

from .faulty import ROOT, TRIES

pytestmark = pytest.mark.alone


@pytest.fixture(scope="module")
def restorer(mini_bundle: BundleFactory) -> Iterator[Restorer]:
    with Restorer.open(mini_bundle(), threads=1) as opened:
        yield opened


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_clip(tmp_path_factory.mktemp("clip") / "in.mp4", 120)


@pytest.fixture(scope="module")
def long_clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_clip(tmp_path_factory.mktemp("long") / "in.mkv", 400)


class Fault:
    """An error to raise, and the time at which it was raised."""

    def __init__(self, error: BaseException) -> None:
        self.error, self.at = error, 0.0

    def strike(self) -> None:
        self.at = self.at or time.monotonic()
        raise self.error


Break = Callable[[pytest.MonkeyPatch, Source, Sink, Fault], Callable[[Progress], None] | None]


def stage_in_the_third_chunk(patch: pytest.MonkeyPatch, _source: Source, _sink: Sink, fault: Fault) -> None:
    run, chunks = ort._StageCall.__call__, 0

    def failing(call: ort._StageCall) -> None:
        nonlocal chunks
        chunks += call.stage.startswith("dit")
        if chunks == 3:
            fault.strike()
        run(call)

    patch.setattr(ort._StageCall, "__call__", failing)


def reader(patch: pytest.MonkeyPatch, source: Source, _sink: Sink, fault: Fault) -> None:
    decoder, calls = source._decoder, 0  # type: ignore[attr-defined]
    decode = decoder._decode

    def failing(packet: object) -> object:
        nonlocal calls
        calls += 1
        if calls == 40:
            fault.strike()
        return decode(packet)

    patch.setattr(decoder, "_decode", failing)


def writer(patch: pytest.MonkeyPatch, _source: Source, sink: Sink, fault: Fault) -> None:
    write, calls = sink.write, 0

    def failing(item: Item) -> None:
        nonlocal calls
        calls += 1
        if calls == 30:
            fault.strike()
        write(item)

    patch.setattr(sink, "write", failing)


def stalled_reader_and_failing_writer(patch: pytest.MonkeyPatch, source: Source, sink: Sink, fault: Fault) -> None:
    """The reader hangs for a while, as on a network drive, and notices nothing."""
    picture = source._picture  # type: ignore[attr-defined]

    def stalling(frame: object) -> Picture:
        made: Picture = picture(frame)
        if made.stamp.index >= 13:  # behind the first chunk
            time.sleep(1.5)
        return made

    def failing(_item: Item) -> None:
        time.sleep(0.2)
        fault.strike()

    patch.setattr(source, "_picture", stalling)
    patch.setattr(sink, "write", failing)


def last_moment(patch: pytest.MonkeyPatch, _source: Source, sink: Sink, fault: Fault) -> None:
    patch.setattr(sink._file, "commit", fault.strike)  # type: ignore[attr-defined]


def interrupt(_patch: pytest.MonkeyPatch, _source: Source, _sink: Sink, fault: Fault) -> Callable[[Progress], None]:
    """Ctrl-C arrives in the waiting thread."""
    return lambda progress: fault.strike() if progress.written > 5 else None


FAULTS: list[tuple[Break, BaseException, type[BaseException]]] = [
    (stage_in_the_third_chunk, StageError("stage dit failed"), StageError),
    (stage_in_the_third_chunk, RuntimeError("a bug"), StageError),
    (reader, ValueError("a bug"), InternalError),
    (reader, MemoryError(), MachineError),
    (writer, OutputError("disk full"), OutputError),
    (writer, OSError(28, "No space left on device"), InternalError),
    (stalled_reader_and_failing_writer, OutputError("disk full"), OutputError),
    (last_moment, OutputError("disk full"), OutputError),
    (interrupt, KeyboardInterrupt(), KeyboardInterrupt),
]


def fail_once(
    restorer: Restorer,
    clip: Path,
    out: Path,
    fault: Fault,
    break_it: Break,
    expected: type[BaseException],
) -> None:
    with (
        pytest.MonkeyPatch.context() as patch,
        pytest.raises(expected),
        open_source(clip) as source,
        open_sink(out, source.info, 100, 132) as sink,
        restorer.session() as session,
    ):
        restore_media(session, source, sink, break_it(patch, source, sink, fault))


@pytest.mark.parametrize(
    ("break_it", "error", "expected"), FAULTS, ids=[f"{f.__name__}-{type(e).__name__}" for f, e, _ in FAULTS]
)
def test_a_fault_ends_the_run_within_a_second_and_leaves_nothing(
    restorer: Restorer,
    clip: Path,
    tmp_path: Path,
    break_it: Break,
    error: BaseException,
    expected: type[BaseException],
) -> None:
    process, before = psutil.Process(), len(psutil.Process().open_files())
    fault = Fault(error)
    fail_once(restorer, clip, tmp_path / "out.mp4", fault, break_it, expected)
    assert 0 < time.monotonic() - fault.at < SECOND
    assert list(tmp_path.iterdir()) == []
    wait_until(lambda: not _threads())  # a stuck thread comes back and ends
    error.__traceback__ = None  # it refers to stack frames, and through them to the file of a stuck reader
    gc.collect()
    assert len(process.open_files()) <= before


def test_a_restorer_works_after_any_number_of_faults(restorer: Restorer, clip: Path, tmp_path: Path) -> None:
    """Failed runs give back their files, threads and memory."""
    process = psutil.Process()
    for round_ in range(12):
        fail_once(restorer, clip, tmp_path / "out.mp4", Fault(OutputError("disk full")), writer, SwiftVRError)
        gc.collect()
        if round_ == 1:
            threads, files = process.num_threads(), len(process.open_files())
    assert process.num_threads() <= threads
    assert len(process.open_files()) <= files
    with (
        open_source(clip) as source,
        open_sink(tmp_path / "out.mp4", source.info, 100, 132) as sink,
        restorer.session() as session,
    ):
        assert restore_media(session, source, sink).written == 120
    assert [path.name for path in tmp_path.iterdir()] == ["out.mp4"]


RAISE = ("stage_that_raises", "reader_that_raises", "writer_that_fails")
HANG = ("loading_that_hangs", "stage_that_hangs", "reader_that_stalls", "writer_that_hangs")


@pytest.mark.skipif(os.name != "posix", reason="sends Ctrl-C as a terminal does")
@pytest.mark.parametrize("fault", [*RAISE, *HANG])
def test_a_process_with_a_fault_is_gone_within_a_second_and_leaves_nothing(
    mini_bundle: BundleFactory, long_clip: Path, tmp_path: Path, fault: str
) -> None:
    """A fault that raises ends the process with code 1; one that hangs is ended by Ctrl-C, with code 130."""
    out = tmp_path / "out.mp4"
    command: list[str | Path] = [sys.executable, "-m", "tests.runtime.restore.faulty", fault, long_clip, out]
    command += ["--bundle", mini_bundle().path, "--threads", "1"]
    took: list[float] = []
    while not took or (took[-1] >= SECOND and len(took) < TRIES):
        process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, cwd=ROOT)
        with process:
            assert process.stderr is not None
            at = next(float(line.split()[1]) for line in process.stderr if line.startswith("fault "))
            if fault in HANG:
                time.sleep(0.3)  # until the other threads wait for the one that hangs
                at = time.monotonic()
                process.send_signal(signal.SIGINT)
            said = process.stderr.read()
            process.wait(20)
        took.append(time.monotonic() - at)
        assert process.returncode == (130 if fault in HANG else 1), said
        assert said.splitlines()[-1].startswith("error: ")
        assert "Traceback" not in said
        assert list(tmp_path.iterdir()) == []
    assert min(took) < SECOND, took


def _threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("swiftvr-")]
