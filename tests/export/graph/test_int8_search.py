"""The scales of a linear in INT8: outliers are balanced, errors measured, and what is too inexact stays in 16 bits."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from swiftvr_trt.engines.bundle.calibration import MOST_DECIBELS, MOST_SHIFT, Int8Scales
from swiftvr_trt.export.graph.fp8 import fake_quantize_fp8, fp8_scale
from swiftvr_trt.export.graph.int8_search import (
    LEAST_DECIBELS,
    Int8Search,
    balance,
    channel_magnitudes,
    decibels,
)
from swiftvr_trt.export.graph.rewrites import Affine

INPUTS, OUTPUTS = 64, 48


@pytest.fixture(autouse=True)
def _deterministic() -> Iterator[None]:
    torch.manual_seed(3)
    with torch.no_grad():
        yield


def affine() -> Affine:
    return Affine(torch.randn(OUTPUTS, INPUTS), torch.randn(OUTPUTS))


def chosen(given: Affine, *chunks: Tensor, percentile: float = 100.0) -> Int8Scales:
    search = Int8Search(given, percentile)
    for chunk in chunks:
        search.see(chunk)
    return search.choose()


def test_well_behaved_inputs_are_multiplied_in_int8() -> None:
    scales = chosen(affine(), torch.randn(2, 50, INPUTS), torch.randn(1, 50, INPUTS))
    assert scales.bits == 8
    assert scales.decibels > LEAST_DECIBELS
    assert not any(scales.shifts), "what is exact enough is left as it is"


@pytest.mark.parametrize("factor", [20.0, 100.0])
def test_outliers_in_some_channels_are_moved_into_the_weight(factor: float) -> None:
    x, given = torch.randn(2, 50, INPUTS), affine()
    x[..., 5] *= factor
    x[..., 9] *= factor
    scales = chosen(given, x)
    plain = Int8Scales(8, 0.0, float(x.abs().max()), (0,) * INPUTS)
    rows = x.flatten(0, 1)
    assert decibels(given, scales, rows) > decibels(given, plain, rows) + 3
    assert scales.shifts[5] > 1 < scales.shifts[9]
    assert sorted(scales.shifts)[INPUTS // 2] == 0
    assert scales.decibels == pytest.approx(decibels(given, scales, rows), abs=0.01)


def test_what_int8_cannot_hold_stays_in_16_bits() -> None:
    """Outliers in a token of their own cannot be balanced: all channels are large at the same time."""
    x = torch.randn(1, 100, INPUTS)
    x[0, 7] *= 3000
    assert chosen(affine(), x).bits == 16
    assert chosen(affine(), x, percentile=98.0).bits == 16, "the token itself saturates"


def test_a_linear_below_the_limit_is_left_in_16_bits() -> None:
    """Values of one sign per channel and a weight that takes their differences: what remains is rounding."""
    x = torch.full((1, 50, INPUTS), 100.0) + torch.randn(1, 50, INPUTS) / 10
    difference = torch.ones(OUTPUTS, INPUTS)
    difference[:, ::2] = -1
    scales = chosen(Affine(difference, torch.zeros(OUTPUTS)), x)
    assert scales.decibels < LEAST_DECIBELS
    assert scales.bits == 16


def test_the_limit_is_what_fp8_has() -> None:
    x, weight = torch.randn(200, 256), torch.randn(64, 256)
    rounded = [fake_quantize_fp8(part, fp8_scale(float(part.abs().max()), torch.float32)) for part in (x, weight)]
    noise = (rounded[0] @ rounded[1].T - x @ weight.T).square().sum()
    assert float(10 * torch.log10((x @ weight.T).square().sum() / noise)) == pytest.approx(LEAST_DECIBELS, abs=1)


def test_a_linear_that_gives_nothing_is_exact() -> None:
    zero = Affine(torch.zeros(OUTPUTS, INPUTS), torch.ones(OUTPUTS))
    found = chosen(zero, torch.randn(1, 9, INPUTS))
    assert (found.bits, found.decibels) == (8, MOST_DECIBELS)


@pytest.mark.parametrize("value", [0.0, 3e38, float("nan")], ids=["zeros", "overflow", "nan"])
def test_an_input_that_tells_nothing_of_others_stays_in_16_bits(value: float) -> None:
    assert chosen(affine(), torch.full((1, 9, INPUTS), value)).bits == 16


def test_shifts_are_whole_and_bounded_and_balance_by_their_strength() -> None:
    largest = torch.exp2(torch.tensor([-40.0, -4, 0, 0, 0, 4, 40, 0]))
    largest[7] = 0.0
    weight = torch.ones(3, 8)
    assert balance(largest, weight, 1.0).tolist() == [0, 0, 0, 0, 0, 4, MOST_SHIFT, 0]
    assert balance(largest, weight, 0.5).tolist() == [0, 0, 0, 0, 0, 2, MOST_SHIFT, 0]
    assert not balance(largest, weight, 0.0).any()


def test_channels_have_magnitudes_of_their_own() -> None:
    rows = torch.tensor([[-4.0, 1.0], [2.0, 3.0]])
    assert channel_magnitudes(rows, 100).tolist() == [4, 3]
    assert channel_magnitudes(rows, 50).tolist() == [2, 1]
