"""Traces: Chrome's format, and what a run on the CPU writes."""

from __future__ import annotations

import errno
import io
import json
import os
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from swiftvr_trt import OutputError, Restorer
from swiftvr_trt.export.moving_picture import synthetic_frame
from swiftvr_trt.runtime.stream.trace import LANES, Trace
from tests.conftest import BundleFactory


def spans(path: Path) -> list[dict[str, Any]]:
    return [event for event in json.loads(path.read_text()) if event["ph"] == "X"]


def test_spans_are_events_in_microseconds_on_named_rows(tmp_path: Path) -> None:
    path, before = tmp_path / "trace.json", time.perf_counter()
    with Trace(path) as trace:
        now = time.perf_counter()
        trace.span("compute", "chunk", now + 1, now + 1.5, frames=24)
        with trace.timed("host", "capture"):
            time.sleep(0.01)
    events = json.loads(path.read_text())
    names = {event["tid"]: event["args"]["name"] for event in events if event["ph"] == "M"}
    assert names == dict(enumerate(LANES))
    chunk, capture = spans(path)
    assert (names[chunk["tid"]], chunk["name"], chunk["args"]) == ("compute", "chunk", {"frames": 24})
    assert chunk["dur"] == pytest.approx(500_000, abs=1)
    assert 1_000_000 <= chunk["ts"] <= 1_000_001 + 1e6 * (now - before)
    assert names[capture["tid"]] == "host"
    assert capture["dur"] >= 10_000


def test_what_comes_after_the_end_is_dropped(tmp_path: Path) -> None:
    trace = Trace(tmp_path / "trace.json")
    trace.close()
    trace.close()
    trace.span("host", "late", 0, 1)
    assert spans(tmp_path / "trace.json") == []


def test_threads_do_not_mix_their_events(tmp_path: Path) -> None:
    with Trace(tmp_path / "trace.json") as trace:

        def write() -> None:
            for _ in range(200):
                trace.span("host", "x" * 500, 0, 1)

        threads = [threading.Thread(target=write) for _ in "ab"]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len(spans(tmp_path / "trace.json")) == 400


def test_a_place_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="the trace cannot be written"):
        Trace(tmp_path / "nowhere" / "trace.json")


class FullDisk(io.FileIO):
    """A file of which only the first bytes find room."""

    def write(self, data: Any) -> int:
        if self.tell() + len(data) > 20_000:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return super().write(data)


def on_full_disk(path: Path) -> Trace:
    """A trace whose end does not fit on the disk."""
    trace = Trace(path)
    trace._file.close()
    trace._file = io.TextIOWrapper(io.BufferedWriter(FullDisk(path, "w")))
    return trace


def fill(trace: Trace) -> None:
    """Write what fits, and hold what does not."""
    for size in (9_000, 9_000, 5_000):
        trace.span("host", "x" * size, 0, 1)


def test_a_trace_that_could_not_be_finished_is_removed_and_said(tmp_path: Path) -> None:
    path = tmp_path / "trace.json"
    with pytest.raises(OutputError, match="the trace cannot be written"), on_full_disk(path) as trace:
        fill(trace)
    assert not path.exists()


def test_the_error_of_a_run_goes_before_that_of_its_trace(tmp_path: Path) -> None:
    path = tmp_path / "trace.json"

    def run() -> None:
        with on_full_disk(path) as trace:
            fill(trace)
            with trace.timed("compute", "x" * 20_000):
                raise ValueError("real")

    with pytest.raises(ValueError, match="real"):
        run()
    assert not path.exists()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="only Linux has a disk that is always full")
def test_a_device_is_not_removed() -> None:
    with pytest.raises(OutputError, match="No space left"), Trace("/dev/full"):
        pass
    assert Path("/dev/full").exists()


def test_on_the_cpu_a_chunk_is_its_stages_and_only_the_first_of_a_kind_prepares_anything(
    tmp_path: Path, mini_bundle: BundleFactory
) -> None:
    path = tmp_path / "trace.json"
    frames = [synthetic_frame(index, 33, 57) for index in range(12 + 4 * 8)]
    with (
        Trace(path) as trace,
        Restorer.open(mini_bundle(), device="cpu", threads=1, trace=trace) as restorer,
    ):
        assert len(list(restorer.restore(frames))) == len(frames)
    names = [event["name"] for event in spans(path)]
    # 12 frames FIRST, four times 8 MIDDLE, and LAST for the three frames that the decoder lags.
    first = ["encode"] * 3 + ["dit_edge"] + ["decode"] * 3
    middle = ["encode"] * 2 + ["dit"] + ["decode"] * 2
    last = ["encode", "dit_edge", "decode"]
    stages = [name for name in names if name in ("encode", "dit", "dit_edge", "decode")]
    assert stages == first + 4 * middle + last
    assert names.count("allocate stream") == 1
    # FIRST, MIDDLE with its counterpart for the other turn, LAST, and the clearing after the stream.
    assert names.count("record") == 5
    between = names[names.index("dit") : len(names) - names[::-1].index("dit")]
    assert set(between) == {"take_rgb24", "encode", "dit", "decode", "give_rgb24"}
