"""Ratios and their intervals."""

from __future__ import annotations

import math

import numpy as np
import pytest

from swiftvr_trt.benchmarks.suite.statistics import percentile, ratio


def test_percentiles_interpolate() -> None:
    assert percentile([1.0, 2.0, 3.0], 50) == 2.0
    assert percentile([0.0, 10.0], 90) == pytest.approx(9.0)


def test_single_values_have_no_interval() -> None:
    found = ratio([2.0], [1.0])
    assert (found.value, found.low, found.high) == (0.5, None, None)


def test_equal_sides_are_equal_within_the_interval() -> None:
    source = np.random.default_rng(1)
    found = ratio(source.normal(100, 3, 60).tolist(), source.normal(100, 3, 60).tolist())
    assert found.low is not None
    assert found.high is not None
    assert found.low < 1 < found.high
    assert found.high - found.low < 0.05


def test_the_interval_contains_a_known_ratio() -> None:
    source = np.random.default_rng(2)
    found = ratio(source.normal(100, 3, 60).tolist(), source.normal(63, 2, 60).tolist())
    assert found.low is not None
    assert found.high is not None
    assert found.low < 0.63 < found.high


def test_turns_are_compared_in_pairs() -> None:
    """A machine that becomes three times slower in between does not widen the interval if both sides took turns."""
    slow = np.repeat([1.0, 2.0, 3.0], 5)
    a, b = (100 * slow).tolist(), (50 * slow).tolist()
    paired = ratio(a, b, (5, 5, 5), (5, 5, 5), took_turns=True)
    assert (paired.low, paired.high) == pytest.approx((0.5, 0.5))
    for unpaired in (ratio(a, b), ratio(a, b, (5, 5, 5), (5, 5, 5))):
        assert unpaired.low is not None
        assert unpaired.low < 0.45


@pytest.mark.parametrize(
    ("a", "b", "value"),
    [
        ([0, 0, 0.1, 0.1, 0.2], [0.1, 0.2, 0.3], 2.0),
        ([0, 0, 0], [0.1, 0.2], math.inf),
        ([0, 0], [0, 0], 1.0),
        ([1, 2], [0, 0], 0.0),
        ([0], [1], math.inf),
    ],
)
def test_zeros_are_divided_by(a: list[float], b: list[float], value: float) -> None:
    found = ratio(a, b)
    assert found.value == pytest.approx(value)
    if found.low is not None and found.high is not None:
        assert found.low <= found.value <= found.high


def test_the_same_samples_give_the_same_interval() -> None:
    a, b = [1.0, 1.1, 1.2, 1.3], [2.0, 2.1, 2.2, 2.4]
    assert ratio(a, b) == ratio(a, b)
