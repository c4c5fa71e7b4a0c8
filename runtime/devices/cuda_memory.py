"""The memory of one session on a GPU: one block of device memory, one of host memory, and views into them.

Host memory is pinned, which copies need in order to run beside the host. If there is none, it is ordinary memory: the
driver then copies in small pieces, and the host waits for it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...errors import MachineError
from ...text import first_line, format_bytes
from ..stream.buffers import BufferSpec, View
from ..stream.plan import ALIGNMENT, MemoryPlan, aligned
from .gpu import Gpu, explain_cuda_errors, is_cuda_error, is_out_of_memory
from .notes import NOTES


class OutOfGpuMemoryError(MachineError):
    """The driver or TensorRT has no device memory left. The device turns it into a message that says what would fit."""


@contextmanager
def detect_out_of_memory() -> Iterator[None]:
    """Turn a `MachineError` in which the driver says that it has no memory left into `OutOfGpuMemoryError`."""
    try:
        yield
    except MachineError as error:
        if is_out_of_memory(error):
            raise OutOfGpuMemoryError(str(error)) from error
        raise


def allocate(gpu: Gpu, what: str, nbytes: int, stream: Any, resources: ExitStack) -> Any:
    """Allocate device memory for later work on `stream`; `resources` releases it there.

    Returns a buffer of cuda-core whose address is a multiple of `ALIGNMENT`. what: the purpose, for the message. Raises
    `OutOfGpuMemoryError` if memory is short, `MachineError` if the call fails otherwise.
    """
    failure = f"{format_bytes(nbytes)} of GPU memory for the {what} could not be allocated"
    with detect_out_of_memory(), explain_cuda_errors(failure, MachineError):
        memory = gpu.device.allocate(nbytes, stream=stream)
    resources.callback(memory.close, stream)
    if address(memory) % ALIGNMENT:
        raise MachineError(f"the driver gave memory at {address(memory):#x}, expected a multiple of {ALIGNMENT}")
    return memory


def address(memory: Any) -> int:
    """Where a buffer of cuda-core begins."""
    return int(memory.handle)


class SessionMemory:
    """All buffers of a session, laid out by its memory plan. Their content is undefined before `clear`.

    Host memory lives as long as an array in it does, so that a caller who keeps one past `close` does not crash.
    """

    def __init__(self, gpu: Gpu, plan: MemoryPlan, stream: Any, resources: ExitStack) -> None:
        """Allocate both blocks; `resources` releases them.

        stream: the CUDA stream that device memory is allocated and released on. Raises `OutOfGpuMemoryError` if device
        memory is short, `MachineError` if memory of the host is.
        """
        self._core, self._plan = gpu.core, plan
        self._device = allocate(gpu, "buffers of a stream", plan.device.nbytes, stream, resources)
        self._pinned = _allocate_on_host(gpu, plan.host.nbytes)
        self.arrays: dict[str, NDArray[Any]] = {
            name: np.asarray(_Pinned(self._pinned, offset, plan.buffers[name]))
            for name, offset in plan.host.offsets.items()
        }
        resources.callback(self._release)

    def clear(self, stream: Any) -> None:
        """Fill everything with zeros: the host's buffers now, the device's in the order of `stream`."""
        for array in self.arrays.values():
            array.reshape(-1).view(np.uint8).fill(0)  # as bytes: NumPy has no zero for bfloat16
        self._device.fill(0, stream=stream)

    def scratch(self, sizes: Sequence[int]) -> list[int]:
        """Aligned addresses of adjacent pieces of these sizes in bytes, from the start of device memory."""
        addresses, place = [], address(self._device)
        for size in sizes:
            addresses.append(place)
            place += aligned(size)
        return addresses

    def address(self, view: View) -> int:
        """Where a view begins on the device."""
        return address(self._device) + self._plan.device.offsets[view.buffer] + view.start * self._slot_bytes(view)

    def on_device(self, view: View) -> Any:
        """A view in device memory, as a buffer of cuda-core that does not own it."""
        nbytes = view.count * self._slot_bytes(view)
        return self._core.Buffer.from_handle(self.address(view), nbytes, owner=self._device)

    def on_host(self, view: View) -> Any:
        """The same view in host memory."""
        place = address(self._pinned) + self._plan.host.offsets[view.buffer] + view.start * self._slot_bytes(view)
        return self._core.Buffer.from_handle(place, view.count * self._slot_bytes(view), owner=self._pinned)

    def _slot_bytes(self, view: View) -> int:
        return self._plan.buffers[view.buffer].slot_bytes

    def _release(self) -> None:
        self.arrays.clear()
        del self._pinned


def _allocate_on_host(gpu: Gpu, nbytes: int) -> Any:
    """Pinned memory, or ordinary memory with a note."""
    try:
        return gpu.core.LegacyPinnedMemoryResource().allocate(nbytes)
    except Exception as error:
        if not is_cuda_error(error):
            raise
        NOTES.warning(
            "%s of pinned memory could not be allocated (%s); frames go through ordinary memory, which is slower",
            format_bytes(nbytes),
            first_line(error),
        )
    try:
        return _Pageable(nbytes)
    except MemoryError as error:
        raise MachineError(
            f"{format_bytes(nbytes)} of memory for frames could not be allocated; close other programs"
        ) from error


class _Pageable:
    """Ordinary memory of the host. handle: where it begins."""

    def __init__(self, nbytes: int) -> None:
        self._bytes = np.empty(nbytes + ALIGNMENT, np.uint8)
        self.handle = aligned(self._bytes.ctypes.data)


class _Pinned:
    """NumPy's view of host memory. Arrays made from it keep it, and it keeps the memory."""

    def __init__(self, memory: Any, offset: int, spec: BufferSpec) -> None:
        self._memory = memory
        self.__array_interface__ = {
            "data": (address(memory) + offset, False),
            "shape": spec.shape,
            "typestr": np.dtype(spec.dtype).str,
            "version": 3,
        }
