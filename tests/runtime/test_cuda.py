"""The CUDA device on an emulated driver: to the byte the frames of the CPU, whatever the streams' delays.

The driver reports every access that is not ordered by the program, use of freed memory, broken canaries and leaks;
TensorRT is `fake_trt`, whose stages run in ONNX Runtime.
"""

from __future__ import annotations

import gc
import itertools
import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from swiftvr_trt import (
    Bundle,
    BundleError,
    Cancelled,
    MachineError,
    MediaError,
    MisuseError,
    OutputError,
    Restorer,
    Session,
    StageError,
    SwiftVRError,
)
from swiftvr_trt.export.verify import picture
from swiftvr_trt.runtime.cuda import CudaDevice
from swiftvr_trt.runtime.device import Recording
from swiftvr_trt.runtime.kernel_cache import KernelCache
from swiftvr_trt.runtime.pipeline import Progress, restore_media
from swiftvr_trt.runtime.plan import plan_memory
from swiftvr_trt.runtime.program import Copy, Download, Upload, View, plan_buffers
from swiftvr_trt.runtime.session import Frame
from swiftvr_trt.runtime.trace import Trace

from ..conftest import BundleFactory
from ..cuda_emulator import Emulator, emulated
from . import mutants
from .clips import CLIP_LEN, CLIPS, OUT, clip
from .fake_trt import FakeTensorRT, write_engine_bundle
from .test_pipeline import ListSink, ListSource

pytestmark = pytest.mark.cuda_emulator

NO_CACHE = KernelCache("none", "none", ())
SCHEDULES = 200
OUT_OF_MEMORY, ILLEGAL_ADDRESS, UNKNOWN = 2, 700, 999


@dataclass(frozen=True)
class Lab:
    """A bundle of engines, and what the CPU makes of the clips with the graphs that the engines are made of."""

    engines: Bundle
    expected: Mapping[str, list[Frame]]

    @contextmanager
    def opened(
        self, emulator: Emulator, library: FakeTensorRT | None = None, *, kind: Any = CudaDevice, **options: Any
    ) -> Iterator[Restorer]:
        """A restorer on the emulated GPU; at the end nothing of TensorRT may be left."""
        library = library or FakeTensorRT(emulator)
        device = kind(self.engines, library=library, **{"kernels": NO_CACHE, **options})
        with Restorer(device, self.engines.manifest) as restorer:
            yield restorer
        del device
        assert library.problems == []
        assert not _left(library)

    def same(self, name: str, frames: list[Frame]) -> bool:
        return len(frames) == len(self.expected[name]) and np.array_equal(frames, self.expected[name])


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory, mini_bundle: BundleFactory) -> Iterator[Lab]:
    graphs = mini_bundle(OUT[1], OUT[0], CLIP_LEN)
    with Restorer.open(graphs, threads=1) as restorer:
        expected = {name: list(restorer.restore(clip(name))) for name in CLIPS}
    gc.collect()
    gc.freeze()  # what is loaded by now stays; collecting after each of many runs is quick then
    yield Lab(write_engine_bundle(tmp_path_factory.mktemp("engines") / "bundle", graphs), expected)
    gc.unfreeze()


def _left(library: FakeTensorRT) -> list[Any]:
    """What there still is of TensorRT. An error that somebody holds keeps what its frames refer to."""
    gc.collect()
    return list(library.live)


def _feed(session: Session, frames: list[Frame]) -> list[Frame]:
    return [restored for frame in frames for restored in session.feed(frame)] + session.flush()


def through(session: Session, name: str) -> list[Frame]:
    return _feed(session, clip(name))


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
    for stage in range(1, 32):
        with emulated(stage) as emulator:
            library = FakeTensorRT(emulator)
            with lab.opened(emulator, library) as restorer, restorer.session() as other:
                began = [other.feed(frame) for frame in clip("edges")[:5]]
                assert not any(began)
                session, runs = restorer.session(), itertools.count(1)
                session.feed(clip("long")[0])  # allocates and warms up

                def cancel_at(_name: str, runs: Any = runs, session: Session = session, stage: int = stage) -> None:
                    if next(runs) == stage:
                        session.cancel()

                library.running = cancel_at
                with pytest.raises(Cancelled):
                    _feed(session, clip("long")[1:] + clip("long"))
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
            kept = session._stream.frames_in if session._stream else ()
            session.close()
            assert all(frame.any() for frame in kept[0])  # memory that somebody still looks at stays
            del kept


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


def test_what_is_uploaded_copied_and_downloaded_arrives(lab: Lab) -> None:
    assert not [problem for seed in range(10) if (problem := _round_trip(lab, CudaDevice, seed))]


def _round_trip(lab: Lab, kind: Any, seed: int) -> str | None:
    """Frames up, across, and down again, replayed with other frames each time."""
    views = View("frames_in_0", 0, 8), View("frames_out_0", 0, 8)
    with emulated(seed, delay_us=300, clean=False) as emulator:
        with lab.opened(emulator, kind=kind) as restorer:
            assert restorer._device is not None
            workspace = restorer._device.workspace(plan_buffers(lab.engines.manifest, *OUT))
            recording: Recording = workspace.record([Upload(views[0]), Copy(*views), Download(views[1])])
            for number in range(1, 5):
                workspace.host("frames_in_0")[:8] = number
                recording.replay()
                if not (workspace.host("frames_out_0")[:8] == number).all():
                    return "other frames came down than went up"
            workspace.close()
        return next(iter(emulator.violations()), None)


def _stream(lab: Lab, kind: Any, seed: int) -> str | None:
    with emulated(seed, delay_us=300, clean=False) as emulator:
        with lab.opened(emulator, kind=kind) as restorer:
            if not lab.same("long", list(restorer.restore(clip("long")))):
                return "other frames"
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
    """Memory of a closed stream is there for the next one."""
    plan = plan_memory(lab.engines.manifest, 21, 27)
    with emulated(seed, delay_us=300, clean=False) as emulator:
        emulator.limit_bytes(plan.arena_bytes + plan.device.nbytes + plan.weight_bytes)
        with lab.opened(emulator, kind=kind) as restorer:
            for _ in range(3):
                with restorer.session() as session:
                    session.feed(clip("long")[0])
        return None


def _close(lab: Lab, kind: Any, seed: int) -> str | None:
    """When a device is closed its memory is there for the next one."""
    plan = plan_memory(lab.engines.manifest, *OUT)
    with emulated(seed, delay_us=2000, clean=False) as emulator:
        emulator.limit_bytes(plan.weight_bytes + plan.arena_bytes)
        for _ in range(2):
            kind(lab.engines, library=FakeTensorRT(emulator), kernels=NO_CACHE).close()
        return None


def _first_run(lab: Lab, kind: Any, seed: int) -> str | None:
    """A kernel that fails when it runs first is one of a stage that has a name."""
    with emulated(seed, clean=False) as emulator:
        library = FakeTensorRT(emulator)
        library.running = lambda _stage: emulator.touch(16, 1, write=True)
        with lab.opened(emulator, library, kind=kind) as restorer:
            try:
                restorer.session().feed(clip("long")[0])
            except StageError as error:
                library.problems.clear()
                return None if "stage encode failed when it ran first" in str(error) else f"without a name: {error}"
        return "no error"


BATTERY = (_stream, _round_trip, _early_close, _reopen, _close, _first_run)


@pytest.mark.parametrize("site", mutants.sites(), ids=str)
def test_no_wait_can_be_left_out(lab: Lab, site: mutants.Site) -> None:
    kind = mutants.device_without(site)
    problems: list[str | None] = []
    for seed, run in itertools.product(range(10), BATTERY):
        try:
            problems.append(run(lab, kind, seed))
        except (SwiftVRError, AssertionError) as error:
            problems.append(str(error))
        if any(problems):
            return
    raise AssertionError(f"nothing is wrong without {site}")


def test_with_all_waits_nothing_is_wrong(lab: Lab) -> None:
    for seed, run in itertools.product(range(10), BATTERY):
        assert run(lab, CudaDevice, seed) is None


def _short_run(lab: Lab, emulator: Emulator, library: FakeTensorRT) -> list[Frame]:
    with lab.opened(emulator, library) as restorer, restorer.session() as session:
        return through(session, "short")


def _error(lab: Lab, emulator: Emulator, library: FakeTensorRT) -> Exception | None:
    """How a short run ends that may fail; if it does not, its frames are right."""
    try:
        assert lab.same("short", _short_run(lab, emulator, library))
    except Exception as error:  # noqa: BLE001 (of whatever kind it is: that is the question)
        return error
    return None


def _calls(lab: Lab) -> list[tuple[str, int]]:
    """Every call that a short run makes, `allocation` and `operation` among them."""
    with emulated() as emulator:
        assert lab.same("short", _short_run(lab, emulator, FakeTensorRT(emulator)))
        gc.collect()
        return [(name, nth) for name, count in emulator.call_log().items() for nth in range(1, count + 1)]


def _clear(error: BaseException) -> bool:
    """One line for people: not the driver's words alone, nor a novel."""
    text = str(error)
    return (
        isinstance(error, SwiftVRError) and "\n" not in text and not text.startswith("CUDA_ERROR") and len(text) < 600
    )


CAPTURE_INFO = "cuStreamGetCaptureInfo"
"""When this fails, cuda-core has begun a capture and loses its graph."""


def test_every_driver_call_failing_in_turn_ends_in_a_clear_error_with_nothing_leaked(lab: Lab) -> None:
    calls, errors = _calls(lab), 0
    assert len(calls) > 150
    for name, nth in calls:
        sticky = name == "operation"
        with emulated(clean=False) as emulator:
            library = FakeTensorRT(emulator)
            emulator.fail(name, nth, ILLEGAL_ADDRESS if sticky else OUT_OF_MEMORY if name == "allocation" else UNKNOWN)
            error = _error(lab, emulator, library)
            assert error is None or _clear(error), f"call {nth} of {name}: {type(error).__name__}: {error}"
            failed, error = error is not None, None
            errors += failed
            assert not _left(library), (name, nth)
            assert emulator.violations() == [], (name, nth)
            leaks = emulator.counts().leaks()
            if sticky:  # on a GPU that is lost, cuda-core does not get as far as releasing pinned memory
                leaks.pop("pinned", None)
            if failed and name != CAPTURE_INFO:
                assert leaks == {}, (name, nth)
            else:  # a call that fails while things are released leaves behind what it was to release
                assert sum(leaks.values()) <= 2, (name, nth)
    assert errors > 100


def test_a_chunk_that_fails_half_submitted_is_forgotten_by_reset(lab: Lab) -> None:
    for name, count in (("cuMemcpyAsync", 2), ("cuStreamWaitEvent", 2), ("cuEventRecord", 3), ("cuGraphLaunch", 1)):
        for nth in range(1, 3 * count + 1):
            with emulated(nth) as emulator, lab.opened(emulator) as restorer, restorer.session() as session:
                assert lab.same("long", through(session, "long"))
                emulator.fail(name, nth, UNKNOWN)
                with pytest.raises(StageError, match="could not be submitted"):
                    through(session, "long")
                session.reset()
                assert lab.same("long", through(session, "long"))


@pytest.mark.parametrize("rtx", [True, False], ids=["TensorRT-RTX", "TensorRT"])
def test_every_call_of_tensorrt_failing_in_turn_names_stage_or_file(lab: Lab, rtx: bool) -> None:
    with emulated() as emulator:
        library = FakeTensorRT(emulator, rtx=rtx)
        assert lab.same("short", _short_run(lab, emulator, library))
        calls = [(name, nth) for name, count in library.calls.items() for nth in range(1, count + 1)]
    assert len(calls) > 80
    best_effort = ("serialize", "deserialize", "reset")
    for name, nth in calls:
        with emulated() as emulator:
            library = FakeTensorRT(emulator, rtx=rtx)
            library.fail[name] = nth
            if name in best_effort:
                assert lab.same("short", _short_run(lab, emulator, library))
                continue
            with pytest.raises(SwiftVRError) as caught:
                _short_run(lab, emulator, library)
            assert _clear(caught.value)
            words = ("stage encode", "stage dit", "stage dit_edge", "stage decode", ".engine", "runtime cache")
            assert any(word in str(caught.value) for word in words), (name, nth, caught.value)
            del caught
            assert not _left(library), (name, nth)


def test_a_refused_tensor_is_named(lab: Lab) -> None:
    with emulated() as emulator:
        library = FakeTensorRT(emulator)
        library.fail["set_tensor_address"] = 2
        with pytest.raises(StageError, match=r"stage encode: tensor \S+ cannot lie at address 0x") as caught:
            _short_run(lab, emulator, library)
        assert "set_tensor_address was made to fail" in str(caught.value)  # TensorRT's own words
        del caught


def test_engines_that_are_not_valid_here_say_how_to_rebuild_them(lab: Lab) -> None:
    for name, words in (
        ("get_engine_validity", "unsupported cc"),
        ("deserialize_cuda_engine", "cannot load this engine"),
    ):
        with emulated() as emulator:
            library = FakeTensorRT(emulator)
            library.fail[name] = 2
            with pytest.raises(BundleError, match=words) as caught:
                _short_run(lab, emulator, library)
            assert lab.engines.manifest.recipe.command() in str(caught.value)
            assert library.calls["execute_async_v3"] == 0
            del caught


def test_a_gpu_that_is_too_small_says_so_before_engines_are_read(lab: Lab) -> None:
    plan = plan_memory(lab.engines.manifest, *OUT)
    with emulated() as emulator:
        library = FakeTensorRT(emulator)
        emulator.limit_bytes(plan.weight_bytes + plan.arena_bytes - 1)
        with pytest.raises(MachineError, match=r"not enough GPU memory: .* needs .* are free; close other") as caught:
            _short_run(lab, emulator, library)
        assert library.calls["deserialize_cuda_engine"] == 0
        del caught


def test_any_allocation_that_fails_says_what_was_wanted(lab: Lab) -> None:
    """The arena, the buffers of a stream, its pinned memory; the host's is another thing than the GPU's."""
    messages = []
    for nth in (1, 2, 3):
        with emulated() as emulator:
            emulator.fail("allocation", nth, OUT_OF_MEMORY)
            error = _error(lab, emulator, FakeTensorRT(emulator))
            messages.append(str(error))
            del error
    assert all(m.startswith("not enough GPU memory: 48x32, fp32, 4-frame chunks") for m in messages[:2]), messages
    assert [" for 48x32 frames" in m or " for 27x21 frames" in m for m in messages] == [True, True, False]
    assert "of pinned memory for frames could not be had; close other programs" in messages[2]


def test_a_stream_that_does_not_fit_says_so_and_leaves_the_others_alone(lab: Lab) -> None:
    plan = plan_memory(lab.engines.manifest, 21, 27)
    with emulated() as emulator:
        emulator.limit_bytes(plan.arena_bytes + plan.device.nbytes + plan.weight_bytes)
        with lab.opened(emulator) as restorer, restorer.session() as first, restorer.session() as second:
            began = [frame for frame in clip("edges")[:5] if first.feed(frame)]
            assert not began
            with pytest.raises(MachineError, match=r"not enough GPU memory: .* for 27x21 frames") as caught:
                second.feed(clip("long")[0])
            assert not emulator.counts().pooled > 2
            del caught
            assert lab.same("edges", _feed(first, clip("edges")[5:]))
            first.close()
            assert lab.same("long", through(second, "long"))


def test_kernels_are_compiled_once_and_kept(lab: Lab, tmp_path: Path) -> None:
    cache = KernelCache("bundle", "key", (tmp_path,))
    with emulated() as emulator:
        compiled = []
        for _ in range(2):
            library = FakeTensorRT(emulator)
            with lab.opened(emulator, library, kernels=cache) as restorer:
                assert lab.same("short", list(restorer.restore(clip("short"))))
            compiled.append(library.compiled)
        assert compiled == [3, 0]
        (file,) = tmp_path.iterdir()
        file.write_bytes(b"damaged")
        library = FakeTensorRT(emulator)
        with lab.opened(emulator, library, kernels=cache) as restorer:
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


def test_the_device_is_chosen_by_number(lab: Lab) -> None:
    with emulated() as emulator, pytest.raises(MachineError, match=r"GPU 3 was asked for, this machine has 1; choose"):
        CudaDevice(lab.engines, index=3, library=FakeTensorRT(emulator), kernels=NO_CACHE)


def _pipeline_ends(
    lab: Lab, begin: Callable[[Emulator, FakeTensorRT], object], source: ListSource, sink: ListSink
) -> tuple[type, str]:
    """The error that ends a pipeline in which something fails once the stream runs: soon, and with nothing left."""
    ending: tuple[type, str] = (type(None), "")
    with emulated() as emulator:
        library = FakeTensorRT(emulator)
        with lab.opened(emulator, library) as restorer, restorer.session() as session:
            session.feed(picture(0, 33, 57))  # memory and warm-up
            session.reset()
            begin(emulator, library)
            began = time.monotonic()
            try:
                restore_media(session, source, sink, _interrupting(source))
            except (SwiftVRError, KeyboardInterrupt) as caught:
                ending = (type(caught), str(caught))  # the error itself would keep what its frames refer to
            assert time.monotonic() - began < 1.5  # a reader that stalls is left behind after 0.8 s
            source.released.set()
            library.problems.clear()
        assert not sink.committed
        for thread in threading.enumerate():
            if thread.name.startswith("swiftvr-"):
                thread.join(5)
                assert not thread.is_alive()
    return ending


def _interrupting(source: ListSource) -> Callable[[Progress], None]:
    """Ctrl-C while the source stalls."""

    def tell(_progress: Progress) -> None:
        if source.stall_at >= 0:
            raise KeyboardInterrupt

    return tell


def test_whatever_fails_ends_a_pipeline_soon_and_leaves_nothing(lab: Lab) -> None:
    def nothing(_emulator: Emulator, _library: FakeTensorRT) -> None: ...

    def third_launch(emulator: Emulator, _library: FakeTensorRT) -> None:
        emulator.fail("cuGraphLaunch", 3, UNKNOWN)

    full, damaged = OutputError("the disk is full"), MediaError("the file is damaged")
    kind, text = _pipeline_ends(lab, third_launch, ListSource(40), ListSink())
    assert kind is StageError
    assert "a chunk (encode, dit, decode) could not be submitted" in text
    assert _pipeline_ends(lab, nothing, ListSource(40), ListSink(fail_at=9, error=full)) == (OutputError, str(full))
    ended = _pipeline_ends(lab, nothing, ListSource(40, fail_at=20, error=damaged), ListSink())
    assert ended == (MediaError, str(damaged))
    assert _pipeline_ends(lab, nothing, ListSource(40, stall_at=20), ListSink())[0] is KeyboardInterrupt


def test_a_kernel_that_crashes_in_the_third_chunk_ends_the_stream_with_its_stages(lab: Lab) -> None:
    with emulated(clean=False) as emulator:
        library, runs = FakeTensorRT(emulator), itertools.count()
        with lab.opened(emulator, library) as restorer, restorer.session() as session:
            session.feed(clip("long")[0])

            def crash(stage: str) -> None:
                if stage == "dit" and next(runs) == 1:
                    emulator.break_device(ILLEGAL_ADDRESS)

            library.running = crash
            with pytest.raises(StageError, match=r"a chunk \(encode, dit, decode\) (failed on the GPU|could not)"):
                _feed(session, clip("long")[1:])
            library.problems.clear()
        assert set(emulator.counts().leaks()) <= {"pinned"}
