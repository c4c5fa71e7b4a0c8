"""Failures of the driver and of the pipeline around the CUDA device: one clear line, and nothing is leaked."""

from __future__ import annotations

import gc
import itertools
import re
import threading
import time
from collections.abc import Callable

import pytest

from swiftvr_trt import MachineError, MediaError, OutputError, StageError, SwiftVRError
from swiftvr_trt.export.moving_picture import synthetic_frame
from swiftvr_trt.runtime.restore.pipeline import Progress, restore_media
from swiftvr_trt.runtime.stream.plan import plan_memory
from tests.cuda_emulator import Emulator, emulated
from tests.patience import PATIENCE_S
from tests.runtime.clips import OUT, clip
from tests.runtime.restore.test_pipeline import SECOND, STALL_S, ListSink, ListSource, noting_stops
from tests.sweeps import calls_to_fail

from .cuda_lab import ILLEGAL_ADDRESS, OUT_OF_MEMORY, UNKNOWN, Lab, error_of, feed, is_clear, left, short_run, through
from .fake_trt import FakeTensorRT

pytestmark = pytest.mark.cuda_emulator


def _calls(lab: Lab) -> list[tuple[str, int]]:
    """Every call that a short run makes, with `allocation` and `operation` for those two kinds of work."""
    with emulated() as emulator:
        assert lab.same("edges", short_run(lab, emulator, FakeTensorRT(emulator)))
        gc.collect()
        return [(name, nth) for name, count in emulator.call_log().items() for nth in range(1, count + 1)]


CAPTURE_INFO = "cuStreamGetCaptureInfo"
"""If this fails, cuda-core has begun a capture and leaks its graph."""


def test_every_driver_call_failing_in_turn_ends_in_a_clear_error_with_nothing_leaked(lab: Lab) -> None:
    """Of each function, the first call, the last one and every fourth between them. All of them in a campaign."""
    calls, errors = _calls(lab), 0
    assert len(calls) > 150
    failing = calls_to_fail(calls, 4)
    for name, nth in failing:
        sticky = name == "operation"
        with emulated(clean=False) as emulator:
            emulator.allow_pageable()
            library = FakeTensorRT(emulator)
            emulator.fail(name, nth, ILLEGAL_ADDRESS if sticky else OUT_OF_MEMORY if name == "allocation" else UNKNOWN)
            error = error_of(lab, emulator, library)
            assert error is None or is_clear(error), f"call {nth} of {name}: {type(error).__name__}: {error}"
            failed, error = error is not None, None
            errors += failed
            assert not left(library), (name, nth)
            assert emulator.violations() == [], (name, nth)
            leaks = emulator.counts().leaks()
            if sticky:  # on a lost GPU, cuda-core fails before it releases pinned memory
                leaks.pop("pinned", None)
            if failed and name != CAPTURE_INFO:
                assert leaks == {}, (name, nth)
            else:  # a failing release leaks what it should have released
                assert sum(leaks.values()) <= 2, (name, nth)
    assert errors > len(failing) // 2


def test_a_gpu_that_is_too_small_is_refused_before_engines_are_read(lab: Lab) -> None:
    plan = plan_memory(lab.engines.manifest, *OUT)
    with emulated() as emulator:
        library = FakeTensorRT(emulator)
        emulator.limit_bytes(plan.weight_bytes + plan.arena_bytes - 1)
        with pytest.raises(
            MachineError, match=r"not enough GPU memory: .* needs .* are available; close other"
        ) as caught:
            short_run(lab, emulator, library)
        assert library.calls["deserialize_cuda_engine"] == 0
        del caught


def test_a_session_that_does_not_fit_leaves_the_others_alone(lab: Lab) -> None:
    plan = plan_memory(lab.engines.manifest, 21, 27)
    with emulated() as emulator:
        emulator.limit_bytes(plan.arena_bytes + plan.device.nbytes + plan.weight_bytes)
        with lab.opened(emulator) as restorer, restorer.session() as first, restorer.session() as second:
            began = [frame for frame in clip("edges")[:5] if first.feed(frame)]
            assert not began
            with pytest.raises(MachineError, match=r"not enough GPU memory: .* for 27x21 frames") as caught:
                second.feed(clip("long")[0])
            needed, available = re.findall(r"([\d.]+) MB (?:for|are)", str(caught.value))
            assert float(needed) > float(available)
            assert "frames in 2 streams or tiles, " in str(caught.value)
            assert not emulator.counts().pooled > 2
            del caught
            assert lab.same("edges", feed(first, clip("edges")[5:]))
            first.close()
            assert lab.same("long", through(second, "long"))


def _pipeline_ends(
    lab: Lab,
    begin: Callable[[Emulator, FakeTensorRT], object],
    source: ListSource,
    sink: ListSink,
    *,
    within_s: float = STALL_S / 2,
) -> tuple[type, str]:
    """The error that ends a pipeline in which something fails once it runs. It ends soon and leaves nothing behind.

    begin: makes a call of the driver or of TensorRT fail. within_s: how soon; `SECOND` is for tests that run
    alone.
    """
    ending: tuple[type, str] = (type(None), "")
    with emulated() as emulator:
        library = FakeTensorRT(emulator)
        with lab.opened(emulator, library) as restorer, restorer.session() as session:
            session.feed(synthetic_frame(0, 33, 57))  # allocates and warms up
            session.reset()
            begin(emulator, library)
            with noting_stops() as stopped:
                try:
                    restore_media(session, source, sink, _interrupting(source))
                except (SwiftVRError, KeyboardInterrupt) as caught:
                    ending = (type(caught), str(caught))  # not the error: its traceback keeps objects alive
            assert time.monotonic() - stopped[0] < within_s
            source.released.set()
            library.problems.clear()
        assert not sink.committed
        for thread in threading.enumerate():
            if thread.name.startswith("swiftvr-"):
                thread.join(PATIENCE_S)
                assert not thread.is_alive()
    return ending


def _interrupting(source: ListSource) -> Callable[[Progress], None]:
    """Ctrl-C while the source stalls."""

    def tell(_progress: Progress) -> None:
        if source.stall_at >= 0:
            raise KeyboardInterrupt

    return tell


def nothing(_emulator: Emulator, _library: FakeTensorRT) -> None: ...


@pytest.mark.alone
def test_ctrl_c_ends_a_pipeline_on_a_gpu_within_a_second(lab: Lab) -> None:
    ended = _pipeline_ends(lab, nothing, ListSource(40, stall_at=20), ListSink(), within_s=SECOND)
    assert ended[0] is KeyboardInterrupt


def test_a_pipeline_ends_soon_whatever_fails_and_leaves_nothing_behind(lab: Lab) -> None:
    def third_launch(emulator: Emulator, _library: FakeTensorRT) -> None:
        emulator.fail("cuGraphLaunch", 3, UNKNOWN)

    full, damaged = OutputError("the disk is full"), MediaError("the file is damaged")
    kind, text = _pipeline_ends(lab, third_launch, ListSource(40), ListSink())
    assert kind is StageError
    assert "a chunk (take_rgb24, encode, dit, decode, give_rgb24) could not be submitted" in text
    assert _pipeline_ends(lab, nothing, ListSource(40), ListSink(fail_at=9, error=full)) == (OutputError, str(full))
    ended = _pipeline_ends(lab, nothing, ListSource(40, fail_at=20, error=damaged), ListSink())
    assert ended == (MediaError, str(damaged))
    assert _pipeline_ends(lab, nothing, ListSource(40, stall_at=20), ListSink())[0] is KeyboardInterrupt


def test_a_kernel_that_crashes_in_the_third_chunk_ends_the_stream_and_names_its_stages(lab: Lab) -> None:
    with emulated(clean=False) as emulator:
        library, runs = FakeTensorRT(emulator), itertools.count()
        with lab.opened(emulator, library) as restorer, restorer.session() as session:
            session.feed(clip("long")[0])

            def crash(stage: str) -> None:
                if stage == "dit" and next(runs) == 1:
                    emulator.break_device(ILLEGAL_ADDRESS)

            library.running = crash
            with pytest.raises(StageError, match=r"^a chunk \(take_rgb24, .*\) failed on the GPU \(CUDA_ERROR_ILLEGAL"):
                feed(session, clip("long")[1:])
            library.problems.clear()
        assert set(emulator.counts().leaks()) <= {"pinned"}
