"""How long to wait before the next try."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swiftvr_trt.runtime.restore.live.backoff import backoff_s, gives_up


@given(st.integers(0, 10**6), st.floats(0, 1))
def test_waits_double_up_to_ten_seconds_and_vary_by_a_quarter(attempt: int, chance: float) -> None:
    middle = min(0.25 * 2 ** min(attempt, 9), 10)
    assert 0.75 * middle <= backoff_s(attempt, chance) <= 1.25 * middle
    assert backoff_s(attempt, 0.5) == middle


@pytest.mark.parametrize(
    ("away", "limit", "over"), [(1e9, None, False), (0.0, 0.0, True), (4.9, 5.0, False), (5.0, 5.0, True)]
)
def test_giving_up(away: float, limit: float | None, over: bool) -> None:
    assert gives_up(away, limit) is over
