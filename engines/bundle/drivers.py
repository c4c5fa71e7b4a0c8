"""Which NVIDIA driver a CUDA version takes, and which one the bundles of a target take with what is installed.

A driver offers a CUDA version, and runs what was made for that version or an earlier one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ...installing import install_command
from ...text import parse_version

GET_DRIVER = "https://www.nvidia.com/drivers"
_FIRST_DRIVERS = {"12.0": "525", "12.2": "535", "12.8": "570", "12.9": "575", "13.0": "580"}
"""The driver that came with a CUDA version, from NVIDIA's release notes."""
_CUDA_OF_GPUS = {"12.0": "12.8", "12.1": "12.9"}
"""The first CUDA version that knew a compute capability, where it is not older than all that matter here."""
_CUDA_OF_EXTRAS = {"gpu": "13", "tensorrt": "12.2"}
"""What ONNX Runtime was built with, and what NVIDIA asks for in TensorRT's prerequisites."""
_COMPILERS = {"rtx": "tensorrt-rtx-cu", "tensorrt": "tensorrt-cu"}
_BINDINGS = "cuda-bindings"
_USUAL, _EARLIER = "13", "12"
"""The cuda-bindings that the extras `cuda` and `cuda12` install."""


@dataclass(frozen=True)
class DriverNeeds:
    """What runs bundles on a GPU, and the CUDA versions that its driver must offer for that.

    offered: that of the driver, e.g. `12.8`; None if unknown. extras: what to install for such a driver. cuda: with
    what is installed, or else would be. least: with the earlier cuda-bindings. optional: these can still be chosen.
    """

    offered: str | None
    extras: tuple[str, str]
    cuda: str
    least: str
    optional: bool

    @property
    def too_old(self) -> bool:
        """True if the driver is known to offer less."""
        return not _offers(self.offered, self.cuda)

    @property
    def wanted(self) -> str:
        """The driver, in words."""
        wanted = oldest_driver(self.cuda)
        if self.optional and self.least != self.cuda:
            wanted += f", or {oldest_driver(self.least).removeprefix('version ').removesuffix(' or newer')} with cuda12"
        return wanted

    @property
    def instead(self) -> str:
        """The beginning of a remedy for a driver that is too old: what to install, if that will do. It may be empty."""
        return f"{install_command('cuda12')}, or " if _offers(self.offered, self.least) else ""


def driver_needs(
    extra: str, capability: str | None, packages: Mapping[str, str | None], offered: str | None
) -> DriverNeeds:
    """What the bundles of a target take of the driver.

    extra: that of the target. capability: of the GPU. packages: installed versions; one that is not installed is None,
    or is left out. offered: the CUDA version of the driver, if it is known.
    """
    old = extra != "gpu" and not _offers(offered, _USUAL)
    bindings = packages.get(_BINDINGS) or (_EARLIER if old else None)
    cuda, least = (
        oldest_cuda_for({**packages, _BINDINGS: version}, extra, capability) for version in (bindings, _EARLIER)
    )
    return DriverNeeds(offered, (extra, "cuda12" if old else "cuda"), cuda, least, bindings is None)


def oldest_driver(cuda: str) -> str:
    """The oldest driver for a CUDA version, in words: `12` -> version 525 or newer."""
    wanted = parse_version(cuda)
    known = [number for first, number in _FIRST_DRIVERS.items() if wanted <= parse_version(first) < (wanted[0] + 1,)]
    return f"version {known[0]} or newer" if known else f"one for CUDA {cuda} or newer"


def oldest_cuda_for(packages: Mapping[str, str | None], extra: str, capability: str | None) -> str:
    """The CUDA version that a driver must offer to run what an extra is for, on a GPU of this compute capability.

    packages: installed versions, None for a package that is not installed; then what would be installed counts.
    """
    asked = [(packages.get(_BINDINGS) or _USUAL).partition(".")[0]]
    asked += [known for known in (_CUDA_OF_EXTRAS.get(extra), _CUDA_OF_GPUS.get(capability or "")) if known]
    return max([*asked, _cuda_of_engines(packages, extra)], key=parse_version)


def _cuda_of_engines(packages: Mapping[str, str | None], extra: str) -> str:
    """That of the installed package of a compiler: tensorrt-rtx-cu13 -> 13."""
    prefix = _COMPILERS.get(extra)
    names = [name for name, version in packages.items() if prefix and version and name.startswith(prefix)]
    return min((name[-2:] for name in names), default="12")


def _offers(offered: str | None, cuda: str) -> bool:
    """Whether a driver is new enough. One that is not known is believed to be."""
    return offered is None or parse_version(offered) >= parse_version(cuda)
