"""The NVIDIA driver and the CUDA versions that matter: its own, and that of the package of a compiler.

A package for CUDA 12 needs a driver that offers CUDA 12.0 or newer, a package for CUDA 13 one that offers 13.0: NVIDIA
guarantees compatibility within a major version. An engine that was compiled next to a driver may also use what that
driver offered, so it needs one that is at least as new.
"""

from __future__ import annotations

import ctypes
import os
import platform
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass

DRIVER_LIBRARIES = {"Windows": "nvcuda.dll", "Linux": "libcuda.so.1"}
_VISIBLE, _NONE_VISIBLE = "CUDA_VISIBLE_DEVICES", "-1"
"""What the driver goes by: numbers or names of GPUs, up to the first that does not exist."""
_CUDA_MAJORS = range(12, 20)
_MAJOR, _MINOR = 75, 76
"""CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR and _MINOR."""


@dataclass(frozen=True)
class Driver:
    """The NVIDIA driver of this machine.

    cuda: the CUDA version that it offers, e.g. `13.0`; None if it does not say. compute_capability: of the GPU that was
    asked about, e.g. `12.0`; None if there is none.
    """

    cuda: str | None
    compute_capability: str | None


def find_driver(gpu: int = 0) -> Driver | None:
    """The driver, or None. gpu: the index of a GPU. Needs no package and creates no CUDA context."""
    library = load_library(DRIVER_LIBRARIES)
    return None if library is None else Driver(_cuda_version(library), _compute_capability(library, gpu))


def has_driver() -> bool:
    """True if an NVIDIA driver can be loaded."""
    return load_library(DRIVER_LIBRARIES) is not None


def leave_only(gpu: int) -> None:
    """From now on, GPU number `gpu` is number 0 for this process and its children, and the only one they see.

    Call it before anything asks the driver, which reads this once. A user may have hidden GPUs in the same way:
    numbers count those that are visible.
    """
    if gpu == 0:
        return
    visible = os.environ.get(_VISIBLE)
    names = [str(gpu)] if visible is None else visible.split(",")[gpu:]
    os.environ[_VISIBLE] = names[0].strip() if names else _NONE_VISIBLE


def load_library(names: Mapping[str, str]) -> ctypes.CDLL | None:
    """Load a shared library of the system; None if that fails. names: by platform, Linux's being the default."""
    try:
        return ctypes.CDLL(names.get(platform.system(), names["Linux"]))
    except OSError:
        return None


def package_cuda(module: str) -> str | None:
    """The CUDA version in the name of the package that provides `module`: tensorrt_rtx_cu12 -> `12`; None if unknown.

    NVIDIA names its packages this way. `metadata.packages_distributions` would read every package on the machine.
    """
    from importlib import metadata  # 40 modules

    for cuda in _CUDA_MAJORS:
        with suppress(metadata.PackageNotFoundError):
            metadata.version(f"{module}_cu{cuda}")
            return str(cuda)
    return None


def format_cuda_version(number: int) -> str:
    """A CUDA version as the driver gives it: 12080 -> `12.8`."""
    return f"{number // 1000}.{number % 1000 // 10}"


def _cuda_version(library: ctypes.CDLL) -> str | None:
    number = ctypes.c_int()
    if library.cuDriverGetVersion(ctypes.byref(number)):
        return None
    return format_cuda_version(number.value)


def _compute_capability(library: ctypes.CDLL, gpu: int) -> str | None:
    device, major, minor = ctypes.c_int(), ctypes.c_int(), ctypes.c_int()
    if library.cuInit(0) or library.cuDeviceGet(ctypes.byref(device), gpu):
        return None
    for attribute, value in ((_MAJOR, major), (_MINOR, minor)):
        if library.cuDeviceGetAttribute(ctypes.byref(value), attribute, device):
            return None
    return f"{major.value}.{minor.value}"
