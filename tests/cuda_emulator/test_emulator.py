"""The emulator does what a GPU does, seen through cuda-core, and notices what a GPU would not."""

from __future__ import annotations

import ctypes
import gc
import os
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cuda.bindings import driver
from cuda.core import (
    Buffer,
    Device,
    DeviceMemoryResource,
    DeviceMemoryResourceOptions,
    EventOptions,
    LegacyPinnedMemoryResource,
    Stream,
    StreamOptions,
)
from cuda.core._utils.cuda_utils import CUDAError, handle_return
from numpy.typing import NDArray

from . import Emulator, HostFunction, emulated

pytestmark = pytest.mark.cuda_emulator
N = 8192
"""Bytes of the buffers: two pages."""

Bytes = NDArray[np.uint8]


@pytest.fixture
def emulator() -> Iterator[Emulator]:
    """A fresh device that must be left clean."""
    with emulated(seed=1) as fresh:
        Device(0).set_current()
        yield fresh


@pytest.fixture
def hostile() -> Iterator[Emulator]:
    """A fresh device for programs that do something wrong."""
    with emulated(seed=1, clean=False) as fresh:
        Device(0).set_current()
        yield fresh


def pinned(nbytes: int = N) -> tuple[Buffer, Bytes]:
    buffer = LegacyPinnedMemoryResource().allocate(nbytes)
    return buffer, np.from_dlpack(buffer).view(np.uint8)


def ramp(nbytes: int = N) -> Bytes:
    return (np.arange(nbytes) % 251).astype(np.uint8)


def address(buffer: Buffer) -> int:
    return int(buffer.handle)


def writer(emulator: Emulator, buffer: Buffer, value: int) -> Callable[[], None]:
    """A kernel that fills a buffer."""

    def kernel() -> None:
        emulator.array(address(buffer), (buffer.size,), np.uint8, write=True)[:] = value

    return kernel


class Lab:
    """Streams, a device buffer and pinned buffers; closing it releases all of them."""

    def __init__(self, emulator: Emulator, streams: int = 2) -> None:
        self.emulator = emulator
        self.streams = [Device(0).create_stream() for _ in range(streams)]
        self.device = Device(0).memory_resource.allocate(N, stream=self.streams[0])
        self.streams[0].sync()
        self.up, self.sent = pinned()
        self.down, self.received = pinned()
        self.down_again, self.received_again = pinned()

    def close(self) -> None:
        handle_return(driver.cuCtxSynchronize())
        self.device.close(self.streams[0])
        self.streams[0].sync()
        del self.sent, self.received, self.received_again
        for buffer in (self.up, self.down, self.down_again):
            buffer.close()
        for stream in self.streams:
            stream.close()

    def __enter__(self) -> Lab:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def launch(self, stream: Stream, kernel: Callable[[], object]) -> None:
        assert self.emulator.kernel(int(stream.handle), kernel) == 0


# ---- what a GPU does ----


def test_cuda_core_finds_one_device(emulator: Emulator) -> None:
    device = Device(0)
    assert "emulator" in device.name
    assert device.compute_capability == (12, 0)
    assert handle_return(driver.cuDeviceGetCount()) == 1
    emulator.limit_bytes(1 << 20)
    assert handle_return(driver.cuMemGetInfo()) == (1 << 20, 1 << 20)
    pointer = handle_return(driver.cuMemAlloc(1000))
    assert handle_return(driver.cuMemGetInfo()) == ((1 << 20) - 1000, 1 << 20)
    handle_return(driver.cuMemFree(pointer))
    assert emulator.calls("cuMemGetInfo") == 2
    assert emulator.call_log()["cuMemAlloc"] == 1


@pytest.mark.parametrize("nbytes", [1, 255, 4096, 10_007])
def test_bytes_travel_up_across_and_down(emulator: Emulator, nbytes: int) -> None:
    stream = Device(0).create_stream()
    (up, sent), (down, received) = pinned(nbytes), pinned(nbytes)
    sent[:] = ramp(nbytes)
    pool = DeviceMemoryResource(0)
    first, second = (pool.allocate(nbytes, stream=stream) for _ in range(2))
    assert address(first) % 256 == 0
    assert first.is_device_accessible
    assert not first.is_host_accessible
    first.copy_from(up, stream=stream)
    second.copy_from(first, stream=stream)
    second.copy_to(down, stream=stream)
    stream.sync()
    assert np.array_equal(received, ramp(nbytes))
    assert emulator.counts().pooled_bytes == 2 * nbytes
    for buffer in (first, second):
        buffer.close(stream)
    stream.sync()
    del sent, received
    for buffer in (up, down):
        buffer.close()
    stream.close()
    pool.close()


def test_synchronous_copies_take_any_host_memory(emulator: Emulator) -> None:  # noqa: ARG001 - sets up the device
    pointer = handle_return(driver.cuMemAlloc(N))
    sent, received = ramp(), np.zeros(N, np.uint8)
    handle_return(driver.cuMemcpyHtoD(pointer, sent.ctypes.data, N))
    handle_return(driver.cuMemcpyDtoH(received.ctypes.data, pointer, N))
    handle_return(driver.cuMemFree(pointer))
    assert np.array_equal(received, sent)


@pytest.mark.parametrize("value", [7, b"\x01\x02", b"\x01\x02\x03\x04"])
def test_fills_repeat_their_pattern(emulator: Emulator, value: int | bytes) -> None:
    with Lab(emulator) as lab:
        lab.device.fill(value, stream=lab.streams[0])
        lab.device.copy_to(lab.down, stream=lab.streams[0])
        lab.streams[0].sync()
        pattern = bytes([value]) if isinstance(value, int) else value
        assert lab.received.tobytes() == pattern * (N // len(pattern))


def test_new_memory_is_poisoned(emulator: Emulator) -> None:
    with Lab(emulator) as lab:
        lab.device.copy_to(lab.down, stream=lab.streams[0])
        lab.streams[0].sync()
        for kind in (np.float16, np.float32, np.float64):
            assert np.isnan(lab.received.view(kind)).all()


def test_streams_tell_what_they_are(emulator: Emulator) -> None:
    stream = Device(0).create_stream(options=StreamOptions(priority=-2))
    assert (stream.priority, stream.is_nonblocking, stream.device.device_id) == (-2, True, 0)
    assert int(stream.context.handle) == int(handle_return(driver.cuCtxGetCurrent()))
    blocking = handle_return(driver.cuStreamCreate(0))
    assert handle_return(driver.cuStreamGetFlags(blocking)) == 0
    gate = threading.Event()
    emulator.kernel(int(blocking), lambda: gate.wait())
    assert driver.cuStreamQuery(blocking)[0] == driver.CUresult.CUDA_ERROR_NOT_READY
    gate.set()
    handle_return(driver.cuStreamSynchronize(blocking))
    assert driver.cuStreamQuery(blocking)[0] == 0
    handle_return(driver.cuStreamDestroy(blocking))
    stream.close()


def test_a_thread_without_a_context_cannot_allocate(emulator: Emulator) -> None:  # noqa: ARG001 - sets up the device
    context = handle_return(driver.cuCtxPopCurrent())
    assert driver.cuMemAlloc(8)[0] == driver.CUresult.CUDA_ERROR_INVALID_CONTEXT
    assert driver.cuCtxGetDevice()[0] == driver.CUresult.CUDA_ERROR_INVALID_CONTEXT
    handle_return(driver.cuCtxPushCurrent(context))
    assert int(handle_return(driver.cuCtxGetDevice())) == 0
    handle_return(driver.cuMemFree(handle_return(driver.cuMemAlloc(8))))


def test_devices_are_counted_and_described(emulator: Emulator) -> None:  # noqa: ARG001 - sets up the device
    assert int(handle_return(driver.cuDeviceGet(0))) == 0
    assert driver.cuDeviceGet(1)[0] == driver.CUresult.CUDA_ERROR_INVALID_DEVICE
    assert len(Device(0).uuid) == 36
    assert handle_return(driver.cuDeviceTotalMem(0)) == 8 << 30
    retained = handle_return(driver.cuDevicePrimaryCtxRetain(0))
    handle_return(driver.cuDevicePrimaryCtxRelease(0))
    assert int(retained) == int(handle_return(driver.cuCtxGetCurrent()))
    assert handle_return(driver.cuGetErrorName(driver.CUresult.CUDA_ERROR_OUT_OF_MEMORY)) == b"CUDA_ERROR_OUT_OF_MEMORY"
    assert handle_return(driver.cuGetErrorString(driver.CUresult.CUDA_ERROR_OUT_OF_MEMORY)) == b"out of memory"


def test_pools_count_their_bytes(emulator: Emulator) -> None:
    stream = Device(0).create_stream()
    pool = DeviceMemoryResource(0, options=DeviceMemoryResourceOptions(max_size=1 << 20))
    assert emulator.counts().pools == 1
    buffers = [pool.allocate(size, stream=stream) for size in (100, 20)]
    assert pool.attributes.used_mem_current == 120
    for buffer in buffers:
        buffer.close(stream)
    stream.sync()
    assert (pool.attributes.used_mem_current, pool.attributes.used_mem_high) == (0, 120)
    assert int(handle_return(driver.cuDeviceGetMemPool(0))) == int(handle_return(driver.cuDeviceGetDefaultMemPool(0)))
    pool.close()
    stream.close()


def test_pointers_tell_where_they_belong(emulator: Emulator) -> None:  # noqa: ARG001 - sets up the device
    attribute = driver.CUpointer_attribute
    device = handle_return(driver.cuMemAlloc(100))
    host = handle_return(driver.cuMemHostAlloc(50, driver.CU_MEMHOSTALLOC_PORTABLE))
    for pointer, kind, size in ((int(device), 2, 100), (int(host), 1, 50)):
        ask = [attribute.CU_POINTER_ATTRIBUTE_MEMORY_TYPE, attribute.CU_POINTER_ATTRIBUTE_RANGE_SIZE]
        assert [int(handle_return(driver.cuPointerGetAttribute(a, pointer + 1))) for a in ask] == [kind, size]
    ordinary = np.zeros(8, np.uint8).ctypes.data
    ask = attribute.CU_POINTER_ATTRIBUTE_MEMORY_TYPE
    assert driver.cuPointerGetAttribute(ask, ordinary)[0] == driver.CUresult.CUDA_ERROR_INVALID_VALUE
    handle_return(driver.cuMemFree(device))
    handle_return(driver.cuMemFreeHost(host))


@pytest.mark.parametrize("width", [1, 2, 4])
def test_every_way_to_copy_and_fill_moves_the_same_bytes(emulator: Emulator, width: int) -> None:
    with Lab(emulator) as lab:
        stream, to = lab.streams[0].handle, address(lab.device)
        fill = {1: driver.cuMemsetD8, 2: driver.cuMemsetD16, 4: driver.cuMemsetD32}[width]
        other = handle_return(driver.cuMemAlloc(N))
        handle_return(fill(to, 7, N // width))
        handle_return(driver.cuStreamSynchronize(0))  # a fill without a stream is not waited for
        handle_return(driver.cuMemcpyDtoD(other, to, N))
        handle_return(driver.cuMemcpyDtoDAsync(to, other, N, stream))
        handle_return(driver.cuMemcpyDtoHAsync(address(lab.down), to, N, stream))
        lab.streams[0].sync()
        assert lab.received.tobytes() == (7).to_bytes(width, "little") * (N // width)
        lab.sent[:] = ramp()
        handle_return(driver.cuMemcpyHtoDAsync(to, address(lab.up), N, stream))
        lab.streams[0].sync()
        handle_return(driver.cuMemcpy(address(lab.down), to, N))
        assert np.array_equal(lab.received, ramp())
        handle_return(driver.cuMemFree(other))


def test_an_event_is_done_when_the_work_before_it_is(emulator: Emulator) -> None:
    with Lab(emulator) as lab:
        first, second = lab.streams
        options = EventOptions(timing_enabled=True)
        begin = first.record(options=options)
        gate = threading.Event()
        lab.launch(first, lambda: gate.wait())
        end = first.record(options=options)
        assert not end.is_done
        second.wait(end)
        waiting = second.record()
        assert not waiting.is_done
        gate.set()
        waiting.sync()
        assert end.is_done
        assert end - begin > 0
        for event in (begin, end, waiting):
            event.close()


def test_work_is_delayed(emulator: Emulator) -> None:
    """By 5 ms on average: 3 of 4 operations sleep for up to 10 ms, and 1 of 16 eight times as long."""
    emulator.set_delay(10_000)
    with Lab(emulator) as lab:
        begin = time.monotonic()
        for _ in range(10):
            lab.device.fill(1, stream=lab.streams[0])
        lab.streams[0].sync()
        assert time.monotonic() - begin > 0.01
        emulator.set_delay(0)


def test_a_stream_keeps_its_order(emulator: Emulator) -> None:
    order: list[int] = []
    with Lab(emulator) as lab:
        for i in range(50):
            lab.launch(lab.streams[0], lambda i=i: order.append(i))
        lab.streams[0].sync()
    assert order == list(range(50))


def test_the_legacy_stream_waits_for_blocking_streams_and_they_for_it(emulator: Emulator) -> None:
    order: list[str] = []
    streams = [Device(0).create_stream(options=StreamOptions(nonblocking=False)) for _ in range(2)]
    emulator.kernel(int(streams[0].handle), lambda: (time.sleep(0.01), order.append("before")))
    emulator.kernel(0, lambda: (time.sleep(0.01), order.append("legacy")))
    emulator.kernel(int(streams[1].handle), lambda: order.append("after"))
    streams[1].sync()
    assert order == ["before", "legacy", "after"]
    for stream in streams:
        stream.close()


def produce_and_consume(seed: int, *, wait: bool) -> tuple[bool, list[str]]:
    """One stream writes, another reads; whether the reader saw what was written, and what the emulator said."""
    with emulated(seed, clean=wait) as emulator:
        Device(0).set_current()
        with Lab(emulator) as lab:
            first, second = lab.streams
            lab.launch(first, writer(emulator, lab.device, 9))
            event = first.record()
            if wait:
                second.wait(event)
            lab.device.copy_to(lab.down, stream=second)
            second.sync()
            right = bool((lab.received == 9).all())
            event.close()
        return right, emulator.violations()


def test_a_missing_wait_gives_wrong_data_under_some_seed_and_is_named_under_all() -> None:
    results = [produce_and_consume(seed, wait=False) for seed in range(40)]
    assert not all(right for right, _ in results)
    for _, said in results:
        assert len(said) == 1
        assert said[0].startswith("race: ")


def test_with_the_wait_no_schedule_gives_wrong_data() -> None:
    assert all(produce_and_consume(seed, wait=True)[0] for seed in range(200))


# ---- capture and graphs ----


def capture_fork_join(lab: Lab, *, join: bool = True) -> Any:
    """write 5 -> (download, write 6 to `device` after it), the download forked to the second stream."""
    main, side = lab.streams
    builder = main.create_graph_builder().begin_building("thread_local")
    lab.launch(main, writer(lab.emulator, lab.device, 5))
    forked = main.record()
    side.wait(forked)
    lab.device.copy_to(lab.down, stream=side)
    joined = side.record()
    if join:
        main.wait(joined)
    lab.launch(main, writer(lab.emulator, lab.device, 6))
    lab.device.copy_to(lab.down_again, stream=main)
    if not join:
        main.wait(joined)
    graph = builder.end_building().complete()
    builder.close()
    for event in (forked, joined):
        event.close()
    return graph


def test_captured_work_runs_at_launch_and_at_every_launch(emulator: Emulator) -> None:
    with Lab(emulator) as lab:
        calls: list[int] = []
        builder = lab.streams[0].create_graph_builder().begin_building()
        for i in range(3):
            lab.launch(lab.streams[0], lambda i=i: calls.append(i))
        graph = builder.end_building().complete()
        builder.close()
        lab.streams[0].sync()
        assert calls == []
        for _ in range(2):
            graph.launch(lab.streams[0])
        lab.streams[0].sync()
        assert calls == [0, 1, 2] * 2
        assert emulator.counts().execs == 1
        graph.close()


def test_a_graph_lists_its_nodes(emulator: Emulator) -> None:
    with Lab(emulator) as lab:
        stream = lab.streams[0]
        handle_return(
            driver.cuStreamBeginCapture(stream.handle, driver.CUstreamCaptureMode.CU_STREAM_CAPTURE_MODE_GLOBAL)
        )
        lab.launch(stream, lambda: None)
        lab.device.fill(1, stream=stream)
        lab.device.copy_to(lab.down, stream=stream)
        graph = handle_return(driver.cuStreamEndCapture(stream.handle))
        count = handle_return(driver.cuGraphGetNodes(graph))[1]
        nodes, _ = handle_return(driver.cuGraphGetNodes(graph, count))
        kinds = [int(handle_return(driver.cuGraphNodeGetType(node))) for node in nodes]
        kind = driver.CUgraphNodeType
        assert kinds == [
            kind.CU_GRAPH_NODE_TYPE_KERNEL,
            kind.CU_GRAPH_NODE_TYPE_MEMSET,
            kind.CU_GRAPH_NODE_TYPE_MEMCPY,
        ]
        ready = handle_return(driver.cuGraphInstantiate(graph, 0))
        handle_return(driver.cuGraphDestroy(graph))
        handle_return(driver.cuGraphUpload(ready, stream.handle))
        handle_return(driver.cuGraphLaunch(ready, stream.handle))
        stream.sync()
        assert (lab.received == 1).all()
        handle_return(driver.cuGraphExecDestroy(ready))


def test_a_forked_and_joined_graph_gives_the_right_data_under_all_seeds() -> None:
    for seed in range(60):
        with emulated(seed) as emulator:
            Device(0).set_current()
            with Lab(emulator) as lab:
                graph = capture_fork_join(lab)
                for _ in range(2):
                    graph.launch(lab.streams[0])
                lab.streams[0].sync()
                assert (lab.received == 5).all()
                assert (lab.received_again == 6).all()
                graph.close()


def test_a_missing_join_in_a_graph_gives_wrong_data_under_some_seed_and_is_named_under_all() -> None:
    seen = set()
    for seed in range(30):
        with emulated(seed, clean=False) as emulator:
            Device(0).set_current()
            with Lab(emulator) as lab:
                graph = capture_fork_join(lab, join=False)
                graph.launch(lab.streams[0])
                lab.streams[0].sync()
                seen.add(int(lab.received[0]))
                graph.close()
            assert [text[:5] for text in emulator.violations()] == ["race:"]
    assert seen == {5, 6}


def test_independent_branches_run_in_any_order() -> None:
    orders = set()
    for seed in range(20):
        with emulated(seed) as emulator:
            Device(0).set_current()
            with Lab(emulator) as lab:
                order: list[str] = []
                main = lab.streams[0].create_graph_builder().begin_building()
                main, side = main.split(2)
                lab.launch(main.stream, lambda order=order: order.append("main"))
                lab.launch(side.stream, lambda order=order: order.append("side"))
                graph = main.join(main, side).end_building().complete()
                graph.launch(lab.streams[0])
                lab.streams[0].sync()
                orders.add(tuple(order))
                for thing in (graph, main, side):
                    thing.close()
    assert orders == {("main", "side"), ("side", "main")}


class Token:
    """Something that a callback holds."""

    def call(self, calls: list[int]) -> None:
        calls.append(1)


def test_a_graph_keeps_what_its_callbacks_need_until_it_is_gone(emulator: Emulator) -> None:
    calls: list[int] = []
    with Lab(emulator) as lab:
        builder = lab.streams[0].create_graph_builder().begin_building()
        token = Token()
        alive = weakref.ref(token)
        builder.callback(partial(Token.call, token, calls))
        del token
        graph = builder.end_building().complete()
        builder.close()
        gc.collect()
        assert alive() is not None
        graph.launch(lab.streams[0])
        lab.streams[0].sync()
        assert calls == [1]
        graph.close()
        gc.collect()
        assert alive() is None


def test_launches_of_one_exec_do_not_overlap(emulator: Emulator) -> None:
    """Not even on different streams."""
    with Lab(emulator) as lab:
        inside, most = [0], [0]

        def kernel() -> None:
            inside[0] += 1
            most[0] = max(most[0], inside[0])
            time.sleep(0.0005)
            inside[0] -= 1

        builder = lab.streams[0].create_graph_builder().begin_building()
        lab.launch(lab.streams[0], kernel)
        graph = builder.end_building().complete()
        builder.close()
        for _ in range(10):
            for stream in lab.streams:
                graph.launch(stream)
        handle_return(driver.cuCtxSynchronize())
        assert most == [1]
        graph.close()


def test_a_graph_that_is_destroyed_while_it_runs_is_finished(emulator: Emulator) -> None:
    with Lab(emulator) as lab:
        graph = capture_fork_join(lab)
        graph.launch(lab.streams[0])
        graph.close()
        lab.streams[0].sync()
        assert (lab.received == 5).all()


def code_of(error: CUDAError) -> str:
    return str(error).split(":")[0].removeprefix("CUDA_ERROR_")


Call = Callable[[Lab, Any], object]
ILLEGAL: dict[str, tuple[Call, str]] = {
    "synchronize the stream": (lambda lab, _: lab.streams[0].sync(), "STREAM_CAPTURE_UNSUPPORTED"),
    "synchronize another stream": (lambda lab, _: lab.streams[1].sync(), "STREAM_CAPTURE_UNSUPPORTED"),
    "synchronize the device": (lambda _lab, _: handle_return(driver.cuCtxSynchronize()), "STREAM_CAPTURE_UNSUPPORTED"),
    "allocate device memory": (lambda _lab, _: handle_return(driver.cuMemAlloc(8)), "STREAM_CAPTURE_UNSUPPORTED"),
    "allocate pinned memory": (lambda _lab, _: pinned(), "STREAM_CAPTURE_UNSUPPORTED"),
    "allocate from a pool": (
        lambda lab, _: handle_return(driver.cuMemAllocAsync(8, lab.streams[0].handle)),
        "STREAM_CAPTURE_UNSUPPORTED",
    ),
    "free": (lambda _lab, memory: handle_return(driver.cuMemFree(memory)), "STREAM_CAPTURE_UNSUPPORTED"),
    "copy synchronously": (
        lambda lab, _: handle_return(driver.cuMemcpyHtoD(address(lab.device), address(lab.up), 8)),
        "STREAM_CAPTURE_UNSUPPORTED",
    ),
    "query a captured event": (lambda lab, _: lab.streams[0].record().is_done, "CAPTURED_EVENT"),
    "wait for a captured event": (lambda lab, _: lab.streams[0].record().sync(), "CAPTURED_EVENT"),
    "destroy the stream": (
        lambda lab, _: handle_return(driver.cuStreamDestroy(int(lab.streams[0].handle))),
        "STREAM_CAPTURE_UNSUPPORTED",
    ),
    "begin again": (
        lambda lab, _: handle_return(
            driver.cuStreamBeginCapture(
                int(lab.streams[0].handle), driver.CUstreamCaptureMode.CU_STREAM_CAPTURE_MODE_RELAXED
            )
        ),
        "ILLEGAL_STATE",
    ),
    "end on another stream": (
        lambda lab, _: (
            lab.streams[1].wait(lab.streams[0]),
            handle_return(driver.cuStreamEndCapture(int(lab.streams[1].handle))),
        ),
        "STREAM_CAPTURE_UNMATCHED",
    ),
    "wait for work outside": (lambda lab, _: lab.streams[0].wait(lab.streams[1]), "STREAM_CAPTURE_ISOLATION"),
}


@pytest.mark.parametrize("name", ILLEGAL)
def test_an_illegal_call_during_capture_fails_and_spoils_the_capture(hostile: Emulator, name: str) -> None:
    call, code = ILLEGAL[name]
    lab = Lab(hostile)
    memory = handle_return(driver.cuMemAlloc(8))
    stream = int(lab.streams[0].handle)
    handle_return(driver.cuStreamBeginCapture(stream, driver.CUstreamCaptureMode.CU_STREAM_CAPTURE_MODE_THREAD_LOCAL))
    lab.device.fill(1, stream=lab.streams[0])
    with pytest.raises(CUDAError) as raised:
        call(lab, memory)
    assert code_of(raised.value) == code
    error, graph = driver.cuStreamEndCapture(stream)
    if code == "ILLEGAL_STATE":  # refused, and nothing else happened
        assert (error, handle_return(driver.cuGraphGetNodes(graph))[1]) == (0, 1)
    else:
        assert error == driver.CUresult.CUDA_ERROR_STREAM_CAPTURE_INVALIDATED
    lab.device.fill(2, stream=lab.streams[0])  # the stream is usable again
    lab.device.copy_to(lab.down, stream=lab.streams[0])
    lab.streams[0].sync()
    assert (lab.received == 2).all()


def test_the_relaxed_mode_allows_allocation_and_other_threads(emulator: Emulator) -> None:
    with Lab(emulator) as lab:
        builder = lab.streams[0].create_graph_builder().begin_building("relaxed")
        handle_return(driver.cuMemFree(handle_return(driver.cuMemAlloc(8))))
        lab.streams[1].sync()
        builder.end_building()
        builder.close()


def test_a_thread_may_say_that_its_unsafe_calls_are_meant(emulator: Emulator) -> None:
    mode = driver.CUstreamCaptureMode
    with Lab(emulator) as lab:
        builder = lab.streams[0].create_graph_builder().begin_building("global")
        assert (
            handle_return(driver.cuThreadExchangeStreamCaptureMode(mode.CU_STREAM_CAPTURE_MODE_RELAXED))
            == mode.CU_STREAM_CAPTURE_MODE_GLOBAL
        )
        handle_return(driver.cuMemFree(handle_return(driver.cuMemAlloc(8))))
        handle_return(driver.cuThreadExchangeStreamCaptureMode(mode.CU_STREAM_CAPTURE_MODE_GLOBAL))
        builder.end_building()
        builder.close()


def test_a_branch_that_is_not_joined_is_an_error(hostile: Emulator) -> None:
    lab = Lab(hostile)
    builder = lab.streams[0].create_graph_builder().begin_building()
    lab.streams[1].wait(lab.streams[0])
    lab.device.fill(1, stream=lab.streams[1])
    with pytest.raises(CUDAError, match="UNJOINED"):
        builder.end_building()


def test_a_branch_whose_stream_is_gone_must_have_been_joined(hostile: Emulator) -> None:
    lab = Lab(hostile)
    builder = lab.streams[0].create_graph_builder().begin_building()
    side = handle_return(driver.cuStreamCreate(1))
    Stream.from_handle(int(side)).wait(lab.streams[0])
    lab.device.fill(1, stream=Stream.from_handle(int(side)))
    handle_return(driver.cuStreamDestroy(side))
    with pytest.raises(CUDAError, match="UNJOINED"):
        builder.end_building()


# ---- what a GPU would not notice ----


def test_a_copy_beyond_its_allocation_is_refused(hostile: Emulator) -> None:
    lab = Lab(hostile)
    error = driver.cuMemcpyAsync(address(lab.device) + 8, address(lab.up), N, int(lab.streams[0].handle))[0]
    assert error == driver.CUresult.CUDA_ERROR_INVALID_VALUE
    assert hostile.violations() == [
        f"out of bounds: copy to of bytes 8 to {N + 8} of allocation 1 (pooled device memory of {N} bytes)"
    ]


@pytest.mark.parametrize("offset", [-1, N])
def test_a_write_just_outside_an_allocation_is_noticed(hostile: Emulator, offset: int) -> None:
    lab = Lab(hostile)
    at = hostile.touch(address(lab.device), N, write=True)
    assert at
    ctypes.c_uint8.from_address(at + offset).value = 1
    assert hostile.violations() == [
        f"out of bounds: something wrote just before or after allocation 1 (pooled device memory of {N} bytes)"
    ]


def test_a_kernel_that_leaves_its_allocation_breaks_the_device(hostile: Emulator) -> None:
    lab = Lab(hostile)
    lab.launch(lab.streams[0], lambda: hostile.touch(address(lab.device), N + 1, write=False))
    with pytest.raises(CUDAError, match="ILLEGAL_ADDRESS"):
        lab.streams[0].sync()
    with pytest.raises(CUDAError, match="ILLEGAL_ADDRESS"):  # and stays so
        Device(0).create_stream()
    assert "out of bounds: touch" in hostile.violations()[0] or "out of bounds: kernel" in hostile.violations()[0]


def test_async_copies_need_pinned_memory(hostile: Emulator) -> None:
    lab = Lab(hostile)
    pageable = np.zeros(N, np.uint8)
    error = driver.cuMemcpyAsync(address(lab.device), pageable.ctypes.data, N, int(lab.streams[0].handle))[0]
    assert error == driver.CUresult.CUDA_ERROR_INVALID_VALUE
    assert "neither device nor pinned memory" in hostile.violations()[0]


def test_the_host_cannot_use_a_device_address(hostile: Emulator) -> None:
    lab = Lab(hostile)
    _ = ctypes.c_uint8.from_address(address(lab.device) + 5).value
    assert hostile.violations() == [
        f"the host touched allocation 1 (pooled device memory of {N} bytes) at its device address, at byte 5"
    ]


@pytest.mark.parametrize("wait", [True, False])
@pytest.mark.parametrize("way", ["upload", "download"])
def test_pinned_memory_belongs_to_the_copy_until_the_host_waited_for_it(
    hostile: Emulator, way: str, wait: bool
) -> None:
    lab = Lab(hostile)
    stream = lab.streams[0]
    if way == "upload":
        lab.device.copy_from(lab.up, stream=stream)
    else:
        lab.device.copy_to(lab.down, stream=stream)
    event = stream.record()
    if wait:
        event.sync()
    if way == "upload":
        assert lab.sent[0] == 0xFE  # reading what is being read is no mistake
        lab.sent[:] = 1
    else:
        _ = lab.received[0]
    said = hostile.violations()
    assert said == [] if wait else "while a copy may be using it" in said[0]


def test_a_callback_at_the_end_of_a_graph_tells_the_host_that_its_copies_are_done(emulator: Emulator) -> None:
    with Lab(emulator) as lab:
        finished = threading.Event()
        builder = lab.streams[0].create_graph_builder().begin_building()
        lab.device.fill(3, stream=lab.streams[0])
        lab.device.copy_to(lab.down, stream=lab.streams[0])
        builder.callback(finished.set)
        graph = builder.end_building().complete()
        builder.close()
        graph.launch(lab.streams[0])
        assert finished.wait(timeout=10)
        assert (lab.received == 3).all()
        graph.close()


def test_use_after_free_is_noticed(hostile: Emulator) -> None:
    lab = Lab(hostile)
    memory = handle_return(driver.cuMemAlloc(N))
    lab.launch(lab.streams[0], lambda: None)
    handle_return(driver.cuMemFree(memory))
    error = driver.cuMemcpyAsync(int(memory), address(lab.up), N, int(lab.streams[0].handle))[0]
    assert error == driver.CUresult.CUDA_ERROR_INVALID_VALUE
    lab.launch(lab.streams[0], lambda: hostile.touch(int(memory), N, write=False))
    with pytest.raises(CUDAError, match="ILLEGAL_ADDRESS"):
        lab.streams[0].sync()
    said = hostile.violations()
    assert [text.split(":")[0] for text in said] == ["use after free"] * 2


def test_work_that_was_enqueued_before_a_free_is_noticed_too(hostile: Emulator) -> None:
    lab = Lab(hostile)
    memory = handle_return(driver.cuMemAlloc(N))
    gate = threading.Event()
    lab.launch(lab.streams[0], lambda: gate.wait())
    driver.cuMemcpyAsync(int(memory), address(lab.device), N, int(lab.streams[0].handle))
    handle_return(driver.cuMemFree(memory))
    gate.set()
    with pytest.raises(CUDAError, match="ILLEGAL_ADDRESS"):
        lab.streams[0].sync()
    assert hostile.violations()[0].startswith("use after free: copy of allocation")


def test_a_write_to_freed_memory_is_noticed(hostile: Emulator) -> None:
    memory = handle_return(driver.cuMemAlloc(N))
    at = hostile.touch(int(memory), N, write=True)
    assert at
    handle_return(driver.cuMemFree(memory))
    assert hostile.violations() == []
    ctypes.c_uint8.from_address(at).value = 1
    assert "after it was freed" in hostile.violations()[0]


@pytest.mark.parametrize("free", [driver.cuMemFree, driver.cuMemFreeHost])
def test_a_double_free_is_noticed(hostile: Emulator, free: Callable[[object], tuple[object]]) -> None:
    allocate = driver.cuMemAlloc if free is driver.cuMemFree else driver.cuMemAllocHost
    memory = handle_return(allocate(N))
    assert free(memory)[0] == 0
    assert free(memory)[0] == driver.CUresult.CUDA_ERROR_INVALID_VALUE
    assert hostile.violations()[0].startswith("double free of allocation 1 ")


def test_pooled_memory_is_there_when_its_stream_has_come_to_it(hostile: Emulator) -> None:
    lab = Lab(hostile)
    gate = threading.Event()
    lab.launch(lab.streams[0], lambda: gate.wait())
    late = Device(0).memory_resource.allocate(N, stream=lab.streams[0])
    late.copy_from(lab.device, stream=lab.streams[1])
    lab.streams[1].sync()
    gate.set()
    lab.streams[0].sync()
    assert hostile.violations()[0] == "copy of allocation 5 (pooled device memory) before its stream allocated it"


def test_a_host_function_must_not_call_the_driver(hostile: Emulator) -> None:
    lab = Lab(hostile)
    results: list[int] = []
    function = HostFunction(lambda _user: results.append(int(driver.cuStreamQuery(0)[0])))
    handle_return(driver.cuLaunchHostFunc(lab.streams[0].handle, ctypes.cast(function, ctypes.c_void_p).value, 0))
    lab.streams[0].sync()
    assert results == [800]
    assert hostile.violations() == ["cuStreamQuery called from a host function"]


def test_pooled_memory_counts_until_the_host_has_waited_for_its_release(emulator: Emulator) -> None:
    stream = Device(0).create_stream()
    pooled = Device(0).memory_resource.allocate(N, stream=stream)
    pooled.close(stream)
    time.sleep(0.01)
    assert emulator.counts().pooled_bytes == N
    stream.sync()
    assert emulator.counts().pooled_bytes == 0
    stream.close()


def test_a_stale_handle_is_recognised(hostile: Emulator) -> None:
    stream = handle_return(driver.cuStreamCreate(1))
    handle_return(driver.cuStreamDestroy(stream))
    assert driver.cuStreamSynchronize(stream)[0] == driver.CUresult.CUDA_ERROR_INVALID_HANDLE
    assert hostile.violations()[0].endswith("was destroyed before this use")


def test_leaks_are_counted(hostile: Emulator) -> None:
    lab = Lab(hostile)
    graph = capture_fork_join(lab)
    event = lab.streams[0].record()
    handle_return(driver.cuMemAlloc(100))
    assert hostile.counts().leaks() == {
        "streams": 2,
        "events": 1,
        "execs": 1,
        "user_objects": 1,
        "device": 1,
        "pooled": 1,
        "pinned": 3,
    }
    assert hostile.counts().device_bytes == 100
    assert hostile.counts().pinned_bytes == 3 * N
    graph.close()
    event.close()
    lab.close()
    assert hostile.counts().leaks() == {"device": 1}


# ---- scripted failures ----


def restore(emulator: Emulator) -> None:
    """A little of everything, releasing whatever it holds also when something fails."""
    with ExitStack() as stack:
        device = Device(0)
        streams = []
        for _ in range(2):
            stream = device.create_stream()
            stack.callback(stream.close)
            streams.append(stream)
        up = handle_return(driver.cuMemAllocHost(N))
        stack.callback(driver.cuMemFreeHost, up)
        memory = handle_return(driver.cuMemAlloc(N))
        stack.callback(driver.cuMemFree, memory)
        pooled = device.memory_resource.allocate(N, stream=streams[0])
        stack.callback(driver.cuStreamSynchronize, streams[0].handle)
        stack.callback(pooled.close, streams[0])
        stack.callback(driver.cuCtxSynchronize)  # which may fail as well
        event = streams[0].record()
        stack.callback(event.close)
        streams[1].wait(event)
        pooled.copy_from(Buffer.from_handle(up, N), stream=streams[1])
        streams[1].sync()
        builder = streams[0].create_graph_builder().begin_building("thread_local")
        stack.callback(builder.close)
        pooled.fill(1, stream=streams[0])
        graph = builder.end_building().complete()
        stack.callback(graph.close)
        graph.launch(streams[0])
        streams[0].sync()
        assert emulator.array(address(pooled), (1,), np.uint8)[0] == 1


FAILING = (
    "cuStreamCreateWithPriority",
    "cuMemAllocHost",
    "cuMemAlloc",
    "cuMemAllocFromPoolAsync",
    "cuEventCreate",
    "cuEventRecord",
    "cuStreamWaitEvent",
    "cuMemcpyAsync",
    "cuMemsetD8Async",
    "cuStreamSynchronize",
    "cuStreamBeginCapture",
    "cuStreamEndCapture",
    "cuGraphInstantiateWithParams",
    "cuGraphLaunch",
)


def test_the_program_that_is_made_to_fail_works(emulator: Emulator) -> None:
    restore(emulator)
    for name in FAILING:
        assert emulator.calls(name), name


@pytest.mark.parametrize("name", FAILING)
def test_a_scripted_failure_is_raised_by_cuda_core(emulator: Emulator, name: str) -> None:
    emulator.fail(name, nth=1, code=2)
    with pytest.raises((CUDAError, RuntimeError), match=r"OUT_OF_MEMORY|Failed to create CUDA event"):
        restore(emulator)


def test_memory_that_ends_at_any_allocation_leaks_nothing(emulator: Emulator) -> None:
    restore(emulator)
    allocations = emulator.calls("allocation")
    assert allocations == 3
    for nth in range(1, allocations + 1):
        emulator.fail("allocation", nth)
        with pytest.raises(CUDAError, match="OUT_OF_MEMORY"):
            restore(emulator)
        gc.collect()
        assert emulator.counts().leaks() == {}


def test_a_device_of_limited_size_runs_out_of_memory(emulator: Emulator) -> None:
    emulator.limit_bytes(N)
    memory = handle_return(driver.cuMemAlloc(N - 1))
    assert driver.cuMemAlloc(2)[0] == driver.CUresult.CUDA_ERROR_OUT_OF_MEMORY
    handle_return(driver.cuMemFree(memory))
    handle_return(driver.cuMemFree(handle_return(driver.cuMemAlloc(N))))


def test_a_broken_device_stays_broken_until_it_is_reset_and_still_releases(hostile: Emulator) -> None:
    hostile.fail("operation", nth=3, code=700)
    with pytest.raises(CUDAError, match="ILLEGAL_ADDRESS"):
        restore(hostile)
    with pytest.raises(CUDAError, match="ILLEGAL_ADDRESS"):
        restore(hostile)
    gc.collect()
    assert hostile.counts().leaks() == {}
    assert hostile.violations() == []
    hostile.reset()
    restore(hostile)


def test_an_exception_in_a_kernel_is_kept_and_breaks_the_device(hostile: Emulator) -> None:
    lab = Lab(hostile)
    lab.launch(lab.streams[0], lambda: [][0])
    with pytest.raises(CUDAError, match="LAUNCH_FAILED"):
        lab.streams[0].sync()
    assert [type(error) for error in hostile.errors] == [IndexError]


def test_missing_entry_points_are_logged() -> None:
    root = Path(__file__).parent.parent.parent
    done = subprocess.run(
        [sys.executable, "-c", "from tests.cuda_emulator import load; load()"],
        env={**os.environ, "CUDA_EMULATOR_LOG": "1"},
        cwd=root,
        capture_output=True,
        text=True,
    )
    assert "cuda emulator: no entry point cuLaunchKernel for " in done.stderr
    assert "no entry point cuMemAlloc " not in done.stderr
