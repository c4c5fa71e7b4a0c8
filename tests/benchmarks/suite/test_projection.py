"""The projection: fitted on one figure, checked against all others, and never bent towards them."""

from __future__ import annotations

import pytest

from swiftvr_trt.benchmarks.suite import reached
from swiftvr_trt.benchmarks.suite.projection import FITTED, OTHERS, TOLERANCE, efficiency, roofline_fps


def test_the_factor_reproduces_the_figure_that_it_was_fitted_on() -> None:
    assert efficiency().value * roofline_fps(FITTED) == pytest.approx(FITTED.fps)


def test_other_sizes_on_the_same_card_are_within_the_tolerance() -> None:
    checks = {(check.published.card, check.published.size): check for check in efficiency().checks}
    for size in ("1920x1080", "3840x2160"):
        assert checks["H100 SXM", size].within
        assert abs(checks["H100 SXM", size].off) < 0.025


def test_every_other_published_speed_is_within_the_tolerance() -> None:
    """Also on GeForce cards, of which nothing but rates of single kernels has been used."""
    assert {check.published: check.within for check in efficiency().checks} == dict.fromkeys(OTHERS, True)
    assert {one.card for one in OTHERS} == {"H100 SXM", "RTX 5090", "RTX 5060 Ti 16 GB", "GB300"}


def test_on_paper_the_same_factor_fails_where_power_is_no_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    """The reason for rates that were measured: on those on paper, both GeForce cards are 28 % off."""
    monkeypatch.setattr(reached, "REACHED", {})
    value = FITTED.fps / roofline_fps(FITTED)
    off = {one.card: value * roofline_fps(one) / one.fps - 1 for one in OTHERS if one.measured}
    assert abs(off["H100 SXM"]) < 0.02
    assert off["RTX 5090"] == pytest.approx(-0.28, abs=0.01)
    assert off["RTX 5060 Ti 16 GB"] == pytest.approx(-0.28, abs=0.01)


def test_the_interval_spans_the_measured_checks() -> None:
    found = efficiency()
    assert found.low <= found.value <= found.high < 1
    for one in OTHERS:
        if one.measured and one.same:
            assert found.low * roofline_fps(one) <= one.fps * 1.0001
            assert one.fps <= found.high * roofline_fps(one) * 1.0001


def test_the_distance_to_another_program_on_another_card_is_known() -> None:
    (check,) = [check for check in efficiency().checks if not check.published.same]
    assert check.published.card == "GB300"
    assert abs(check.off) < TOLERANCE
