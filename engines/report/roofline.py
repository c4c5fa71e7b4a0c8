"""How fast a bundle could be at best: a roofline over the compiled kernels. A projection, never a measurement.

    time of a kernel = max(operations / peak rate of its precision, bytes it reads and writes / memory bandwidth)
    time of a stage  = sum over its kernels
    time of a chunk  = n encode + 1 dit + n decode, n = clip length / 4

Peak rates are dense (no sparsity) with accumulation in FP32, as published; sources are in docs/roofline.md. Real
kernels reach a part of it, launches are free here, and caches are not modelled: a MIDDLE chunk cannot be faster than
this on that card unless a cache saves it trips to memory.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from swiftvr_trt.engines.compile.log import KINDS
from swiftvr_trt.engines.compile.report import KernelFacts, StageFacts


def chunk_runs(latents: int) -> dict[str, int]:
    """How often each stage runs for a MIDDLE chunk."""
    return {"encode": latents, "dit": 1, "decode": latents}


@dataclass(frozen=True)
class Gpu:
    """Peak rates in operations and bytes per second; `sm` is what an engine must have been built for."""

    name: str
    sm: str
    fp32: float
    fp16: float
    fp8: float
    fp4: float
    bandwidth: float

    def rate(self, precision: str) -> float:
        """Of the compiler's word for a precision; what the card has no faster unit for runs at the next wider one."""
        return {"FP4": self.fp4, "FP8": self.fp8, "Half": self.fp16, "BFloat16": self.fp16}.get(precision, self.fp32)


def _gpu(name: str, sm: str, fp32: float, fp16: float, fp8: float, fp4: float, gigabytes: float) -> Gpu:
    return Gpu(name, sm, fp32 * 1e12, fp16 * 1e12, fp8 * 1e12, fp4 * 1e12, gigabytes * 1e9)


GPUS = (
    _gpu("RTX 5090", "SM120", 104.8, 209.5, 419.0, 1676.0, 1792),
    _gpu("RTX 5080", "SM120", 56.3, 112.6, 225.1, 900.4, 960),
    _gpu("RTX 5070", "SM120", 30.9, 61.7, 123.5, 493.9, 672),
    _gpu("RTX 4090", "SM89", 82.6, 165.2, 330.3, 330.3, 1008),
    _gpu("RTX 3090", "SM86", 35.6, 71.2, 71.2, 71.2, 936),
    _gpu("H100 SXM", "SM90", 66.9, 989.4, 1978.9, 1978.9, 3350),
)


@dataclass(frozen=True)
class Projection:
    """Seconds that a MIDDLE chunk takes at least, by stage and by kind of kernel."""

    gpu: str
    stages: Mapping[str, float]
    kinds: Mapping[str, float]
    frames_per_second: float

    @property
    def seconds(self) -> float:
        return sum(self.stages.values())


def gpus_for(sm: str | None) -> tuple[Gpu, ...]:
    """Cards that run engines of this compute capability."""
    return tuple(gpu for gpu in GPUS if gpu.sm == sm)


def project(facts: Sequence[StageFacts], latents: int, frames: int, gpu: Gpu) -> Projection:
    """For a MIDDLE chunk of `latents` latents and `frames` frames."""
    runs = chunk_runs(latents)
    stages, kinds = dict.fromkeys(runs, 0.0), dict.fromkeys(KINDS, 0.0)
    for stage in facts:
        for kernel in stage.kernels if stage.name in runs else ():
            seconds = kernel_seconds(kernel, gpu) * runs[stage.name]
            stages[stage.name] += seconds
            kinds[kernel.kind] += seconds
    total = sum(stages.values())
    return Projection(
        gpu.name,
        stages,
        {kind: seconds for kind, seconds in kinds.items() if seconds},
        frames / total if total else 0.0,
    )


def kernel_seconds(kernel: KernelFacts, gpu: Gpu) -> float:
    """The roofline of one kernel."""
    return max(kernel.flops / gpu.rate(kernel.precision), kernel.nbytes / gpu.bandwidth)
