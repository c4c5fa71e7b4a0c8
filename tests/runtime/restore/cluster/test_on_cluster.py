"""Videos on a real cluster of Ray: three nodes on this machine. Ray starts slowly, so all tests share it."""

from __future__ import annotations

import logging
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import psutil
import pytest

from swiftvr_trt import Bundle, MachineError, OutputError
from swiftvr_trt.child import Child, Message
from swiftvr_trt.errors import MissingPackageError
from swiftvr_trt.runtime.restore.cluster import on_cluster
from swiftvr_trt.runtime.restore.cluster.address import ClusterOptions
from swiftvr_trt.runtime.restore.cluster.messages import Connect, Connected, FileSettled
from swiftvr_trt.runtime.restore.cluster.on_cluster import ClusterFailure, ClusterRun
from swiftvr_trt.runtime.restore.job import Job, JobWithBundle
from swiftvr_trt.runtime.restore.segments.piece import segments_folder
from tests.cli.test_run import SECOND
from tests.conftest import BundleFactory
from tests.patience import PATIENCE_S, wait_until

from ..fleet_lab import ONE_THREAD, RecordingDisplay
from ..segments.lab import SINK, content, restore, without, write_clip

FRAMES, CHUNKS = 240, 5
"""Pieces of 20 frames, so that there are twelve."""


def _short_folder() -> tempfile.TemporaryDirectory[str]:
    """The names of Ray's sockets must be short. Its processes may still write there when they are told to end."""
    return tempfile.TemporaryDirectory(prefix="svt-", dir="/tmp", ignore_cleanup_errors=True)


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """Three nodes with a CPU each, on this machine. Their temporary files lie in `TMPDIR`."""
    with pytest.MonkeyPatch.context() as patch, _short_folder() as place:
        patch.setenv("TMPDIR", place)
        patch.setenv("RAY_AUTH_MODE", "disabled")
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        from ray.cluster_utils import Cluster

        nodes: Any = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
        for _ in range(2):
            nodes.add_node(wait=False, num_cpus=1)
        nodes.wait_for_nodes(4 * PATIENCE_S)
        yield nodes
        nodes.shutdown()


@pytest.fixture(scope="module")
def bundle(mini_bundle: BundleFactory) -> Bundle:
    return mini_bundle(clip_len=4)


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_clip(tmp_path_factory.mktemp("cluster") / "in.mp4", FRAMES)


@pytest.fixture(scope="module")
def expected(source: Path, bundle: Bundle) -> dict[str, list[object]]:
    """What the output holds if this machine restores it."""
    whole = source.with_name("whole.mp4")
    restore(source, whole, bundle, chunks=CHUNKS)
    return content(whole)


def job(source: Path, output: Path) -> Job:
    return Job(source, str(output), sink=SINK, piece_s=CHUNKS * 4 / 25)


def run(
    cluster: Any,
    bundle: Bundle,
    jobs: list[Job],
    on_update: Callable[[str], None] = lambda _name: None,
    *,
    ship: bool = False,
    display: RecordingDisplay | None = None,
) -> tuple[RecordingDisplay, list[ClusterFailure]]:
    display = display or RecordingDisplay(on_update)
    options = ClusterOptions(cluster.address, ship)
    with ClusterRun.connect(options, ONE_THREAD, gpu=False, display=display) as connected:
        orders = [JobWithBundle(each, str(bundle.path)) for each in jobs]
        return display, connected.restore(orders, named=len(jobs) > 1)


@pytest.mark.alone  # all three must get some of it
def test_three_nodes_make_the_file_of_one_device(
    cluster: Any, tmp_path: Path, source: Path, bundle: Bundle, expected: dict[str, list[object]]
) -> None:
    display, failures = run(cluster, bundle, [job(source, tmp_path / "out.mp4")])
    assert failures == []
    assert display.warnings == []
    assert content(tmp_path / "out.mp4") == expected
    assert not segments_folder(tmp_path / "out.mp4").exists()
    assert len(display.nodes) == 3
    assert all(display.nodes.values())


@pytest.mark.parametrize("lost", [range(3, 4), range(120, 240)], ids=["one frame", "its second half"])
def test_a_video_that_does_not_decode_as_a_whole_is_as_one_device_makes_it(
    cluster: Any, tmp_path: Path, source: Path, bundle: Bundle, lost: range
) -> None:
    damaged, whole, output = tmp_path / "in.mp4", tmp_path / "whole.mp4", tmp_path / "out.mp4"
    without(source, lost, damaged)
    shortfall = restore(damaged, whole, bundle, chunks=CHUNKS).shortfall
    assert shortfall
    _display, failures = run(cluster, bundle, [job(damaged, output)])
    assert [shortfall in str(failure.error) for failure in failures] == [True]
    assert content(output) == content(whole)


@pytest.mark.alone  # the node must be at work when it vanishes
def test_a_node_that_vanishes_in_the_middle_costs_nothing_but_time(
    cluster: Any, tmp_path: Path, bundle: Bundle
) -> None:
    source, whole, output = (tmp_path / name for name in ("in.mp4", "whole.mp4", "out.mp4"))
    write_clip(source, 4 * FRAMES)  # so many that all four nodes get some
    restore(source, whole, bundle, chunks=CHUNKS)
    fourth = cluster.add_node(wait=False, num_cpus=1)
    cluster.wait_for_nodes(4 * PATIENCE_S)
    removed = threading.Event()

    def remove(_name: str) -> None:
        if not removed.is_set() and len(display.nodes) == 4 and all(display.nodes.values()):
            removed.set()
            cluster.remove_node(fourth, allow_graceful=False)

    display = RecordingDisplay(remove)
    _, failures = run(cluster, bundle, [job(source, output)], display=display)
    assert removed.is_set()
    assert failures == []
    assert any("its pieces go to others" in line for line in display.warnings), display.warnings
    assert content(output) == content(whole)


@pytest.mark.alone  # all three must get some of it
def test_twelve_unequal_files_keep_all_nodes_busy_to_the_end(
    cluster: Any, tmp_path: Path, bundle: Bundle, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger="swiftvr_trt")
    lengths = [20, 160, 40, 25, 90, 20, 60, 21, 70, 30, 100, 45]
    sources = [write_clip(tmp_path / f"{number}.mp4", frames) for number, frames in enumerate(lengths)]
    jobs = [replace(job(each, tmp_path / f"{each.stem}.out.mp4"), title=each.name) for each in sources]
    films: set[int] = set()

    def count(_name: str) -> None:
        films.add(len({path.parent for path in shipped("*.mp4")}))

    display, failures = run(cluster, bundle, jobs, count, ship=True)
    assert failures == []
    assert max(films) <= 3  # one for each device; the three nodes share a folder here
    assert [result.frames for result in sorted(display.results, key=lambda result: int(Path(result.source).stem))] == (
        lengths
    )
    for each in sources[1:4]:
        whole = tmp_path / f"whole{each.name}"
        restore(each, whole, bundle, chunks=CHUNKS)
        assert content(each.with_suffix(".out.mp4")) == content(whole)
    nodes = [
        record.getMessage().rpartition(" ")[2] for record in caplog.records if "restored on" in record.getMessage()
    ]
    assert len(set(nodes)) == 3
    ended = min(len(nodes) - nodes[::-1].index(node) for node in set(nodes))  # when the first one had no more
    behind = [nodes[ended:].count(node) for node in set(nodes)]
    # To the piece in simulated time: test_driver.py. Here a node may begin late with as much as it is ever given.
    assert max(behind) <= -(-len(nodes) // 6), nodes


def shipped(pattern: str) -> list[Path]:
    """Shipped files and bundles on the nodes."""
    place = Path(os.environ["TMPDIR"]) / f"swiftvr-cluster-{os.getuid()}"
    return list(place.glob(f"goods-*/content/{pattern}"))


def test_shipped_files_lie_on_a_node_once_and_leave_it_again(
    cluster: Any, tmp_path: Path, source: Path, bundle: Bundle, expected: dict[str, list[object]]
) -> None:
    place = Path(os.environ["TMPDIR"]) / f"swiftvr-cluster-{os.getuid()}"
    seen: set[str] = set()

    def look(_name: str) -> None:
        seen.update(path.name for path in shipped("*"))

    display, failures = run(cluster, bundle, [job(source, tmp_path / "out.mp4")], look, ship=True)
    assert failures == []
    assert display.warnings == []
    assert seen == {source.name, bundle.path.name}
    assert content(tmp_path / "out.mp4") == expected
    assert [path.name for path in place.iterdir()] == ["lock"]


def test_a_file_that_cannot_be_restored_does_not_stop_the_others(
    cluster: Any, tmp_path: Path, source: Path, bundle: Bundle, expected: dict[str, list[object]]
) -> None:
    rubbish = tmp_path / "rubbish.mp4"
    rubbish.write_bytes(b"no video " * 500)
    jobs = [job(rubbish, tmp_path / "r.mp4"), job(source, tmp_path / "out.mp4")]
    _, failures = run(cluster, bundle, jobs)
    assert [(failure.job.source, "cannot be read as a video" in str(failure.error)) for failure in failures] == [
        (rubbish, True)
    ]
    assert content(tmp_path / "out.mp4") == expected


def test_what_a_cluster_has_restored_is_kept_for_a_run_without_one(
    cluster: Any, tmp_path: Path, source: Path, bundle: Bundle, expected: dict[str, list[object]]
) -> None:
    output = tmp_path / "out.mp4"
    began: list[float] = []

    def interrupt(_name: str) -> None:
        if not began and list(segments_folder(output).glob("*.piece")):
            began.append(time.monotonic())
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        run(cluster, bundle, [job(source, output)], interrupt)
    assert time.monotonic() - began[0] < PATIENCE_S
    kept = sorted(path.name for path in segments_folder(output).glob("*.json"))
    assert len(kept) > 1
    lines: list[str] = []
    joined = restore(source, output, bundle, chunks=CHUNKS, say=lines.append)
    assert joined.kept > 0
    assert joined.kept + joined.restored == FRAMES
    assert content(output) == expected
    assert actors_end()


@pytest.mark.alone
def test_an_interrupted_command_ends_within_a_second_and_so_do_its_actors(
    cluster: Any, tmp_path: Path, bundle: Bundle
) -> None:
    long = write_clip(tmp_path / "long.mp4", 3000, sound=False)
    output = tmp_path / "out.mp4"
    command = [sys.executable, "-m", "swiftvr_trt.cli.run", str(long), str(output), "--bundle", str(bundle.path)]
    command += ["--cluster", cluster.address, "--threads", "1"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True)
    while not list(segments_folder(output).glob("*.piece*")):
        assert process.poll() is None
        time.sleep(0.05)
    began = time.monotonic()
    os.killpg(process.pid, signal.SIGINT)
    _, stderr = process.communicate(timeout=20)
    took = time.monotonic() - began
    assert process.returncode == 130
    assert took < SECOND
    lines = stderr.splitlines()
    assert lines[-1].startswith("error: interrupted; ")
    assert all(
        line.startswith(("connecting", "cluster:", "model:", "input:", "nodes:", "error:")) or "%" in line
        for line in lines
    )
    assert not list(segments_folder(output).glob("*.part"))
    assert actors_end()


def actors_end() -> bool:
    """Wait until no actor is left on this machine."""
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        if not any("SpanActor" in " ".join(_command(process)) for process in psutil.process_iter()):
            return True
        time.sleep(0.1)
    return False


def _command(process: psutil.Process) -> list[str]:
    try:
        return [*process.cmdline()]
    except psutil.Error:
        return []


def test_a_cluster_that_is_started_for_a_run_leaves_nothing_behind(
    tmp_path: Path, bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, whole, output = write_clip(tmp_path / "in.mp4", 50), tmp_path / "whole.mp4", tmp_path / "out.mp4"
    restore(source, whole, bundle, chunks=CHUNKS)
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    with _short_folder() as place:
        monkeypatch.setenv("TMPDIR", place)
        display = RecordingDisplay()
        with ClusterRun.connect(ClusterOptions("local"), ONE_THREAD, gpu=False, display=display) as connected:
            failures = connected.restore([JobWithBundle(job(source, output), str(bundle.path))], named=False)
        assert failures == []
        assert display.lines[0] == "connecting to the cluster: local"
        assert display.lines[1].startswith("cluster: 1 node (")
        wait_until(lambda: [path.name for path in Path(place).iterdir()] == [f"swiftvr-cluster-{os.getuid()}"])
        assert {path.name.partition("-")[0] for path in Path(place).glob("*/*")} <= {"lock", "process"}
    assert content(output) == content(whole)
    assert actors_end()


def test_the_cluster_that_ray_address_names_is_found(cluster: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", cluster.address)
    display = RecordingDisplay()
    with ClusterRun.connect(ClusterOptions("auto"), ONE_THREAD, gpu=False, display=display):
        assert display.lines[1].startswith("cluster: 3 nodes (")


def test_a_cluster_without_what_is_needed_says_so(cluster: Any) -> None:
    options = ClusterOptions(cluster.address)
    with pytest.raises(MachineError, match="has no GPU: start its nodes with GPUs"):
        ClusterRun.connect(options, ONE_THREAD, gpu=True, display=RecordingDisplay())
    with pytest.raises(MachineError, match="has no node with 64 CPUs: give fewer --threads"):
        ClusterRun.connect(options, replace(ONE_THREAD, threads=64), gpu=False, display=RecordingDisplay())


@pytest.mark.parametrize(("address", "missing"), [("auto", "ray"), ("ray://head:10001", "grpc")])
def test_without_the_extra_one_line_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, address: str, missing: str
) -> None:
    monkeypatch.setattr(on_cluster, "find_spec", lambda package: None if package == missing else object())
    with pytest.raises(MissingPackageError, match=rf"--cluster needs the package '{missing}'.*pip install .*\[ray\]"):
        ClusterRun.connect(ClusterOptions(address), ONE_THREAD, gpu=False, display=RecordingDisplay())


@pytest.mark.parametrize(
    ("gpu", "device", "connected", "lines"),
    [
        (True, None, Connected(("a", "b"), 8), ["cluster: 2 nodes (a, b), 8 GPUs"]),
        (False, None, Connected(("a",), 1), ["cluster: 1 node (a), 1 process"]),
        (False, "cpu", Connected(("a",), 2, 8), ["cluster: 1 node (a), 2 processes"]),
        (False, None, Connected(("a",), 2, 1), ["cluster: 1 node (a), 2 processes", "the cluster has 1 GPU, but the"]),
    ],
)
def test_a_cluster_is_described_and_so_is_what_it_does_not_use(
    gpu: bool, device: str | None, connected: Connected, lines: list[str]
) -> None:
    connect = Connect(ClusterOptions("auto", device=device), ONE_THREAD, gpu)
    found = list(on_cluster.about(connect, connected))
    assert [line[: len(start)] for line, start in zip(found, lines, strict=True)] == lines


def test_an_address_that_nobody_answers_is_told_at_once() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"  # it stays taken, by one who does not listen
        with pytest.raises(MachineError, match=rf"nothing answers at {address} \(.*\): start Ray there"):
            ClusterRun.connect(ClusterOptions(address), ONE_THREAD, gpu=False, display=RecordingDisplay())


def test_a_full_disk_here_is_told_from_what_goes_wrong_on_nodes(tmp_path: Path, source: Path, bundle: Bundle) -> None:
    class Driver:
        """Cannot write the first piece that arrives."""

        def send(self, _message: Message) -> None:
            connected._take(
                FileSettled(0, "cannot write out.mp4: no space left on device; choose another place", full=True)
            )

    connected = ClusterRun(cast("Child", Driver()), RecordingDisplay())
    (failure,) = connected.restore([JobWithBundle(job(source, tmp_path / "out.mp4"), str(bundle.path))], named=False)
    assert isinstance(failure.error, OutputError)
    assert "the disk is full" in str(failure.error)
    assert "choose another place" not in str(failure.error)
