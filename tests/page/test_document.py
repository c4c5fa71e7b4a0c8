"""Numbers as people read them."""

from __future__ import annotations

import math

import pytest

from swiftvr_trt.page.document import NARROW_SPACE, Number


@pytest.mark.parametrize(
    ("figure", "shown"),
    [
        (Number(31.26, "frames/s"), "31.3 frames/s"),
        (Number(0.3849, "×", 2), "0.38 ×"),
        (Number(12.2, ""), "12.2"),
        (Number(40), "40"),
        (Number(1234567), f"1{NARROW_SPACE}234{NARROW_SPACE}567"),
        (Number(5_850_000_000, "bytes"), "5.85 GB"),
        (Number(596_368, "bytes"), "0.6 MB"),
        (Number(67.4, "duration"), "1:07"),
        (Number(None, "dB"), "–"),
        (Number(math.nan, "dB"), "–"),
        (Number(math.inf, "dB"), "∞"),
        (Number(0, "ms"), "0.0 ms"),
    ],
)
def test_a_figure_is_shown_with_its_unit(figure: Number, shown: str) -> None:
    assert str(figure) == shown


def test_nobody_can_invent_an_origin() -> None:
    with pytest.raises(ValueError, match="origin is 'guessed', expected one of measured"):
        Number(1.0, origin="guessed")
