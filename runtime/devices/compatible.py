"""Whether engines may run here: a bundle against GPU, driver and TensorRT; a target against the GPU, before a build."""

from __future__ import annotations

from dataclasses import dataclass

from ...engines.bundle.drivers import GET_DRIVER, oldest_driver
from ...engines.bundle.files import Bundle
from ...engines.bundle.targets import RTX, TARGETS, Target
from ...errors import BundleError, MachineError, MisuseError
from ...text import parse_version
from .driver import find_driver
from .gpu import gpu_index


@dataclass(frozen=True)
class Environment:
    """What engines depend on. None stands for something that the machine does not say; it is then not checked.

    gpu: its name. driver_cuda: the CUDA version that the driver offers, e.g. `13.0`. library: the module that runs
    engines, e.g. `tensorrt_rtx`. library_cuda: the CUDA version that its package is for, e.g. `12`.
    """

    gpu: str
    compute_capability: str
    driver_cuda: str | None
    library: str
    library_version: str
    library_cuda: str | None = None


def check_target(target: Target, device: str) -> None:
    """Raise `MisuseError` if engines for this target cannot run on a GPU of this machine. device: `cuda` or `cuda:N`.

    What the driver does not say is not checked.
    """
    driver = find_driver(gpu_index(device)) if target.compute_capability else None
    here = driver.compute_capability if driver else None
    if here in (None, target.compute_capability):
        return
    fitting = [t.name for t in TARGETS if t.compute_capability == here and t.compiler == RTX]
    raise MisuseError(
        f"target {target.name} is for GPUs of compute capability {target.compute_capability}, but {device} has {here}: "
        f"take --target {' or '.join(fitting or ['cuda'])}"
    )


def check_compatible(bundle: Bundle, here: Environment) -> None:
    """Raise if the bundle cannot run here, with what differs and what to do.

    `BundleError` if the engines were built for something else; `MachineError` if the driver is too old for the library,
    whatever the bundle.
    """
    _check_gpu(bundle, here)
    _check_library(bundle, here)
    _check_driver(bundle, here)


def _check_gpu(bundle: Bundle, here: Environment) -> None:
    built = bundle.manifest.toolchain
    if built.compute_capability not in (None, here.compute_capability):
        raise BundleError(
            f"{bundle.path}: built for compute capability {built.compute_capability} "
            f"(target {bundle.manifest.recipe.target}), but {here.gpu} has {here.compute_capability}; "
            f"choose the target of this GPU and {_rebuild(bundle)}"
        )


def _check_library(bundle: Bundle, here: Environment) -> None:
    built = bundle.manifest.toolchain
    if built.compiler_version != here.library_version:
        raise BundleError(
            f"{bundle.path}: built with {built.compiler} {built.compiler_version}, but {here.library_version} is "
            f"installed, and engines run only in the version that built them; install that version, or "
            f"{_rebuild(bundle)}"
        )
    if _is_newer(built.cuda, here.library_cuda):
        raise BundleError(
            f"{bundle.path}: built with {built.compiler} for CUDA {built.cuda}, but the installed package is for "
            f"CUDA {here.library_cuda}; install {_package(here, built.cuda)}, or {_rebuild(bundle)}"
        )


def _check_driver(bundle: Bundle, here: Environment) -> None:
    built, driver = bundle.manifest.toolchain, here.driver_cuda
    if _is_newer(here.library_cuda, driver):
        raise MachineError(
            f"the NVIDIA driver is for CUDA {driver}, {_package(here, here.library_cuda)} needs a driver for CUDA "
            f"{here.library_cuda}; update the driver to {oldest_driver(here.library_cuda or '')}: {GET_DRIVER}"
        )
    if _is_newer(built.driver_cuda, driver):
        raise BundleError(
            f"{bundle.path}: built with a driver for CUDA {built.driver_cuda}, but the driver here is for CUDA "
            f"{driver}, and engines may use what the newer one offers; update the driver ({GET_DRIVER}), or on this "
            f"machine {_rebuild(bundle)}"
        )


def _is_newer(wanted: str | None, there: str | None) -> bool:
    """False if either version is unknown."""
    return wanted is not None and there is not None and parse_version(wanted) > parse_version(there)


def _package(here: Environment, cuda: str | None) -> str:
    """The name of the library's package for a CUDA version, as pip knows it."""
    return f"{here.library.replace('_', '-')}-cu{cuda}"


def _rebuild(bundle: Bundle) -> str:
    return f"rebuild it: {bundle.manifest.recipe.command()}"
