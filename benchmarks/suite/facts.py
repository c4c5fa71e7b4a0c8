"""What a record says about the machine."""

from __future__ import annotations

import os
import platform
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

from ...errors import SwiftVRError
from ...installing import installed_version, tool_version
from ...machine import cpu_limit
from .nvml import Nvml
from .record import GraphicsCard, HostFacts, How

if TYPE_CHECKING:
    from ...runtime.devices.gpu import Gpu

PACKAGES = (
    "av", "numpy", "onnxruntime", "onnxruntime-gpu", "tensorrt-rtx-cu12", "tensorrt-cu12", "cuda-core", "torch"
)  # fmt: skip
_EMULATOR = "CUDA emulator"
"""How the name of an emulated GPU begins. What runs there is real, its speed is not."""


def busy_share(seconds: float = 1.0) -> float:
    """Which share of the processors' time others take, 0 to 1, while this process waits for so long.

    Unlike the load average of the system, it does not count what has ended before.
    """
    return round(float(psutil.cpu_percent(seconds)) / 100, 3)


def describe_host(device: str, load: float | None = None) -> HostFacts:
    """device: `cpu` or `cuda:N`. A GPU that cannot be opened is left out; the cases say why. load: see `HostFacts`."""
    versions = {name: version for name in PACKAGES if (version := installed_version(name))}
    return HostFacts(
        cpu=_cpu_name(),
        cpus=cpu_limit() or os.cpu_count() or 1,
        memory_bytes=psutil.virtual_memory().total,
        system=f"{platform.system()} {platform.release()} {platform.machine()}",
        load=load,
        versions={"swiftvr-trt": tool_version(), "python": platform.python_version(), **versions},
        gpu=find_gpu_card(device)[0],
    )


def find_gpu_card(device: str) -> tuple[GraphicsCard | None, Nvml]:
    """The GPU `cuda:N`, and what the management library says about it; None for the CPU and for a GPU that fails."""
    from ...runtime.devices.gpu import Gpu, gpu_index

    if device == "cpu":
        return None, Nvml(None)
    try:
        gpu = Gpu(gpu_index(device))
    except SwiftVRError:
        return None, Nvml(None)
    nvml = Nvml(_bus_id(gpu))
    card = GraphicsCard(
        gpu.name,
        gpu.driver_version(),
        gpu.compute_capability,
        nvml.memory_bytes(),
        nvml.power_limit_w(),
        nvml.max_clock_mhz(),
        emulated=gpu.name.startswith(_EMULATOR),
    )
    return card, nvml


def _bus_id(gpu: Gpu) -> str:
    """Where a GPU is; empty if that is not known."""
    with suppress(Exception):  # an old cuda-core has no such property, the emulator no such call
        return str(gpu.device.pci_bus_id)
    return ""


def how_measured(card: GraphicsCard | None) -> How:
    """What measuring on a machine with this card means; None for a CPU."""
    return How.EMULATED if card is not None and card.emulated else How.MEASURED


def _cpu_name() -> str:
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
