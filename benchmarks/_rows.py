"""The rows of the engine table: pure functions of compiled forms."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from ._forms import Form

PUBLISHED_LAYERS = 30
"""Blocks of the published transformer."""


@dataclass(frozen=True)
class Row:
    """One line of the table. again, plain_again: the same by independent means, None where there are none.

    limit: by what part of the value the two may differ.
    """

    what: str
    unit: str
    plain: float | None
    rewritten: float
    plain_again: float | None = None
    again: float | None = None
    limit: float = 0.0
    note: str = ""

    @property
    def ratio(self) -> float | None:
        return self.rewritten / self.plain if self.plain else None

    @property
    def confirmed(self) -> bool:
        """False if something was counted twice with different results."""
        pairs = ((self.plain, self.plain_again), (self.rewritten, self.again))
        return all(abs(a - b) <= self.limit * abs(a) + 1e-9 for a, b in pairs if a is not None and b is not None)


Count = Callable[[Form], float]
Second = Callable[[Form], float | None]


def rows(plain: Form | None, ours: Form) -> Iterator[Row]:
    """The rows of the table, from top to bottom."""

    def row(what: str, unit: str, count: Count, second: Second = lambda _: None, limit: float = 0.0) -> Row:
        if plain is None:
            return Row(what, unit, None, count(ours), None, second(ours), limit)
        return Row(what, unit, count(plain), count(ours), second(plain), second(ours), limit)

    for what, stage in (("decoder", "decode"), ("encoder", "encode"), ("DiT, n + 1 latents", "dit_edge")):
        yield row(f"{what}: activations", "MB", *_arena(stage), limit=0.01)
    for what, stage in (("decoder", "decode"), ("encoder", "encode")):
        yield row(f"{what}: operations per frame", "GFLOP", *_flops_per_frame(stage))
    yield row("DiT: operations per chunk of n latents", "TFLOP", *_flops("dit", 1e12))
    yield row("DiT: kernels per block", "", kernels_per_block, _kernels_again)
    attentions = " / ".join(str(form.facts["dit"].attentions) for form in (plain, ours) if form)
    yield replace(row("DiT: attention calls fused", "of all", _fused, _fused_again), note=f"all: {attentions}")
    yield replace(row("DiT: matrix products of blocks in FP8", "of all", fp8_share), note=not_in_fp8(ours))
    yield row("weights of all engines", "MB", lambda form: form.memory(form.layers).weight_bytes / 1e6)
    yield from _pipeline(row, ours)


def _pipeline(row: Callable[[str, str, Count], Row], ours: Form) -> Iterator[Row]:
    """With the blocks that there are and with as many as are published, for frames as large as those that come out."""
    for layers in dict.fromkeys((ours.layers, max(ours.layers, PUBLISHED_LAYERS))):
        what = f"whole pipeline on the GPU, {layers} blocks"
        yield row(what + ("" if layers == ours.layers else " (projected)"), "GB", _gpu_bytes(layers))


def _gpu_bytes(layers: int) -> Count:
    return lambda form: form.memory(layers).gpu_bytes / 1e9


def _arena(stage: str) -> tuple[Count, Second]:
    def again(form: Form) -> float | None:
        return form.opinions[stage].arena_bytes / 1e6 if form.opinions else None

    return lambda form: form.facts[stage].arena_bytes / 1e6, again


def _flops(stage: str, unit: float) -> tuple[Count, Second]:
    def again(form: Form) -> float | None:
        return form.torch_flops[stage] / unit if form.torch_flops else None

    return lambda form: form.facts[stage].total_flops / unit, again


def _flops_per_frame(stage: str) -> tuple[Count, Second]:
    def again(form: Form) -> float | None:
        return form.torch_flops[stage] / form.frames / 1e9 if form.torch_flops else None

    return lambda form: form.facts[stage].total_flops / form.frames / 1e9, again


def kernels_per_block(form: Form) -> float:
    """Kernels of the transformer less those that it has without blocks, by the number of blocks."""
    rest = len(form.bare.facts["dit"].kernels) if form.bare else 0
    return (len(form.facts["dit"].kernels) - rest) / form.layers


def _kernels_again(form: Form) -> float | None:
    if form.bare is None or not form.opinions:
        return None
    return (form.opinions["dit"].kernels - form.bare.opinions["dit"].kernels) / form.layers


def _fused(form: Form) -> float:
    return form.facts["dit"].fused / form.facts["dit"].attentions


def _fused_again(form: Form) -> float | None:
    return form.opinions["dit"].attention / form.facts["dit"].attentions if form.opinions else None


def fp8_share(form: Form) -> float:
    """Of the matrix products of all blocks, those that multiply in FP8."""
    gemms = form.block_gemms()
    return sum(kernel.precision == "FP8" for kernel in gemms) / len(gemms) if gemms else 0.0


def not_in_fp8(form: Form) -> str:
    """The others, by their weights."""
    others = Counter(
        f"{kernel.precision} product with {', '.join(kernel.constants)}"
        for kernel in form.block_gemms()
        if kernel.precision != "FP8"
    )
    return "; ".join(f"{count} x {what}" for what, count in others.items()) if fp8_share(form) else ""
