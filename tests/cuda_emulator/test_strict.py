"""The emulator notices what a GPU would let pass."""

from __future__ import annotations

import ctypes
import threading
import time
from collections.abc import Callable

import numpy as np
import pytest
from cuda.bindings import driver
from cuda.core import Device
from cuda.core._utils.cuda_utils import CUDAError, handle_return

from tests.patience import PATIENCE_S

from . import Emulator, HostFunction
from .lab import Lab, N, address, capture_fork_join

pytestmark = pytest.mark.cuda_emulator


def test_a_copy_beyond_its_allocation_is_refused(hostile: Emulator) -> None:
    lab = Lab(hostile)
    error = driver.cuMemcpyAsync(address(lab.device) + 8, address(lab.up), N, int(lab.streams[0].handle))[0]
    assert error == driver.CUresult.CUDA_ERROR_INVALID_VALUE
    assert hostile.violations() == [
        f"out of bounds: copy to of bytes 8 to {N + 8} of allocation 1 (pooled device memory of {N} bytes)"
    ]


def test_a_default_stream_needs_a_context_to_free_memory(hostile: Emulator) -> None:
    legacy, errors = driver.CUstream(driver.CU_STREAM_LEGACY), []
    _, memory = driver.cuMemAllocAsync(N, legacy)
    elsewhere = threading.Thread(target=lambda: errors.extend(driver.cuMemFreeAsync(memory, legacy)))
    elsewhere.start()
    elsewhere.join()
    assert [error.name for error in errors] == ["CUDA_ERROR_INVALID_CONTEXT"]
    assert hostile.counts().pooled == 1
    assert driver.cuMemFreeAsync(memory, legacy)[0] == driver.CUresult.CUDA_SUCCESS


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
        assert finished.wait(PATIENCE_S)
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
