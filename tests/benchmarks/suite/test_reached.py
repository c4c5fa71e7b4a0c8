"""Rates that kernels reach stand in for those on paper, and for nothing else."""

from __future__ import annotations

from dataclasses import replace

import pytest

from swiftvr_trt.benchmarks.suite.projection import _GB300
from swiftvr_trt.benchmarks.suite.reached import REACHED, as_reached, attention_as_reached, basis_of
from swiftvr_trt.engines.bundle.card_names import named_card
from swiftvr_trt.engines.bundle.cards import Card


def card_called(name: str) -> Card:
    return _GB300 if name == _GB300.name else named_card(name)


@pytest.mark.parametrize("name", REACHED)
def test_a_rate_is_of_a_card_that_is_known_and_near_the_one_on_paper(name: str) -> None:
    """A figure with sparsity, or in a unit of its own, would be off by a factor of two or more."""
    card, found = card_called(name), REACHED[name]
    assert card.name == name
    assert 0.6 < found.fp16 / card.fp16 < 1.2
    assert found.fp8 is None or 0.6 < found.fp8 / card.fp8 < 1.2
    assert found.attention is None or 0.3 < found.attention / card.fp16 < 1.0


def test_only_rates_that_were_measured_change() -> None:
    card = named_card("H100 SXM")
    assert as_reached(card) == replace(card, fp16=789.2e12)
    assert attention_as_reached(card) == replace(card, fp16=329.5e12)


def test_a_card_that_nobody_measured_takes_the_share_of_its_kind() -> None:
    """A GeForce card is no RTX PRO, whose tensor cores are twice as fast at the same clock."""
    cards = [named_card(name) for name in ("RTX 5070", "RTX PRO 5000 48 GB", "GH200")]
    shares = [as_reached(card).fp16 / card.fp16 for card in cards]
    assert shares == pytest.approx([226.6 / 209.5, 0.85, 0.80], abs=0.01)  # GeForce: the middle one of three
    assert as_reached(cards[0]).fp8 == cards[0].fp8


@pytest.mark.parametrize(
    ("name", "basis"),
    [
        ("H200", "rates that others measured"),
        ("RTX 5070", "rates that others measured on its kind"),
        ("T4", "rates on paper"),
    ],
)
def test_the_basis_is_told(name: str, basis: str) -> None:
    assert basis_of(named_card(name)) == basis
    if basis.endswith("paper"):
        assert as_reached(named_card(name)) is named_card(name)
