"""How fast a bundle could be at best: a roofline over the compiled kernels. A projection, never a measurement.

    time of a kernel = max(operations / peak rate of its precision, bytes it reads and writes / memory bandwidth)
    time of a stage  = sum over its kernels
    time of a chunk  = n encode + 1 dit + n decode, n = clip length / 4

Peak rates are the published dense ones (no sparsity), with accumulation in FP32; docs/roofline.md lists the sources.
Real kernels reach only part of them. Launches count as free and caches are not modelled, so a MIDDLE chunk cannot be
faster than this on that card, unless a cache saves trips to memory.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ..compile.log import KINDS
from ..compile.report import CompiledKernel, CompiledStage


def chunk_runs(latents: int) -> dict[str, int]:
    """How often each stage runs for a MIDDLE chunk."""
    return {"encode": latents, "dit": 1, "decode": latents}


@dataclass(frozen=True)
class Card:
    """A graphics card on paper: peak rates in operations per second, bandwidth in bytes per second.

    sm: compute capability that its engines are built for, e.g. `SM120`.
    """

    name: str
    sm: str
    fp32: float
    fp16: float
    fp8: float
    fp4: float
    bandwidth: float

    def rate(self, precision: str) -> float:
        """Peak rate of a precision, named as the compiler names it. Unknown ones count as FP32."""
        return {"FP4": self.fp4, "FP8": self.fp8, "Half": self.fp16, "BFloat16": self.fp16}.get(precision, self.fp32)


_DATA_SHEETS = (
    # name, compute capability, TFLOP/s in FP32, FP16, FP8 and FP4, GB/s
    ("RTX 5090", "SM120", (104.8, 209.5, 419.0, 1676.0), 1792),
    ("RTX 5080", "SM120", (56.3, 112.6, 225.1, 900.4), 960),
    ("RTX 5070", "SM120", (30.9, 61.7, 123.5, 493.9), 672),
    ("RTX 4090", "SM89", (82.6, 165.2, 330.3, 330.3), 1008),
    ("RTX 3090", "SM86", (35.6, 71.2, 71.2, 71.2), 936),
    ("H100 SXM", "SM90", (66.9, 989.4, 1978.9, 1978.9), 3350),
)
CARDS = tuple(
    Card(name, sm, fp32 * 1e12, fp16 * 1e12, fp8 * 1e12, fp4 * 1e12, bandwidth * 1e9)
    for name, sm, (fp32, fp16, fp8, fp4), bandwidth in _DATA_SHEETS
)


@dataclass(frozen=True)
class Projection:
    """The least time of a MIDDLE chunk, in seconds, by stage and by kind of kernel."""

    gpu: str
    stages: Mapping[str, float]
    kinds: Mapping[str, float]
    frames_per_second: float

    @property
    def seconds(self) -> float:
        return sum(self.stages.values())


def cards_for(sm: str | None) -> tuple[Card, ...]:
    """Cards that run engines of this compute capability."""
    return tuple(card for card in CARDS if card.sm == sm)


def project(stages: Sequence[CompiledStage], latents: int, frames: int, card: Card) -> Projection:
    """The projection for a MIDDLE chunk of `latents` latents and `frames` frames."""
    runs = chunk_runs(latents)
    by_stage, by_kind = dict.fromkeys(runs, 0.0), dict.fromkeys(KINDS, 0.0)
    for stage in stages:
        for kernel in stage.kernels if stage.name in runs else ():
            seconds = kernel_seconds(kernel, card) * runs[stage.name]
            by_stage[stage.name] += seconds
            by_kind[kernel.kind] += seconds
    total = sum(by_stage.values())
    return Projection(
        card.name,
        by_stage,
        {kind: seconds for kind, seconds in by_kind.items() if seconds},
        frames / total if total else 0.0,
    )


def kernel_seconds(kernel: CompiledKernel, card: Card) -> float:
    """The roofline of one kernel."""
    return max(kernel.flops / card.rate(kernel.precision), kernel.nbytes / card.bandwidth)
