"""Several files on several devices, in real processes on the CPU."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import psutil
import pytest

from swiftvr_trt import Bundle, MisuseError
from swiftvr_trt.errors import MachineError
from swiftvr_trt.runtime.devices import gpu
from swiftvr_trt.runtime.restore.fleet import parse_devices, run_fleet
from swiftvr_trt.runtime.restore.job import Failure
from tests.cli.test_run import RUN, SECOND
from tests.clips import video_pts
from tests.orphans import has_ended, wait_for_the_end

from .faulty import TRIES
from .fleet_lab import (
    ONE_THREAD,
    PrepareWorkers,
    RecordingDisplay,
    frames_of,
    jobs_of,
    kill_workers,
    names,
    path_that_runs,
    processes,
    workers,
)


@pytest.mark.parametrize(
    ("text", "expected"), [("cpu,cpu", ("cpu", "cpu")), ("cpu", ("cpu",)), ("0, 1", ("cuda:0", "cuda:1"))]
)
def test_devices_are_named_by_number_or_name(
    text: str, expected: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gpu, "has_driver", lambda: True)
    assert parse_devices(text) == expected


@pytest.mark.parametrize(
    ("text", "said"),
    [
        *((text, "names no device") for text in ("", ",")),
        *((text, "an empty name") for text in ("0,,1", "cpu,")),
        *((text, text) for text in ("gpu", "-1", "cuda:x")),
        (",".join(["cpu"] * 65), "names 65 devices, expected up to 64"),
    ],
)
def test_other_names_of_devices_are_refused(text: str, said: str) -> None:
    with pytest.raises(MisuseError, match=said):
        parse_devices(text)


def test_gpus_without_a_driver_are_refused_before_anything_begins(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu, "has_driver", lambda: False)
    with pytest.raises(MachineError, match="no NVIDIA driver"):
        parse_devices("cpu,1")


def test_two_processes_restore_everything_as_one_does(bundle: Bundle, clips: list[Path], tmp_path: Path) -> None:
    for folder, devices in (("one", [None]), ("two", ["cpu", "cpu"])):
        (tmp_path / folder).mkdir()
        display = RecordingDisplay()
        assert run_fleet(jobs_of(clips, tmp_path / folder, bundle), devices, display, ONE_THREAD) == []
        assert display.open == set()
        assert names(tmp_path / folder) == [clip.name for clip in clips]
    for clip in clips:
        one, two = (frames_of(tmp_path / folder / clip.name) for folder in ("one", "two"))
        assert np.array_equal(one, two)
        assert video_pts(tmp_path / "two" / clip.name) == video_pts(clip)
    assert workers() == []


def test_a_file_that_fails_does_not_stop_the_others(bundle: Bundle, clips: list[Path], tmp_path: Path) -> None:
    rubbish = tmp_path / "rubbish.mp4"
    rubbish.write_bytes(b"no video " * 500)
    jobs = jobs_of([clips[0], rubbish, clips[1]], tmp_path / "out", bundle)
    (tmp_path / "out").mkdir()
    failures = run_fleet(jobs, ["cpu"], RecordingDisplay(), ONE_THREAD)
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

    jobs = jobs_of([long_clips[0], *clips], tmp_path / "out", bundle)
    failures = run_fleet(jobs, ["cpu"], RecordingDisplay(kill), ONE_THREAD)
    assert [failure.job.name for failure in failures] == ["l0.mp4"]
    assert "ended unexpectedly" in failures[0].reason
    assert [name for name in names(tmp_path / "out") if not name.startswith(".")] == [clip.name for clip in clips]


def test_after_two_deaths_in_a_row_a_device_gets_no_more_files(
    bundle: Bundle, long_clips: list[Path], tmp_path: Path
) -> None:
    (tmp_path / "out").mkdir()

    def kill(_name: str) -> None:
        kill_workers()

    display = RecordingDisplay(kill)
    failures = run_fleet(jobs_of(long_clips, tmp_path / "out", bundle), ["cpu"], display, ONE_THREAD)
    reasons = [failure.reason for failure in failures]
    assert [failure.job.name for failure in failures] == ["l0.mp4", "l1.mp4", "l2.mp4"]
    assert all("ended unexpectedly" in reason for reason in reasons[:2]), reasons
    assert "no device was left" in reasons[2]
    assert display.warnings == [f"cpu is left out, because it failed 2 times in a row: {reasons[1]}"]
    assert [name for name in names(tmp_path / "out") if not name.startswith(".")] == []


def test_a_device_that_cannot_run_a_bundle_leaves_it_to_one_that_can(
    bundle: Bundle, clips: list[Path], tmp_path: Path
) -> None:
    (tmp_path / "out").mkdir()
    display = RecordingDisplay()
    failures = run_fleet(jobs_of(clips, tmp_path / "out", bundle), ["cuda:77", "cpu"], display, ONE_THREAD)
    assert failures == []
    assert names(tmp_path / "out") == [clip.name for clip in clips]


def test_a_bundle_that_no_device_can_run_fails_with_the_reason(
    bundle: Bundle, clips: list[Path], tmp_path: Path
) -> None:
    (tmp_path / "out").mkdir()
    failures = run_fleet(jobs_of(clips[:2], tmp_path / "out", bundle), ["cuda:77"], RecordingDisplay())
    assert len(failures) == 2
    assert all("NVIDIA driver" in failure.reason or "GPU 77" in failure.reason for failure in failures)


def test_one_file_gets_the_device_that_can_run_it(bundle: Bundle, clips: list[Path], tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    assert (
        run_fleet(jobs_of(clips[:1], tmp_path / "out", bundle), ["cuda:77", "cpu"], RecordingDisplay(), ONE_THREAD)
        == []
    )
    assert names(tmp_path / "out") == ["a.mp4"]


def test_few_files_go_to_the_devices_that_are_named_first(
    bundle: Bundle, clips: list[Path], tmp_path: Path, with_code: PrepareWorkers
) -> None:
    started = with_code("")
    (tmp_path / "out").mkdir()
    display = RecordingDisplay()
    devices = ["cpu", "cuda:77", "cuda:78", "cuda:79"]
    assert run_fleet(jobs_of(clips[:1], tmp_path / "out", bundle), devices, display, ONE_THREAD) == []
    assert not [line for line in display.lines if "cuda:7" in line]
    assert processes(started) == 1


@pytest.mark.parametrize("said", [rb"\xff\xfe", b"[1]", b'{"hello": 1}', b'{"progress": 3}'])
def test_a_process_that_breaks_the_protocol_is_replaced_and_the_others_go_on(
    bundle: Bundle, clips: list[Path], tmp_path: Path, with_code: PrepareWorkers, said: bytes
) -> None:
    with_code(f"""
from swiftvr_trt.child import Parent
receive = Parent.receive
def receiving(parent):
    if process == 1: parent._write(b'{said.decode()}\\n')
    return receive(parent)
Parent.receive = receiving
""")
    (tmp_path / "out").mkdir()
    ended: list[list[Failure]] = []
    jobs = jobs_of(clips, tmp_path / "out", bundle)
    fleet = threading.Thread(
        target=lambda: ended.append(run_fleet(jobs, ["cpu", "cpu"], RecordingDisplay(), ONE_THREAD)), daemon=True
    )
    fleet.start()
    fleet.join(300)
    assert [len(failures) for failures in ended] == [1]
    assert "internal error" in ended[0][0].reason
    assert len(names(tmp_path / "out")) == 3


def test_nothing_is_imported_from_the_current_directory(
    bundle: Bundle, clips: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "queue.py").write_text("raise SystemExit(3)\n")
    (tmp_path / "out").mkdir()
    monkeypatch.chdir(tmp_path)
    assert run_fleet(jobs_of(clips[:1], tmp_path / "out", bundle), ["cpu"], RecordingDisplay(), ONE_THREAD) == []


@pytest.mark.alone
def test_an_interrupt_does_not_wait_for_a_process_that_still_stores_kernels(
    bundle: Bundle, clips: list[Path], tmp_path: Path, with_code: PrepareWorkers
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

    class Impatient(RecordingDisplay):
        def say(self, line: str, name: str = "") -> None:
            if name and line.startswith("output: "):
                threading.Timer(0.5, interrupt).start()

    with pytest.raises(KeyboardInterrupt):
        run_fleet(jobs_of(clips[:1], tmp_path / "out", bundle), ["cpu"], Impatient(), ONE_THREAD)
    assert time.monotonic() - began[0] < SECOND
    assert workers() == []


@pytest.mark.alone
def test_an_interrupt_ends_all_processes_within_a_second(
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
    jobs = jobs_of(long_clips, tmp_path / "out", bundle)
    with pytest.raises(KeyboardInterrupt):
        run_fleet(jobs, ["cpu", "cpu"], RecordingDisplay(meet), ONE_THREAD)
    assert time.monotonic() - began[0] < SECOND
    assert workers() == []
    assert names(tmp_path / "out") == []
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("swiftvr-device")]


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
    command = _two_workers(bundle, long_clips, out)
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
        assert all(has_ended(child) for child in children)
        assert not out.exists()
    assert min(took) < SECOND, took


def _two_workers(bundle: Bundle, clips: list[Path], out: Path) -> list[str | Path]:
    """The command that restores clips in two processes on the CPU, with a thread each."""
    return [*RUN, *clips, out, "--bundle", bundle.path, "--devices", "cpu,cpu", "--threads", "1"]


def _faulty_workers(place: Path, fault: str | None) -> dict[str, str]:
    """An environment in which worker processes, and no others, have one of the faults of `faulty.py`."""
    if fault is None:
        return dict(os.environ)
    code = f"from tests.runtime.restore import faulty\nfaulty.{fault}()\n"
    return {**os.environ, "PYTHONPATH": path_that_runs(place, code)}


@pytest.mark.alone
@pytest.mark.skipif(os.name != "posix", reason="kills without notice")
def test_workers_end_when_their_parent_is_killed(bundle: Bundle, long_clips: list[Path], tmp_path: Path) -> None:
    out = tmp_path / "out"
    command = _two_workers(bundle, long_clips, out)
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    while len(list(out.glob("*") if out.exists() else ())) < 2:
        assert process.poll() is None
        time.sleep(0.02)
    children = psutil.Process(process.pid).children(recursive=True)
    process.kill()
    process.wait()
    assert len(children) == 2
    wait_for_the_end(children)
    assert names(out) == []
