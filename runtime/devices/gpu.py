"""One NVIDIA GPU through `cuda-core`: its properties, its memory, its errors. Import it only where a GPU is wanted."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from ...engines.bundle.drivers import GET_DRIVER, oldest_driver
from ...errors import MachineError, MisuseError, StageError, SwiftVRError, cannot_import
from ...installing import install_command
from ...text import first_line, parse_version
from .driver import format_cuda_version, has_driver
from .notes import NOTES

_DEVICE = re.compile(r"cuda(?::(\d{1,3}))?")


def gpu_index(device: str) -> int:
    """`cuda` -> 0, `cuda:1` -> 1; `MisuseError` for anything else."""
    match = _DEVICE.fullmatch(device) if isinstance(device, str) else None
    if match is None:
        raise MisuseError(f"device {device!r} is not known, expected cpu, cuda, or cuda:N with the number of a GPU")
    return int(match[1] or 0)


def require_driver() -> None:
    """Raise `MachineError` if this machine has no NVIDIA driver."""
    if not has_driver():
        raise MachineError(
            "no NVIDIA driver was found, running on a GPU needs one: install it from "
            f"{GET_DRIVER}, or use --device cpu with a bundle for the CPU"
        )


class Gpu:
    """A GPU. Its context is current in the thread that makes this object; other threads call `make_current`.

    name: e.g. `NVIDIA GeForce RTX 5090`. compute_capability: e.g. `12.0`. core: the package `cuda.core`; device: its
    `Device`.
    """

    def __init__(self, index: int) -> None:
        """Raises `MissingPackageError` without cuda-core, `MachineError` without a driver or this GPU."""
        self.core = _import_core()
        self.index = index
        require_driver()
        with explain_cuda_errors(f"the GPU could not be opened{_driver_too_old()}", MachineError):
            count = len(self.core.Device.get_all_devices())
            if index >= count:
                raise MachineError(
                    f"GPU {index} was asked for, this machine has {count or 'none'}; "
                    + (f"choose cuda:0 to cuda:{count - 1}" if count else "use --device cpu")
                )
            self.device = self.core.Device(index)
            self.device.set_current()
            self.name: str = self.device.name
            capability = self.device.compute_capability
        self.compute_capability = f"{capability.major}.{capability.minor}"
        if old := _driver_too_old():
            NOTES.warning("the GPU may fail%s", old)

    def make_current(self) -> None:
        """Make this GPU current in the calling thread. Cheap; every call from outside the device begins with it."""
        self.core.Device(self.index).set_current()

    def driver_version(self) -> str:
        """The version of the driver, e.g. `580.65.6`; the CUDA version that it offers if it has no other."""
        try:
            return ".".join(map(str, self.core.system.get_kernel_mode_driver_version()))
        except Exception:  # noqa: BLE001 (the management library may be missing, as it is under WSL)
            return f"for CUDA {self.driver_cuda()}"

    def driver_cuda(self) -> str | None:
        """The CUDA version that the driver offers, e.g. `13.0`; None if it does not say."""
        return _driver_cuda()

    def trim_memory_pool(self) -> None:
        """Return released device memory to the driver, for `free_bytes`, other bundles and other processes.

        cuda-core tells the driver's pool to keep what it releases. Memory that a CUDA stream still uses stays.
        """
        from cuda.bindings import driver

        error, pool = driver.cuDeviceGetMemPool(self.index)
        if not int(error):
            driver.cuMemPoolTrimTo(pool, 0)

    def loss(self, stream: Any) -> str | None:
        """The driver's name for the error by which this process has lost the GPU; None if it has not.

        Such an error, a crashed kernel for example, comes back from every later call. stream: one that is not being
        captured.
        """
        from cuda.bindings import driver

        (error,) = driver.cuStreamQuery(stream.handle)
        usable = error in (driver.CUresult.CUDA_SUCCESS, driver.CUresult.CUDA_ERROR_NOT_READY)
        return None if usable or "STREAM_CAPTURE" in error.name else str(error.name)

    def free_bytes(self) -> int | None:
        """Bytes of device memory that are free now; None if the driver does not say."""
        from cuda.bindings import driver

        error, free, _total = driver.cuMemGetInfo()
        return int(free) if not int(error) else None


@contextmanager
def explain_cuda_errors(what: str, kind: type[MachineError] = StageError) -> Iterator[None]:
    """Turn errors of the driver and of cuda-core into `kind`, with the message `what (the driver's own words)`."""
    try:
        yield
    except SwiftVRError:
        raise
    except Exception as error:
        if not is_cuda_error(error):
            raise
        raise kind(f"{what} ({first_line(error)})") from error


def is_cuda_error(error: BaseException) -> bool:
    """True for errors of the driver and of cuda-core, some of which are plain RuntimeErrors."""
    return isinstance(error, RuntimeError) or any(cls.__module__.startswith("cuda.") for cls in type(error).__mro__)


def is_out_of_memory(error: BaseException) -> bool:
    """True if the driver said that it has no memory left."""
    return "CUDA_ERROR_OUT_OF_MEMORY" in str(error)


def _driver_cuda() -> str | None:
    from cuda.bindings import driver

    error, number = driver.cuDriverGetVersion()
    return format_cuda_version(int(number)) if not int(error) else None


def _driver_too_old() -> str:
    """What to do, as the end of a message; empty if the driver is new enough for cuda-bindings."""
    from cuda.bindings import driver

    found, wanted = _driver_cuda(), str(int(driver.CUDA_VERSION) // 1000)
    if found is None or parse_version(found) >= parse_version(wanted):
        return ""
    return (
        f": the NVIDIA driver is for CUDA {found}, cuda-bindings is made for {wanted}; update the "
        f"driver to {oldest_driver(wanted)}, {GET_DRIVER}, or run engines for CUDA 12: {install_command('cuda12')}"
    )


def _import_core() -> Any:
    try:
        import cuda.core
    except (ImportError, OSError) as error:
        raise cannot_import(error, "cuda-core", "running on a GPU", "cuda") from error
    import cuda.core.system

    os.environ.setdefault("CUDA_PYTHON_DISABLE_MAJOR_VERSION_WARNING", "1")  # `Gpu` says it, with what to do
    return cuda.core
