"""Chunks on the GPU: copies, captured graphs and the waits between them.

Every wait is needed: without it frames change, or the emulated driver complains.
"""

from __future__ import annotations

import gc
import itertools
import json
import time
from pathlib import Path
from typing import Any

import pytest

from swiftvr_trt import MisuseError, StageError, SwiftVRError
from swiftvr_trt.runtime.devices.cuda import CudaDevice
from swiftvr_trt.runtime.devices.tensorrt import TensorRTProvider
from swiftvr_trt.runtime.restore import restorer
from swiftvr_trt.runtime.stream.buffers import View, plan_buffers
from swiftvr_trt.runtime.stream.device import Recording
from swiftvr_trt.runtime.stream.plan import plan_memory
from swiftvr_trt.runtime.stream.program import Copy, Download, Step, Upload
from swiftvr_trt.runtime.stream.trace import Trace
from tests.cuda_emulator import emulated
from tests.runtime.clips import CLIP_LEN, OUT, clip

from . import mutants
from .cuda_lab import NO_CACHE, UNKNOWN, Lab, feed, through
from .fake_trt import FakeTensorRT

pytestmark = pytest.mark.cuda_emulator


def test_a_chunk_allocates_nothing_if_one_of_its_kind_came_before(lab: Lab) -> None:
    with emulated() as emulator, lab.opened(emulator) as restorer, restorer.session() as session:
        frames = clip("endless")
        chunks = 36
        head = len(frames) - chunks * CLIP_LEN  # FIRST, and MIDDLE for both turns
        for frame in frames[:head]:
            session.feed(frame)
        before = emulator.counts()
        emulator.forget_calls()
        for frame in frames[head:]:
            session.feed(frame)
        log, after = emulator.call_log(), emulator.counts()
        assert after == before
        waiting = (
            "cuEventSynchronize",
            "cuEventQuery",
            "cuCtxSetCurrent",
            "cuCtxGetCurrent",
            "cuCtxGetDevice",
            "operation",
        )
        work = {name: count for name, count in log.items() if name not in waiting}
        assert work == {
            "cuMemcpyAsync": 2 * chunks,
            "cuEventRecord": 3 * chunks,
            "cuStreamWaitEvent": 2 * chunks,
            "cuGraphLaunch": chunks,
        }
        assert len(session.flush()) > 0


def test_streams_of_any_length_leave_nothing_in_a_session_that_is_used_again(lab: Lab) -> None:
    """Each length has its own LAST chunk. None of them is captured, and one recording is kept."""
    frames = clip("long")
    with emulated(delay_us=0) as emulator, lab.opened(emulator) as restorer, restorer.session() as session:
        for _ in range(2):  # FIRST is captured the second time
            assert lab.same("long", feed(session, frames))
        emulator.forget_calls()
        before = emulator.counts()
        for length in (*range(1, len(frames)), len(frames)):
            assert len(feed(session, frames[:length])) == length
        assert lab.same("long", feed(session, frames))
        after, log = emulator.counts(), emulator.call_log()
        assert after.execs == 4  # FIRST, MIDDLE for both turns, and clearing the state
        assert after == before
        assert "cuGraphInstantiate" not in "".join(log)


def test_the_trace_shows_copies_during_computation_and_no_late_allocation(lab: Lab, tmp_path: Path) -> None:
    path = tmp_path / "trace.json"
    with (
        emulated(delay_us=300) as emulator,
        Trace(path) as trace,
        lab.opened(emulator, trace=trace) as restorer,
    ):
        assert lab.same("long", list(restorer.restore(clip("long"))))
    events = json.loads(path.read_text())
    lanes = {event["tid"]: event["args"]["name"] for event in events if event["ph"] == "M"}
    spans = [event for event in events if event["ph"] == "X"]
    by_lane = {lane: [s for s in spans if lanes[s["tid"]] == lane] for lane in lanes.values()}
    uploads, computes, downloads = (by_lane[lane] for lane in ("upload", "compute", "download"))
    chunks = len(uploads)
    assert chunks == len(downloads) == len(computes) - 1 == 6  # one more graph clears the state at the end
    slack = 1.0  # microseconds: events give float32 milliseconds
    for upload, compute, download in zip(uploads, computes, downloads, strict=False):
        assert upload["ts"] + upload["dur"] <= compute["ts"] + compute["dur"] + slack
        assert compute["ts"] + compute["dur"] <= download["ts"] + download["dur"] + slack
    overlaps = [
        copy
        for copy in (*uploads, *downloads)
        for compute in computes
        if copy["ts"] < compute["ts"] + compute["dur"] and compute["ts"] < copy["ts"] + copy["dur"]
    ]
    assert overlaps
    hosts = [span["name"] for span in by_lane["host"]]
    assert hosts.count("allocate stream") == hosts.count("allocate arena") == 1
    used = ("take_rgb24", "encode", "dit", "dit_edge", "decode", "give_rgb24")  # not the stages of other formats
    assert [name for name in hosts if name.startswith("warm up")] == [f"warm up {stage}" for stage in used]
    # FIRST, MIDDLE for both turns, LAST, and the program that clears the state.
    assert hosts.count("record") == 5


def test_steps_must_begin_with_uploads_and_end_with_downloads(lab: Lab) -> None:
    up, down = Upload(View("frames_in_0", 0, 8)), Download(View("frames_out_1", 0, 8))
    copy = Copy(View("frames_in_0", 0, 8), View("frames_out_1", 0, 8))
    with emulated() as emulator, lab.opened(emulator) as restorer:
        assert restorer._device is not None
        workspace = restorer._device.workspace(plan_buffers(lab.engines.manifest, *OUT))
        wrong: list[list[Step]] = [[copy, up, down], [up, down, copy], [down, up]]
        for steps in wrong:
            with pytest.raises(MisuseError, match="expected uploads first and downloads last"):
                workspace.record(steps)
        workspace.close()


@pytest.mark.parametrize(
    ("name", "count"),
    [("cuMemcpyAsync", 2), ("cuStreamWaitEvent", 2), ("cuEventRecord", 3), ("cuGraphLaunch", 1)],
)
def test_reset_forgets_a_chunk_that_failed_half_submitted(lab: Lab, name: str, count: int) -> None:
    with emulated() as emulator, lab.opened(emulator) as restorer, restorer.session() as session:
        assert lab.same("long", through(session, "long"))
        for nth in range(1, 3 * count + 1):
            emulator.fail(name, nth, UNKNOWN)
            with pytest.raises(StageError, match="could not be submitted"):
                through(session, "long")
            session.reset()
            assert lab.same("long", through(session, "long"))


def test_a_copy_that_fails_names_its_buffer(lab: Lab) -> None:
    said = []
    for nth in (1, 2):
        with emulated() as emulator, lab.opened(emulator) as restorer, restorer.session() as session:
            for _ in range(2):
                assert lab.same("long", through(session, "long"))
            emulator.fail("cuMemcpyAsync", nth, UNKNOWN)
            with pytest.raises(StageError) as caught:
                through(session, "long")
            said.append(str(caught.value))
            del caught
    assert said[0].startswith("the upload of frames_in_0 could not be submitted (")
    assert said[1].startswith("the download of frames_out_0 could not be submitted (")


def test_uploads_copies_and_downloads_arrive(lab: Lab) -> None:
    assert not [problem for seed in SEEDS if (problem := _round_trip(lab, CudaDevice, seed))]


def _round_trip(lab: Lab, kind: Any, seed: int) -> str | None:
    """Upload frames, copy them and download them, with new frames at each replay."""
    views = View("frames_in_0", 0, 8), View("frames_out_1", 0, 8)
    with emulated(seed, delay_us=300, clean=False) as emulator:
        with lab.opened(emulator, kind=kind) as restorer:
            assert restorer._device is not None
            workspace = restorer._device.workspace(plan_buffers(lab.engines.manifest, *OUT))
            recording: Recording = workspace.record([Upload(views[0]), Copy(*views), Download(views[1])])
            for number in range(1, 5):
                workspace.host("frames_in_0")[:8] = number
                recording.replay()
                if not (workspace.host("frames_out_1")[:8] == number).all():
                    return "the downloaded frames differ from the uploaded ones"
            workspace.close()
        return next(iter(emulator.violations()), None)


def _stream(lab: Lab, kind: Any, seed: int) -> str | None:
    with emulated(seed, delay_us=300, clean=False) as emulator:
        with lab.opened(emulator, kind=kind) as restorer:
            if not lab.same("long", list(restorer.restore(clip("long")))):
                return "wrong frames"
        return next(iter(emulator.violations()), None)


def _overlapped(lab: Lab, kind: Any, seed: int) -> str | None:
    """With decoding beside the next chunk: whole streams, and one that is reset with chunks in flight."""
    with emulated(seed, delay_us=300, clean=False) as emulator:
        with lab.opened(emulator, kind=kind, overlap=True) as restorer, restorer.session() as session:
            for frame in clip("long")[:16]:
                session.feed(frame)
            session.reset()
            if not lab.same("long", through(session, "long")):
                return "wrong frames"
        return next(iter(emulator.violations()), None)


def _early_close(lab: Lab, kind: Any, seed: int) -> str | None:
    with emulated(seed, delay_us=300, clean=False) as emulator:
        with lab.opened(emulator, kind=kind) as restorer:
            session = restorer.session()
            for frame in clip("long"):
                session.feed(frame)
            session.close()
            del session
        gc.collect()
        return next(iter(emulator.violations()), None)


def _reopen(lab: Lab, kind: Any, seed: int) -> str | None:
    """The memory of a closed session is free for the next one."""
    plan = plan_memory(lab.engines.manifest, 21, 27)
    with emulated(seed, delay_us=300, clean=False) as emulator:
        emulator.limit_bytes(plan.arena_bytes + plan.device.nbytes + plan.weight_bytes)
        with lab.opened(emulator, kind=kind) as restorer:
            for _ in range(3):
                with restorer.session() as session:
                    session.feed(clip("long")[0])
        return None


def _close(lab: Lab, kind: Any, seed: int) -> str | None:
    """The memory of a closed device is free for the next one."""
    plan = plan_memory(lab.engines.manifest, *OUT)
    with emulated(seed, delay_us=2000, clean=False) as emulator:
        emulator.limit_bytes(plan.weight_bytes + plan.arena_bytes)
        for _ in range(2):
            kind(lab.engines, TensorRTProvider(FakeTensorRT(emulator), NO_CACHE)).close()
        return None


def _first_run(lab: Lab, kind: Any, seed: int) -> str | None:
    """If a kernel fails in its first run, the message names the stage.

    The kernel fails once the host waits for it, or has gone on to the next stage.
    """
    with emulated(seed, clean=False) as emulator:
        library = FakeTensorRT(emulator)

        def touch(_stage: str) -> None:
            while not emulator.calls("cuStreamSynchronize") and library.calls["execute_async_v3"] < 2:
                time.sleep(1e-4)
            emulator.touch(16, 1, write=True)

        library.running = touch
        with lab.opened(emulator, library, kind=kind) as restorer:
            emulator.forget_calls()
            try:
                restorer.session().feed(clip("long")[0])
            except StageError as error:
                library.problems.clear()
                return None if "stage take_rgb24" in str(error) else f"without its name: {error}"
        return "no error"


SEEDS = range(3)
"""None of the battery depends on luck: the emulator knows what was waited for. Other seeds are other schedules."""
BATTERY = (_stream, _round_trip, _early_close, _reopen, _close, _first_run, _overlapped)


@pytest.mark.parametrize("site", mutants.sites(), ids=str)
def test_every_wait_is_needed(lab: Lab, site: mutants.Site, monkeypatch: pytest.MonkeyPatch) -> None:
    kind = mutants.device_without(site)
    monkeypatch.setattr(restorer, "Session", mutants.session_without(site))
    problems: list[str | None] = []
    for seed, run in itertools.product(SEEDS, BATTERY):
        try:
            problems.append(run(lab, kind, seed))
        except (SwiftVRError, AssertionError) as error:
            problems.append(str(error))
        if any(problems):
            return
    raise AssertionError(f"nothing fails without {site}")


def test_with_all_waits_nothing_fails(lab: Lab) -> None:
    for seed, run in itertools.product(SEEDS, BATTERY):
        assert run(lab, CudaDevice, seed) is None
