"""The emulator does what a GPU does, seen through cuda-core."""

from __future__ import annotations

import threading
import time
from functools import partial

import numpy as np
import pytest
from cuda.bindings import driver
from cuda.core import Device, DeviceMemoryResource, DeviceMemoryResourceOptions, EventOptions, StreamOptions
from cuda.core._utils.cuda_utils import CUDAError, handle_return

from . import Emulator, emulated
from .lab import Lab, N, address, pinned, ramp, writer

pytestmark = pytest.mark.cuda_emulator


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


@pytest.mark.parametrize("waited", [True, False])
def test_memory_that_a_stream_frees_is_free_once_the_host_has_waited(emulator: Emulator, *, waited: bool) -> None:
    """Whether the stream has come to it by then changes nothing."""
    stream = Device(0).create_stream()
    emulator.limit_bytes(1000)
    first = Device(0).memory_resource.allocate(600, stream=stream)
    first.close(stream)
    other = Device(0).create_stream()
    emulator.set_delay(0)
    while emulator.calls("operation") < 2:  # the allocation and the release
        time.sleep(1e-4)
    if waited:
        stream.sync()
        Device(0).memory_resource.allocate(700, stream=other).close(other)
    else:
        with pytest.raises(CUDAError, match="OUT_OF_MEMORY"):
            Device(0).memory_resource.allocate(700, stream=other)
        stream.sync()
    other.sync()
    for each in (stream, other):
        each.close()


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
            lab.launch(lab.streams[0], partial(order.append, i))
        lab.streams[0].sync()
    assert order == list(range(50))


def test_the_legacy_stream_waits_for_blocking_streams_and_they_for_it(emulator: Emulator) -> None:
    order: list[str] = []
    streams = [Device(0).create_stream(options=StreamOptions(nonblocking=False)) for _ in range(2)]

    def slowly(name: str) -> None:
        time.sleep(0.01)
        order.append(name)

    emulator.kernel(int(streams[0].handle), partial(slowly, "before"))
    emulator.kernel(0, partial(slowly, "legacy"))
    emulator.kernel(int(streams[1].handle), partial(order.append, "after"))
    streams[1].sync()
    assert order == ["before", "legacy", "after"]
    for stream in streams:
        stream.close()


def produce_and_consume(seed: int, *, wait: bool) -> tuple[bool, list[str]]:
    """One stream writes, another reads; whether the reader saw what was written, and what the emulator said."""
    with emulated(seed, delay_us=300, clean=wait) as emulator:
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
