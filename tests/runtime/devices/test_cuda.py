"""The CUDA device on an emulated driver: to the byte the frames of the CPU, whatever the streams' delays.

The driver reports every access that is not ordered by the program, use of freed memory, broken canaries and leaks;
TensorRT is `fake_trt`, whose stages run in ONNX Runtime.
"""

from __future__ import annotations

import itertools
import json
import threading
import time
from contextlib import nullcontext, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from swiftvr_trt import BundleError, Cancelled, MachineError, MisuseError, Restorer, Session
from swiftvr_trt.runtime.devices import cuda, tensorrt
from swiftvr_trt.runtime.devices.cuda import CudaDevice
from swiftvr_trt.runtime.devices.driver import Driver, find_driver
from swiftvr_trt.runtime.devices.kernel_cache import KernelCache
from swiftvr_trt.runtime.devices.tensorrt import TensorRTProvider
from swiftvr_trt.runtime.stream.plan import plan_memory, plan_stream
from swiftvr_trt.runtime.stream.program import plan_buffers
from swiftvr_trt.runtime.stream.session import Frame
from swiftvr_trt.runtime.stream.trace import Trace
from tests.cuda_emulator import emulated
from tests.runtime.clips import CLIP_LEN, CLIPS, clip

from .cuda_lab import NO_CACHE, Lab, feed, through
from .fake_trt import FakeTensorRT

pytestmark = pytest.mark.cuda_emulator
SCHEDULES = 200


@pytest.mark.parametrize("rtx", [True, False], ids=["TensorRT-RTX", "TensorRT"])
@pytest.mark.parametrize("graphs", [True, False], ids=["graphs", "direct"])
@pytest.mark.parametrize("name", CLIPS)
def test_frames_are_those_of_the_cpu(lab: Lab, name: str, graphs: bool, rtx: bool) -> None:
    with emulated() as emulator, lab.opened(emulator, FakeTensorRT(emulator, rtx=rtx), graphs=graphs) as restorer:
        assert lab.same(name, list(restorer.restore(clip(name))))


def test_any_schedule_gives_the_same_frames(lab: Lab) -> None:
    for seed in range(SCHEDULES):
        with emulated(seed) as emulator, lab.opened(emulator) as restorer:
            assert lab.same("long", list(restorer.restore(clip("long")))), f"seed {seed}"


def test_without_graphs_any_schedule_does_too(lab: Lab) -> None:
    for seed in range(SCHEDULES // 10):
        with emulated(seed) as emulator, lab.opened(emulator, graphs=False) as restorer:
            assert lab.same("long", list(restorer.restore(clip("long")))), f"seed {seed}"


@pytest.mark.parametrize("graphs", [True, False], ids=["graphs", "direct"])
@pytest.mark.parametrize("seed", range(5))
def test_interleaved_streams_do_not_touch_each_other(lab: Lab, seed: int, graphs: bool) -> None:
    with (
        emulated(seed) as emulator,
        lab.opened(emulator, graphs=graphs) as restorer,
        restorer.session() as a,
        restorer.session() as b,
    ):
        got: tuple[list[Frame], list[Frame]] = ([], [])
        for one, other in itertools.zip_longest(clip("long"), clip("even")):
            got[0].extend(a.feed(one))
            got[1].extend(b.feed(other) if other is not None else [])
        assert lab.same("long", got[0] + a.flush())
        assert lab.same("even", got[1] + b.flush())


@pytest.mark.parametrize("graphs", [True, False], ids=["graphs", "direct"])
def test_streams_in_two_threads_do_not_touch_each_other(lab: Lab, graphs: bool) -> None:
    """Captures, launches and warm-ups of one meet those of the other."""
    for seed in range(5):
        with emulated(seed) as emulator, lab.opened(emulator, graphs=graphs) as restorer:
            right: dict[str, bool] = {}

            def run(name: str, restorer: Restorer = restorer, right: dict[str, bool] = right) -> None:
                right[name] = lab.same(name, list(restorer.restore(clip(name))))

            threads = [threading.Thread(target=run, args=(name,)) for name in ("long", "even")]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            assert right == {"long": True, "even": True}


def test_a_stream_begins_anew_after_flush_and_after_reset(lab: Lab) -> None:
    for seed in range(5):
        with emulated(seed) as emulator, lab.opened(emulator) as restorer, restorer.session() as session:
            for _ in range(2):
                assert lab.same("edges", through(session, "edges"))
                for frame in clip("long")[:19]:
                    session.feed(frame)
                session.reset()  # with chunks on their way
            assert lab.same("even", through(session, "even"))  # of another size: with other buffers
            assert lab.same("long", through(session, "long"))


def test_cancelling_at_any_stage_ends_the_stream_and_nothing_else(lab: Lab) -> None:
    """Those of a FIRST chunk, of MIDDLE ones and of a LAST one."""
    runs: list[str] = []
    with emulated() as emulator:
        library = FakeTensorRT(emulator)
        with lab.opened(emulator, library) as restorer, restorer.session() as session:
            session.feed(clip("long")[0])  # allocates and warms up
            library.running = runs.append
            feed(session, clip("long")[1:] + clip("long"))
    for stage in range(1, len(runs) + 1):
        with emulated(stage) as emulator:
            library = FakeTensorRT(emulator)
            with lab.opened(emulator, library) as restorer, restorer.session() as other:
                began = [other.feed(frame) for frame in clip("edges")[:5]]
                assert not any(began)
                session, count = restorer.session(), itertools.count(1)
                session.feed(clip("long")[0])  # allocates and warms up

                def cancel_at(_name: str, count: Any = count, session: Session = session, stage: int = stage) -> None:
                    if next(count) == stage:
                        session.cancel()

                library.running = cancel_at
                with pytest.raises(Cancelled):
                    feed(session, clip("long")[1:] + clip("long"))
                for call in (session.flush, lambda session=session: session.feed(clip("long")[0])):
                    with pytest.raises(Cancelled):
                        call()
                session.close()
                assert lab.same("edges", [f for frame in clip("edges")[5:] for f in other.feed(frame)] + other.flush())


def test_a_session_may_be_closed_with_chunks_on_their_way(lab: Lab) -> None:
    for seed in range(10):
        with emulated(seed, delay_us=500) as emulator, lab.opened(emulator) as restorer:
            session = restorer.session()
            for frame in clip("long"):
                session.feed(frame)
            assert session._stream is not None
            kept = session._stream.frames_in
            session.close()
            assert all(frame.any() for frame in kept[0])  # memory that somebody still looks at stays
            del kept


@pytest.mark.parametrize("whole_device", [False, True], ids=["session", "device"])
def test_what_is_closed_in_another_thread_waits_for_whoever_uses_it(lab: Lab, whole_device: bool) -> None:
    """While a stream is made, recorded, submitted or waited for: nothing is released under it."""
    for seed in range(12):
        with emulated(seed, delay_us=300) as emulator:
            library = FakeTensorRT(emulator)
            with lab.opened(emulator, library) as restorer:
                session, ended = restorer.session(), threading.Event()

                def run(session: Session = session, ended: threading.Event = ended) -> None:
                    with suppress(Cancelled, MisuseError):
                        feed(session, clip("long"))
                    ended.set()

                thread = threading.Thread(target=run)
                thread.start()
                time.sleep(0.01 * seed)
                (restorer if whole_device else session).close()
                thread.join(30)
                assert ended.is_set()
                session.close()
                del session


@pytest.mark.parametrize("moment", ["before its memory is allocated", "while its stages warm up"])
def test_a_device_that_another_thread_closes_first_finishes_opening_a_workspace(
    lab: Lab, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    with emulated() as emulator:
        library = FakeTensorRT(emulator)
        with lab.opened(emulator, library) as restorer:
            device = restorer._device
            assert device is not None
            closing = threading.Thread(target=device.close)

            def begin_closing(*_: Any) -> None:
                if closing.ident is None:
                    closing.start()
                    closing.join(0.2)
                    assert closing.is_alive(), "the device was closed under the workspace that is being opened"

            if moment == "before its memory is allocated":

                def planning(*arguments: Any) -> Any:
                    begin_closing()
                    return plan_stream(*arguments)

                monkeypatch.setattr(cuda, "plan_stream", planning)
            else:
                library.running = begin_closing
            workspace = device.workspace(plan_buffers(lab.engines.manifest, 21, 27))
            closing.join(10)
            assert not closing.is_alive()
            with pytest.raises(MisuseError, match="this session is closed"):
                workspace.record([])
            del workspace


def test_a_closed_device_opens_no_workspace(lab: Lab) -> None:
    with emulated() as emulator:
        library = FakeTensorRT(emulator)
        with lab.opened(emulator, library) as restorer:
            session = restorer.session()
        assert not emulator.counts().leaks()
        with pytest.raises(MisuseError, match=r"is closed; open it again with Restorer.open\(\)"):
            session.feed(clip("long")[0])
        assert library.calls["create_execution_context"] == 0


def test_without_its_lock_two_streams_would_meet_on_the_arena(lab: Lab) -> None:
    """Else the test of two threads above shows nothing."""
    for seed in range(10):
        with emulated(seed, clean=False) as emulator:
            library = FakeTensorRT(emulator)
            device = CudaDevice(lab.engines, TensorRTProvider(library, NO_CACHE), graphs=False)
            device.compute = replace(device.compute, lock=nullcontext())  # type: ignore[arg-type]
            with Restorer(device, lab.engines.manifest) as restorer:
                threads = [
                    threading.Thread(target=lambda name=name: list(restorer.restore(clip(name))))
                    for name in ("long", "even")
                ]
                for thread in threads:
                    thread.start()
                for thread in threads:
                    thread.join()
            if any("another stage ran on the arena meanwhile" in problem for problem in library.problems):
                return
    raise AssertionError("no stage noticed another one")


def test_a_device_closes_the_sessions_that_are_left_open(lab: Lab) -> None:
    with emulated() as emulator:
        with lab.opened(emulator) as restorer:
            session = restorer.session()
            for frame in clip("long"):
                session.feed(frame)
        with pytest.raises((MisuseError, Cancelled)):
            session.flush()
        del session


def test_memory_is_that_of_the_plan(lab: Lab) -> None:
    plan = plan_memory(lab.engines.manifest, 21, 27)
    with emulated() as emulator, lab.opened(emulator) as restorer, restorer.session() as session:
        session.feed(clip("long")[0])
        counts = emulator.counts()
        assert counts.pooled_bytes + counts.device_bytes == plan.arena_bytes + plan.device.nbytes
        assert counts.pooled + counts.device == 2
        assert (counts.pinned, counts.pinned_bytes) == (1, plan.host.nbytes)


def test_after_the_first_of_its_kind_a_chunk_allocates_nothing(lab: Lab) -> None:
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


def test_nothing_grows_over_many_streams(lab: Lab) -> None:
    with emulated(delay_us=0) as emulator, lab.opened(emulator) as restorer, restorer.session() as session:
        assert lab.same("long", through(session, "long"))
        before = emulator.counts()
        for _ in range(30):
            assert lab.same("long", through(session, "long"))
            session.reset()
        assert emulator.counts() == before


def test_ends_of_any_length_leave_nothing_in_a_session_that_is_used_again(lab: Lab) -> None:
    """Each length has a LAST chunk of its own, of which none is captured, and one is kept."""
    frames = clip("long")
    with emulated(delay_us=0) as emulator, lab.opened(emulator) as restorer, restorer.session() as session:
        assert lab.same("long", feed(session, frames))
        emulator.forget_calls()
        before = emulator.counts()
        for length in (*range(1, len(frames)), len(frames)):
            assert len(feed(session, frames[:length])) == length
        assert lab.same("long", feed(session, frames))
        after, log = emulator.counts(), emulator.call_log()
        assert after.execs == 4  # FIRST, MIDDLE for both turns, and what clears the state
        assert after == before
        assert "cuGraphInstantiate" not in "".join(log)


def test_kernels_are_compiled_once_and_kept(lab: Lab, tmp_path: Path) -> None:
    cache = KernelCache("bundle", "key", (tmp_path,))
    with emulated() as emulator:
        compiled = []
        for _ in range(2):
            library = FakeTensorRT(emulator)
            with lab.opened(emulator, library, kernel_cache=cache) as restorer:
                assert lab.same("short", list(restorer.restore(clip("short"))))
            compiled.append(library.compiled)
        assert compiled == [3, 0]
        (file,) = tmp_path.iterdir()
        file.write_bytes(b"damaged")
        library = FakeTensorRT(emulator)
        with lab.opened(emulator, library, kernel_cache=cache) as restorer:
            assert lab.same("short", list(restorer.restore(clip("short"))))
        assert library.compiled == 3
        assert cache.load() is not None


def test_the_trace_shows_copies_beside_computing_and_no_late_allocation(lab: Lab, tmp_path: Path) -> None:
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
    slack = 1.0  # microseconds: events have their times in milliseconds of float32
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
    assert [name for name in hosts if name.startswith("warm up")] == [
        f"warm up {s.name}" for s in lab.engines.manifest.stages
    ]
    # FIRST, MIDDLE for both turns, LAST, and the program that clears the state.
    assert hosts.count("record") == 5


@pytest.mark.parametrize(
    ("change", "package", "kind", "words"),
    [
        ({}, "14", MachineError, "driver is for CUDA 13.0, tensorrt-rtx-cu14 needs a driver for CUDA 14"),
        (
            {"driver_cuda": "13.1"},
            "12",
            BundleError,
            "built with a driver for CUDA 13.1, but the driver here is for CUDA 13.0",
        ),
        ({"cuda": "13"}, "12", BundleError, "for CUDA 13, but the installed package is for CUDA 12"),
        ({"compute_capability": "8.9"}, "12", BundleError, "built for compute capability 8.9"),
    ],
)
def test_what_does_not_fit_the_driver_is_known_before_engines_are_read(
    lab: Lab,
    monkeypatch: pytest.MonkeyPatch,
    change: dict[str, Any],
    package: str,
    kind: type[Exception],
    words: str,
) -> None:
    monkeypatch.setattr(tensorrt, "package_cuda", lambda _module: package)
    manifest = lab.engines.manifest
    bundle = replace(lab.engines, manifest=replace(manifest, toolchain=replace(manifest.toolchain, **change)))
    with emulated() as emulator:
        library = FakeTensorRT(emulator)
        with pytest.raises(kind, match=words):
            CudaDevice(bundle, TensorRTProvider(library, NO_CACHE))
        assert library.calls["deserialize_cuda_engine"] == 0


def test_a_build_asks_the_driver_what_to_record() -> None:
    with emulated():
        assert find_driver() == Driver("13.0", "12.0")


def test_the_device_is_chosen_by_number(lab: Lab) -> None:
    with emulated() as emulator, pytest.raises(MachineError, match=r"GPU 3 was asked for, this machine has 1; choose"):
        CudaDevice(lab.engines, TensorRTProvider(FakeTensorRT(emulator), NO_CACHE), index=3)
