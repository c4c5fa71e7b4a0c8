"""Figures with their units."""

from __future__ import annotations

import pytest

from swiftvr_trt.benchmarks.suite.metrics import METRICS, figure, find_metric, sampled
from swiftvr_trt.benchmarks.suite.record import SUITES, How


def test_every_metric_belongs_to_a_suite() -> None:
    assert {metric.scope for metric in METRICS.values()} == set(SUITES)


def test_a_part_has_the_unit_of_its_kind() -> None:
    part = find_metric("memory.arena")
    assert (part.label, part.unit, part.scope) == ("arena", "bytes", "memory")


def test_samples_give_the_median_and_percentiles() -> None:
    found = sampled("chunk", [1.0, 2.0, 3.0, 4.0, 100.0], How.MEASURED, "paper")
    assert (found.value, found.p10, found.p90) == pytest.approx((3.0, 1.4, 61.6))
    assert found.samples == (1.0, 2.0, 3.0, 4.0, 100.0)
    assert found.groups == (5,)


def test_a_name_that_is_not_listed_is_a_mistake() -> None:
    with pytest.raises(KeyError):
        figure("speed", 1.0, How.MEASURED, "paper")


def test_no_two_figures_are_called_alike() -> None:
    """A figure against float32 and one against the undamaged clip would hide one another."""
    labels = [metric.label for metric in METRICS.values()]
    assert sorted(set(labels)) == sorted(labels)
