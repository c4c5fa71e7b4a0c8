"""GPU memory for restored surfaces, which is used again instead of being released.

It is allocated as FFmpeg allocates its own (`cuMemAlloc`), not in a memory pool: NVENC registers each address that it
reads from, and expects to find the same memory there as long as it is open.
"""

from __future__ import annotations

from contextlib import suppress

from ...errors import MachineError
from ...text import format_bytes
from .cuda_memory import detect_out_of_memory
from .gpu import Gpu, explain_cuda_errors


class SurfaceBlock:
    """GPU memory at `address`. It is released with the last reference to this object, in whatever thread."""

    def __init__(self, gpu: Gpu, nbytes: int) -> None:
        """Raises `OutOfGpuMemoryError` if memory is short, `MachineError` if the call fails otherwise."""
        from cuda.bindings import driver

        self._gpu, self.address = gpu, 0
        failure = f"{format_bytes(nbytes)} of GPU memory for a restored surface could not be allocated"
        with detect_out_of_memory(), explain_cuda_errors(failure, MachineError):
            error, pointer = driver.cuMemAlloc(nbytes)
            if error != driver.CUresult.CUDA_SUCCESS:
                raise RuntimeError(error.name)
        self.address = int(pointer)

    def __del__(self) -> None:
        with suppress(Exception):  # a GPU that is lost has released it
            if self.address:
                from cuda.bindings import driver

                self._gpu.make_current()
                driver.cuMemFree(self.address)


class Loan:
    """A block that is in use as long as this object lives."""

    def __init__(self, block: SurfaceBlock, home: SurfaceMemory) -> None:
        self.block, self._home = block, home

    def __del__(self) -> None:
        self._home.take_back(self.block)


class SurfaceMemory:
    """The blocks of one session, all of one size."""

    def __init__(self, gpu: Gpu, nbytes: int) -> None:
        self._gpu, self._nbytes = gpu, nbytes
        self._free: list[SurfaceBlock] = []
        self._closed = False

    def lend(self) -> Loan:
        """A block that nobody uses: an earlier one if there is one. Raises as `SurfaceBlock` does."""
        try:
            block = self._free.pop()  # a planes' last owner gives back in its own thread, at any moment
        except IndexError:
            block = SurfaceBlock(self._gpu, self._nbytes)
        return Loan(block, self)

    def take_back(self, block: SurfaceBlock) -> None:
        """A loan has ended, from any thread."""
        if not self._closed:
            self._free.append(block)

    def close(self) -> None:
        """Keep no block; those that are in use are released when they are given back."""
        self._closed = True
        self._free.clear()
