"""Captured chunks, and the way back to single launches if one cannot be captured: the frames are the same."""

from __future__ import annotations

import gc
import itertools
import logging
import threading
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from swiftvr_trt import Session, StageError
from swiftvr_trt.runtime.devices.cuda_graph import GraphPolicy, _capturing
from swiftvr_trt.runtime.devices.gpu import Gpu
from swiftvr_trt.runtime.devices.surface_memory import SurfaceBlock
from tests.cuda_emulator import Emulator, emulated
from tests.runtime.clips import CLIP_LEN, clip

from .cuda_lab import ILLEGAL_ADDRESS, OUT_OF_MEMORY, UNKNOWN, Lab, left, through
from .fake_trt import FakeTensorRT

CAPTURE_INFO = "cuStreamGetCaptureInfo"
"""If this fails, cuda-core has begun a capture and leaks its graph."""


@dataclass(frozen=True)
class Failure:
    """The nth call of a function of the driver, or of TensorRT, while chunks are made ready and captured."""

    name: str
    nth: int
    tensorrt: bool

    def script(self, emulator: Emulator, library: FakeTensorRT) -> None:
        if self.tensorrt:
            library.fail[self.name] = library.calls[self.name] + self.nth
        else:
            emulator.fail(self.name, self.nth, OUT_OF_MEMORY if self.name == "allocation" else UNKNOWN)


LOST = (
    r"^a chunk \(take_rgb24, encode, dit\w*, decode, give_rgb24\)( or a chunk \([^)]*\))* failed on the GPU "
    r"\(CUDA_ERROR_ILLEGAL_ADDRESS\); this process cannot use it any more, start again$"
)
STREAMS = 2
"""All kinds of chunks occur twice: made ready, then captured and launched."""
SETTERS = ("set_optimization_profile_async", "set_input_shape", "is_stream_capturable")


def _run(lab: Lab, emulator: Emulator, library: FakeTensorRT, failure: Failure | None) -> bool:
    """Some streams, in which one call fails. True if all frames are right; raises what the streams raise."""
    with lab.opened(emulator, library) as restorer, restorer.session() as session:
        session.feed(clip("edges")[0])
        session.reset()
        emulator.forget_calls()
        library.calls_before = library.calls.copy()
        if failure is not None:
            failure.script(emulator, library)
        return all(lab.same("edges", through(session, "edges")) for _ in range(STREAMS))


@pytest.fixture(scope="module")
def notes() -> Iterator[list[str]]:
    lines: list[str] = []

    class Keep(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            lines.append(record.getMessage())

    handler, logger = Keep(), logging.getLogger("swiftvr_trt.notes")
    logger.addHandler(handler)
    yield lines
    logger.removeHandler(handler)


def _failures(lab: Lab) -> list[Failure]:
    """Every graph, capture, allocation and context of a run, and the ends of what sets contexts up."""
    with emulated() as emulator:
        library = FakeTensorRT(emulator)
        assert _run(lab, emulator, library, None)
        made = {name: count - library.calls_before[name] for name, count in library.calls.items()}
        driver = {
            name: count
            for name, count in emulator.call_log().items()
            if name in ("allocation", CAPTURE_INFO) or "Graph" in name or "Capture" in name
        }
    assert driver["cuStreamBeginCapture"] >= 2
    assert made["create_execution_context"] > 2 * CLIP_LEN
    failing = [Failure(name, nth, tensorrt=False) for name, count in driver.items() for nth in range(1, count + 1)]
    every = [("create_execution_context", nth) for nth in range(1, made["create_execution_context"] + 1)]
    ends = [(name, nth) for name in SETTERS for nth in (1, made[name])]
    return failing + [Failure(name, nth, tensorrt=True) for name, nth in (*every, *ends)]


@pytest.mark.cuda_emulator
def test_whatever_fails_while_chunks_are_captured_the_frames_come_out(lab: Lab, notes: list[str]) -> None:
    lost: list[Failure] = []
    for failure in _failures(lab):
        notes.clear()
        with emulated(delay_us=0, clean=False) as emulator:
            library = FakeTensorRT(emulator)
            try:
                assert _run(lab, emulator, library, failure), failure
            except StageError:
                lost.append(failure)
                continue
            assert len(notes) <= 1, (failure, notes)
            assert emulator.violations() == [], failure
            assert not left(library), failure
            leaks = emulator.counts().leaks()
            # A release that fails leaks what it should have released.
            assert not leaks or failure.name == CAPTURE_INFO or "Destroy" in failure.name, (failure, leaks)
    assert {failure.name for failure in lost} <= {"cuGraphLaunch"}  # a chunk that was half submitted


@pytest.mark.cuda_emulator
def test_one_line_says_that_there_are_no_graphs(lab: Lab, notes: list[str]) -> None:
    notes.clear()
    with emulated() as emulator:
        library = FakeTensorRT(emulator)
        assert _run(lab, emulator, library, Failure("cuGraphInstantiateWithParams", 1, tensorrt=False))
        assert "cuGraphLaunch" not in emulator.call_log()
    (line,) = [note for note in notes if "graphs" in note]
    assert line.startswith("no CUDA graphs: the stages of each chunk are launched one by one")
    assert "CUDA_ERROR_UNKNOWN" in line
    assert "--no-graphs" in line


@pytest.mark.cuda_emulator
def test_without_graphs_each_stage_has_one_context(lab: Lab) -> None:
    with emulated() as emulator:
        library = FakeTensorRT(emulator)
        with lab.opened(emulator, library, graphs=False) as restorer, restorer.session() as session:
            for _ in range(STREAMS):
                assert lab.same("edges", through(session, "edges"))
            assert library.calls["create_execution_context"] == 6
        assert "cuStreamBeginCapture" not in emulator.call_log()


@pytest.mark.cuda_emulator
@pytest.mark.parametrize(
    "call", ["cuStreamBeginCapture", "cuStreamEndCapture", "cuGraphInstantiateWithParams", "cuGraphUpload", "operation"]
)
def test_a_gpu_that_is_lost_during_a_capture_ends_the_stream_at_once(lab: Lab, notes: list[str], call: str) -> None:
    notes.clear()
    with emulated(clean=False) as emulator:
        library = FakeTensorRT(emulator)
        with lab.opened(emulator, library) as restorer, restorer.session() as session:
            assert lab.same("edges", through(session, "edges"))
            emulator.fail(call, 1, ILLEGAL_ADDRESS)
            with pytest.raises(StageError, match=LOST) as caught:
                through(session, "edges")
            del caught
            library.problems.clear()
    assert not notes


@pytest.mark.cuda_emulator
def test_whichever_session_notices_that_the_gpu_is_lost_names_the_chunk_that_crashed(lab: Lab) -> None:
    crash = threading.Event()
    with emulated(clean=False) as emulator:
        library = FakeTensorRT(emulator)
        with lab.opened(emulator, library) as restorer, restorer.session() as first, restorer.session() as second:
            frames = iter(clip("long") * 2)

            def feed_chunk(session: Session, count: int) -> None:
                for frame in itertools.islice(frames, count):
                    session.feed(frame)

            def through_a_chunk(session: Session) -> None:
                feed_chunk(session, CLIP_LEN)
                session.drain()

            feed_chunk(second, CLIP_LEN + 4)
            second.drain()
            feed_chunk(first, 1)  # its stages have run once

            def running(stage: str) -> None:
                if stage == "dit_edge" and crash.wait(60):
                    emulator.break_device(ILLEGAL_ADDRESS)

            library.running = running
            feed_chunk(first, CLIP_LEN + 3)
            crash.set()
            with pytest.raises(StageError, match=r"^a chunk \(.* dit_edge, .*\) or a chunk \(.* dit, .* failed on"):
                through_a_chunk(second)
            with pytest.raises(StageError, match=LOST):
                first.drain()
            library.problems.clear()


@pytest.mark.cuda_emulator
@pytest.mark.parametrize("collects", [True, False])
def test_nothing_is_collected_until_the_last_of_several_captures_ends(collects: bool) -> None:
    with emulated():
        gpu = Gpu(0)
        streams = [gpu.device.create_stream() for _ in range(2)]
        captures = [_capturing(stream) for stream in streams]
        before = gc.isenabled()
        (gc.enable if collects else gc.disable)()
        try:
            graphs, seen = [], list[bool]()
            builders = [capture.__enter__() for capture in captures]
            for capture, builder in zip(captures, builders, strict=True):
                seen.append(gc.isenabled())
                graphs.append(builder.end_building().complete())
                capture.__exit__(None, None, None)
            assert [*seen, gc.isenabled()] == [False, False, collects]
        finally:
            (gc.enable if before else gc.disable)()
        for part in (*graphs, *streams):
            part.close()


@pytest.mark.cuda_emulator
def test_a_capture_survives_garbage_that_holds_memory_of_the_gpu() -> None:
    class Litter:
        def __init__(self, block: SurfaceBlock) -> None:
            self.block, self.itself = block, self

    thresholds = gc.get_threshold()
    with emulated() as emulator:
        gpu = Gpu(0)
        stream = gpu.device.create_stream()
        gc.collect()
        Litter(SurfaceBlock(gpu, 1000))
        with _capturing(stream) as builder:
            gc.set_threshold(1)
            assert [[] for _ in range(10)]  # the next one would collect
            graph = builder.end_building().complete()
        gc.set_threshold(*thresholds)
        assert gc.isenabled()
        gc.collect()
        assert emulator.counts().device == 0
        graph.close()
        stream.close()


def test_graphs_are_given_up_once(notes: list[str]) -> None:
    notes.clear()
    policy = GraphPolicy(wanted=True)
    assert policy.attempt(lambda: 1) == 1
    assert not notes
    assert policy.attempt(lambda: int("first")) is None
    assert policy.attempt(lambda: int("second")) is None
    assert not policy.wanted
    assert len(notes) == 1
    assert "first" in notes[0]
