"""The cards: their rates are those of NVIDIA's documents, and a name says what tells two cards apart."""

from __future__ import annotations

from pathlib import Path

import pytest

from swiftvr_trt.engines.bundle.cards import CARDS, Card, cards_for, largest_card

DOCS = Path(__file__).parents[3] / "docs" / "roofline.md"
PUBLISHED = [
    [cell.strip() for cell in line.strip("|").split("|")]
    for line in DOCS.read_text(encoding="utf-8").splitlines()
    if line.startswith("| ") and "SM" in line.split("|")[2] and line.split("|")[2].strip() != "SM"
]


def card_named(name: str) -> Card:
    (found,) = (card for card in CARDS if card.name == name)
    return found


@pytest.mark.parametrize("row", PUBLISHED, ids=lambda row: row[0])
def test_derived_rates_are_the_published_ones(row: list[str]) -> None:
    card = card_named(row[0])
    assert card.sm == row[1]
    rates = [rate / 1e12 for rate in (card.fp32, card.fp16, card.fp8, card.fp4, card.int8)] + [card.bandwidth / 1e9]
    shown = [float(cell) if cell != "-" else None for cell in row[2:8]]
    # A dash: the card has no unit for the format, which runs at the rate of the next wider one.
    for position, cell in enumerate(shown):
        assert rates[position] == pytest.approx(cell if cell is not None else rates[position - 1], rel=0.01)


def test_the_published_rates_cover_every_kind_of_card() -> None:
    kinds = {round(card.fp16 / card.fp32, 2) for card in CARDS if card.sm != "SM100"}
    shown = {round(card_named(row[0]).fp16 / card_named(row[0]).fp32, 2) for row in PUBLISHED}
    assert {card.sm for card in CARDS if card.sm not in ("SM100", "SM121")} == {row[1] for row in PUBLISHED}
    assert kinds == shown


def test_names_are_unique_and_so_are_the_words_for_target() -> None:
    assert len({card.name for card in CARDS}) == len({card.option for card in CARDS}) == len(CARDS)


@pytest.mark.parametrize(
    ("name", "memory", "option", "described"),
    [
        ("RTX 4070", 12, "rtx4070", "RTX 4070 (12 GB)"),
        ("RTX 4060 Ti 16 GB", 16, "rtx4060ti-16gb", "RTX 4060 Ti (16 GB)"),
        ("RTX 3060 Laptop", 6, "rtx3060laptop", "RTX 3060 Laptop (6 GB)"),
        ("RTX PRO 6000", 96, "rtxpro6000", "RTX PRO 6000 (96 GB)"),
    ],
)
def test_a_card_has_its_own_memory_and_words(name: str, memory: float, option: str, described: str) -> None:
    card = card_named(name)
    assert (card.memory_gb, card.memory_bytes) == (memory, memory * 1e9)
    assert (card.option, card.describe()) == (option, described)
    assert card.is_laptop is ("Laptop" in name)


def test_cards_of_a_capability_share_engines() -> None:
    assert {card.name for card in cards_for("SM120")} >= {"RTX 5090", "RTX 5060", "RTX PRO 6000"}
    assert {card.sm for card in cards_for("SM89")} == {"SM89"}
    assert cards_for(None) == ()


def test_the_largest_card_bounds_a_target() -> None:
    assert largest_card("SM120").name == "RTX PRO 6000"
    assert largest_card("SM89").memory_gb == 48
    assert largest_card(None).memory_gb == max(card.memory_gb for card in CARDS)


def test_memory_that_tells_variants_apart_is_the_memory_of_the_card() -> None:
    for card in CARDS:
        if card.base_name != card.name:
            assert card.name == f"{card.base_name} {card.memory_gb:g} GB"
