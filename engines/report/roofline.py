"""How fast a bundle could be at best: a roofline over the compiled kernels. A projection, never a measurement.

    time of a kernel = max(operations / peak rate of its precision, bytes it reads and writes / memory bandwidth)
    time of a stage  = sum over its kernels
    time of a chunk  = n take + n encode + 1 dit + n decode + n give, n = clip length / 4; 8-bit planes in and out

Peak rates are the dense ones (no sparsity), with accumulation in FP32; `engines/bundle/cards.py` names the sources.
Real kernels reach only part of them. Launches count as free and caches are not modelled, so a MIDDLE chunk cannot be
faster than this on that card, unless a cache saves trips to memory.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ..bundle.cards import Card
from ..bundle.pixel_formats import YUV420P
from ..compile.log import KINDS
from ..compile.report import CompiledKernel, CompiledStage


def chunk_runs(latents: int) -> dict[str, int]:
    """How often each stage runs for a MIDDLE chunk of 8-bit planes."""
    return {YUV420P.take: latents, "encode": latents, "dit": 1, "decode": latents, YUV420P.give: latents}


@dataclass(frozen=True)
class Projection:
    """The least time of a MIDDLE chunk on a card, in seconds, by stage and by kind of kernel.

    memory_bytes: what a pipeline may take on the card.
    """

    gpu: str
    stages: Mapping[str, float]
    kinds: Mapping[str, float]
    frames_per_second: float
    memory_bytes: float

    @property
    def seconds(self) -> float:
        return sum(self.stages.values())


def project(stages: Sequence[CompiledStage], latents: int, frames: int, card: Card) -> Projection:
    """The projection for a MIDDLE chunk of `latents` latents and `frames` frames."""
    runs = chunk_runs(latents)
    counted = [stage for stage in stages if stage.name in runs]
    by_stage, by_kind = {stage.name: 0.0 for stage in counted}, dict.fromkeys(KINDS, 0.0)
    for stage in counted:
        for kernel in stage.kernels:
            seconds = kernel_seconds(kernel, card) * runs[stage.name]
            by_stage[stage.name] += seconds
            by_kind[kernel.kind] += seconds
    total = sum(by_stage.values())
    return Projection(
        card.name,
        by_stage,
        {kind: seconds for kind, seconds in by_kind.items() if seconds},
        frames / total if total else 0.0,
        card.memory_bytes,
    )


def kernel_seconds(kernel: CompiledKernel, card: Card) -> float:
    """The roofline of one kernel."""
    return kernel_seconds_of(kernel.precision, kernel.flops, kernel.nbytes, card)


def kernel_seconds_of(precision: str, flops: int, nbytes: int, card: Card) -> float:
    """The roofline of a kernel with so many operations in a precision (the compiler's word for it) and bytes."""
    return max(flops / card.rate(precision), nbytes / card.bandwidth)
