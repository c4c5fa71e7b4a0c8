"""The verdict of a worker: whether the file or the device is at fault. First in this process, then in a fleet."""

from __future__ import annotations

import shutil
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path

import pytest

from swiftvr_trt import Bundle, Manifest
from swiftvr_trt.engines.bundle.pixel_formats import YUV420P
from swiftvr_trt.errors import (
    DeviceError,
    MachineError,
    MediaError,
    OutputError,
    StageError,
    message_of,
)
from swiftvr_trt.runtime.devices.kernel_cache import SUFFIX
from swiftvr_trt.runtime.media.codecs import NoEncoderError
from swiftvr_trt.runtime.restore import worker
from swiftvr_trt.runtime.restore.fleet import run_fleet
from swiftvr_trt.runtime.restore.job import Job, Restored
from swiftvr_trt.runtime.restore.messages import Answer, JobProgress, Line, Order
from swiftvr_trt.runtime.restore.restorer import OpenOptions
from swiftvr_trt.runtime.restore.verdict import Outcome, Verdict
from swiftvr_trt.runtime.restore.worker import Worker
from swiftvr_trt.runtime.stream.buffers import Forms
from swiftvr_trt.runtime.stream.plan import plan_memory
from tests.clips import write_clip
from tests.cuda_emulator import build
from tests.runtime.devices.fake_trt import write_engine_bundle

from .fleet_lab import (
    EMULATED,
    ONE_THREAD,
    PrepareWorkers,
    RecordingDisplay,
    emulates,
    jobs_of,
    names,
    processes,
)


class Failing:
    """Stands in for `Restorer.open` and for the restorer that it returns; raises `error` at the given place."""

    manifest: Manifest

    def __init__(self, place: str, error: Exception) -> None:
        self.place, self.error, self.opened, self.closed = place, error, 0, 0

    def open(self, _bundle: str, **_options: object) -> Failing:
        self.opened += 1
        self._reach("open")
        return self

    def session(self, _form: object = None, **_options: object) -> Failing:
        self._reach("session")
        return self

    def close(self) -> None:
        self.closed += 1
        self._reach("close")

    def __enter__(self) -> Failing:
        return self

    def __exit__(self, *_: object) -> None: ...

    def _reach(self, place: str) -> None:
        if place == self.place:
            raise self.error


def order(clip: Path, out: Path, bundle: Bundle) -> Order:
    return Order(Job(clip, str(out), device="cpu"), str(bundle.path), ONE_THREAD)


@pytest.mark.parametrize(
    ("failing", "outcome"),
    [
        (Failing("open", MachineError("no driver")), Outcome(Verdict.UNFIT, "no driver")),
        (Failing("open", KeyError("x")), Outcome(Verdict.UNFIT, "internal error: KeyError: 'x'")),
        (Failing("session", DeviceError("no memory")), Outcome(Verdict.UNBEGUN, "no memory")),
        (Failing("session", StageError("stage dit failed")), Outcome(Verdict.BROKEN, "stage dit failed")),
        (Failing("session", MachineError("disk full")), Outcome(Verdict.FAILED, "disk full")),
        (Failing("session", MediaError("frame 3 is larger")), Outcome(Verdict.FAILED, "frame 3 is larger")),
        (Failing("session", ValueError("oops")), Outcome(Verdict.FAILED, "internal error: ValueError: oops")),
    ],
    ids=lambda value: value.verdict.name if isinstance(value, Outcome) else type(value.error).__name__,
)
def test_an_error_becomes_the_verdict_of_its_kind(  # many parameters: fixtures and the case
    bundle: Bundle,
    clips: list[Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    failing: Failing,
    outcome: Outcome,
) -> None:
    failing.manifest = bundle.manifest
    monkeypatch.setattr(worker, "Restorer", failing)
    assert Worker().serve(order(clips[0], tmp_path / "out.mp4", bundle), lambda _: None) == outcome
    assert names(tmp_path) == []


@pytest.mark.parametrize(
    "error",
    [
        OutputError("disk full"),
        MachineError("no memory"),
        MemoryError(),
        OSError("too many open files"),
        NoEncoderError("this FFmpeg has no encoder 'libx265'"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_a_fault_of_the_machine_is_one_of_the_file_unless_there_are_others(
    bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def fails(*_arguments: object) -> None:
        raise error

    monkeypatch.setattr(worker, "restore_job", fails)
    given = order(tmp_path / "in.mp4", tmp_path / "out.mp4", bundle)
    assert Worker().serve(given, lambda _: None).verdict is Verdict.FAILED
    assert Worker(Verdict.UNBEGUN).serve(given, lambda _: None) == Outcome(Verdict.UNBEGUN, message_of(error))


@pytest.mark.parametrize("error", [MediaError("damaged"), ValueError("a bug")], ids=lambda error: type(error).__name__)
def test_a_fault_of_the_file_is_one_on_every_machine(
    bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def fails(*_arguments: object) -> None:
        raise error

    monkeypatch.setattr(worker, "restore_job", fails)
    given = order(tmp_path / "in.mp4", tmp_path / "out.mp4", bundle)
    assert Worker(Verdict.UNBEGUN).serve(given, lambda _: None).verdict is Verdict.FAILED


def test_a_bundle_stays_open_for_the_next_file(
    bundle: Bundle, clips: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    restorer = Failing("close", RuntimeError("the GPU is lost"))
    monkeypatch.setattr(worker, "Restorer", restorer)
    monkeypatch.setattr(worker, "restore_job", lambda _job, _request, opening, _display: _enter(opening(None)))
    done = Outcome(Verdict.DONE, Restored(Path("out.mp4"), 8, 2.0, kept=3).describe(), 8, 2.0, kept=3)
    server, first = Worker(), order(clips[0], tmp_path / "out.mp4", bundle)
    for number, each in enumerate((first, first, replace(first, options=OpenOptions(threads=2)), first)):
        assert server.serve(each, lambda _: None) == done
        assert (restorer.opened, restorer.closed) == [(1, 0), (1, 0), (2, 1), (3, 2)][number]
    server.close()
    server.close()
    assert restorer.closed == 3


def _enter(opening: AbstractContextManager[object]) -> Restored:
    with opening:
        return Restored(Path("out.mp4"), 8, 2.0, kept=3)


def test_lines_and_progress_are_sent_while_a_file_is_restored(
    bundle: Bundle, clips: list[Path], tmp_path: Path
) -> None:
    answers: list[Answer] = []
    server = Worker()
    outcome = server.serve(order(clips[0], tmp_path / "out.mp4", bundle), answers.append)
    server.close()
    assert outcome.verdict is Verdict.DONE
    assert outcome.text.startswith("output: ")
    assert isinstance(answers[0], Line)
    assert answers[0].text.startswith("input:  ")
    last = answers[-1]
    assert isinstance(last, JobProgress)
    assert last.done == 20


@emulates
def test_a_gpu_that_breaks_loses_its_file_and_the_next_ones_get_a_new_process(
    engines: Bundle, clips: list[Path], tmp_path: Path, with_code: PrepareWorkers
) -> None:
    started = with_code(EMULATED + "if process == 1: breaks()\n")
    (tmp_path / "out").mkdir()
    failures = run_fleet(jobs_of(clips[:3], tmp_path / "out", engines), ["cuda:0"], RecordingDisplay())
    assert [failure.job.name for failure in failures] == ["a.mp4"]
    assert "CUDA_ERROR_ILLEGAL_ADDRESS" in failures[0].reason
    assert names(tmp_path / "out") == ["b.mp4", "c.mp4"]
    assert processes(started) == 2


@emulates
def test_a_gpu_that_breaks_twice_in_a_row_gets_no_more_files(
    engines: Bundle, clips: list[Path], tmp_path: Path, with_code: PrepareWorkers
) -> None:
    started = with_code(EMULATED + "breaks()\n")
    (tmp_path / "out").mkdir()
    failures = run_fleet(jobs_of(clips[:3], tmp_path / "out", engines), ["cuda:0"], RecordingDisplay())
    assert ["ILLEGAL_ADDRESS" in failure.reason for failure in failures] == [True, True, False]
    assert "no device was left" in failures[2].reason
    assert names(tmp_path / "out") == []
    assert processes(started) == 2


@emulates
def test_a_gpu_that_breaks_leaves_the_other_files_to_one_that_does_not(
    engines: Bundle, clips: list[Path], tmp_path: Path, with_code: PrepareWorkers
) -> None:
    sources = [*clips, *(Path(shutil.copy(clip, tmp_path / f"{clip.stem}2.mp4")) for clip in clips)]
    with_code(EMULATED + "when_opened('cuda:0', breaks)\n")
    (tmp_path / "out").mkdir()
    display = RecordingDisplay()
    failures = run_fleet(jobs_of(sources, tmp_path / "out", engines), ["cuda:0", None], display)
    assert len(failures) == len([line for line in display.lines if line.endswith(": on cuda:0")]) <= 2
    assert all("ILLEGAL_ADDRESS" in failure.reason for failure in failures)
    assert len(names(tmp_path / "out")) == len(sources) - len(failures)


@emulates
def test_a_file_that_a_gpu_has_no_memory_for_is_left_to_another_one(
    engines: Bundle, clips: list[Path], tmp_path: Path, with_code: PrepareWorkers
) -> None:
    large = write_clip(tmp_path / "large.mp4", 20, 100, 132)
    planes = Forms(YUV420P, YUV420P)
    plan = plan_memory(engines.manifest, 34, 56, planes)
    limit = plan.arena_bytes + plan.weight_bytes + plan.device.nbytes
    assert limit < plan_memory(engines.manifest, 132, 100, planes).gpu_bytes
    with_code(EMULATED + f"when_opened('cuda:0', lambda: emulator.limit_bytes({limit}))\n")
    for folder, devices in (("one", ["cuda:0"]), ("two", ["cuda:0", None])):
        (tmp_path / folder).mkdir()
        display = RecordingDisplay()
        failures = run_fleet(jobs_of([large, *clips[:2]], tmp_path / folder, engines), devices, display)
        assert any(line.startswith("large.mp4: not on cuda:0 (not enough GPU memory") for line in display.lines)
        if len(devices) == 1:
            assert [failure.job.name for failure in failures] == ["large.mp4"]
            assert "not enough GPU memory" in failures[0].reason
        else:
            assert failures == []
        assert names(tmp_path / folder) == ["a.mp4", "b.mp4", "large.mp4"][: 3 - len(failures)]


@emulates
def test_a_process_may_take_its_time_to_store_kernels(
    bundle: Bundle, clips: list[Path], tmp_path: Path, with_code: PrepareWorkers
) -> None:
    """Hanging up after the last answer interrupts nothing, even if the process is slow to note that it is idle."""
    build()
    shelf = tmp_path / "shelf"
    shelf.mkdir()
    slow = """
import threading
def slowly(owner, name, seconds):
    method = getattr(owner, name)
    def slow(*arguments):
        time.sleep(seconds)
        return method(*arguments)
    setattr(owner, name, slow)
slowly(fake_trt.IRuntimeCache, "serialize", 2.0)
slowly(threading.Event, "clear", 0.3)
"""
    with_code(EMULATED + slow)
    (tmp_path / "out").mkdir()
    jobs = jobs_of(clips[:1], tmp_path / "out", write_engine_bundle(shelf / "bundle", bundle))
    assert run_fleet(jobs, ["cuda:0"], RecordingDisplay()) == []
    assert [path.suffix for path in sorted(shelf.iterdir())] == ["", SUFFIX]


def test_a_full_disk_is_not_the_devices_fault(
    bundle: Bundle, clips: list[Path], tmp_path: Path, with_code: PrepareWorkers
) -> None:
    started = with_code("""
from swiftvr_trt.runtime.media.files import PartFile
store = PartFile._store
def full(self, *arguments):
    if self.target.name != "c.mp4":
        raise OSError(28, "No space left on device")
    return store(self, *arguments)
PartFile._store = full
""")
    (tmp_path / "out").mkdir()
    failures = run_fleet(jobs_of(clips[:3], tmp_path / "out", bundle), ["cpu"], RecordingDisplay(), ONE_THREAD)
    assert [("no space left" in failure.reason, failure.full) for failure in failures] == [(True, True)] * 2
    assert names(tmp_path / "out") == ["c.mp4"]
    assert processes(started) == 1


def test_an_input_that_ends_early_is_not_the_devices_fault(
    bundle: Bundle, clips: list[Path], tmp_path: Path, with_code: PrepareWorkers
) -> None:
    started = with_code("")
    whole = write_clip(tmp_path / "whole.mkv", 250).read_bytes()
    for name in ("cut1.mkv", "cut2.mkv"):
        (tmp_path / name).write_bytes(whole[: len(whole) // 5])
    (tmp_path / "out").mkdir()
    jobs = jobs_of([tmp_path / "cut1.mkv", tmp_path / "cut2.mkv", clips[0]], tmp_path / "out", bundle)
    failures = run_fleet(jobs, ["cpu"], RecordingDisplay(), ONE_THREAD)
    assert ["holds what could be restored" in failure.reason for failure in failures] == [True, True]
    assert names(tmp_path / "out") == ["a.mp4", "cut1.mkv", "cut2.mkv"]
    assert processes(started) == 1


def test_what_a_worker_logs_is_logged_by_its_parent(
    bundle: Bundle, clips: list[Path], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "out").mkdir()
    jobs = jobs_of(clips[:1], tmp_path / "out", bundle)
    with caplog.at_level("INFO", logger="swiftvr_trt"):
        assert run_fleet(jobs, ["cpu"], RecordingDisplay(), ONE_THREAD) == []
    said = [record.getMessage() for record in caplog.records if record.name == "swiftvr_trt.runtime.restore.job"]
    assert any(line.startswith("a.mp4: ") and "libx264" in line for line in said)
