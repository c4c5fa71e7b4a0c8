"""What a case's process takes while it is measured: RAM, GPU memory, clocks, power and heat."""

from __future__ import annotations

import threading
from typing import Self

from ...engines.compile.memory import PeakMemory
from .metrics import figure, sampled
from .nvml import Nvml
from .record import Figure, How

_INTERVAL_S = 0.1
_THROTTLED = "throttled"


class Sensors:
    """Samples ten times a second from `with` to the end of the block."""

    def __init__(self, nvml: Nvml, how: How, protocol: str) -> None:
        self._nvml, self._how, self._protocol = nvml, how, protocol
        self._memory = PeakMemory()
        self._samples: dict[str, list[float]] = {}
        self._device_bytes: float = 0.0
        self._unknown: tuple[str, ...] = ()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="swiftvr-sensors", daemon=True)

    def __enter__(self) -> Self:
        self._sample()
        if self._nvml.found:
            self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        if self._thread.is_alive():
            self._thread.join()
        self._sample()
        self._unknown = self._nvml.notes()
        self._memory.close()

    def memory(self) -> list[Figure]:
        """Peaks of RAM and of GPU memory, as far as they are known."""
        rss = self._memory.nbytes
        found = [] if rss is None else [figure("rss_bytes", rss, self._how, self._protocol)]
        if self._device_bytes:
            found.append(figure("device_bytes", self._device_bytes, self._how, self._protocol))
        return found

    def conditions(self) -> list[Figure]:
        """Clock, power, temperature, and the share of the time during which the GPU was throttled."""
        names = ("gpu_clock", "gpu_power", "gpu_temperature")
        found = [
            sampled(name, self._samples[name], self._how, self._protocol) for name in names if self._samples.get(name)
        ]
        if throttled := self._samples.get(_THROTTLED):
            found.append(figure("throttled", 100 * sum(throttled) / len(throttled), self._how, self._protocol))
        return found

    def notes(self) -> tuple[str, ...]:
        """A line if the GPU was throttled: its speed is then that of its cooling or its power supply.

        And one if its memory or its clocks are not known.
        """
        throttled = self._samples.get(_THROTTLED) or [0.0]
        share = 100 * sum(throttled) / len(throttled)
        line = (f"the GPU was throttled during {share:.0f} % of the time",) if share >= 1 else ()
        return (*line, *self._unknown)

    def _watch(self) -> None:
        while not self._ended.wait(_INTERVAL_S):
            self._sample()

    def _sample(self) -> None:
        nvml = self._nvml
        self._device_bytes = max(self._device_bytes, nvml.own_bytes() or 0)
        answers = {
            "gpu_clock": nvml.clock_mhz(),
            "gpu_power": nvml.power_w(),
            "gpu_temperature": nvml.temperature_c(),
            _THROTTLED: nvml.is_throttled(),
        }
        for name, value in answers.items():
            if value is not None:
                self._samples.setdefault(name, []).append(float(value))
