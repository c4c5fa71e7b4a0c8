"""The memory of one stream on a GPU: one piece of device memory, one of pinned host memory, and views into them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from swiftvr_trt.errors import MachineError
from swiftvr_trt.runtime.stream.plan import ALIGNMENT, MemoryPlan, aligned
from swiftvr_trt.runtime.stream.program import BufferSpec, View
from swiftvr_trt.text import size as in_words

from .gpu import Gpu, explain_cuda_errors, is_out_of_memory


class OutOfGpuMemoryError(MachineError):
    """A piece of device memory could not be had."""


Span = tuple[int, int]
"""Address and bytes."""


def allocate(gpu: Gpu, what: str, nbytes: int, stream: Any, stack: ExitStack) -> Any:
    """A piece of device memory, usable by what comes later on `stream`; `stack` releases it there.

    Raises `OutOfGpuMemoryError` if there is none, `MachineError` for whatever else may go wrong.
    """
    with (
        detect_out_of_memory(),
        explain_cuda_errors(f"{in_words(nbytes)} of GPU memory for the {what} could not be had", MachineError),
    ):
        memory = gpu.device.allocate(nbytes, stream=stream)
    stack.callback(memory.close, stream)
    if address(memory) % ALIGNMENT:
        raise MachineError(f"the driver gave memory at {address(memory):#x}, expected a multiple of {ALIGNMENT}")
    return memory


@contextmanager
def detect_out_of_memory() -> Iterator[None]:
    """Turn an error of the block that the driver had no memory for into `OutOfGpuMemoryError`."""
    try:
        yield
    except MachineError as error:
        if is_out_of_memory(error):
            raise OutOfGpuMemoryError(str(error)) from error
        raise


def address(memory: Any) -> int:
    """Where a buffer of cuda-core begins."""
    return int(memory.handle)


class SessionMemory:
    """All buffers of a stream, laid out by its plan. `stack` releases them; their content is undefined before `clear`.

    Pinned memory stays as long as somebody holds an array in it: a caller that is late must not crash the process.
    """

    def __init__(self, gpu: Gpu, plan: MemoryPlan, stream: Any, stack: ExitStack) -> None:
        """Raises `MachineError` if there is no memory."""
        self._core, self._plan = gpu.core, plan
        self._device = allocate(gpu, "buffers of a stream", plan.device.nbytes, stream, stack)
        what = f"{in_words(plan.host.nbytes)} of pinned memory for frames could not be had; close other programs"
        with explain_cuda_errors(what, MachineError):
            self._pinned = gpu.core.LegacyPinnedMemoryResource().allocate(plan.host.nbytes)
        self.arrays: dict[str, NDArray[Any]] = {
            name: np.asarray(_Pinned(self._pinned, offset, plan.buffers[name]))
            for name, offset in plan.host.offsets.items()
        }
        stack.callback(self._release)

    def clear(self, stream: Any) -> None:
        """Zeros everywhere; on the device when `stream` gets there."""
        for array in self.arrays.values():
            array.reshape(-1).view(np.uint8).fill(0)  # as bytes: NumPy has no zero for bfloat16
        self._device.fill(0, stream=stream)

    def pieces(self, sizes: Sequence[int]) -> list[int]:
        """Aligned addresses of pieces of these sizes, from the beginning of the device's memory on."""
        addresses, place = [], address(self._device)
        for size in sizes:
            addresses.append(place)
            place += aligned(size)
        return addresses

    def address(self, view: View) -> int:
        """Where a view begins on the device."""
        return address(self._device) + self._plan.device.offsets[view.buffer] + view.start * self._slot(view)

    def on_device(self, view: View) -> Any:
        """A view as a buffer of cuda-core, which does not own it."""
        nbytes = view.count * self._slot(view)
        return self._core.Buffer.from_handle(self.address(view), nbytes, owner=self._device)

    def on_host(self, view: View) -> Any:
        """The same slots of the host's copy."""
        place = address(self._pinned) + self._plan.host.offsets[view.buffer] + view.start * self._slot(view)
        return self._core.Buffer.from_handle(place, view.count * self._slot(view), owner=self._pinned)

    def _slot(self, view: View) -> int:
        return self._plan.buffers[view.buffer].slot_bytes

    def _release(self) -> None:
        self.arrays.clear()
        del self._pinned


class _Pinned:
    """What NumPy asks about foreign memory; arrays made from it keep it, and it keeps the memory."""

    def __init__(self, memory: Any, offset: int, spec: BufferSpec) -> None:
        self._memory = memory
        self.__array_interface__ = {
            "data": (address(memory) + offset, False),
            "shape": spec.shape,
            "typestr": np.dtype(spec.dtype).str,
            "version": 3,
        }


def closing(stack: ExitStack, thing: Any) -> Any:
    """`thing`, which `stack` closes."""
    close: Callable[[], None] = thing.close
    stack.callback(close)
    return thing
