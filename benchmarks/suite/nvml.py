"""What the NVIDIA driver's management library says about one GPU. Nothing here fails: without it, nothing is known."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from ...text import first_line, printable

_IDLE, _SETTING, _DISPLAY = 0x1, 0x2, 0x100
"""Reasons for a lower clock that are no throttling: nothing to do, and clocks that somebody or the display has set."""

_NO_MEMORY = "the driver does not say how much GPU memory this process takes (so under Windows and in containers)"
_NO_PACKAGE = "pip install nvidia-ml-py, for the extra bench"
_NO_PLACE = "CUDA does not say at which place (PCI bus id) the GPU is; a newer cuda-core may"


class Nvml:
    """One GPU. None of it is known if `found` is False."""

    def __init__(self, pci_bus_id: str | None) -> None:
        """pci_bus_id: such as `0000:01:00.0`; CUDA numbers GPUs in another order than this library does.

        None stands for no GPU, and an empty text for one whose place is not known.
        """
        self._library: Any = None
        self._handle: Any = None
        self._unknown = "" if pci_bus_id is None else self._open(pci_bus_id)

    def _open(self, pci_bus_id: str) -> str:
        """Returns why nothing is known about the GPU; empty if something is."""
        if not pci_bus_id:
            return _NO_PLACE
        try:
            import pynvml

            pynvml.nvmlInit()
            self._handle = pynvml.nvmlDeviceGetHandleByPciBusId(pci_bus_id)
            self._library = pynvml
        except ImportError:
            return _NO_PACKAGE
        except Exception as error:  # noqa: BLE001 (the library may be missing, or not be that of the loaded driver)
            return printable(first_line(error))
        return ""

    def notes(self) -> tuple[str, ...]:
        """A line if something about a GPU cannot be known."""
        if self._unknown:
            return (f"GPU memory, clocks and throttling are not known: {self._unknown}",)
        return (_NO_MEMORY,) if self.found and self.own_bytes() is None else ()

    @property
    def found(self) -> bool:
        return self._handle is not None

    def memory_bytes(self) -> int | None:
        """Memory of the GPU."""
        memory = self._ask(lambda nvml: nvml.nvmlDeviceGetMemoryInfo(self._handle))
        return None if memory is None else int(memory.total)

    def own_bytes(self) -> int | None:
        """GPU memory of this process, with all that driver and libraries take; None under Windows and in containers."""
        processes = self._ask(lambda nvml: nvml.nvmlDeviceGetComputeRunningProcesses(self._handle)) or []
        own = [process.usedGpuMemory for process in processes if process.pid == os.getpid()]
        return int(own[0]) if own and own[0] is not None else None

    def used_bytes(self) -> int | None:
        """GPU memory of all processes."""
        memory = self._ask(lambda nvml: nvml.nvmlDeviceGetMemoryInfo(self._handle))
        return None if memory is None else int(memory.used)

    def clock_mhz(self) -> float | None:
        return self._number(lambda nvml: nvml.nvmlDeviceGetClockInfo(self._handle, nvml.NVML_CLOCK_SM))

    def max_clock_mhz(self) -> float | None:
        return self._number(lambda nvml: nvml.nvmlDeviceGetMaxClockInfo(self._handle, nvml.NVML_CLOCK_SM))

    def power_w(self) -> float | None:
        return self._number(lambda nvml: nvml.nvmlDeviceGetPowerUsage(self._handle) / 1e3)

    def power_limit_w(self) -> float | None:
        return self._number(lambda nvml: nvml.nvmlDeviceGetEnforcedPowerLimit(self._handle) / 1e3)

    def temperature_c(self) -> float | None:
        kind = "NVML_TEMPERATURE_GPU"
        return self._number(lambda nvml: nvml.nvmlDeviceGetTemperature(self._handle, getattr(nvml, kind)))

    def is_throttled(self) -> bool | None:
        """True if power, heat or the power supply hold the clock down at this moment."""
        reasons = self._ask(lambda nvml: nvml.nvmlDeviceGetCurrentClocksEventReasons(self._handle))
        return None if reasons is None else bool(int(reasons) & ~(_IDLE | _SETTING | _DISPLAY))

    def _number(self, question: Callable[[Any], Any]) -> float | None:
        answer = self._ask(question)
        return None if answer is None else float(answer)

    def _ask(self, question: Callable[[Any], Any]) -> Any:
        if not self.found:
            return None
        with suppress(Exception):  # not every card and driver answers every question
            return question(self._library)
        return None
