"""What the tests of the emulator build their programs from."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from cuda.bindings import driver
from cuda.core import Buffer, Device, LegacyPinnedMemoryResource, Stream
from cuda.core._utils.cuda_utils import handle_return
from numpy.typing import NDArray

from . import Emulator

N = 8192
"""Bytes of the buffers: two pages."""

Bytes = NDArray[np.uint8]


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
