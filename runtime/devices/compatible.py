"""Whether the engines of a bundle may run on this machine: its GPU, its driver and its library against the manifest."""

from __future__ import annotations

from dataclasses import dataclass

from swiftvr_trt.engines.bundle.files import Bundle
from swiftvr_trt.errors import BundleError, MachineError
from swiftvr_trt.text import version

from .driver import GET_DRIVER, oldest_driver


@dataclass(frozen=True)
class Environment:
    """What engines meet here. None where the machine does not tell, which is then not held against them.

    driver_cuda: the CUDA version that the driver offers, e.g. `13.0`. library: name of the module that runs engines,
    e.g. `tensorrt_rtx`; library_cuda: the CUDA version that its package is for, e.g. `12`.
    """

    gpu: str
    compute_capability: str
    driver_cuda: str | None
    library: str
    library_version: str
    library_cuda: str | None = None


def check_compatible(bundle: Bundle, here: Environment) -> None:
    """Raise in one line that names what differs, what is here, and what to do.

    `BundleError` if the engines are for something else than what is here; `MachineError` if the driver is too old for
    the library, whatever the bundle.
    """
    _check_gpu(bundle, here)
    _check_library(bundle, here)
    _check_driver(bundle, here)


def _check_gpu(bundle: Bundle, here: Environment) -> None:
    built = bundle.manifest.toolchain
    if built.compute_capability not in (None, here.compute_capability):
        raise BundleError(
            f"{bundle.path}: built for compute capability {built.compute_capability} "
            f"(target {bundle.manifest.recipe.target}), {here.gpu} has {here.compute_capability}; "
            f"take the target of this GPU and {_rebuild(bundle)}"
        )


def _check_library(bundle: Bundle, here: Environment) -> None:
    built = bundle.manifest.toolchain
    if built.compiler_version != here.library_version:
        raise BundleError(
            f"{bundle.path}: built with {built.compiler} {built.compiler_version}, {here.library_version} is "
            f"installed, and engines run with their own version only; install that one, or {_rebuild(bundle)}"
        )
    if _newer(built.cuda, here.library_cuda):
        raise BundleError(
            f"{bundle.path}: built with {built.compiler} for CUDA {built.cuda}, the package that is installed is "
            f"for CUDA {here.library_cuda}; install {_package(here, built.cuda)}, or {_rebuild(bundle)}"
        )


def _check_driver(bundle: Bundle, here: Environment) -> None:
    built, driver = bundle.manifest.toolchain, here.driver_cuda
    if _newer(here.library_cuda, driver):
        raise MachineError(
            f"the NVIDIA driver is for CUDA {driver}, {_package(here, here.library_cuda)} needs a driver for CUDA "
            f"{here.library_cuda}; update the driver to {oldest_driver(here.library_cuda or '')}: {GET_DRIVER}"
        )
    if _newer(built.driver_cuda, driver):
        raise BundleError(
            f"{bundle.path}: built where the driver was for CUDA {built.driver_cuda}, the driver here is for CUDA "
            f"{driver}, and engines may need what theirs had; update the driver ({GET_DRIVER}), or on this machine "
            f"{_rebuild(bundle)}"
        )


def _newer(wanted: str | None, there: str | None) -> bool:
    """True if more is wanted than there is; False where either is not known."""
    return wanted is not None and there is not None and version(wanted) > version(there)


def _package(here: Environment, cuda: str | None) -> str:
    """The package of this library for a CUDA version, as pip knows it."""
    return f"{here.library.replace('_', '-')}-cu{cuda}"


def _rebuild(bundle: Bundle) -> str:
    return f"rebuild it: {bundle.manifest.recipe.command()}"
