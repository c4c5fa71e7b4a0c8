"""Several files on several devices: real processes on the CPU."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import psutil
import pytest

from swiftvr_trt import Bundle, MediaError, MisuseError, OutputError
from swiftvr_trt.errors import MachineError
from swiftvr_trt.runtime.devices import gpu
from swiftvr_trt.runtime.devices.kernel_cache import SUFFIX
from swiftvr_trt.runtime.media import SinkOptions
from swiftvr_trt.runtime.restore.batch import BatchOptions, assign_bundles, output_folder, plan_jobs
from swiftvr_trt.runtime.restore.fleet import parse_devices, run_fleet
from swiftvr_trt.runtime.restore.job import Failure, Job, JobWithBundle
from swiftvr_trt.runtime.restore.restorer import OpenOptions
from swiftvr_trt.runtime.restore.selection import BundleRequest
from swiftvr_trt.runtime.stream.plan import plan_memory
from tests.cli.test_run import RUN, SECOND, assert_one_error_line, run
from tests.clips import video_pts, write_clip
from tests.conftest import BundleFactory
from tests.cuda_emulator import build
from tests.runtime.devices.fake_trt import write_engine_bundle

from .faulty import ROOT, TRIES


class Notes:
    """A board that remembers. `on_update` is called with each name that made progress."""

    def __init__(self, on_update: Callable[[str], None] = lambda _name: None) -> None:
        self.lines: list[str] = []
        self.open: set[str] = set()
        self._on_update = on_update

    def say(self, line: str) -> None:
        self.lines.append(line)

    def update(self, name: str, done: int, _total: int | None, _left: float | None) -> None:
        self.open.add(name)
        if done:
            self._on_update(name)

    def finish(self, name: str) -> None:
        self.open.discard(name)


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


def tasks_of(sources: list[Path], out: Path, bundle: Bundle) -> list[JobWithBundle]:
    """Without loss, since what x264 makes of the same frames is not the same each time."""
    sink = SinkOptions(crf=0)
    return [JobWithBundle(Job(source, str(out / source.name), sink=sink), str(bundle.path)) for source in sources]


def frames_of(path: Path) -> list[np.ndarray]:
    with av.open(path) as container:
        return [frame.to_ndarray() for frame in container.decode(video=0)]


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


ONE_THREAD = OpenOptions(threads=1)
Workers = Callable[[str], Path]
"""Has each worker run this code first, `process` being its number; the file in which each has left a line."""


@pytest.fixture
def with_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workers:
    def prepare(code: str) -> Path:
        started = tmp_path / "started"
        started.touch()
        counting = f"open({str(started)!r}, 'a').write('x\\n')\nprocess = len(open({str(started)!r}).readlines())\n"
        monkeypatch.setenv("PYTHONPATH", _path_that_runs(tmp_path, counting + code))
        return started

    return prepare


def _path_that_runs(place: Path, code: str) -> str:
    """A PYTHONPATH with which the processes of the fleet, and no others, run this code first."""
    site = place / "site"
    site.mkdir(exist_ok=True)
    (site / "at_first.py").write_text(code)
    (site / "sitecustomize.py").write_text(
        "import sys\nif 'swiftvr_trt.runtime.restore.worker' in sys.orig_argv:\n    import at_first\n"
    )
    return os.pathsep.join([str(site), str(ROOT)])


def processes(started: Path) -> int:
    """How many workers there were."""
    return len(started.read_text().splitlines())


def workers() -> list[psutil.Process]:
    return [p for p in psutil.Process().children() if "swiftvr_trt.runtime.restore.worker" in p.cmdline()]


@pytest.mark.parametrize(
    ("text", "expected"), [("cpu,cpu", ("cpu", "cpu")), ("cpu", ("cpu",)), ("0, 1", ("cuda:0", "cuda:1"))]
)
def test_devices_are_named_by_number_or_name(
    text: str, expected: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gpu, "has_driver", lambda: True)
    assert parse_devices(text) == expected


@pytest.mark.parametrize("text", ["", ",", "0,,1", "gpu", "-1", "cuda:x", ",".join(["cpu"] * 65)])
def test_what_is_no_device_is_refused(text: str) -> None:
    with pytest.raises(MisuseError):
        parse_devices(text)


def test_gpus_without_a_driver_are_refused_before_anything_begins(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu, "has_driver", lambda: False)
    with pytest.raises(MachineError, match="no NVIDIA driver"):
        parse_devices("cpu,1")


def test_each_file_keeps_its_name(clips: list[Path], tmp_path: Path) -> None:
    (tmp_path / "shots.d").mkdir()
    jobs = plan_jobs([clips[0], tmp_path / "shots.d"], str(tmp_path / "out"), BatchOptions(suffix=".mkv"))
    assert [Path(job.output).name for job in jobs] == ["a.mkv", "shots.d"]
    assert not (tmp_path / "out").exists()


def test_what_would_go_wrong_later_is_refused_at_once(clips: list[Path], tmp_path: Path) -> None:
    twin = tmp_path / "twin"
    twin.mkdir()
    shutil.copy(clips[0], twin / "A.mp4")
    (tmp_path / "file").write_text("")
    out = tmp_path / "out"
    out.mkdir()
    (out / "b.mp4").write_text("precious")
    plain, replacing = BatchOptions(), BatchOptions(sink=SinkOptions(overwrite=True))
    for sources, folder, options, kind, words in (
        ([clips[0], twin / "A.mp4"], out, plain, MisuseError, "would both become"),
        ([clips[0], clips[0]], out, plain, MisuseError, "was given twice"),
        ([clips[0], tmp_path / "none.mp4"], out, plain, MediaError, "none.mp4 does not exist"),
        ([clips[0]], tmp_path / "file", plain, MisuseError, "is a file"),
        ([clips[0]], tmp_path / "new.mp4", plain, MisuseError, "looks like a file"),
        ([clips[0]], tmp_path / "no" / "out", plain, OutputError, "does not exist"),
        ([clips[0]], clips[0].parent, replacing, MediaError, "is the input"),
        ([clips[1]], out, plain, MediaError, "exist already"),
    ):
        with pytest.raises(kind, match=words) as error:
            plan_jobs(sources, str(folder), options)
        assert "\n" not in str(error.value)
    assert len(plan_jobs(clips, str(out), replacing)) == 4


@pytest.mark.parametrize("suffix", ["mkv", ".", "", "./x"])
def test_a_suffix_is_a_dot_and_a_name(suffix: str) -> None:
    with pytest.raises(MisuseError, match="suffix"):
        BatchOptions(suffix=suffix)


def test_a_job_survives_the_way_to_another_process() -> None:
    job = Job(Path("a b.mp4"), "out/", None, SinkOptions(crf=20, extra=(("tune", "film"),)), "auto", "cuda:1")
    assert Job.from_dict(job.to_dict()) == job


def test_an_output_folder_that_stays_empty_is_removed(tmp_path: Path) -> None:
    with output_folder(str(tmp_path / "empty")):
        assert (tmp_path / "empty").is_dir()
    with output_folder(str(tmp_path / "filled")):
        (tmp_path / "filled" / "x").write_text("")
    assert names(tmp_path) == ["filled"]


def test_two_processes_restore_everything_as_one_does(bundle: Bundle, clips: list[Path], tmp_path: Path) -> None:
    for folder, devices in (("one", [None]), ("two", ["cpu", "cpu"])):
        (tmp_path / folder).mkdir()
        board = Notes()
        assert run_fleet(tasks_of(clips, tmp_path / folder, bundle), devices, board, ONE_THREAD) == []
        assert board.open == set()
        assert names(tmp_path / folder) == [clip.name for clip in clips]
    for clip in clips:
        one, two = (frames_of(tmp_path / folder / clip.name) for folder in ("one", "two"))
        assert np.array_equal(one, two)
        assert video_pts(tmp_path / "two" / clip.name) == video_pts(clip)
    assert workers() == []


def test_a_file_that_fails_does_not_stop_the_others(bundle: Bundle, clips: list[Path], tmp_path: Path) -> None:
    rubbish = tmp_path / "rubbish.mp4"
    rubbish.write_bytes(b"no video " * 500)
    tasks = tasks_of([clips[0], rubbish, clips[1]], tmp_path / "out", bundle)
    (tmp_path / "out").mkdir()
    failures = run_fleet(tasks, ["cpu"], Notes(), ONE_THREAD)
    assert [failure.job.source for failure in failures] == [rubbish]
    assert "cannot be read as a video" in failures[0].reason
    assert names(tmp_path / "out") == ["a.mp4", "b.mp4"]


def test_a_process_that_is_killed_loses_its_file_and_no_other(
    bundle: Bundle, long_clips: list[Path], clips: list[Path], tmp_path: Path
) -> None:
    (tmp_path / "out").mkdir()
    victims: list[int] = []

    def kill(name: str) -> None:
        if name == "l0.mp4" and not victims:
            killed = max(workers(), key=lambda worker: worker.create_time())
            victims.append(killed.pid)
            killed.kill()

    tasks = tasks_of([long_clips[0], *clips], tmp_path / "out", bundle)
    failures = run_fleet(tasks, ["cpu"], Notes(kill), ONE_THREAD)
    assert [failure.job.name for failure in failures] == ["l0.mp4"]
    assert "ended unexpectedly" in failures[0].reason
    assert [name for name in names(tmp_path / "out") if not name.startswith(".")] == [clip.name for clip in clips]


def test_after_two_deaths_in_a_row_a_device_gets_no_more_files(
    bundle: Bundle, long_clips: list[Path], tmp_path: Path
) -> None:
    (tmp_path / "out").mkdir()

    def kill(_name: str) -> None:
        for worker in workers():
            worker.kill()

    failures = run_fleet(tasks_of(long_clips, tmp_path / "out", bundle), ["cpu"], Notes(kill), ONE_THREAD)
    reasons = [failure.reason for failure in failures]
    assert [failure.job.name for failure in failures] == ["l0.mp4", "l1.mp4", "l2.mp4"]
    assert all("ended unexpectedly" in reason for reason in reasons[:2])
    assert "no device was left" in reasons[2]
    assert [name for name in names(tmp_path / "out") if not name.startswith(".")] == []


def test_a_device_that_cannot_run_a_bundle_leaves_it_to_one_that_can(
    bundle: Bundle, clips: list[Path], tmp_path: Path
) -> None:
    (tmp_path / "out").mkdir()
    board = Notes()
    failures = run_fleet(tasks_of(clips, tmp_path / "out", bundle), ["cuda:77", "cpu"], board, ONE_THREAD)
    assert failures == []
    assert names(tmp_path / "out") == [clip.name for clip in clips]


def test_a_bundle_that_no_device_can_run_fails_with_the_reason(
    bundle: Bundle, clips: list[Path], tmp_path: Path
) -> None:
    (tmp_path / "out").mkdir()
    failures = run_fleet(tasks_of(clips[:2], tmp_path / "out", bundle), ["cuda:77"], Notes())
    assert len(failures) == 2
    assert all("NVIDIA driver" in failure.reason or "GPU 77" in failure.reason for failure in failures)


def test_one_file_gets_the_device_that_can_run_it(bundle: Bundle, clips: list[Path], tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    assert run_fleet(tasks_of(clips[:1], tmp_path / "out", bundle), ["cuda:77", "cpu"], Notes(), ONE_THREAD) == []
    assert names(tmp_path / "out") == ["a.mp4"]


def test_few_files_go_to_the_devices_that_are_named_first(
    bundle: Bundle, clips: list[Path], tmp_path: Path, with_code: Workers
) -> None:
    started = with_code("")
    (tmp_path / "out").mkdir()
    board = Notes()
    devices = ["cpu", "cuda:77", "cuda:78", "cuda:79"]
    assert run_fleet(tasks_of(clips[:1], tmp_path / "out", bundle), devices, board, ONE_THREAD) == []
    assert not [line for line in board.lines if "cuda:7" in line]
    assert processes(started) == 1


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
"""Has a worker find an emulated GPU and a stand-in for TensorRT. Once it `breaks`, every call of the driver fails."""

emulates = pytest.mark.skipif(sys.platform != "linux", reason="the CUDA emulator needs Linux")


@pytest.fixture(scope="module")
def engines(bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    build()
    return write_engine_bundle(tmp_path_factory.mktemp("engines") / "bundle", bundle)


@emulates
def test_a_gpu_that_breaks_loses_its_file_and_the_next_ones_get_a_new_process(
    engines: Bundle, clips: list[Path], tmp_path: Path, with_code: Workers
) -> None:
    started = with_code(EMULATED + "if process == 1: breaks()\n")
    (tmp_path / "out").mkdir()
    failures = run_fleet(tasks_of(clips[:3], tmp_path / "out", engines), ["cuda:0"], Notes())
    assert [failure.job.name for failure in failures] == ["a.mp4"]
    assert "CUDA_ERROR_ILLEGAL_ADDRESS" in failures[0].reason
    assert names(tmp_path / "out") == ["b.mp4", "c.mp4"]
    assert processes(started) == 2


@emulates
def test_a_gpu_that_breaks_twice_in_a_row_gets_no_more_files(
    engines: Bundle, clips: list[Path], tmp_path: Path, with_code: Workers
) -> None:
    started = with_code(EMULATED + "breaks()\n")
    (tmp_path / "out").mkdir()
    failures = run_fleet(tasks_of(clips[:3], tmp_path / "out", engines), ["cuda:0"], Notes())
    assert ["ILLEGAL_ADDRESS" in failure.reason for failure in failures] == [True, True, False]
    assert "no device was left" in failures[2].reason
    assert names(tmp_path / "out") == []
    assert processes(started) == 2


@emulates
def test_a_gpu_that_breaks_leaves_the_other_files_to_one_that_does_not(
    engines: Bundle, clips: list[Path], tmp_path: Path, with_code: Workers
) -> None:
    sources = [*clips, *(Path(shutil.copy(clip, tmp_path / f"{clip.stem}2.mp4")) for clip in clips)]
    with_code(EMULATED + "when_opened('cuda:0', breaks)\n")
    (tmp_path / "out").mkdir()
    board = Notes()
    failures = run_fleet(tasks_of(sources, tmp_path / "out", engines), ["cuda:0", None], board)
    assert len(failures) == len([line for line in board.lines if line.endswith(": on cuda:0")]) <= 2
    assert all("ILLEGAL_ADDRESS" in failure.reason for failure in failures)
    assert len(names(tmp_path / "out")) == len(sources) - len(failures)


@emulates
def test_a_file_that_a_gpu_has_no_memory_for_is_left_to_another_one(
    engines: Bundle, clips: list[Path], tmp_path: Path, with_code: Workers
) -> None:
    large = write_clip(tmp_path / "large.mp4", 20, 100, 132)
    plan = plan_memory(engines.manifest, 34, 56)
    limit = plan.arena_bytes + plan.weight_bytes + plan.device.nbytes
    assert limit < plan_memory(engines.manifest, 132, 100).gpu_bytes
    with_code(EMULATED + f"when_opened('cuda:0', lambda: emulator.limit_bytes({limit}))\n")
    for folder, devices in (("one", ["cuda:0"]), ("two", ["cuda:0", None])):
        (tmp_path / folder).mkdir()
        board = Notes()
        failures = run_fleet(tasks_of([large, *clips[:2]], tmp_path / folder, engines), devices, board)
        assert any(line.startswith("large.mp4: not on cuda:0 (not enough GPU memory") for line in board.lines)
        if len(devices) == 1:
            assert [failure.job.name for failure in failures] == ["large.mp4"]
            assert "not enough GPU memory" in failures[0].reason
        else:
            assert failures == []
        assert names(tmp_path / folder) == ["a.mp4", "b.mp4", "large.mp4"][: 3 - len(failures)]


@emulates
def test_kernels_are_kept_however_long_it_takes(
    bundle: Bundle, clips: list[Path], tmp_path: Path, with_code: Workers
) -> None:
    """The end of the work is no interruption either, even if the process is slow to see that it is idle."""
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
    tasks = tasks_of(clips[:1], tmp_path / "out", write_engine_bundle(shelf / "bundle", bundle))
    assert run_fleet(tasks, ["cuda:0"], Notes()) == []
    assert [path.suffix for path in sorted(shelf.iterdir())] == ["", SUFFIX]


def test_a_full_disk_says_nothing_about_the_device(
    bundle: Bundle, clips: list[Path], tmp_path: Path, with_code: Workers
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
    failures = run_fleet(tasks_of(clips[:3], tmp_path / "out", bundle), ["cpu"], Notes(), ONE_THREAD)
    assert ["no space left" in failure.reason for failure in failures] == [True, True]
    assert names(tmp_path / "out") == ["c.mp4"]
    assert processes(started) == 1


def test_an_input_that_ends_early_says_nothing_about_the_device(
    bundle: Bundle, clips: list[Path], tmp_path: Path, with_code: Workers
) -> None:
    started = with_code("")
    whole = write_clip(tmp_path / "whole.mkv", 250).read_bytes()
    for name in ("cut1.mkv", "cut2.mkv"):
        (tmp_path / name).write_bytes(whole[: len(whole) // 5])
    (tmp_path / "out").mkdir()
    tasks = tasks_of([tmp_path / "cut1.mkv", tmp_path / "cut2.mkv", clips[0]], tmp_path / "out", bundle)
    failures = run_fleet(tasks, ["cpu"], Notes(), ONE_THREAD)
    assert ["holds what could be restored" in failure.reason for failure in failures] == [True, True]
    assert names(tmp_path / "out") == ["a.mp4", "cut1.mkv", "cut2.mkv"]
    assert processes(started) == 1


@pytest.mark.parametrize("said", [rb"\xff\xfe", b"[1]", b'{"hello": 1}', b'{"progress": 3}'])
def test_a_process_that_says_something_else_is_replaced_and_keeps_nobody_waiting(
    bundle: Bundle, clips: list[Path], tmp_path: Path, with_code: Workers, said: bytes
) -> None:
    with_code(f"import os\nif process == 1: os.write(1, b'{said.decode()}\\n')\n")
    (tmp_path / "out").mkdir()
    ended: list[list[Failure]] = []
    tasks = tasks_of(clips, tmp_path / "out", bundle)
    fleet = threading.Thread(
        target=lambda: ended.append(run_fleet(tasks, ["cpu", "cpu"], Notes(), ONE_THREAD)), daemon=True
    )
    fleet.start()
    fleet.join(300)
    assert [len(failures) for failures in ended] == [1]
    assert "internal error" in ended[0][0].reason
    assert len(names(tmp_path / "out")) == 3


def test_what_lies_in_the_current_directory_is_not_imported(
    bundle: Bundle, clips: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "queue.py").write_text("raise SystemExit(3)\n")
    (tmp_path / "out").mkdir()
    monkeypatch.chdir(tmp_path)
    assert run_fleet(tasks_of(clips[:1], tmp_path / "out", bundle), ["cpu"], Notes(), ONE_THREAD) == []


@pytest.mark.alone
def test_whoever_stops_the_fleet_does_not_wait_for_what_a_process_keeps(
    bundle: Bundle, clips: list[Path], tmp_path: Path, with_code: Workers
) -> None:
    with_code("""
import time
from swiftvr_trt.runtime.restore.restorer import Restorer
Restorer.close = lambda self: time.sleep(60)
""")
    (tmp_path / "out").mkdir()
    began: list[float] = []

    def interrupt() -> None:
        began.append(time.monotonic())
        signal.raise_signal(signal.SIGINT)

    class Impatient(Notes):
        def say(self, line: str) -> None:
            if ": output: " in line:
                threading.Timer(0.5, interrupt).start()

    with pytest.raises(KeyboardInterrupt):
        run_fleet(tasks_of(clips[:1], tmp_path / "out", bundle), ["cpu"], Impatient(), ONE_THREAD)
    assert time.monotonic() - began[0] < SECOND
    assert workers() == []


@pytest.mark.alone
def test_whoever_stops_the_fleet_ends_its_processes_within_a_second(
    bundle: Bundle, long_clips: list[Path], tmp_path: Path
) -> None:
    (tmp_path / "out").mkdir()
    both = threading.Barrier(2, timeout=60)
    met: set[str] = set()

    def meet(name: str) -> None:
        if name not in met:
            met.add(name)
            both.wait()
            interrupting.set()

    interrupting = threading.Event()

    def interrupt() -> None:
        interrupting.wait(60)
        began.append(time.monotonic())
        signal.raise_signal(signal.SIGINT)

    began: list[float] = []
    threading.Thread(target=interrupt, daemon=True).start()
    tasks = tasks_of(long_clips, tmp_path / "out", bundle)
    with pytest.raises(KeyboardInterrupt):
        run_fleet(tasks, ["cpu", "cpu"], Notes(meet), ONE_THREAD)
    assert time.monotonic() - began[0] < SECOND
    assert workers() == []
    assert names(tmp_path / "out") == []
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("swiftvr-device")]


def test_inputs_that_cannot_be_opened_are_known_before_a_bundle_is_built(tmp_path: Path) -> None:
    (tmp_path / "rubbish.mp4").write_bytes(b"no video " * 500)
    jobs = plan_jobs([tmp_path / "rubbish.mp4"], str(tmp_path), BatchOptions(suffix=".mkv"))
    tasks, failures = assign_bundles(jobs, BundleRequest(cache=tmp_path / "cache"), Notes().say)
    assert tasks == []
    assert [type(failure) for failure in failures] == [Failure]
    assert not (tmp_path / "cache").exists()


def test_the_command_line_lists_what_failed(bundle: Bundle, clips: list[Path], tmp_path: Path) -> None:
    rubbish = tmp_path / "rubbish.mp4"
    rubbish.write_bytes(b"no video " * 500)
    out = tmp_path / "out"
    outcome = run(clips[0], rubbish, clips[1], out, "--bundle", bundle.path, "--devices", "cpu,cpu", "--threads", 1)
    assert_one_error_line(outcome, 1, "1 of 3 files failed", str(rubbish))
    assert names(out) == ["a.mp4", "b.mp4"]
    again = run(*clips[:3], out, "--bundle", bundle.path, "--threads", 1, "--quiet", "-y")
    assert (again.returncode, again.stderr) == (0, "")
    assert names(out) == ["a.mp4", "b.mp4", "c.mp4"]


def test_misuse_of_several_files_ends_in_one_line(bundle: Bundle, clips: list[Path], tmp_path: Path) -> None:
    out, good = tmp_path / "out", ("--bundle", bundle.path)
    for arguments, words in (
        ((clips[0], clips[0], out, *good), ("was given twice",)),
        ((clips[0], clips[1], out, "--bundle", tmp_path / "none"), ("no such directory",)),
        ((clips[0], clips[1], out, *good, "--devices", "tpu"), ("tpu",)),
        ((clips[0], clips[1], out, *good, "--devices", "cpu", "--device", "cpu"), ("--device",)),
        ((clips[0], clips[1], out, *good, "--trace", "t.json"), ("--trace",)),
        ((clips[0], tmp_path / "o.mp4", *good, "--suffix", ".mkv"), ("--suffix",)),
        ((clips[0], clips[1], out, *good, "--suffix", "mkv"), ("--suffix",)),
    ):
        assert_one_error_line(run(*arguments), 2, *words)
    assert names(tmp_path) == []


@pytest.mark.alone
@pytest.mark.skipif(os.name != "posix", reason="sends the signals of a terminal")
@pytest.mark.parametrize(
    ("send", "number", "fault"),
    [
        (os.kill, "SIGINT", None),
        (os.killpg, "SIGINT", None),
        (os.killpg, "SIGHUP", None),
        (os.kill, "SIGINT", "reader_that_stalls"),
        (os.kill, "SIGINT", "writer_that_hangs"),
    ],
    ids=["to the parent", "as a terminal does", "as a terminal that is closed does", "stuck reader", "stuck writer"],
)
def test_an_interrupted_command_ends_all_within_a_second_and_leaves_nothing(
    bundle: Bundle,
    long_clips: list[Path],
    tmp_path: Path,
    send: Callable[[int, int], None],
    number: str,
    fault: str | None,
) -> None:
    out = tmp_path / "out"
    command: list[str | Path] = [
        *RUN,
        *long_clips,
        out,
        "--bundle",
        bundle.path,
        "--devices",
        "cpu,cpu",
        "--threads",
        "1",
    ]
    took: list[float] = []
    while not took or (took[-1] >= SECOND and len(took) < TRIES):
        process = subprocess.Popen(
            command, stderr=subprocess.PIPE, text=True, start_new_session=True, env=_faulty_workers(tmp_path, fault)
        )
        while len(list(out.glob("*") if out.exists() else ())) < 2:
            assert process.poll() is None
            time.sleep(0.02)
        children = psutil.Process(process.pid).children(recursive=True)
        assert len(children) == 2
        if fault:
            assert process.stderr is not None
            for _ in children:
                next(line for line in process.stderr if line.startswith("fault "))
        began = time.monotonic()
        send(process.pid, getattr(signal, number))
        _, stderr = process.communicate(timeout=20)
        took.append(time.monotonic() - began)
        assert process.returncode == 130
        assert stderr.splitlines()[-1].startswith("error: interrupted")
        assert not any(child.is_running() and child.status() != psutil.STATUS_ZOMBIE for child in children)
        assert not out.exists()
    assert min(took) < SECOND, took


def _faulty_workers(place: Path, fault: str | None) -> dict[str, str]:
    """An environment in which the processes of the fleet, and no others, have one of the faults of `faulty.py`."""
    if fault is None:
        return dict(os.environ)
    code = f"from tests.runtime.restore import faulty\nfaulty.{fault}()\n"
    return {**os.environ, "PYTHONPATH": _path_that_runs(place, code)}


@pytest.mark.alone
@pytest.mark.skipif(os.name != "posix", reason="kills without notice")
def test_workers_end_when_their_parent_is_killed(bundle: Bundle, long_clips: list[Path], tmp_path: Path) -> None:
    out = tmp_path / "out"
    command: list[str | Path] = [
        *RUN,
        *long_clips,
        out,
        "--bundle",
        bundle.path,
        "--devices",
        "cpu,cpu",
        "--threads",
        "1",
    ]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    while len(list(out.glob("*") if out.exists() else ())) < 2:
        assert process.poll() is None
        time.sleep(0.02)
    children = psutil.Process(process.pid).children(recursive=True)
    process.kill()
    process.wait()
    gone, alive = psutil.wait_procs(children, timeout=5)
    assert len(gone) == 2 or all(child.status() == psutil.STATUS_ZOMBIE for child in alive)
    assert names(out) == []
