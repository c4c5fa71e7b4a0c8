"""Shared by the tests of the CUDA device: a bundle of engines, the frames of the CPU, and helpers."""

from __future__ import annotations

import gc
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from swiftvr_trt import Bundle, Restorer, Session, SwiftVRError
from swiftvr_trt.runtime.devices.cuda import CudaDevice
from swiftvr_trt.runtime.devices.driver import has_driver
from swiftvr_trt.runtime.devices.kernel_cache import KernelCache
from swiftvr_trt.runtime.devices.tensorrt import TensorRTProvider
from swiftvr_trt.runtime.stream.session import Frame
from tests.cuda_emulator import Emulator
from tests.runtime.clips import clip

from .fake_trt import FakeTensorRT

driverless = pytest.mark.skipif(has_driver(), reason="this machine has an NVIDIA driver")
NO_CACHE = KernelCache("none", "none", ())
OUT_OF_MEMORY, ILLEGAL_ADDRESS, UNKNOWN = 2, 700, 999
"""Error codes of the driver. After the second one every call fails."""


@dataclass(frozen=True)
class Lab:
    """A bundle of engines, and the frames that the CPU makes of each clip with the same graphs."""

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
    """Objects of TensorRT that still exist. An error that is still referenced keeps those in its traceback."""
    gc.collect()
    return list(library.live)


def feed(session: Session, frames: list[Frame]) -> list[Frame]:
    return [restored for frame in frames for restored in session.feed(frame)] + session.flush()


def through(session: Session, name: str) -> list[Frame]:
    return feed(session, clip(name))


def short_run(lab: Lab, emulator: Emulator, library: FakeTensorRT, **options: Any) -> list[Frame]:
    with lab.opened(emulator, library, **options) as restorer, restorer.session() as session:
        return through(session, "edges")


def error_of(lab: Lab, emulator: Emulator, library: FakeTensorRT) -> Exception | None:
    """The error of a short run that may fail; None if it returns the right frames."""
    try:
        assert lab.same("edges", short_run(lab, emulator, library))
    except Exception as error:  # noqa: BLE001 (of whatever kind it is: that is the question)
        return error
    return None


def is_clear(error: BaseException) -> bool:
    """One line of ours: not the driver's message alone, and not too long."""
    text = str(error)
    return (
        isinstance(error, SwiftVRError) and "\n" not in text and not text.startswith("CUDA_ERROR") and len(text) < 600
    )
