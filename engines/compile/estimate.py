"""Estimates what a build will take before it starts: memory, disk and time, and the GPU memory of the result.

They serve to refuse builds that cannot work, and to say what to expect. They are not measurements: the factors were
fitted to builds with TensorRT-RTX 1.7.1 on two CPU cores (docs/engines.md, benchmarks/results/build-*.json).
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ...errors import MachineError, MisuseError, OutputError
from ...machine import available_memory
from ...text import format_bytes
from ..bundle.cards import Card, cards_for, largest_card
from ..bundle.manifest import Recipe
from ..bundle.pipeline_memory import expected_gpu_bytes, expected_weight_bytes
from ..bundle.targets import BYTES_PER_WEIGHT, QUANTISED, find_target, multiplies_in

_BASE_BYTES = 0.8e9
_MEMORY_PER_WEIGHT_BYTE = 2.5
_DISK_PER_WEIGHT_BYTE = 2.3
_TOOL_BASE_BYTES, _TOOL_PER_PIXEL, _TOOL_PER_WEIGHT_BYTE = 0.45e9, 230, 1.0
_BLOCK_BYTES, _BLOCK_BYTES_PER_PARAMETER = 1.25e9, 3
"""What tracing takes besides the checkpoint, which is mapped into memory and read again if memory is short."""
_CHECKPOINT_BYTES_PER_PARAMETER = 2
_FP32_STREAM = 1.025
_BASE_SECONDS, _SECONDS_PER_PARAMETER, _COMPILE_SECONDS_PER_BYTE = 30.0, 33e-9, 9e-9
_CALIBRATION_SECONDS, _CALIBRATION_SECONDS_PER_PARAMETER, _INT8_SEARCH_SECONDS_PER_PARAMETER = 15.0, 45e-9, 18e-9
_DECODER_SECONDS = 40.0
"""To calibrate a decoder of the published widths."""
_CORES = 2
"""CPU cores of the machine whose builds were measured."""
_SPREAD = 1.5
"""Builds take up to so many times less or more."""


@dataclass(frozen=True)
class Estimate:
    """Bytes and seconds of a build.

    memory_bytes: what a build cannot do without. resident_bytes: what it takes if it is there, the mapped checkpoint
    included. gpu_bytes: GPU memory of the whole pipeline when the bundle runs. seconds: on two cores. tracing_bytes,
    tracing_seconds: the part of them that graphs take.
    """

    weight_bytes: int
    memory_bytes: int
    resident_bytes: int
    disk_bytes: int
    gpu_bytes: int
    seconds: float
    tracing_bytes: int = 0
    tracing_seconds: float = 0.0

    def describe_graphs(self) -> str:
        """One line about a bundle of graphs, which takes no compiler: only tracing and its weights count."""
        return (
            f"{_minutes(self.tracing_seconds)} on {_CORES} idle cores, "
            f"{format_bytes(self.tracing_bytes)} of memory, {format_bytes(self.weight_bytes)} of disk"
        )

    def describe(self, card: Card | None = None) -> str:
        """One line for the user. card: the one that will run the bundle, if it is known."""
        memory = format_bytes(self.memory_bytes)
        if self.resident_bytes > self.memory_bytes:
            memory += f" of memory (fastest with {format_bytes(self.resident_bytes)})"
        else:
            memory += " of memory"
        where = f" of the {card.memory_gb:g} GB of an {card.base_name}" if card else " of GPU memory"
        return (
            f"estimate: {_minutes(self.seconds)} on {_CORES} idle cores, {memory}, "
            f"{format_bytes(self.disk_bytes)} of disk; will need {format_bytes(self.gpu_bytes)}{where}"
        )


def estimate(parameters: int, recipe: Recipe) -> Estimate:
    """Estimate the build of `recipe` from a checkpoint with this many parameters."""
    weights = expected_weight_bytes(parameters, recipe.precision)
    size = recipe.resolution
    pixels = size.padded_width * size.padded_height
    block = min(_BLOCK_BYTES, parameters * _BLOCK_BYTES_PER_PARAMETER)
    tracing = _TOOL_BASE_BYTES + block + pixels * _TOOL_PER_PIXEL + weights * _TOOL_PER_WEIGHT_BYTE
    needed = max(_BASE_BYTES + weights * _MEMORY_PER_WEIGHT_BYTE, tracing)
    return Estimate(
        weight_bytes=int(weights),
        memory_bytes=int(needed),
        resident_bytes=int(max(needed, tracing + parameters * _CHECKPOINT_BYTES_PER_PARAMETER)),
        disk_bytes=int(weights * _DISK_PER_WEIGHT_BYTE + 1e8),
        gpu_bytes=int(
            expected_gpu_bytes(parameters, size, find_target(recipe.target), recipe.precision, recipe.clip_len)
            * _more_on(recipe)
        ),
        seconds=_seconds(parameters, weights, recipe),
        tracing_bytes=int(tracing),
        tracing_seconds=_tracing_seconds(parameters),
    )


def _more_on(recipe: Recipe) -> float:
    """Quantised engines without BF16 have an FP32 stream, and take more."""
    has_bf16 = multiplies_in("bf16", find_target(recipe.target).compute_capability)
    return 1 if has_bf16 or recipe.precision not in QUANTISED else _FP32_STREAM


def _minutes(seconds: float) -> str:
    low, high = seconds / _SPREAD / 60, seconds * _SPREAD / 60
    return f"{max(low, 1):.0f} to {high:.0f} min" if high > 2 else "1 to 2 min"


def _tracing_seconds(parameters: int) -> float:
    return _BASE_SECONDS + parameters * _SECONDS_PER_PARAMETER


def _seconds(parameters: int, weights: float, recipe: Recipe) -> float:
    calibrating = _CALIBRATION_SECONDS + parameters * _CALIBRATION_SECONDS_PER_PARAMETER if recipe.has_scales else 0.0
    calibrating += parameters * _INT8_SEARCH_SECONDS_PER_PARAMETER if recipe.precision == "int8" else 0.0
    calibrating += _DECODER_SECONDS if recipe.autoencoder else 0.0
    return calibrating + _tracing_seconds(parameters) + weights * _COMPILE_SECONDS_PER_BYTE


def free_disk_bytes(place: Path) -> int | None:
    """Free bytes on the disk where `place` is or will be; None if unknown."""
    while not place.exists() and place != place.parent:
        place = place.parent
    try:
        return shutil.disk_usage(place).free
    except OSError:
        return None


def check_feasible(
    expected: Estimate,
    recipe: Recipe,
    place: Path,
    *,
    card: Card | None = None,
    available: Callable[[], int | None] = available_memory,
    free_disk: Callable[[Path], int | None] = free_disk_bytes,
) -> None:
    """Raise if the build or its result cannot fit. recipe: for a compiled target. place: where the bundle will lie.

    card: the one that will run the bundle; None if any of the target may. `MisuseError` if it has too little memory,
    `MachineError` if this machine has too little, and `OutputError` if the disk is too full. Unknown amounts pass.
    """
    _check_card(expected, recipe, card)
    memory = available()
    if memory is not None and memory < expected.memory_bytes:
        raise MachineError(
            f"the build would take about {format_bytes(expected.memory_bytes)} of memory, "
            f"{format_bytes(memory)} are free; close other programs, or build on a larger machine: "
            "no GPU is needed to build for an RTX target"
        )
    disk = free_disk(place)
    if disk is not None and disk < expected.disk_bytes:
        raise OutputError(
            f"{place}: the build would take about {format_bytes(expected.disk_bytes)} of disk, "
            f"{format_bytes(disk)} are free; make room, or choose another directory with -o or --cache"
        )


def _check_card(expected: Estimate, recipe: Recipe, card: Card | None) -> None:
    largest = largest_card(find_target(recipe.target).sm)
    limit = card or largest
    if expected.gpu_bytes <= limit.memory_bytes:
        return
    holder = f"the {limit.base_name} has {limit.memory_gb:g} GB"
    others = [c for c in cards_for(limit.sm) if c.memory_bytes >= expected.gpu_bytes]
    if card is None:
        holder = f"the largest card of target {recipe.target}, the {limit.base_name}, has {limit.memory_gb:g} GB"
    elif others:
        example = min(others, key=lambda other: other.memory_gb)
        holder += f"; name the card that will run it if it is another one, e.g. --target {example.option}"
    raise MisuseError(
        f"{recipe.resolution} in {recipe.clip_len}-frame chunks would need about {format_bytes(expected.gpu_bytes)} of "
        f"GPU memory in {recipe.precision}, {holder}; or choose {_what_fits(expected, recipe, limit)}"
    )


def _what_fits(expected: Estimate, recipe: Recipe, card: Card) -> str:
    """What to choose instead, for the message: the precision with the most bits that fits on the card, if one does."""
    others = expected.gpu_bytes - expected.weight_bytes
    for precision in sorted(find_target(recipe.target).precisions, key=lambda p: -BYTES_PER_WEIGHT[p]):
        nbytes = others + expected.weight_bytes * BYTES_PER_WEIGHT[precision] / BYTES_PER_WEIGHT[recipe.precision]
        if nbytes < expected.gpu_bytes and nbytes <= card.memory_bytes:
            needs = f"--precision {precision}, which needs about {format_bytes(int(nbytes))}"
            return f"{needs}, or a smaller --resolution or --clip-len"
    return "a smaller --resolution, --clip-len or --precision"
