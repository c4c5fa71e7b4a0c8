"""A CUDA driver on host memory, strict and hostile: `cuda-core` runs on it without a GPU. See the README here.

    with emulated(seed=7) as emulator:          # before anything in this process has loaded a driver
        device = Device(0)
        ...
        emulator.fail("cuMemAlloc", nth=3, code=2)

Leaving the block fails if anything leaked or the emulator saw a violation. A process that has once loaded the emulator
keeps it, so tests that use it are marked `cuda_emulator` and run in a second process (`process.py`).
"""

from __future__ import annotations

import ctypes
import functools
import gc
import hashlib
import os
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

HERE = Path(__file__).parent
FLAGS = (
    "-std=gnu11",
    "-Wall",
    "-Wextra",
    "-Werror",
    "-O1",
    "-g",
    "-fPIC",
    "-shared",
    "-pthread",
    "-fvisibility=hidden",
)
HostFunction = ctypes.CFUNCTYPE(None, ctypes.c_void_p)


def build(*extra: str) -> Path:
    """Compile the emulator unless this source was compiled before; the path of `libcuda.so.1`.

    Raises RuntimeError with the compiler's words, also where there is no compiler.
    """
    sources = sorted(HERE.glob("*.c"))
    digest = hashlib.sha256(" ".join((*FLAGS, *extra)).encode())
    for path in (*sources, HERE / "emulator.h"):
        digest.update(path.read_bytes())
    cache = Path(tempfile.gettempdir()) / f"swiftvr-cuda-emulator-{os.getuid()}"
    library = cache / digest.hexdigest()[:16] / "libcuda.so.1"
    if library.exists():
        return library
    library.parent.mkdir(parents=True, exist_ok=True)
    partial = library.with_name(f"{os.getpid()}.so")
    command = ["gcc", *FLAGS, *extra, "-Wl,-soname,libcuda.so.1", "-o", str(partial), *map(str, sources)]
    try:
        subprocess.run(command, check=True, capture_output=True, text=True)
    except FileNotFoundError:
        raise RuntimeError("the CUDA emulator needs gcc, which is not installed") from None
    except subprocess.CalledProcessError as error:
        raise RuntimeError(f"the CUDA emulator does not compile:\n{error.stderr}") from None
    partial.rename(library)
    return library


@dataclass(frozen=True)
class Counts:
    """What is alive now; the last three are bytes of the three kinds of allocations."""

    contexts: int
    streams: int
    events: int
    graphs: int
    execs: int
    pools: int
    user_objects: int
    device: int
    pooled: int
    pinned: int
    device_bytes: int
    pooled_bytes: int
    pinned_bytes: int

    def leaks(self) -> dict[str, int]:
        """What is alive and should not be at the end; the primary context stays with `cuda-core`'s `Device`."""
        kinds = (field.name for field in fields(self) if field.name != "contexts" and "bytes" not in field.name)
        return {kind: getattr(self, kind) for kind in kinds if getattr(self, kind)}


class Emulator:
    """The control interface. Everything counts from the last `reset`."""

    def __init__(self, library: Path) -> None:
        self._lib = ctypes.CDLL(str(library), mode=ctypes.RTLD_LOCAL)
        size = ctypes.c_size_t
        signatures: dict[str, tuple[Any, list[Any]]] = {
            "emu_seed": (None, [ctypes.c_uint64]),
            "emu_set_delay_us": (None, [ctypes.c_uint]),
            "emu_limit_bytes": (None, [size]),
            "emu_set_capability": (None, [ctypes.c_uint]),
            "emu_allow_pageable": (None, [ctypes.c_int]),
            "emu_fail": (ctypes.c_int, [ctypes.c_char_p, ctypes.c_long, ctypes.c_int]),
            "emu_call_count": (ctypes.c_long, [ctypes.c_char_p]),
            "emu_function": (ctypes.c_char_p, [ctypes.c_int]),
            "emu_forget_calls": (None, []),
            "emu_counts": (None, [ctypes.POINTER(ctypes.c_uint64)]),
            "emu_check": (ctypes.c_int, []),
            "emu_violation": (ctypes.c_char_p, [ctypes.c_int]),
            "emu_reset": (None, []),
            "emu_break": (None, [ctypes.c_int]),
            "emu_launch": (ctypes.c_int, [size, HostFunction, ctypes.c_void_p]),
            "emu_touch": (ctypes.c_void_p, [size, size, ctypes.c_int]),
        }
        for name, (result, arguments) in signatures.items():
            function = getattr(self._lib, name)
            function.restype, function.argtypes = result, arguments
        self.errors: list[Exception] = []
        self._kernels: list[Any] = []  # ctypes functions that a graph may call again

    def reset(self, seed: int = 0, delay_us: int = 50) -> None:
        """Finish all work, drop whatever is alive, forget calls, failures and violations."""
        self._lib.emu_reset()
        self.errors.clear()
        self._kernels.clear()
        self._lib.emu_seed(seed)
        self._lib.emu_set_delay_us(delay_us)

    def set_delay(self, us: int) -> None:
        """Every operation sleeps up to this many microseconds first, now and then eight times as long."""
        self._lib.emu_set_delay_us(us)

    def limit_bytes(self, total: int) -> None:
        """The device has this much memory."""
        self._lib.emu_limit_bytes(total)

    def set_capability(self, number: int) -> None:
        """The device has this compute capability: 89 for 8.9. cuda-core asks once per thread."""
        self._lib.emu_set_capability(number)

    def allow_pageable(self) -> None:
        """Asynchronous copies may use ordinary host memory, as on a GPU: the host waits for them."""
        self._lib.emu_allow_pageable(1)

    def fail(self, name: str, nth: int = 1, code: int = 2) -> None:
        """Let the nth call of `name` from now return `code`. Codes 700..719 stay until `reset`, for every call.

        `name` may be "allocation" (of any kind) or "operation" (whatever a stream or a graph executes; stays too).
        """
        if self._lib.emu_fail(name.encode(), nth, code):
            raise ValueError(f"cannot script call {nth} of {name}")

    def calls(self, name: str) -> int:
        return int(self._lib.emu_call_count(name.encode()))

    def call_log(self) -> dict[str, int]:
        """Every function that was called, and how often, in the order of first calls."""
        log, index = {}, 0
        while name := self._lib.emu_function(index):
            if count := self.calls(name.decode()):
                log[name.decode()] = count
            index += 1
        return log

    def forget_calls(self) -> None:
        self._lib.emu_forget_calls()

    def counts(self) -> Counts:
        out = (ctypes.c_uint64 * 13)()
        self._lib.emu_counts(out)
        return Counts(*out)

    def violations(self) -> list[str]:
        """What the program did wrong; also looks at all canaries and at freed memory."""
        return [self._lib.emu_violation(i).decode() for i in range(min(self._lib.emu_check(), 256))]

    def launch(self, stream: int, function: ctypes._CFunctionType, user: int = 0) -> int:
        """What stands in for a kernel launch: enqueue a `HostFunction`; the CUresult. Keep the function alive."""
        return int(self._lib.emu_launch(stream, function, user))

    def kernel(self, stream: int, function: Callable[[], object]) -> int:
        """`launch` for any function, which is kept until `reset`.

        An exception in it is kept in `errors` and puts the device in error (719, launch failed).
        """

        def kernel(_user: int | None) -> None:
            try:
                function()
            except Exception as error:  # noqa: BLE001 - nothing can be raised into the driver's thread
                self.errors.append(error)
                self.break_device(719)

        self._kernels.append(HostFunction(kernel))
        return self.launch(stream, self._kernels[-1])

    def break_device(self, code: int) -> None:
        """Let the device fail now, as after a kernel that crashed; everything returns `code` until `reset`."""
        self._lib.emu_break(code)

    def touch(self, ptr: int, nbytes: int, *, write: bool) -> int | None:
        """The address where these device bytes may be used, or None after a violation (the device is then in error).

        In a kernel or a host function until that returns. Elsewhere for a look into device memory.
        """
        at = self._lib.emu_touch(ptr, nbytes, write)
        return None if at is None else int(at)

    def array(self, ptr: int, shape: tuple[int, ...], dtype: DTypeLike, *, write: bool = False) -> NDArray[Any]:
        """Device memory as an array, through `touch`."""
        kind = np.dtype(dtype)
        nbytes = int(np.prod(shape)) * kind.itemsize
        at = self.touch(ptr, nbytes, write=write)
        if at is None:
            raise MemoryError(f"{nbytes} bytes at {ptr:#x} do not lie in one live allocation")
        bytes_ = np.ctypeslib.as_array((ctypes.c_uint8 * nbytes).from_address(at))
        array: NDArray[Any] = bytes_.view(kind).reshape(shape)
        array.flags.writeable = write
        return array


@functools.cache
def load() -> Emulator:
    """The emulator as this process's driver, from now on to its end.

    Raises RuntimeError if `cuda.bindings` has already found another driver, or found that there is none.
    """
    emulator = Emulator(build())
    from cuda.bindings import driver

    driver.cuInit(0)
    if not emulator.calls("cuInit"):
        raise RuntimeError("cuda.bindings looked for a driver before the emulator was loaded; load it first")
    return emulator


@contextmanager
def emulated(seed: int = 0, delay_us: int = 50, *, clean: bool = True) -> Iterator[Emulator]:
    """A fresh emulator; at the end, unless not `clean`, AssertionError for every violation and leak."""
    emulator = load()
    emulator.reset(seed, delay_us)
    yield emulator
    if clean:
        assert emulator.violations() == []
        assert emulator.errors == []
        if emulator.counts().leaks():
            gc.collect()  # takes a while, and is only needed where objects refer to each other in a circle
        assert emulator.counts().leaks() == {}
