"""The CUDA device on an emulated driver: to the byte the frames of the CPU, whatever the streams' delays.

The driver reports every access that is not ordered by the program, use of freed memory, broken canaries and leaks;
TensorRT is `fake_trt`, whose stages run in ONNX Runtime. Run by `test_cuda.py`, in a process of its own.
"""

from __future__ import annotations

import gc
import itertools
import json
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ..cuda_emulator import Emulator, emulated, load

load()  # before anything imports cuda.bindings

from swiftvr_trt import (
    Bundle,
    BundleError,
    Cancelled,
    MachineError,
    MisuseError,
    Restorer,
    Session,
    StageError,
    SwiftVRError,
)
from swiftvr_trt.runtime.cuda import CudaDevice
from swiftvr_trt.runtime.device import Recording
from swiftvr_trt.runtime.kernel_cache import KernelCache
from swiftvr_trt.runtime.plan import plan_memory
from swiftvr_trt.runtime.program import Copy, Download, Upload, View, plan_buffers
from swiftvr_trt.runtime.session import Frame
from swiftvr_trt.runtime.trace import Trace

from . import mutants
from .clips import CLIP_LEN, CLIPS, OUT, clip
from .fake_trt import FakeTensorRT

PLACE = Path(os.environ["SWIFTVR_EMULATED"])
ENGINES = Bundle.open(PLACE / "engines")
EXPECTED: dict[str, list[Frame]] = {key: list(frames) for key, frames in np.load(PLACE / "expected.npz").items()}
NO_CACHE = KernelCache("none", "none", ())
SCHEDULES = 200
OUT_OF_MEMORY, ILLEGAL_ADDRESS, UNKNOWN = 2, 700, 999


@contextmanager
def opened(
    emulator: Emulator, library: FakeTensorRT | None = None, *, kind: Any = CudaDevice, **options: Any
) -> Iterator[Restorer]:
    """A restorer on the emulated GPU; at the end nothing of TensorRT may be left."""
    library = library or FakeTensorRT(emulator)
    device = kind(ENGINES, library=library, **{"kernels": NO_CACHE, **options})
    try:
        with Restorer(device, ENGINES.manifest) as restorer:
            yield restorer
    finally:
        del device
        gc.collect()
        assert not library.live
    assert library.problems == []


def same(name: str, frames: list[Frame]) -> bool:
    return len(frames) == len(EXPECTED[name]) and np.array_equal(frames, EXPECTED[name])


def through(session: Session, name: str) -> list[Frame]:
    return [restored for frame in clip(name) for restored in session.feed(frame)] + session.flush()


@pytest.mark.parametrize("rtx", [True, False], ids=["TensorRT-RTX", "TensorRT"])
@pytest.mark.parametrize("graphs", [True, False], ids=["graphs", "direct"])
@pytest.mark.parametrize("name", CLIPS)
def check_frames_are_those_of_the_cpu(name: str, graphs: bool, rtx: bool) -> None:
    with emulated() as emulator, opened(emulator, FakeTensorRT(emulator, rtx=rtx), graphs=graphs) as restorer:
        assert same(name, list(restorer.restore(clip(name))))


@pytest.mark.parametrize("graphs", [True, False], ids=["graphs", "direct"])
def check_any_schedule_gives_the_same_frames(graphs: bool) -> None:
    for seed in range(SCHEDULES):
        with emulated(seed) as emulator, opened(emulator, graphs=graphs) as restorer:
            assert same("long", list(restorer.restore(clip("long")))), f"seed {seed}"
