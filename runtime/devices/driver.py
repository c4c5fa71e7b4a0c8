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

from ...text import parse_version

GET_DRIVER = "https://www.nvidia.com/drivers"
DRIVER_LIBRARIES = {"Windows": "nvcuda.dll", "Linux": "libcuda.so.1"}
_VISIBLE, _NONE_VISIBLE = "CUDA_VISIBLE_DEVICES", "-1"
"""What the driver goes by: numbers or names of GPUs, up to the first that does not exist."""
_CUDA_MAJORS = range(12, 20)
_MAJOR, _MINOR = 75, 76
"""CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR and _MINOR."""
_FIRST_DRIVERS = {"12.0": "525", "12.2": "535", "12.8": "570", "12.9": "575", "13.0": "580"}
"""The driver that came with a CUDA version, from NVIDIA's release notes."""
_CUDA_OF_GPUS = {"12.0": "12.8", "12.1": "12.9"}
"""The first CUDA version that knew a compute capability, where it is not older than all that matter here."""
_CUDA_OF_EXTRAS = {"gpu": "13", "tensorrt": "12.2"}
"""What ONNX Runtime was built with, and what NVIDIA asks for in TensorRT's prerequisites."""


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


def oldest_driver(cuda: str) -> str:
    """The oldest driver for a CUDA version, in words: `12` -> version 525 or newer."""
    wanted = parse_version(cuda)
    known = [number for first, number in _FIRST_DRIVERS.items() if wanted <= parse_version(first) < (wanted[0] + 1,)]
    return f"version {known[0]} or newer" if known else f"one for CUDA {cuda} or newer"


def oldest_cuda_for(packages: Mapping[str, str | None], extra: str, capability: str | None) -> str:
    """The CUDA version that a driver must offer to run what an extra is for, on a GPU of this compute capability.

    packages: installed versions, None for a package that is not installed; then what would be installed counts.
    """
    asked = [(packages.get("cuda-bindings") or _USUAL_BINDINGS).partition(".")[0]]
    asked += [known for known in (_CUDA_OF_EXTRAS.get(extra), _CUDA_OF_GPUS.get(capability or "")) if known]
    return max([*asked, _cuda_of_engines(packages, extra)], key=parse_version)


def _cuda_of_engines(packages: Mapping[str, str | None], extra: str) -> str:
    """That of the installed package of a compiler: tensorrt-rtx-cu13 -> 13."""
    prefix = _COMPILERS.get(extra)
    names = [name for name, version in packages.items() if prefix and version and name.startswith(prefix)]
    return min((name[-2:] for name in names), default="12")


_USUAL_BINDINGS = "13"
"""What the extra `cuda` installs."""
_COMPILERS = {"rtx": "tensorrt-rtx-cu", "tensorrt": "tensorrt-cu"}


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
