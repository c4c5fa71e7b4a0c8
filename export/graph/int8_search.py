"""Chooses how a linear is computed in the precision int8, from what it saw on real frames.

Few channels of an input are often much larger than the others, and would leave these few of INT8's 255 steps. So these
channels are divided by powers of two and the weight multiplied by them (rewrite 15). `STRENGTHS` are the shares of the
spread that are moved into the weight, weakest first, since a picture that differs from the calibration's saturates
sooner the more evenly channels fill the range. The first that is exact enough is kept, else the best; a linear whose
error is still larger than `LEAST_DECIBELS` allows is left in 16 bits.
"""

from __future__ import annotations

import math
from dataclasses import replace
from operator import itemgetter

import numpy as np
import torch
from torch import Tensor

from ...engines.bundle.calibration import MOST_DECIBELS, MOST_SHIFT, Int8Scales
from .layers import Int8Linear
from .precision import FP32
from .rewrites import Affine, rows_alike

LEAST_DECIBELS = 28.0
"""What a product has in FP8 (E4M3), whatever its values: INT8 is taken where it is at least as exact."""
ENOUGH_DECIBELS = 34.0
"""With half the error of FP8, no stronger balance is tried."""
STRENGTHS = (0.0, 0.5, 0.75)
_ROWS = 128
"""Tokens of a chunk on which errors are measured."""
_SHARE = 8
"""Strengths are compared on every eighth output."""


class Int8Search:
    """Sees the inputs of one linear, chunk by chunk; then `choose` says how to compute it."""

    def __init__(self, affine: Affine, percentile: float) -> None:
        """percentile: of the magnitudes of a channel in each chunk, as in `Calibration`."""
        self.affine, self.percentile = affine, percentile
        self.largest = torch.zeros(affine.weight.shape[1])
        self.rows: list[Tensor] = []

    def see(self, x: Tensor) -> None:
        """x: [.., in], of one chunk."""
        rows = x.flatten(0, -2)
        self.largest = torch.maximum(self.largest, channel_magnitudes(rows, self.percentile))
        self.rows.append(rows[:: math.ceil(len(rows) / _ROWS)].clone())

    def choose(self) -> Int8Scales:
        """The scales, with the measured signal-to-noise ratio and the bits that follow from it."""
        rows = torch.cat(self.rows)
        some = Affine(self.affine.weight[::_SHARE], self.affine.bias[::_SHARE])
        tried: list[tuple[float, Int8Scales]] = []
        for strength in STRENGTHS:
            scales = self._scales(strength)
            tried.append((decibels(some, scales, rows), scales))
            if tried[-1][0] >= ENOUGH_DECIBELS:
                break
        _, best = max(tried, key=itemgetter(0))
        found = decibels(self.affine, best, rows)
        measured = best.largest > 0 or not bool(self.affine.weight.any())  # an input of zeros says nothing of others
        return replace(best, bits=8 if found >= LEAST_DECIBELS and measured else 16, decibels=round(found, 2))

    def _scales(self, strength: float) -> Int8Scales:
        shifts = balance(self.largest, self.affine.weight, strength)
        return Int8Scales(8, 0.0, float((self.largest * torch.exp2(-shifts)).max()), tuple(shifts.int().tolist()))


def channel_magnitudes(rows: Tensor, percentile: float) -> Tensor:
    """For each column of rows [N, in], the smallest |value| that `percentile` percent of its values do not exceed."""
    if percentile == 100:
        return rows.abs().amax(0)
    rank = min(math.ceil(len(rows) * percentile / 100), len(rows)) - 1
    return torch.from_numpy(np.partition(rows.abs().numpy(), rank, axis=0)[rank].copy())


def balance(largest: Tensor, weight: Tensor, strength: float) -> Tensor:
    """The powers of two by which to divide the channels of an input: whole numbers [in], most of them 0, none negative.

    largest: magnitude of each channel, [in]. weight: [out, in]. strength: 0 leaves the input as it is, 1 makes its
    channels equally large; in between, input and weight share their spread.
    """
    columns = rows_alike(weight, torch.float32)[0].abs().amax(0)
    used = (largest > 0) & (columns > 0)
    if strength == 0 or not bool(used.any()):
        return torch.zeros_like(largest)
    spread = strength * largest.clamp(min=1e-30).log2() - (1 - strength) * columns.clamp(min=1e-30).log2()
    shifts = torch.round(spread - spread[used].median()).clamp(0, MOST_SHIFT)
    return torch.where(used, shifts, 0.0)


def decibels(affine: Affine, scales: Int8Scales, rows: Tensor) -> float:
    """The signal-to-noise ratio of a linear in INT8 for the inputs rows [N, in], averaged over rows.

    Each row counts alike. In a sum over all, a few tokens of huge values would hide that the others are rounded away.
    """
    exact = rows @ affine.weight.T
    noise = (Int8Linear(affine, scales, FP32)(rows) - affine.bias - exact).double().square().sum(1)
    signal = exact.double().square().sum(1)
    ratios = (noise / signal)[signal > 0].clamp(max=1)
    if not bool(torch.isfinite(noise).all() and torch.isfinite(signal).all()):
        return 0.0
    if not bool((ratios > 0).any()):
        return MOST_DECIBELS
    return float(-10 * torch.log10(ratios.mean()))
