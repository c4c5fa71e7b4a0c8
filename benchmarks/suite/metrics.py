"""Every figure that a run may hold: what it is called for people, its unit, and which direction is better.

Names that begin with `memory.` are parts of the memory plan, and `stage.` the time of one stage in a chunk: both exist
once per part, so they are not listed one by one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from .record import Figure, How
from .statistics import percentile

LOWER, HIGHER, NEITHER = "lower", "higher", ""
NO_PSNR = "PSNR to float32 is not measured"
"""How the note of a case begins that says why it has no `psnr`."""


@dataclass(frozen=True)
class Metric:
    """What a figure means. better: `lower`, `higher`, or empty if neither is."""

    label: str
    unit: str
    scope: str
    better: str = LOWER


METRICS = {
    "chunk": Metric("chunk", "ms", "core"),
    "core_fps": Metric("core", "FPS", "core", HIGHER),
    "stage": Metric("stage", "ms", "core"),
    "cpu_per_frame": Metric("processor time of a frame, core", "ms", "core"),
    "file_s": Metric("whole file, time", "s", "file"),
    "file_fps": Metric("whole file", "FPS", "file", HIGHER),
    "file_cpu_per_frame": Metric("processor time of a frame, whole file", "ms", "file"),
    "real_time": Metric("times real time", "x", "file", HIGHER),
    "program_s": Metric("whole file with start and load, time", "s", "file"),
    "program_fps": Metric("whole file with start and load", "FPS", "file", HIGHER),
    "program_rss_bytes": Metric("RAM of a program, peak", "bytes", "file"),
    "frames_in": Metric("frames in", "frames", "file", NEITHER),
    "frames_out": Metric("frames out", "frames", "file", NEITHER),
    "first_frame": Metric("first frame", "ms", "latency"),
    "chunk_latency": Metric("delay of a full chunk", "ms", "latency"),
    "device_bytes": Metric("GPU memory, peak (NVML)", "bytes", "memory"),
    "planned_bytes": Metric("memory, planned", "bytes", "memory"),
    "memory": Metric("memory of a part", "bytes", "memory"),
    "rss_bytes": Metric("RAM, peak", "bytes", "memory"),
    "psnr": Metric("PSNR to float32", "dB", "quality", HIGHER),
    "ssim": Metric("SSIM to float32", "", "quality", HIGHER),
    "temporal_error": Metric("temporal error to float32", "levels", "quality"),
    "psnr_clean": Metric("PSNR to the undamaged clip", "dB", "quality", HIGHER),
    "ssim_clean": Metric("SSIM to the undamaged clip", "", "quality", HIGHER),
    "vmaf_clean": Metric("VMAF to the undamaged clip", "", "quality", HIGHER),
    "temporal_error_clean": Metric("temporal error to the undamaged clip", "levels", "quality"),
    "psnr_before": Metric("PSNR of the enlarged input", "dB", "quality", HIGHER),
    "ssim_before": Metric("SSIM of the enlarged input", "", "quality", HIGHER),
    "temporal_error_before": Metric("temporal error of the enlarged input", "levels", "quality"),
    "build_s": Metric("build", "s", "build"),
    "build_rss_bytes": Metric("RAM of the build, peak", "bytes", "build"),
    "bundle_bytes": Metric("bundle on disk", "bytes", "build"),
    "cold_start": Metric("first start", "s", "startup"),
    "warm_start": Metric("start", "s", "startup"),
    "load": Metric("load", "s", "startup"),
    "gpu_clock": Metric("GPU clock", "MHz", "core", NEITHER),
    "gpu_power": Metric("GPU power", "W", "core", NEITHER),
    "gpu_temperature": Metric("GPU temperature", "C", "core", NEITHER),
    "throttled": Metric("time throttled", "%", "core", NEITHER),
    "roof_fps": Metric("at most (roofline)", "FPS", "core", HIGHER),
    "projected_fps": Metric("expected", "FPS", "core", HIGHER),
    "imported": Metric("a run of an engine", "ms", "core"),
    "flops": Metric("operations of a chunk", "FLOP", "core"),
    "kernels": Metric("kernels of a chunk", "kernels", "core"),
}


def find_metric(name: str) -> Metric:
    """The metric of a figure, also of one part: `stage.decode`, `memory.arena`.

    A record of another version may have figures that are not known here: neither direction is better, and they are
    called as they are.
    """
    return _metric_of(name) if name.partition(".")[0] in METRICS else Metric(name, "", "", NEITHER)


def _metric_of(name: str) -> Metric:
    kind, _, part = name.partition(".")
    return replace(METRICS[kind], label=part) if part else METRICS[kind]


def figure(name: str, value: float, how: How, protocol: str, note: str = "") -> Figure:
    """One number without samples."""
    metric = _metric_of(name)
    return Figure(name, float(value), metric.unit, how, metric.scope, protocol, note=note)


def sampled(name: str, samples: Sequence[float], how: How, protocol: str, note: str = "") -> Figure:
    """The median of samples, with percentiles and the samples themselves. There is at least one."""
    metric, values = _metric_of(name), tuple(map(float, samples))
    low, middle, high, highest = (percentile(values, part) for part in (10, 50, 90, 99))
    return Figure(
        name, middle, metric.unit, how, metric.scope, protocol, values, (len(values),), low, high, highest, note
    )
