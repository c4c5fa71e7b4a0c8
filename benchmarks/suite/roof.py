"""What a bundle of engines could reach at best on its card, kernel class by kernel class, and what to expect of it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator

from ...engines.bundle.card_names import find_card
from ...engines.bundle.cards import Card
from ...engines.bundle.files import Bundle
from ...engines.compile.report import CompiledKernel, CompiledStage
from ...engines.report.inspect import engine_reports
from ...engines.report.roofline import chunk_runs, kernel_seconds
from .metrics import figure
from .projection import efficiency
from .reached import as_reached, basis_of
from .record import Figure, How, KernelClass, Roofline

_RATES = {"Float": "FP32", "Half": "FP16", "BFloat16": "BF16", "FP8": "FP8", "FP4": "FP4", "Int8": "INT8"}
"""Words of the compiler for the precisions of a kernel, and those of people."""
_ROOFLINE = "roofline"


def roofline_of(bundle: Bundle, device: str) -> tuple[Roofline | None, list[Figure]]:
    """Held against the card that `device` names, and the figures that follow from it.

    None and nothing for a card whose rates are not known, and for graphs.
    """
    stages = [stage for report in engine_reports(bundle) for stage in report.stages]
    card, recipe = find_card(device), bundle.manifest.recipe
    if not stages or card is None:
        return None, []
    rates = {word: card.rate(name) for name, word in _RATES.items()}
    classes = tuple(kernel_classes(stages, recipe.latents, card))
    roofline = Roofline(card.name, rates, card.bandwidth, classes)
    reached = kernel_classes(stages, recipe.latents, as_reached(card))
    return roofline, roofline_figures(roofline, sum(one.roof_ms for one in reached), recipe.clip_len, basis_of(card))


def kernel_classes(stages: Iterable[CompiledStage], latents: int, card: Card) -> Iterator[KernelClass]:
    """The kernels of a chunk in the middle of a stream of 8-bit planes, by stage, kind and precision."""
    runs = chunk_runs(latents)
    for stage in stages:
        groups: dict[tuple[str, str], list[CompiledKernel]] = defaultdict(list)
        for kernel in stage.kernels if stage.name in runs else ():
            groups[kernel.kind, kernel.precision].append(kernel)
        for (kind, precision), kernels in sorted(groups.items()):
            times = [kernel_seconds(kernel, card) for kernel in kernels]
            bound = sum(
                taken
                for taken, kernel in zip(times, kernels, strict=True)
                if kernel.flops / card.rate(precision) >= kernel.nbytes / card.bandwidth
            )
            count = runs[stage.name]
            yield KernelClass(
                stage.name,
                kind,
                _RATES.get(precision, precision),
                count * len(kernels),
                count * sum(kernel.flops for kernel in kernels),
                count * sum(kernel.nbytes for kernel in kernels),
                1e3 * count * sum(times),
                bound / sum(times) if sum(times) else 0.0,
            )


def roofline_figures(roofline: Roofline, reached_ms: float, clip_len: int, basis: str) -> list[Figure]:
    """The upper bound of the speed, the speed to expect, and what a chunk takes.

    reached_ms: the time of a chunk if its kernels reach what such kernels have been measured to reach. basis: in words,
    where these rates come from.
    """
    total_ms, factor = sum(one.roof_ms for one in roofline.classes), efficiency()
    fps = 1e3 * clip_len / reached_ms
    expected = f"{fps * factor.low:.1f} to {fps * factor.high:.1f}, on the {roofline.card}, by {basis}"
    return [
        figure("roof_fps", 1e3 * clip_len / total_ms, How.PROJECTED, _ROOFLINE, f"on the {roofline.card}"),
        figure("projected_fps", fps * factor.value, How.PROJECTED, f"{_ROOFLINE} x {factor.value:.2f}", expected),
        figure("flops", sum(one.flops for one in roofline.classes), How.COMPILED, _ROOFLINE),
        figure("kernels", sum(one.count for one in roofline.classes), How.COMPILED, _ROOFLINE),
    ]
