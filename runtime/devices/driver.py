"""What decides, besides the compiler's version, where engines run: the CUDA version of its package, and the driver's.

A package for CUDA 12 needs a driver that offers CUDA 12.0 or newer, one for CUDA 13 a driver for 13.0: within a major
version, NVIDIA promises that older drivers do. An engine that was compiled where a driver was may in addition use what
that driver offered, so it wants one that is not older.
"""

from __future__ import annotations

import ctypes
import platform
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from importlib import metadata

from swiftvr_trt.text import version

GET_DRIVER = "https://www.nvidia.com/drivers"
DRIVER_LIBRARIES = {"Windows": "nvcuda.dll", "Linux": "libcuda.so.1"}
_PACKAGES_FOR = range(12, 20)
_MAJOR, _MINOR = 75, 76  # CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR, _MINOR
_FIRST_DRIVERS = {12: "525", 13: "580"}
"""The first driver for each CUDA major version, by NVIDIA's table of minor version compatibility."""


@dataclass(frozen=True)
class Driver:
    """The NVIDIA driver of this machine. cuda: the CUDA version that it offers, e.g. `13.0`; None if it does not say.

    compute_capability: of the first GPU, e.g. `12.0`; None if there is none.
    """

    cuda: str | None
    compute_capability: str | None


def find_driver() -> Driver | None:
    """The driver, asked without any package; None if there is none. Makes no context."""
    library = load_library(DRIVER_LIBRARIES)
    return None if library is None else Driver(_cuda_version(library), _compute_capability(library))


def has_driver() -> bool:
    """True if an NVIDIA driver can be loaded."""
    return load_library(DRIVER_LIBRARIES) is not None


def load_library(names: Mapping[str, str]) -> ctypes.CDLL | None:
    """A shared library of the system, by its name on each platform; None if it cannot be loaded."""
    try:
        return ctypes.CDLL(names.get(platform.system(), names["Linux"]))
    except OSError:
        return None


def package_cuda(module: str) -> str | None:
    """The CUDA version that the package which brings `module` is for: tensorrt_rtx_cu12 -> `12`; None if untold.

    NVIDIA names its packages so. To ask who brings a module would be to read what every package on the machine holds.
    """
    for cuda in _PACKAGES_FOR:
        with suppress(metadata.PackageNotFoundError):
            metadata.version(f"{module}_cu{cuda}")
            return str(cuda)
    return None


def oldest_driver(cuda: str) -> str:
    """The oldest driver for a CUDA version, in words: `12` -> version 525."""
    known = _FIRST_DRIVERS.get(version(cuda)[0])
    return f"version {known} or newer" if known else f"one for CUDA {cuda} or newer"


def _cuda_version(library: ctypes.CDLL) -> str | None:
    number = ctypes.c_int()
    if library.cuDriverGetVersion(ctypes.byref(number)):
        return None
    return format_cuda_version(number.value)


def format_cuda_version(number: int) -> str:
    """A CUDA version as the driver gives it: 12080 -> `12.8`."""
    return f"{number // 1000}.{number % 1000 // 10}"


def _compute_capability(library: ctypes.CDLL) -> str | None:
    device, major, minor = ctypes.c_int(), ctypes.c_int(), ctypes.c_int()
    if library.cuInit(0) or library.cuDeviceGet(ctypes.byref(device), 0):
        return None
    for attribute, value in ((_MAJOR, major), (_MINOR, minor)):
        if library.cuDeviceGetAttribute(ctypes.byref(value), attribute, device):
            return None
    return f"{major.value}.{minor.value}"
