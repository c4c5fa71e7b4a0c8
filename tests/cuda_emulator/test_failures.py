"""Whatever can be asked of the emulated driver can be made to fail."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest
from cuda.bindings import driver
from cuda.core import Buffer, Device
from cuda.core._utils.cuda_utils import CUDAError, handle_return

from . import Emulator
from .lab import Lab, N, address

pytestmark = pytest.mark.cuda_emulator


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
