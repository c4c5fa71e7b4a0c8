"""Looks at this machine for `--target auto`: its GPU, the memory that is free there, and what is installed."""

from __future__ import annotations

from dataclasses import replace

from ...engines.bundle.auto import Host
from ...errors import SwiftVRError
from ...installing import installed_extras, optional_packages
from ...text import first_line
from .driver import find_driver
from .gpu import Gpu


def look_at_host(index: int = 0, *, engines: bool = True) -> Host:
    """What decides which bundles suit this machine. Never raises.

    index: of the GPU that is to restore. engines: False if only graphs will do. The amount of free memory is known
    if the packages that use a GPU are installed; asking makes a context of CUDA, as restoring does.
    """
    extras, driver = installed_extras(), find_driver(index)
    if driver is None or driver.compute_capability is None:
        why = "no NVIDIA driver was found" if driver is None else f"the NVIDIA driver finds no GPU {index}"
        return Host(why_cpu=why, extras=extras)
    found = Host(
        "NVIDIA GPU",
        why_cpu="",
        compute_capability=driver.compute_capability,
        extras=extras,
        engines=engines,
        driver_cuda=driver.cuda,
        packages=optional_packages(),
    )
    if "cuda" not in extras:
        return found
    try:
        gpu = Gpu(index)
        return replace(found, gpu=gpu.name, free_bytes=gpu.free_bytes())
    except SwiftVRError as error:
        return Host(why_cpu=f"the NVIDIA GPU cannot be used ({first_line(error)})", extras=extras)
