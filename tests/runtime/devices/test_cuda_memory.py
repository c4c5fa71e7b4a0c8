"""The memory of a session on the emulated GPU."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, closing

import pytest

from swiftvr_trt.runtime.devices.cuda_memory import SessionMemory
from swiftvr_trt.runtime.devices.gpu import Gpu
from swiftvr_trt.runtime.stream.buffers import View, plan_buffers
from swiftvr_trt.runtime.stream.places import HostEntrance
from swiftvr_trt.runtime.stream.plan import ALIGNMENT, MemoryPlan, plan_memory, plan_stream
from tests.cuda_emulator import emulated
from tests.runtime.clips import clip

from .cuda_lab import OUT_OF_MEMORY, Lab, error_of, through
from .fake_trt import FakeTensorRT

pytestmark = pytest.mark.cuda_emulator


def test_a_session_allocates_what_its_plan_says(lab: Lab) -> None:
    plan = plan_memory(lab.engines.manifest, 21, 27)
    with emulated() as emulator, lab.opened(emulator) as restorer, restorer.session() as session:
        session.feed(clip("long")[0])
        counts = emulator.counts()
        assert counts.pooled_bytes + counts.device_bytes == plan.arena_bytes + plan.device.nbytes
        assert counts.pooled + counts.device == 2
        assert (counts.pinned, counts.pinned_bytes) == (1, plan.host.nbytes)


def test_pinned_memory_outlives_its_session_while_an_array_refers_to_it(lab: Lab) -> None:
    for seed in range(10):
        with emulated(seed, delay_us=500) as emulator, lab.opened(emulator) as restorer:
            session = restorer.session()
            for frame in clip("long"):
                session.feed(frame)
            assert session._stream is not None
            assert isinstance(session._stream.entrance, HostEntrance)
            kept = session._stream.entrance._places
            session.close()
            assert all(frame.any() for frame in kept[0])
            del kept


def test_memory_does_not_grow_over_many_streams(lab: Lab) -> None:
    with emulated(delay_us=0) as emulator, lab.opened(emulator) as restorer, restorer.session() as session:
        for _ in range(2):  # the second time, the first chunk of a stream is captured
            assert lab.same("long", through(session, "long"))
        before = emulator.counts()
        for _ in range(30):
            assert lab.same("long", through(session, "long"))
            session.reset()
        assert emulator.counts() == before


def test_released_memory_goes_back_to_the_driver(lab: Lab) -> None:
    """cuda-core tells the driver's pool to keep it, which would leave none for the next bundle or program."""
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


def test_a_failed_allocation_says_what_it_was_for(lab: Lab) -> None:
    """In this order: the arena, and the buffers of a session on the GPU."""
    messages = []
    for nth in (1, 2):
        with emulated() as emulator:
            emulator.fail("allocation", nth, OUT_OF_MEMORY)
            error = error_of(lab, emulator, FakeTensorRT(emulator))
            messages.append(str(error))
            del error
    assert all(m.startswith("not enough GPU memory: 48x32, fp32, 4-frame chunks") for m in messages), messages
    assert all(" for 48x32 frames" in m or " for 27x21 frames" in m for m in messages)


def test_without_pinned_memory_frames_go_through_ordinary_memory(lab: Lab, caplog: pytest.LogCaptureFixture) -> None:
    with emulated() as emulator:
        emulator.allow_pageable()
        emulator.fail("allocation", 3, OUT_OF_MEMORY)
        with lab.opened(emulator) as restorer, restorer.session() as session:
            for _ in range(2):
                assert lab.same("edges", through(session, "edges"))
            assert emulator.counts().pinned == 0
    (line,) = caplog.messages
    assert "of pinned memory could not be allocated (" in line
    assert line.endswith("frames go through ordinary memory, which is slower")


def test_without_any_memory_on_the_host_one_line_says_so(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    def none(*_: object) -> None:
        raise MemoryError

    with emulated() as emulator:
        monkeypatch.setattr("swiftvr_trt.runtime.devices.cuda_memory._Pageable", none)
        emulator.fail("allocation", 3, OUT_OF_MEMORY)
        error = error_of(lab, emulator, FakeTensorRT(emulator))
        assert "of memory for frames could not be allocated; close other programs" in str(error)
        del error


@pytest.fixture
def memory(lab: Lab) -> Iterator[tuple[SessionMemory, MemoryPlan]]:
    """Of frames whose slots are not aligned."""
    plan = plan_stream(lab.engines.manifest, plan_buffers(lab.engines.manifest, 21, 27))
    with emulated(), ExitStack() as resources:
        gpu = Gpu(0)
        stream = resources.enter_context(closing(gpu.device.create_stream()))
        resources.callback(stream.sync)  # memory is released in the order of the stream
        memory = SessionMemory(gpu, plan, stream, resources)
        memory.clear(stream)
        stream.sync()
        yield memory, plan


def test_views_lie_where_the_plan_puts_them(memory: tuple[SessionMemory, MemoryPlan]) -> None:
    session, plan = memory
    base = session.address(View(next(iter(plan.device.offsets)), 0, 1)) - next(iter(plan.device.offsets.values()))
    for name, offset in plan.device.offsets.items():
        spec = plan.buffers[name]
        assert session.address(View(name, 0, 1)) == base + offset
        if spec.shape[0] > 1:
            assert session.address(View(name, 1, 1)) == base + offset + spec.slot_bytes
        assert session.on_device(View(name, 0, spec.shape[0])).size == spec.nbytes


def test_the_host_sees_pinned_memory_through_arrays(memory: tuple[SessionMemory, MemoryPlan]) -> None:
    session, plan = memory
    assert set(session.arrays) == set(plan.host.offsets)
    for name, array in session.arrays.items():
        assert array.shape == plan.buffers[name].shape
        assert not array.any()
        assert int(session.on_host(View(name, 0, 1)).handle) == array.ctypes.data


def test_scratch_pieces_are_aligned_and_do_not_overlap(memory: tuple[SessionMemory, MemoryPlan]) -> None:
    session, _ = memory
    sizes = [1, ALIGNMENT, ALIGNMENT + 1, 7]
    places = session.scratch(sizes)
    assert all(place % ALIGNMENT == 0 for place in places)
    assert all(place + size <= after for place, size, after in zip(places, sizes, places[1:], strict=False))
