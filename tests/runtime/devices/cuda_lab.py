"""What the tests of the CUDA device share: a bundle of engines, what the CPU makes of the clips, and helpers."""

from __future__ import annotations

import gc
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from swiftvr_trt import Bundle, Restorer, Session
from swiftvr_trt.runtime.devices.cuda import CudaDevice
from swiftvr_trt.runtime.devices.kernel_cache import KernelCache
from swiftvr_trt.runtime.devices.tensorrt import TensorRTProvider
from swiftvr_trt.runtime.stream.session import Frame
from tests.cuda_emulator import Emulator
from tests.runtime.clips import clip

from .fake_trt import FakeTensorRT

NO_CACHE = KernelCache("none", "none", ())
OUT_OF_MEMORY, ILLEGAL_ADDRESS, UNKNOWN = 2, 700, 999
"""Codes of the driver; the second one stays, whatever is called after it."""


@dataclass(frozen=True)
class Lab:
    """A bundle of engines, and what the CPU makes of the clips with the graphs that the engines are made of."""

    engines: Bundle
    expected: Mapping[str, list[Frame]]

    @contextmanager
    def opened(
        self,
        emulator: Emulator,
        library: FakeTensorRT | None = None,
        *,
        kind: Any = CudaDevice,
        kernel_cache: KernelCache = NO_CACHE,
        **options: Any,
    ) -> Iterator[Restorer]:
        """A restorer on the emulated GPU. At the end no object of TensorRT may be left. options: of `CudaDevice`."""
        library = library or FakeTensorRT(emulator)
        device = kind(self.engines, TensorRTProvider(library, kernel_cache), **options)
        with Restorer(device, self.engines.manifest) as restorer:
            yield restorer
        del device
        assert library.problems == []
        assert not left(library)

    def same(self, name: str, frames: list[Frame]) -> bool:
        return len(frames) == len(self.expected[name]) and np.array_equal(frames, self.expected[name])


def left(library: FakeTensorRT) -> list[Any]:
    """What there still is of TensorRT. An error that somebody holds keeps what its frames refer to."""
    gc.collect()
    return list(library.live)


def feed(session: Session, frames: list[Frame]) -> list[Frame]:
    return [restored for frame in frames for restored in session.feed(frame)] + session.flush()


def through(session: Session, name: str) -> list[Frame]:
    return feed(session, clip(name))
