"""The driver with simulated devices: no Ray, and no time that passes."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import pytest

from benchmarks.cluster_driver import HERE, Device, LostError, SimulatedCluster, SimulatedRun
from swiftvr_trt.runtime.restore.cluster.actor import PiecePart, Place
from swiftvr_trt.runtime.restore.cluster.messages import FileLine, FileSettled, Refused
from swiftvr_trt.runtime.restore.cluster.receiving import Receiver
from swiftvr_trt.runtime.restore.segments.piece import parse_mark, segments_folder
from swiftvr_trt.runtime.restore.segments.room import full_elsewhere
from swiftvr_trt.runtime.restore.verdict import Outcome, Verdict

LENGTHS = (1, 8, 2, 2, 5, 1, 3, 2, 4, 2, 5, 3)


def place(name: str) -> Place:
    return Place(name, name, HERE.software)


def restore(folder: Path, devices: Sequence[Device], lengths: Sequence[int] = (4,)) -> SimulatedRun:
    """Have files with so many pieces restored."""
    cluster = SimulatedCluster(devices, {f"{number}.mp4": pieces for number, pieces in enumerate(lengths)})
    run = SimulatedRun(cluster, folder)
    run.restore()
    return run


def settled(run: SimulatedRun) -> dict[int, str | None]:
    return {sent.file: sent.reason for sent in run.sent if isinstance(sent, FileSettled)}


@pytest.mark.parametrize("speeds", [(1.0, 1.0, 1.0), (1.0, 1.1, 1.3), (0.9, 2.0)])
def test_files_of_unequal_length_keep_all_devices_busy_to_the_end(tmp_path: Path, speeds: Sequence[float]) -> None:
    run = restore(tmp_path, [Device(speed, place(str(speed))) for speed in speeds], LENGTHS)
    assert settled(run) == dict.fromkeys(range(len(LENGTHS)))
    arrived = run.cluster.arrived.values()
    assert sum(map(len, arrived)) == sum(LENGTHS)
    longest = max(later - earlier for times in arrived for earlier, later in pairwise(times))
    last = [times[-1] for times in arrived]
    assert max(last) - min(last) <= longest
    for number, pieces in enumerate(LENGTHS):
        assert len(list(segments_folder(tmp_path / f"{number}.mp4.out.mp4").glob("*.piece"))) == pieces


def test_a_node_with_a_full_disk_leaves_files_to_the_others_and_is_named(tmp_path: Path) -> None:
    full = Device(1.0, place("full"), Outcome(Verdict.UNBEGUN, "cannot write /tmp/x: no space is left"))
    run = restore(tmp_path, [full, Device(1.0, place("good"))], (2, 3))
    assert settled(run) == {0: None, 1: None}
    assert run.cluster.arrived[0] == []
    lines = {sent.text for sent in run.sent if isinstance(sent, FileLine)}
    assert lines == {"full: cannot write /tmp/x: no space is left; its pieces go to others"}


def test_a_full_disk_where_the_pieces_arrive_ends_the_file_and_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def take(_receiver: Receiver, _part: PiecePart) -> bool:
        raise full_elsewhere("cannot write out.mp4")

    monkeypatch.setattr(Receiver, "take", take)
    run = restore(tmp_path, [Device(1.0, place("good"))])
    assert FileSettled(0, "cannot write out.mp4", full=True) in run.sent


@pytest.mark.parametrize(
    ("ends", "reason"),
    [
        (Outcome(Verdict.UNBEGUN, "no space is left"), "bad: no space is left"),
        (Outcome(Verdict.UNFIT, "no GPU"), "bad: no GPU"),
        (Outcome(Verdict.FAILED, "the input is damaged"), "bad: the input is damaged"),
        (LostError("its node is gone"), "no device of the cluster is left (bad: its node is gone)"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_the_reason_of_a_file_that_failed_names_the_node(
    tmp_path: Path, ends: Outcome | Exception, reason: str
) -> None:
    assert settled(restore(tmp_path, [Device(1.0, place("bad"), ends)])) == {0: reason}


def test_a_device_that_is_lost_leaves_its_pieces_to_the_others(tmp_path: Path) -> None:
    lost = Device(1.0, place("lost"), LostError("its node is gone"))
    run = restore(tmp_path, [lost, Device(1.0, place("good"))], (3, 9))
    assert settled(run) == {0: None, 1: None}
    assert len(run.cluster.arrived[1]) == 12


def test_a_node_with_another_encoder_leaves_the_file_to_those_that_began_it(tmp_path: Path) -> None:
    devices = [Device(1.0, place("first"), header="a"), Device(1.5, place("other"), header="b")]
    run = restore(tmp_path, devices, (6,))
    assert settled(run) == {0: None}
    reason = "other: its encoder is another one than that of the other pieces; its pieces go to others"
    assert [sent.text for sent in run.sent if isinstance(sent, FileLine)] == [reason]
    marks = [parse_mark(path) for path in segments_folder(tmp_path / "0.mp4.out.mp4").glob("*.json")]
    assert [mark.header for mark in marks] == ["a"] * 6


def test_a_node_with_other_software_is_refused(tmp_path: Path) -> None:
    run = restore(tmp_path, [Device(1.0, Place("1", "old", "swiftvr-trt 0, PyAV 1"))])
    assert [sent.text for sent in run.sent if isinstance(sent, Refused)] == [
        f"node old has swiftvr-trt 0, PyAV 1, expected {HERE.software} as here: install the same versions on every node"
    ]
