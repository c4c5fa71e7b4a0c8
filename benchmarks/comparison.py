"""The rows of the engine table: plain against rewritten, as pure functions of compiled networks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from .compiled_network import CompiledNetwork

PUBLISHED_LAYERS = 30
"""Blocks of the published transformer."""


@dataclass(frozen=True)
class Comparison:
    """One quantity of both forms.

    plain_recount, rewritten_recount     the same by independent means, None if not counted
    tolerance                            the relative difference that a recount may have
    """

    what: str
    unit: str
    plain: float | None
    rewritten: float
    plain_recount: float | None = None
    rewritten_recount: float | None = None
    tolerance: float = 0.0
    note: str = ""

    @property
    def ratio(self) -> float | None:
        return self.rewritten / self.plain if self.plain else None

    @property
    def confirmed(self) -> bool:
        """False if a recount differs by more than the tolerance."""
        pairs = ((self.plain, self.plain_recount), (self.rewritten, self.rewritten_recount))
        return all(abs(a - b) <= self.tolerance * abs(a) + 1e-9 for a, b in pairs if a is not None and b is not None)


Measure = Callable[[CompiledNetwork], float]
Remeasure = Callable[[CompiledNetwork], float | None]


def compare(plain: CompiledNetwork | None, rewritten: CompiledNetwork) -> Iterator[Comparison]:
    """The rows of the table, from top to bottom. plain: None to leave its columns empty."""

    def row(
        what: str, unit: str, measure: Measure, remeasure: Remeasure = lambda _: None, tolerance: float = 0.0
    ) -> Comparison:
        ours = Comparison(what, unit, None, measure(rewritten), None, remeasure(rewritten), tolerance)
        return ours if plain is None else replace(ours, plain=measure(plain), plain_recount=remeasure(plain))

    for what, stage in (("decoder", "decode"), ("encoder", "encode"), ("DiT, n + 1 latents", "dit_edge")):
        yield row(f"{what}: activations", "MB", *_arena(stage), tolerance=0.01)
    for what, stage in (("decoder", "decode"), ("encoder", "encode")):
        yield row(f"{what}: operations per frame", "GFLOP", *_flops_per_frame(stage))
    yield row("DiT: operations per chunk of n latents", "TFLOP", *_flops("dit", 1e12))
    yield row("DiT: kernels per block", "", kernels_per_block, _recounted_kernels_per_block)
    attentions = " / ".join(str(network.stages["dit"].attentions) for network in (plain, rewritten) if network)
    fused = row("DiT: attention calls fused", "of all", _fused, _recounted_fused)
    yield replace(fused, note=f"all: {attentions}")
    fp8 = row("DiT: matrix products of blocks in FP8", "of all", fp8_share)
    yield replace(fp8, note=not_in_fp8(rewritten))
    yield row("weights of all engines", "MB", lambda network: network.memory(network.layers).weight_bytes / 1e6)
    for layers in dict.fromkeys((rewritten.layers, max(rewritten.layers, PUBLISHED_LAYERS))):
        projected = "" if layers == rewritten.layers else " (projected)"
        yield row(f"whole pipeline on the GPU, {layers} blocks{projected}", "GB", _gpu_gigabytes(layers))


def _gpu_gigabytes(layers: int) -> Measure:
    return lambda network: network.memory(layers).gpu_bytes / 1e9


def _arena(stage: str) -> tuple[Measure, Remeasure]:
    def recounted(network: CompiledNetwork) -> float | None:
        return network.recounts[stage].arena_bytes / 1e6 if network.recounts else None

    return lambda network: network.stages[stage].arena_bytes / 1e6, recounted


def _flops(stage: str, unit: float) -> tuple[Measure, Remeasure]:
    def recounted(network: CompiledNetwork) -> float | None:
        return network.torch_flops[stage] / unit if network.torch_flops else None

    return lambda network: network.stages[stage].total_flops / unit, recounted


def _flops_per_frame(stage: str) -> tuple[Measure, Remeasure]:
    def recounted(network: CompiledNetwork) -> float | None:
        return network.torch_flops[stage] / network.frames / 1e9 if network.torch_flops else None

    return lambda network: network.stages[stage].total_flops / network.frames / 1e9, recounted


def kernels_per_block(network: CompiledNetwork) -> float:
    """Kernels of the transformer minus those that remain without blocks, divided by the number of blocks."""
    others = len(network.no_blocks.stages["dit"].kernels) if network.no_blocks else 0
    return (len(network.stages["dit"].kernels) - others) / network.layers


def _recounted_kernels_per_block(network: CompiledNetwork) -> float | None:
    if network.no_blocks is None or not network.recounts:
        return None
    return (network.recounts["dit"].kernels - network.no_blocks.recounts["dit"].kernels) / network.layers


def _fused(network: CompiledNetwork) -> float:
    return network.stages["dit"].fused / network.stages["dit"].attentions


def _recounted_fused(network: CompiledNetwork) -> float | None:
    return network.recounts["dit"].attention / network.stages["dit"].attentions if network.recounts else None


def fp8_share(network: CompiledNetwork) -> float:
    """The share of the blocks' matrix products that multiply in FP8."""
    gemms = network.block_gemms()
    return sum(kernel.precision == "FP8" for kernel in gemms) / len(gemms) if gemms else 0.0


def not_in_fp8(network: CompiledNetwork) -> str:
    """The blocks' other matrix products, by their weights."""
    others = Counter(
        f"{kernel.precision} product with {', '.join(kernel.constants)}"
        for kernel in network.block_gemms()
        if kernel.precision != "FP8"
    )
    return "; ".join(f"{count} x {what}" for what, count in others.items()) if fp8_share(network) else ""
