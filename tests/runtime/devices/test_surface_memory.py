"""GPU memory for restored surfaces is used again, and is released when nobody remembers its address."""

from __future__ import annotations

from threading import Thread
from typing import Any

import pytest

from swiftvr_trt.runtime.devices.cuda_memory import OutOfGpuMemoryError
from swiftvr_trt.runtime.devices.gpu import Gpu
from swiftvr_trt.runtime.devices.surface_memory import SurfaceMemory
from tests.cuda_emulator import emulated

from .cuda_lab import OUT_OF_MEMORY

pytestmark = pytest.mark.cuda_emulator


def test_a_block_is_lent_to_one_at_a_time_and_again_when_it_is_given_back() -> None:
    with emulated() as emulator:
        memory = SurfaceMemory(Gpu(0), 1000)
        first, second = memory.lend(), memory.lend()
        places = {first.block.address, second.block.address}
        assert len(places) == 2
        del first
        third = memory.lend()
        assert third.block.address in places
        assert emulator.counts().device == 2
        memory.close()
        assert emulator.counts().device == 2
        del second, third
        assert emulator.counts().device == 0


def test_blocks_come_back_from_threads_without_a_context() -> None:
    with emulated() as emulator:
        memory = SurfaceMemory(Gpu(0), 1000)
        held: list[Any] = [memory.lend()]
        for release in (held.clear, memory.close):
            thread = Thread(target=release)
            thread.start()
            thread.join()
        assert emulator.counts().device == 0


def test_a_block_outlives_its_loan_as_long_as_an_encoder_keeps_it() -> None:
    with emulated() as emulator:
        memory = SurfaceMemory(Gpu(0), 1000)
        loan = memory.lend()
        kept = loan.block
        del loan
        memory.close()
        assert emulator.counts().device == 1
        del kept
        assert emulator.counts().device == 0


def test_short_memory_is_said() -> None:
    with emulated() as emulator:
        memory = SurfaceMemory(Gpu(0), 1 << 20)
        emulator.fail("allocation", 1, OUT_OF_MEMORY)
        with pytest.raises(OutOfGpuMemoryError, match=r"1.* of GPU memory for a restored surface could not be alloc"):
            memory.lend()
        memory.close()
