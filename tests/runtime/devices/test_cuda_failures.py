"""Whatever fails on the way to a GPU, in TensorRT, or around it: one clear line, and nothing left behind."""

from __future__ import annotations

import gc
import itertools
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from swiftvr_trt import BundleError, MachineError, MediaError, OutputError, StageError, SwiftVRError
from swiftvr_trt.export.verify import synthetic_frame
from swiftvr_trt.runtime.restore.pipeline import Progress, restore_media
from swiftvr_trt.runtime.stream.plan import plan_memory
from swiftvr_trt.runtime.stream.session import Frame
from tests.cuda_emulator import Emulator, emulated
from tests.runtime.clips import OUT, clip
from tests.runtime.restore.test_pipeline import SECOND, ListSink, ListSource, noting_stops

from .cuda_lab import ILLEGAL_ADDRESS, OUT_OF_MEMORY, UNKNOWN, Lab, feed, left, through
from .fake_trt import FakeTensorRT

pytestmark = pytest.mark.cuda_emulator


def _short_run(lab: Lab, emulator: Emulator, library: FakeTensorRT) -> list[Frame]:
    with lab.opened(emulator, library) as restorer, restorer.session() as session:
        return through(session, "edges")


def _error(lab: Lab, emulator: Emulator, library: FakeTensorRT) -> Exception | None:
    """How a short run ends that may fail; if it does not, its frames are right."""
    try:
        assert lab.same("edges", _short_run(lab, emulator, library))
    except Exception as error:  # noqa: BLE001 (of whatever kind it is: that is the question)
        return error
    return None


def _calls(lab: Lab) -> list[tuple[str, int]]:
    """Every call that a short run makes, `allocation` and `operation` among them."""
    with emulated() as emulator:
        assert lab.same("edges", _short_run(lab, emulator, FakeTensorRT(emulator)))
        gc.collect()
        return [(name, nth) for name, count in emulator.call_log().items() for nth in range(1, count + 1)]


def _clear(error: BaseException) -> bool:
    """One line for people: not the driver's words alone, nor a novel."""
    text = str(error)
    return (
        isinstance(error, SwiftVRError) and "\n" not in text and not text.startswith("CUDA_ERROR") and len(text) < 600
    )


def _causes(error: BaseException) -> Iterator[BaseException]:
    while error.__cause__ is not None:
        error = error.__cause__
        yield error


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
            assert not left(library), (name, nth)
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
        assert lab.same("edges", _short_run(lab, emulator, library))
        calls = [(name, nth) for name, count in library.calls.items() for nth in range(1, count + 1)]
    assert len(calls) > 80
    best_effort = ("serialize", "deserialize", "reset")
    for name, nth in calls:
        with emulated() as emulator:
            library = FakeTensorRT(emulator, rtx=rtx)
            library.fail[name] = nth
            if name in best_effort:
                assert lab.same("edges", _short_run(lab, emulator, library))
                continue
            with pytest.raises(SwiftVRError) as caught:
                _short_run(lab, emulator, library)
            assert _clear(caught.value)
            words = ("stage encode", "stage dit", "stage dit_edge", "stage decode", ".engine", "runtime cache")
            assert any(word in str(caught.value) for word in words), (name, nth, caught.value)
            del caught
            assert not left(library), (name, nth)


def test_a_copy_that_fails_names_its_buffer(lab: Lab) -> None:
    said = []
    for nth in (1, 2):
        with emulated() as emulator, lab.opened(emulator) as restorer, restorer.session() as session:
            assert lab.same("long", through(session, "long"))
            emulator.fail("cuMemcpyAsync", nth, UNKNOWN)
            with pytest.raises(StageError) as caught:
                through(session, "long")
            said.append(str(caught.value))
            del caught
    assert said[0].startswith("the upload of frames_in_0 could not be submitted (")
    assert said[1].startswith("the download of frames_out_0 could not be submitted (")


def test_a_refused_tensor_is_named(lab: Lab) -> None:
    with emulated() as emulator:
        library = FakeTensorRT(emulator)
        library.fail["set_tensor_address"] = 2
        with pytest.raises(StageError, match=r"stage encode: TensorRT refused address 0x\w+ for tensor \w+") as caught:
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
        with pytest.raises(
            MachineError, match=r"not enough GPU memory: .* needs .* are available; close other"
        ) as caught:
            _short_run(lab, emulator, library)
        assert library.calls["deserialize_cuda_engine"] == 0
        del caught


def test_memory_that_was_released_is_there_for_everybody(lab: Lab) -> None:
    """The driver's pool would keep it, as cuda-core tells it to: then the next bundle, or program, is refused."""
    from cuda.bindings import driver

    needed = plan_memory(lab.engines.manifest, 21, 27)
    with emulated() as emulator:
        emulator.limit_bytes(needed.arena_bytes + needed.device.nbytes + needed.weight_bytes)
        for _ in range(2):
            with lab.opened(emulator) as restorer:
                opened = driver.cuMemGetInfo()[1]
                with restorer.session() as session:
                    assert lab.same("long", through(session, "long"))
                    assert driver.cuMemGetInfo()[1] < opened
                assert driver.cuMemGetInfo()[1] == opened
            assert driver.cuMemGetInfo()[1] == driver.cuMemGetInfo()[2]


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
    assert "of pinned memory for frames could not be allocated; close other programs" in messages[2]


OUT_OF_MEMORY_SAID = "[defaultAllocator.cpp::allocate] Error Code 1: Cuda Runtime (out of memory)"
"""By TensorRT, which has no other way to tell."""


@pytest.mark.parametrize("name", ["deserialize_cuda_engine", "create_execution_context"])
def test_memory_that_tensorrt_could_not_get_is_no_damaged_bundle(lab: Lab, name: str) -> None:
    with emulated() as emulator:
        library = FakeTensorRT(emulator)
        library.fail[name], library.words = 2, OUT_OF_MEMORY_SAID
        with pytest.raises(
            MachineError, match=r"not enough GPU memory: .* are available; close other programs"
        ) as caught:
            _short_run(lab, emulator, library)
        assert any("out of memory" in str(cause) for cause in _causes(caught.value))
        del caught


def test_memory_that_a_captured_chunk_could_not_get_is_told_with_what_would_fit(lab: Lab) -> None:
    with emulated(clean=False) as emulator:
        emulator.fail("cuGraphInstantiateWithParams", 1, OUT_OF_MEMORY)
        error = _error(lab, emulator, FakeTensorRT(emulator))
        assert str(error).startswith("not enough GPU memory: 48x32, fp32, 4-frame chunks"), error
        del error


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
            assert lab.same("edges", feed(first, clip("edges")[5:]))
            first.close()
            assert lab.same("long", through(second, "long"))


def _pipeline_ends(
    lab: Lab, begin: Callable[[Emulator, FakeTensorRT], object], source: ListSource, sink: ListSink
) -> tuple[type, str]:
    """The error that ends a pipeline in which something fails once the stream runs: soon, and with nothing left."""
    ending: tuple[type, str] = (type(None), "")
    with emulated() as emulator:
        library = FakeTensorRT(emulator)
        with lab.opened(emulator, library) as restorer, restorer.session() as session:
            session.feed(synthetic_frame(0, 33, 57))  # memory and warm-up
            session.reset()
            begin(emulator, library)
            with noting_stops() as stopped:
                try:
                    restore_media(session, source, sink, _interrupting(source))
                except (SwiftVRError, KeyboardInterrupt) as caught:
                    ending = (type(caught), str(caught))  # the error itself would keep what its frames refer to
            assert time.monotonic() - stopped[0] < SECOND
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
                feed(session, clip("long")[1:])
            library.problems.clear()
        assert set(emulator.counts().leaks()) <= {"pinned"}


def test_a_driver_that_is_too_old_is_named_when_the_gpu_cannot_be_opened(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    from cuda.bindings import driver

    monkeypatch.setattr(driver, "CUDA_VERSION", 14000)
    for name in ("cuDeviceGetCount", "cuCtxSetCurrent", "cuDeviceGetName"):  # cuda-core remembers some answers
        with emulated(clean=False) as emulator:
            emulator.fail(name, 1, UNKNOWN)
            error = _error(lab, emulator, FakeTensorRT(emulator))
            if error is not None and "could not be opened" in str(error):
                assert "is for CUDA 13.0, cuda-bindings is made for 14; update the driver to one for" in str(error)
                return
            del error
    raise AssertionError("the GPU was opened whatever failed")
