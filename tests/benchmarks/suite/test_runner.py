"""Runs: a process per case, and a record that is valid whatever happens."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from swiftvr_trt import leaving
from swiftvr_trt.benchmarks.suite import record, runner
from swiftvr_trt.benchmarks.suite.clips import moving, write_lossless
from swiftvr_trt.benchmarks.suite.metrics import sampled
from swiftvr_trt.benchmarks.suite.plan import BenchOptions
from swiftvr_trt.benchmarks.suite.protocols import PROTOCOLS
from swiftvr_trt.benchmarks.suite.record import BenchRun, Case, How, State, from_values, read_run, write_run
from swiftvr_trt.benchmarks.suite.runner import Recorder, run_cases
from swiftvr_trt.benchmarks.suite.work import CaseOrder, Findings
from swiftvr_trt.benchmarks.suite.worker import answer_to
from swiftvr_trt.cli.trial import BUNDLE
from swiftvr_trt.engines.bundle.cache import BundleCache
from swiftvr_trt.errors import MisuseError, OutputError

from .lab import run_of
from .test_commands import COPY

ROOT = Path(__file__).resolve().parents[3]
posix = pytest.mark.skipif(os.name != "posix", reason="sends signals")


def options(**more: Any) -> BenchOptions:
    return BenchOptions(**{"protocols": (PROTOCOLS["trial"],), "bundles": (BUNDLE,), "threads": 1, **more})


def in_this_process(order: CaseOrder, _limit_s: float) -> Findings:
    """Stands in for a process of its own where that is not the question."""
    answer = answer_to(asdict(replace(order, began=time.time())))
    assert answer["error"] is None, answer["error"]
    return from_values(Findings, answer["findings"], Path("answer"))


def test_every_case_has_a_process_and_the_record_has_every_case(tmp_path: Path) -> None:
    lines: list[str] = []
    path = tmp_path / "run.json"
    run = run_cases(options(suites=("latency", "file"), against=(COPY,)), ["swiftvr-bench", "x"], path, lines.append)
    assert read_run(path) == run
    assert run.state is State.DONE
    assert run.argv == ("swiftvr-bench", "x")
    assert [(case.suite, case.subject.side == COPY, case.state) for case in run.cases] == [
        ("latency", False, State.DONE),
        ("file", False, State.DONE),
        ("file", True, State.DONE),
    ]
    assert len(run.cases[1].subject.digest) == 64
    assert run.clips[0].sha256
    assert len(lines) == 3


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"checkpoint": "other"}, "was built from another checkpoint than"),
        ({"clean": "small.mkv"}, "--clean small.mkv has frames of 48x32, expected 96x64: the frames of the clip"),
        ({"clean": "short.mkv"}, "--clean short.mkv has 3 frames, expected 20 or more: the frames of the clip"),
        ({"clean": "short.mkv", "clip": "clip.mkv"}, "--clean short.mkv has 3 frames, expected 5 or more"),
    ],
)
def test_what_does_not_fit_is_refused_before_anything_is_measured(
    tmp_path: Path, mini_checkpoint: Path, monkeypatch: pytest.MonkeyPatch, more: dict[str, str], words: str
) -> None:
    monkeypatch.setattr(BundleCache, "checkpoint_digest", lambda _cache, _path: "0" * 64)
    for name, count, height, width in (("small", 20, 32, 48), ("short", 3, 64, 96), ("clip", 5, 32, 48)):
        write_lossless(tmp_path / f"{name}.mkv", moving(count, height, width))
    given = {name: mini_checkpoint if name == "checkpoint" else tmp_path / value for name, value in more.items()}
    with pytest.raises(MisuseError, match=words):
        run_cases(options(**given), [], tmp_path / "run.json", pytest.fail)
    assert not (tmp_path / "run.json").exists()


def test_imported_times_are_in_the_record_from_the_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object) -> Findings:
        raise KeyboardInterrupt

    monkeypatch.setattr(runner, "_ask", interrupt)
    imported = run_of([4.0], "imported.dit", How.IMPORTED, "trtexec").cases
    with pytest.raises(KeyboardInterrupt):
        run_cases(options(suites=("memory",)), [], tmp_path / "run.json", lambda _line: None, imported)
    memory, trace = read_run(tmp_path / "run.json").cases
    assert (memory.state, trace) == (State.INTERRUPTED, *imported)


@pytest.mark.parametrize(("share", "notes"), [(0.02, 0), (0.4, 1)])
def test_a_machine_with_other_work_is_said_to_be_busy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, share: float, notes: int
) -> None:
    monkeypatch.setattr(runner, "_ask", in_this_process)
    monkeypatch.setattr(runner, "busy_share", lambda: share)
    run = run_cases(options(suites=("memory",)), [], tmp_path / "run.json", lambda _line: None)
    assert run.host.load == share
    assert len(run.notes) == notes
    assert all("other programs took 40 % of the processors' time" in note for note in run.notes)


def test_turns_alternate_between_the_sides(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner, "_ask", in_this_process)
    ours_too = (sampled("program_s", [1.0], How.MEASURED, "trial"),)
    monkeypatch.setattr(runner, "measure_our_program", lambda *_: ours_too)
    lines: list[str] = []
    run = run_cases(options(suites=("file",), against=(COPY,), turns=2), [], tmp_path / "run.json", lines.append)
    sides = ["bundle", Path(sys.executable).name]
    assert [line.split()[:2] for line in lines] == [["file", side] for side in (*sides, *reversed(sides))]
    ours, theirs = (case.figure("program_s") for case in run.cases)
    assert ours is not None
    assert theirs is not None
    assert ours.groups == theirs.groups == (1, 1)


def test_a_case_whose_process_dies_or_hangs_fails_and_the_others_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runner, "_WORKER", "tests.benchmarks.suite.dying")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    found: list[Case] = []
    for suites, limit_s in ((("core", "memory"), 600.0), (("latency",), 1.0)):
        run = run_cases(options(suites=suites, limit_s=limit_s), [], tmp_path / "run.json", lambda _line: None)
        assert run.state is State.DONE
        found += read_run(tmp_path / "run.json").cases
    core, memory, latency = found
    assert {case.state for case in found} == {State.FAILED}
    assert core.problem.startswith("its process ended: killed by signal 9")
    assert memory.problem
    assert latency.problem == "it took more than 1 s; give it more time with --limit"


def test_a_full_disk_leaves_the_last_record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner, "_ask", in_this_process)
    written: list[BenchRun] = []

    def write(run: BenchRun, path: Path, *_: object) -> None:
        if len(written) == 4:
            raise OutputError(f"{path}: the record cannot be written (No space left on device)")
        write_run(run, path)
        written.append(run)

    monkeypatch.setattr(runner, "write_run", write)
    with pytest.raises(OutputError, match="No space left"):
        run_cases(options(suites=("latency", "memory")), [], tmp_path / "run.json", lambda _line: None)
    latency, memory = read_run(tmp_path / "run.json").cases
    assert (latency.state, memory.state) == (State.DONE, State.PLANNED)


def test_what_fails_before_the_first_case_is_recorded_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OutputError("no space for the clip")

    monkeypatch.setattr(runner, "obtain_clip", full)
    with pytest.raises(OutputError, match="no space"):
        run_cases(options(suites=("latency",)), [], tmp_path / "run.json", lambda _line: None)
    run = read_run(tmp_path / "run.json")
    assert (run.state, run.problem) == (State.FAILED, "no space for the clip")
    assert [case.state for case in run.cases] == [State.PLANNED]


def test_an_error_of_the_system_fails_one_case(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied", "manifest.json")

    monkeypatch.setattr(runner, "_ask", in_this_process)
    monkeypatch.setattr(runner, "_digest", refuse)
    run = run_cases(options(suites=("memory",)), [], tmp_path / "run.json", lambda _line: None)
    assert (run.state, run.cases[0].state) == (State.DONE, State.FAILED)
    assert "Permission denied" in run.cases[0].problem


def test_the_record_is_closed_with_the_files_and_a_case_is_encoded_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C leaves a fraction of a second, which long records would exceed."""
    turns: list[leaving.Turn] = []
    encoded: list[object] = []

    def hold(_name: str, _undo: object, turn: leaving.Turn = leaving.Turn.FILES) -> Callable[[], None]:
        turns.append(turn)
        return lambda: None

    def encode(value: Any) -> str:
        encoded.append(type(value))
        return json.dumps(asdict(value))

    monkeypatch.setattr(leaving, "hold", hold)
    (case,) = run_of([1.0]).cases
    recorder = Recorder(replace(run_of([1.0]), cases=(case,) * 3), tmp_path / "run.json")
    assert leaving.Turn.FOLDERS not in turns
    monkeypatch.setattr(record, "_to_json", encode)
    recorder.put(1, replace(case, state=State.RUNNING))
    recorder.end(State.INTERRUPTED, "interrupted")
    assert encoded.count(Case) == 2  # one that runs, and the same interrupted
    assert [one.state for one in read_run(tmp_path / "run.json").cases] == [
        State.DONE,
        State.INTERRUPTED,
        State.DONE,
    ]


@posix
def test_ctrl_c_is_recorded(tmp_path: Path) -> None:
    path = tmp_path / "run.json"
    command = [sys.executable, "-m", "swiftvr_trt.cli.bench", "--bundle", str(BUNDLE), "--protocol", "trial"]
    command += ["--suite", "memory,latency", "-o", str(path)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        while not (path.exists() and read_run(path).cases[0].state is State.RUNNING):
            assert process.poll() is None
            time.sleep(0.02)
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=60)
    assert process.returncode == 130
    assert said.endswith("error: interrupted; nothing was left half-written\n")
    run = read_run(path)
    assert (run.state, run.problem) == (State.INTERRUPTED, "interrupted")
    assert [case.state for case in run.cases] == [State.INTERRUPTED, State.PLANNED]
    assert [entry.name for entry in tmp_path.iterdir()] == ["run.json"]
