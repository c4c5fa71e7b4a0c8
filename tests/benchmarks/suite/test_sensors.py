"""Peaks and conditions while a case runs."""

from __future__ import annotations

import numpy as np

from swiftvr_trt.benchmarks.suite.nvml import Nvml
from swiftvr_trt.benchmarks.suite.record import How
from swiftvr_trt.benchmarks.suite.sensors import Sensors


class Hot(Nvml):
    """A GPU that is throttled every other time."""

    def __init__(self) -> None:
        self.asked = 0

    def notes(self) -> tuple[str, ...]:
        return ("its power is not known",)

    @property
    def found(self) -> bool:
        return True

    def own_bytes(self) -> int:
        return 1000 * self.asked

    def clock_mhz(self) -> float:
        return 2000.0

    def power_w(self) -> None:
        return None

    def temperature_c(self) -> None:
        return None

    def is_throttled(self) -> bool:
        self.asked += 1
        return self.asked % 2 == 1


def test_without_a_gpu_there_is_the_peak_of_the_ram() -> None:
    with Sensors(Nvml(None), How.MEASURED, "trial") as sensors:
        block = np.ones(30_000_000, np.uint8)
        assert block.sum()
    (rss,) = sensors.memory()
    assert rss.name == "rss_bytes"
    assert rss.value > 30e6
    assert sensors.conditions() == []
    assert sensors.notes() == ()


def test_a_throttled_gpu_is_noted() -> None:
    gpu = Hot()
    with Sensors(gpu, How.MEASURED, "trial") as sensors:
        pass
    figures = {figure.name: figure for figure in (*sensors.memory(), *sensors.conditions())}
    assert figures["gpu_clock"].value == 2000
    assert figures["device_bytes"].value == 1000 * (gpu.asked - 1)  # the peak, however many samples there were
    assert 0 < figures["throttled"].value <= 100
    assert "the GPU was throttled during" in sensors.notes()[0]
    assert sensors.notes()[1:] == ("its power is not known",)
