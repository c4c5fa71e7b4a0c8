"""Decoding beside the work on the next chunk: the frames are the same, and both sides share only what events order."""

from __future__ import annotations

import itertools
import json
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from swiftvr_trt import Cancelled, MachineError, StageError
from swiftvr_trt.runtime.devices import cuda
from swiftvr_trt.runtime.devices.cuda import CudaDevice
from swiftvr_trt.runtime.stream.plan import Layout, MemoryPlan, plan_memory, plan_stream
from swiftvr_trt.runtime.stream.trace import Trace
from tests.cuda_emulator import emulated
from tests.patience import PATIENCE_S
from tests.runtime.clips import CLIP_LEN, clip

from .cuda_lab import UNKNOWN, Lab, feed, left, through
from .fake_trt import FakeTensorRT

pytestmark = pytest.mark.cuda_emulator


@pytest.mark.parametrize(("seed", "graphs"), [(0, True), (0, False), (1, True)])
def test_frames_are_those_without_overlap(lab: Lab, seed: int, graphs: bool) -> None:
    with (
        emulated(seed, delay_us=200) as emulator,
        lab.opened(emulator, overlap=True, graphs=graphs) as restorer,
        restorer.session() as session,
    ):
        for name in ("edges", "long", "short", "even", "long", "edges"):
            assert lab.same(name, through(session, name)), name
        assert ("cuGraphLaunch" in emulator.call_log()) == graphs


def test_a_chunk_is_decoded_while_the_transformer_runs_on_the_next_one(lab: Lab, tmp_path: Path) -> None:
    """Each decoder waits for the next transformer to begin: if anything ordered them, nothing would go on."""
    began, transformed = threading.Semaphore(0), itertools.count()
    waits: list[bool] = []
    chunks = 5

    def running(stage: str) -> None:
        if stage == "dit" and next(transformed):  # not the first decoder's own
            began.release()
        elif stage == "decode" and len(waits) < chunks:
            waits.append(began.acquire(timeout=PATIENCE_S))

    frames, path = clip("endless"), tmp_path / "trace.json"
    with emulated() as emulator, Trace(path) as trace:
        library = FakeTensorRT(emulator)
        with (
            lab.opened(emulator, library, overlap=True, trace=trace) as restorer,
            restorer.session() as session,
        ):
            head = 4 + 5 * CLIP_LEN  # all kinds but LAST are captured
            restored = [frame for given in frames[:head] for frame in session.feed(given)] + session.drain()
            library.running = running
            for given in frames[head : head + (chunks + 3) * CLIP_LEN]:
                restored += session.feed(given)
            library.running = lambda _stage: None
            restored += feed(session, frames[head + (chunks + 3) * CLIP_LEN :])
            assert lab.same("endless", restored)
    assert waits == [True] * chunks
    events = json.loads(path.read_text())
    lanes = {event["tid"]: event["args"]["name"] for event in events if event["ph"] == "M"}
    spans = [(lanes[e["tid"]], e["ts"], e["ts"] + e["dur"]) for e in events if e["ph"] == "X"]
    decoding, computing = ([span[1:] for span in spans if span[0] == lane] for lane in ("decode", "compute"))
    assert sum(any(a < d and c < b for c, d in computing) for a, b in decoding) >= chunks


def _same_place(name: str, other: str) -> Callable[[MemoryPlan], MemoryPlan]:
    """A plan in which one buffer lies where another one does."""

    def changed(plan: MemoryPlan) -> MemoryPlan:
        offsets = {**plan.device.offsets, name: plan.device.offsets[other]}
        return replace(plan, device=Layout(offsets, plan.device.nbytes))

    return changed


@pytest.mark.parametrize(
    ("name", "other"),
    [("decoded", "pixels"), ("restored_1", "restored_0"), ("staging_in_decode", "staging_in_dit"), ("arena", "")],
)
def test_each_buffer_that_overlap_adds_is_needed(
    lab: Lab, monkeypatch: pytest.MonkeyPatch, name: str, other: str
) -> None:
    planned = plan_memory(lab.engines.manifest, 21, 27, overlap=True)
    if other:
        assert {name, other} <= set(planned.buffers)
        change = _same_place(name, other)
        monkeypatch.setattr(cuda, "plan_stream", lambda *arguments: change(plan_stream(*arguments)))
    else:
        allocate = CudaDevice._allocate_arenas
        monkeypatch.setattr(CudaDevice, "_allocate_arenas", lambda device: (allocate(device)[0],) * 2)
    with emulated(clean=False) as emulator:
        library = FakeTensorRT(emulator)
        with lab.opened(emulator, library, overlap=True, graphs=False) as restorer:
            list(restorer.restore(clip("long")))
            library.problems.clear()
        assert any("ordered" in line or "race" in line for line in emulator.violations()), emulator.violations()


def test_the_plan_says_what_it_takes(lab: Lab) -> None:
    manifest = lab.engines.manifest
    plan, without = (plan_memory(manifest, 21, 27, overlap=overlap) for overlap in (True, False))
    assert plan.decoder_arena_bytes > 0
    assert sum(plan.owners().values()) == plan.gpu_bytes > without.gpu_bytes
    assert plan.owners()["decoder arena"] == plan.decoder_arena_bytes
    with emulated() as emulator, lab.opened(emulator, overlap=True) as restorer, restorer.session() as session:
        session.feed(clip("long")[0])
        counts = emulator.counts()
        assert counts.pooled_bytes + counts.device_bytes == plan.gpu_bytes - plan.weight_bytes


def test_what_does_not_fit_with_overlap_says_that_it_fits_without(lab: Lab) -> None:
    manifest = lab.engines.manifest
    plan, without = (plan_memory(manifest, 21, 27, overlap=overlap) for overlap in (True, False))
    assert plan.gpu_bytes > without.gpu_bytes
    with emulated() as emulator, lab.opened(emulator, overlap=True) as restorer, restorer.session() as session:
        emulator.limit_bytes(plan.gpu_bytes - plan.weight_bytes - 1)  # the stand-in's weights take nothing
        said = r"27x21 frames with --overlap, .* are available; leave out --overlap \(then [0-9.]+ MB\)$"
        with pytest.raises(MachineError, match=said) as caught:
            session.feed(clip("long")[0])
        del caught


@pytest.mark.parametrize("graphs", [True, False])
def test_a_stream_continues_at_a_cut_and_after_a_reset_in_flight(lab: Lab, graphs: bool) -> None:
    frames = clip("long")
    with emulated(1, delay_us=200) as emulator, lab.opened(emulator, overlap=True, graphs=graphs) as restorer:
        with restorer.session() as session:
            for _ in range(2):
                for frame in frames[: 4 + 3 * CLIP_LEN]:
                    session.feed(frame)
                session.reset()  # two chunks are in flight
                assert lab.same("long", through(session, "long"))
        for cut in (restorer.cut(2), restorer.cut(4)):
            with restorer.session() as session:
                session.begin_at(cut, frames[cut.lead : cut.frame])
                restored = feed(session, frames[cut.frame :])
            expected = lab.expected["long"][cut.emitted :]
            assert len(restored) == len(expected)
            assert all((a == b).all() for a, b in zip(restored, expected, strict=True))


def test_two_sessions_in_two_threads_do_not_touch_each_other(lab: Lab) -> None:
    with emulated(2, delay_us=100) as emulator, lab.opened(emulator, overlap=True, graphs=False) as restorer:
        same: list[bool] = []

        def run(name: str) -> None:
            same.append(lab.same(name, list(restorer.restore(clip(name)))))

        threads = [threading.Thread(target=run, args=(name,)) for name in ("long", "even")]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert same == [True, True]


@pytest.mark.parametrize("stage", ["take_rgb24", "encode", "dit", "decode", "give_rgb24"])
def test_cancelling_at_any_stage_ends_that_stream_only(lab: Lab, stage: str) -> None:
    with emulated() as emulator:
        library = FakeTensorRT(emulator)
        with lab.opened(emulator, library, overlap=True) as restorer:
            with restorer.session() as session:
                session.feed(clip("long")[0])
                runs = itertools.count()

                def cancel(name: str) -> None:
                    if name == stage and next(runs) == 2:
                        session.cancel()

                library.running = cancel
                with pytest.raises(Cancelled):
                    feed(session, clip("long") * 2)
            library.running = lambda _stage: None
            assert lab.same("long", list(restorer.restore(clip("long"))))


FAILURES = [
    ("cuEventRecord", range(1, 5)),
    ("cuStreamWaitEvent", range(1, 4)),
    ("cuGraphLaunch", (1, 2)),
]


@pytest.mark.parametrize(("name", "nth"), [(name, nth) for name, numbers in FAILURES for nth in numbers])
def test_reset_forgets_a_chunk_that_failed_half_submitted(lab: Lab, name: str, nth: int) -> None:
    with emulated() as emulator, lab.opened(emulator, overlap=True) as restorer, restorer.session() as session:
        for _ in range(2):
            assert lab.same("long", through(session, "long"))
        emulator.fail(name, nth, UNKNOWN)
        with pytest.raises(StageError, match="could not be submitted"):
            through(session, "long")
        session.reset()
        assert lab.same("long", through(session, "long"))


@pytest.mark.parametrize(
    ("name", "nth"),
    [(name, nth) for name in ("cuGraphInstantiateWithParams", "cuGraphUpload") for nth in (1, 2, 3, 4)]
    + [("create_execution_context", 7), ("create_execution_context", 12), ("execute_async_v3", 0)],
)
def test_without_a_graph_of_either_side_the_frames_come_out(lab: Lab, name: str, nth: int) -> None:
    with emulated() as emulator:
        library = FakeTensorRT(emulator)
        if name.startswith("cu"):
            emulator.fail(name, nth, UNKNOWN)
        else:
            library.fail[name] = nth
        with lab.opened(emulator, library, overlap=True) as restorer, restorer.session() as session:
            for _ in range(2):
                assert lab.same("long", through(session, "long"))
        assert not left(library)
