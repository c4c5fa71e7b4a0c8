"""One video on several devices: the spans, and the whole with real processes, some of which die."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from swiftvr_trt import Bundle, MachineError, MisuseError, OutputError, Restorer, SwiftVRError
from swiftvr_trt.runtime.restore import divided, hwaccel
from swiftvr_trt.runtime.restore.bundle_request import BundleRequest
from swiftvr_trt.runtime.restore.display import Display
from swiftvr_trt.runtime.restore.divided import (
    _worth_dividing,
    divide,
    look_at,
    restore_divided,
    restore_few,
    restore_part,
)
from swiftvr_trt.runtime.restore.fleet import run_fleet
from swiftvr_trt.runtime.restore.job import Failure, Job, JobWithBundle, restore_job
from swiftvr_trt.runtime.restore.segments.claims import Claims
from swiftvr_trt.runtime.restore.segments.grid import Span
from swiftvr_trt.runtime.restore.segments.input_watch import InputChangedError
from swiftvr_trt.runtime.restore.segments.piece import segments_folder
from swiftvr_trt.runtime.restore.segments.task import KnownInput
from tests.conftest import BundleFactory
from tests.runtime.media.images import folder

from .fleet_lab import ONE_THREAD, RecordingDisplay, kill_workers, path_that_runs, processes, workers
from .segments.lab import SINK, content, without, write_clip

FRAMES, CHUNKS = 150, 5
"""Pieces of 20 frames, so that there are eight."""


@pytest.mark.parametrize(
    ("missing", "last", "devices", "spans"),
    [
        ([Span(0, None)], 0, 2, [(0, None)]),
        ([Span(0, None)], 7, 1, [(0, None)]),
        ([Span(0, None)], 7, 3, [(0, 3), (3, 6), (6, None)]),
        ([Span(0, None)], 3, 2, [(0, 2), (2, None)]),
        ([Span(1, 2), Span(4, 8)], 9, 1, [(1, 2), (4, 8)]),
        ([Span(8, 10)], 9, 3, [(8, 9), (9, None)]),
        ([], 9, 3, []),
    ],
)
def test_spans_by_hand(missing: list[Span], last: int, devices: int, spans: list[tuple[int, int | None]]) -> None:
    assert divide(missing, last, devices) == [Span(*span) for span in spans]


@pytest.fixture(scope="module")
def bundle(mini_bundle: BundleFactory) -> Bundle:
    return mini_bundle(clip_len=4)


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_clip(tmp_path_factory.mktemp("divided") / "in.mp4", FRAMES)


@pytest.fixture(scope="module")
def expected(source: Path, bundle: Bundle) -> dict[str, list[object]]:
    """What the output holds if one device restores it, as a single file without `--devices` is."""
    whole = source.with_name("whole.mp4")
    restore_job(
        Job(source, str(whole), sink=SINK, piece_s=CHUNKS * 4 / 25),
        BundleRequest(bundle=bundle.path),
        lambda _size: Restorer.open(bundle, threads=1),
        RecordingDisplay(),
    )
    return content(whole)


def run(
    source: Path,
    output: Path,
    bundle: Bundle,
    devices: list[str],
    on_update: Callable[[str], None] = lambda _name: None,
) -> RecordingDisplay:
    job = Job(source, str(output), sink=SINK, piece_s=CHUNKS * 4 / 25)
    display = RecordingDisplay(on_update)
    restored = restore_divided(JobWithBundle(job, str(bundle.path)), devices, display, ONE_THREAD)
    assert restored.frames == FRAMES
    assert bool(restored.kept) is any("going on after an interruption" in line for line in display.lines)
    assert not segments_folder(output).exists()
    return display


def test_two_devices_make_the_file_of_one(
    tmp_path: Path, source: Path, bundle: Bundle, expected: dict[str, list[object]]
) -> None:
    display = run(source, tmp_path / "out.mp4", bundle, ["cpu", "cpu"])
    assert content(tmp_path / "out.mp4") == expected
    assert display.warnings == []


def test_a_process_that_dies_leaves_its_pieces_to_the_others(
    tmp_path: Path, source: Path, bundle: Bundle, expected: dict[str, list[object]]
) -> None:
    killed: list[int] = []

    def kill(_name: str) -> None:
        if len(killed) < 2:
            victim = max(workers(), key=lambda worker: worker.create_time())
            killed.append(victim.pid)
            victim.kill()

    run(source, tmp_path / "out.mp4", bundle, ["cpu", "cpu"], kill)
    assert len(killed) == 2
    assert content(tmp_path / "out.mp4") == expected


def test_if_every_process_dies_the_pieces_are_kept(
    tmp_path: Path, source: Path, bundle: Bundle, expected: dict[str, list[object]]
) -> None:
    output = tmp_path / "out.mp4"
    marks = segments_folder(output).glob

    def kill(_name: str) -> None:
        if list(marks("0*.json")):
            kill_workers()

    with pytest.raises(MachineError, match=r"in\.mp4 is not complete: its process ended unexpectedly"):
        run(source, output, bundle, ["cpu"], kill)
    kept = len(list(segments_folder(output).glob("0*.json")))
    assert kept > 0
    display = run(source, output, bundle, ["cpu"])
    assert any("going on after an interruption" in line for line in display.lines)
    assert content(output) == expected


def test_animations_are_not_divided(source: Path, bundle: Bundle, tmp_path: Path) -> None:
    job = Job(source, str(tmp_path / "out.gif"), sink=SINK, piece_s=CHUNKS * 4 / 25)
    with pytest.raises(
        MisuseError, match=r"--devices was given for .*out\.gif, but GIF and APNG are made on one device"
    ):
        look_at(job)
    assert _worth_dividing(JobWithBundle(job, str(bundle.path))) is None


def test_a_device_whose_processes_always_die_costs_time_only(
    tmp_path: Path,
    source: Path,
    bundle: Bundle,
    expected: dict[str, list[object]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As if memory sufficed for one process. All of them but the first die when they have begun a piece."""
    code = f"""
import os
try:
    os.close(os.open({str(tmp_path / "healthy")!r}, os.O_CREAT | os.O_EXCL))
except FileExistsError:
    from swiftvr_trt.runtime.restore.segments.sink import PieceSink
    PieceSink.write = lambda *_: os._exit(9)
"""
    monkeypatch.setenv("PYTHONPATH", path_that_runs(tmp_path, code))
    display = run(source, tmp_path / "out.mp4", bundle, ["cpu", "cpu"])
    assert content(tmp_path / "out.mp4") == expected
    (warning,) = display.warnings
    assert warning.startswith("cpu is left out, because it failed 2 times in a row: its process ended unexpectedly")


def test_what_is_said_about_every_span_is_shown_once(
    tmp_path: Path, source: Path, bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the processes of three devices, of which one cannot open the bundle, and by the one that joins."""

    def in_turn(orders: Sequence[JobWithBundle], _devices: object, display: Display, *_: object) -> list[Failure]:
        with Restorer.open(bundle, threads=1) as restorer:
            for each in orders:
                display.say(f"{each.job.name}: on cuda:7")
                display.say("not on cuda:7 (there is no such GPU)", each.job.name)
                restore_part(each.job, look_at(each.job), restorer, display)
        return []

    monkeypatch.setattr(divided, "run_fleet", in_turn)
    monkeypatch.setattr(hwaccel, "has_driver", lambda: False)
    job = Job(source, str(tmp_path / "out.mp4"), sink=SINK, piece_s=CHUNKS * 4 / 25, hwaccel="cuda")
    display = RecordingDisplay()
    restored = restore_divided(JobWithBundle(job, str(bundle.path)), ["cpu"] * 3, display, ONE_THREAD)
    assert [line for line in display.lines if "cuda:7" in line] == ["not on cuda:7 (there is no such GPU)"]
    assert [line.split(":")[0] for line in display.warnings] == ["video is decoded and encoded in software"]
    assert restored.notes == tuple(display.warnings)


def test_a_device_ends_where_another_has_claimed_a_piece_and_claims_do_not_outlive_a_round(  # many: fixtures
    tmp_path: Path,
    source: Path,
    bundle: Bundle,
    expected: dict[str, list[object]],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    output = tmp_path / "out.mp4"
    rounds: list[tuple[Any, ...]] = []

    def claiming(*given: Any) -> list[Failure]:
        if not rounds:
            Claims(segments_folder(output)).take(4)  # and nobody restores it
        rounds.append(given)
        return run_fleet(*given)

    monkeypatch.setattr(divided, "run_fleet", claiming)
    with caplog.at_level(logging.INFO, "swiftvr_trt.runtime.restore.divided"):
        display = run(source, output, bundle, ["cpu"])
    assert [line.split(": ")[0] for line in caplog.messages] == ["pieces from 0", "pieces from 4"]
    assert len(rounds) == 2
    assert content(output) == expected
    assert display.warnings == []


def test_a_batch_with_fewer_videos_than_devices_divides_each(
    tmp_path: Path, source: Path, bundle: Bundle, expected: dict[str, list[object]]
) -> None:
    """Images go to the fleet, and a video that fails does not stop the others."""
    (tmp_path / "broken.mp4").write_bytes(b"rubbish")
    images = Job(folder(tmp_path / "images", ["1.png"]), f"{tmp_path}/images-out/")
    videos = [
        Job(path, str(tmp_path / "out.mp4"), sink=SINK, piece_s=CHUNKS * 4 / 25)
        for path in (source, tmp_path / "broken.mp4")
    ]
    display = RecordingDisplay()
    orders = [JobWithBundle(job, str(bundle.path)) for job in (*videos, images)]
    failures = restore_few(orders, ["cpu"] * 2, display, ONE_THREAD)
    assert [failure.job.source.name for failure in failures] == ["broken.mp4"]
    assert sorted(result.status for result in display.results) == ["done", "done", "failed"]
    assert content(tmp_path / "out.mp4") == expected
    assert len(list((tmp_path / "images-out").iterdir())) == 1
    assert display.open == set()


def test_a_full_disk_ends_the_run_at_once_and_says_what_is_kept(
    tmp_path: Path,
    source: Path,
    bundle: Bundle,
    expected: dict[str, list[object]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its processes meet it in their second piece. One that was started again would begin that anew."""
    started = tmp_path / "started"
    code = f"""
import errno, os
from swiftvr_trt.runtime.restore.segments.packets import PacketWriter
open({str(started)!r}, "a").write("x\\n")
begin, begun = PacketWriter.__init__, []

def begin_one(writer, path, target):
    begun.append(path)
    if len(begun) > 1:
        from swiftvr_trt.runtime.media.files import explain_write_errors
        with explain_write_errors(target):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    begin(writer, path, target)

PacketWriter.__init__ = begin_one
"""
    output = tmp_path / "out.mp4"
    said = r"out\.mp4: the disk is full, .* frames are kept in .*: free some space and run"
    with monkeypatch.context() as patch:
        patch.setenv("PYTHONPATH", path_that_runs(tmp_path, code))
        with pytest.raises(OutputError, match=said):
            run(source, output, bundle, ["cpu", "cpu"])
    assert processes(started) == 2
    run(source, output, bundle, ["cpu"])
    assert content(output) == expected


def test_a_part_is_not_taken_from_another_input(
    tmp_path: Path, bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody replaces it once the first device is done. The run ends, and is told once."""
    source, output, rounds = write_clip(tmp_path / "in.mp4", 60), tmp_path / "out.mp4", list[int]()

    def in_turn(orders: Sequence[JobWithBundle], *_: object) -> list[Failure]:
        rounds.append(len(orders))
        failures = []
        with Restorer.open(bundle, threads=1) as restorer:
            for each in orders:
                try:
                    restore_part(each.job, look_at(each.job), restorer, RecordingDisplay())
                except SwiftVRError as error:
                    failures.append(Failure(each.job, str(error)))
                source.write_bytes(write_clip(tmp_path / "other.mp4", 59).read_bytes())
        return failures

    monkeypatch.setattr(divided, "run_fleet", in_turn)
    with pytest.raises(InputChangedError, match=r"in\.mp4 was changed while .*; 41 frames are kept in "):
        run(source, output, bundle, ["cpu", "cpu"])
    assert rounds == [2]
    assert len(list(segments_folder(output).glob("0*.json"))) == 2


@dataclass(frozen=True)
class Damaged:
    """A damaged video, what its output holds if it is restored in order, and what is said of it."""

    source: Path
    expected: dict[str, list[object]]
    said: str


def plain(source: Path, output: Path, bundle: Bundle) -> str | None:
    """Restore a video in order. Returns why that fails."""
    try:
        job = Job(source, str(output), sink=SINK, piece_s=CHUNKS * 4 / 25)
        restore_job(
            job, BundleRequest(bundle=bundle.path), lambda _size: Restorer.open(bundle, threads=1), RecordingDisplay()
        )
    except SwiftVRError as error:
        return str(error).replace(str(output), "OUTPUT")
    return None


@pytest.fixture(
    scope="module",
    params=[range(100, 150), range(62, 150), range(80, 150), range(3, 4), range(100, 101)],
    ids=lambda lost: f"{lost.start}-{lost.stop}",
)
def damaged(source: Path, bundle: Bundle, request: pytest.FixtureRequest) -> Damaged:
    """Ends within the last span, within the first one, and at the border of both; lacks one frame of either span.

    That of the first is too early for the second to notice.
    """
    lost: range = request.param
    path = without(source, lost, source.with_name(f"damaged{lost.start}-{lost.stop}.mp4"))
    said = plain(path, path.with_suffix(".out.mp4"), bundle)
    assert said
    return Damaged(path, content(path.with_suffix(".out.mp4")), said)


@pytest.mark.parametrize("order", [1, -1], ids=["first span first", "last span first"])
def test_a_damaged_video_gives_the_same_on_two_devices(
    tmp_path: Path, damaged: Damaged, bundle: Bundle, monkeypatch: pytest.MonkeyPatch, order: int
) -> None:
    def in_turn(orders: Sequence[JobWithBundle], *_: object) -> list[Failure]:
        """Does what the processes of a fleet do, one after the other."""
        failures = []
        with Restorer.open(bundle, threads=1) as restorer:
            for each in orders[::order]:
                try:
                    restore_part(each.job, look_at(each.job), restorer, RecordingDisplay())
                except SwiftVRError as error:
                    failures.append(Failure(each.job, str(error)))
        return failures

    monkeypatch.setattr(divided, "run_fleet", in_turn)
    output = tmp_path / "out.mp4"
    job = Job(damaged.source, str(output), sink=SINK, piece_s=CHUNKS * 4 / 25)
    with pytest.raises(MachineError) as failure:
        restore_divided(JobWithBundle(job, str(bundle.path)), ["cpu", "cpu"], RecordingDisplay(), ONE_THREAD)
    assert str(failure.value).replace(str(output), "OUTPUT") == damaged.said
    assert content(output) == damaged.expected


def test_only_videos_of_several_pieces_are_worth_dividing(tmp_path: Path, source: Path, bundle: Bundle) -> None:
    def is_worth_it(path: Path, piece_s: float = CHUNKS * 4 / 25, scene_cut: str = "keep") -> bool:
        job = Job(path, str(tmp_path / "out.mp4"), sink=SINK, piece_s=piece_s, scene_cut=scene_cut)
        return _worth_dividing(JobWithBundle(job, str(bundle.path))) is not None

    assert is_worth_it(source)
    assert not is_worth_it(source, piece_s=30)
    assert not is_worth_it(source, scene_cut="reset")  # scenes have no pieces
    assert not is_worth_it(folder(tmp_path / "images", ["1.png"]))
    assert not is_worth_it(tmp_path / "images" / "1.png")
    (tmp_path / "broken.mp4").write_bytes(b"rubbish")
    assert not is_worth_it(tmp_path / "broken.mp4")


def test_a_video_that_cannot_be_divided_is_restored_on_the_first_device(
    tmp_path: Path, source: Path, bundle: Bundle, expected: dict[str, list[object]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(divided, "index_of_part", lambda _info, _excerpt: "its clock jumps back")
    display = run(source, tmp_path / "out.mp4", bundle, ["cpu", "cpu"])
    assert display.warnings == ["only cpu is used, because in.mp4 cannot be divided: its clock jumps back"]
    assert content(tmp_path / "out.mp4") == expected


def test_a_job_keeps_its_span_on_the_way_to_another_process(tmp_path: Path) -> None:
    job = Job(tmp_path / "in.mp4", "out.mp4", span=(3, None), known=KnownInput("ab12", ((5, 7), None)))
    assert Job.from_dict(job.to_dict()) == job
    assert Job.from_dict(replace(job, span=None).to_dict()).span is None
