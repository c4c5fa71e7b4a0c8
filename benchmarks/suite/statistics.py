"""Percentiles, and ratios of two sets of samples with an interval."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

_RESAMPLES = 1000
_SEED = 20
"""Fixed, so that the same two records always give the same interval."""

Values = NDArray[np.float64]


@dataclass(frozen=True)
class RatioInterval:
    """B divided by A: of the medians, and where 95 % of the resampled ratios lie. low, high: None for single values."""

    value: float
    low: float | None = None
    high: float | None = None


def percentile(values: Sequence[float], part: float) -> float:
    """The value below which `part` per cent of the values lie, interpolated."""
    return float(np.percentile(np.asarray(values, dtype=np.float64), part))


def ratio(
    a: Sequence[float],
    b: Sequence[float],
    groups_a: Sequence[int] = (),
    groups_b: Sequence[int] = (),
    *,
    took_turns: bool = False,
) -> RatioInterval:
    """The ratio of the medians, b / a, with a bootstrap interval. Infinity if only that of `a` is 0.

    groups       how many of the samples each process contributed. Samples of one process are alike, so processes are
                 drawn first, and samples from those that were drawn
    took_turns   both sides are of one run: turns are drawn in pairs, as a machine that slows down slows both sides
    """
    value = _quotient(float(np.median(b)), float(np.median(a)))
    if len(a) < 2 or len(b) < 2:
        return RatioInterval(value)
    parts_a, parts_b = _split(a, groups_a), _split(b, groups_b)
    paired = took_turns and len(parts_a) == len(parts_b) > 1
    source = np.random.default_rng(_SEED)
    drawn: list[float] = []
    for _ in range(_RESAMPLES):
        turns = source.integers(len(parts_a), size=len(parts_a))
        others = turns if paired else source.integers(len(parts_b), size=len(parts_b))
        drawn.append(_quotient(_median(parts_b, others, source), _median(parts_a, turns, source)))
    method: Literal["linear", "inverted_cdf"] = "linear" if math.isfinite(max(drawn)) else "inverted_cdf"
    low, high = np.percentile(drawn, (2.5, 97.5), method=method)  # nothing lies halfway to infinity
    return RatioInterval(value, float(low), float(high))


def _quotient(b: float, a: float) -> float:
    """b / a; infinity if only a is 0, and 1 if both are."""
    if a == 0:
        return math.inf if b else 1.0
    return b / a


def _split(values: Sequence[float], groups: Sequence[int]) -> list[Values]:
    whole = np.asarray(values, dtype=np.float64)
    return np.split(whole, np.cumsum(groups)[:-1]) if len(groups) > 1 else [whole]


def _median(parts: list[Values], chosen: NDArray[np.int64], source: np.random.Generator) -> float:
    """The median of samples drawn from the chosen parts."""
    drawn = [parts[index][source.integers(len(parts[index]), size=len(parts[index]))] for index in chosen]
    values = np.sort(np.concatenate(drawn))
    return float(values[(len(values) - 1) // 2] + values[len(values) // 2]) / 2
