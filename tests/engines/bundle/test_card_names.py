"""Every way to write the name of a card finds that card or none: never another one."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swiftvr_trt import MisuseError
from swiftvr_trt.engines.bundle.card_names import close_names, find_card, other_variants
from swiftvr_trt.engines.bundle.cards import CARDS, Card

DRIVER = {
    "NVIDIA GeForce RTX 5090": "RTX 5090",
    "NVIDIA GeForce RTX 4070 Ti SUPER": "RTX 4070 Ti SUPER",
    "NVIDIA GeForce RTX 4090 Laptop GPU": "RTX 4090 Laptop",
    "NVIDIA GeForce RTX 3080 Ti Laptop GPU": "RTX 3080 Ti Laptop",
    "NVIDIA GeForce RTX 2080 Super with Max-Q Design": "RTX 2080 SUPER Laptop",
    "NVIDIA RTX PRO 6000 Blackwell Workstation Edition": "RTX PRO 6000",
    "NVIDIA RTX PRO 6000 Blackwell Max-Q Workstation Edition": "RTX PRO 6000 Max-Q",
    "NVIDIA RTX PRO 6000 Blackwell Server Edition": "RTX PRO 6000 Server",
    "NVIDIA RTX PRO 4000 Blackwell SFF Edition": "RTX PRO 4000 SFF",
    "NVIDIA RTX PRO 2000 Blackwell Generation Laptop GPU": "RTX PRO 2000 Laptop",
    "NVIDIA RTX 6000 Ada Generation": "RTX 6000 Ada",
    "NVIDIA RTX 2000 Ada Generation Laptop GPU": "RTX 2000 Ada Laptop",
    "NVIDIA RTX A6000": "RTX A6000",
    "NVIDIA RTX A2000 12GB": "RTX A2000 12 GB",
    "Quadro RTX 6000": "Quadro RTX 6000",
    "NVIDIA TITAN RTX": "TITAN RTX",
    "Tesla T4": "T4",
    "NVIDIA L40S": "L40S",
    "NVIDIA A10G": "A10G",
    "NVIDIA GB10": "GB10",
    "NVIDIA H100 80GB HBM3": "H100 SXM",
    "NVIDIA H100 PCIe": "H100 PCIe",
    "NVIDIA A100-SXM4-80GB": "A100 80 GB",
    "NVIDIA A100-PCIE-40GB": "A100 40 GB",
}
TYPED = {
    "RTX 4070 Ti": "RTX 4070 Ti",
    "rtx-4070ti": "RTX 4070 Ti",
    "4070ti": "RTX 4070 Ti",
    "4070 TI": "RTX 4070 Ti",
    "geforce_rtx_4070_ti": "RTX 4070 Ti",
    "4070s": "RTX 4070 SUPER",
    "4070 Ti S": "RTX 4070 Ti SUPER",
    "rtx3060": "RTX 3060 12 GB",
    "rtx 3060 8g": "RTX 3060 8 GB",
    "4060ti-16gb": "RTX 4060 Ti 16 GB",
    "rtx4060ti16gb": "RTX 4060 Ti 16 GB",
    "4090m": "RTX 4090 Laptop",
    "rtx4080 mobile": "RTX 4080 Laptop",
    "RTX 4050": "RTX 4050 Laptop",
    "a6000": "RTX A6000",
    "A5000": "RTX A5000",
    "pro 6000": "RTX PRO 6000",
    "6000 ada": "RTX 6000 Ada",
    "rtx8000": "Quadro RTX 8000",
    "dgx-spark": "GB10",
    "h100": "H100 SXM",
    "5090D": "RTX 5090 D",
}


@pytest.mark.parametrize(("said", "name"), [*DRIVER.items(), *TYPED.items()])
def test_a_card_is_found_as_the_driver_and_as_people_write_it(said: str, name: str) -> None:
    card = find_card(said)
    assert card is not None
    assert card.name == name


@given(st.sampled_from(CARDS), st.sampled_from(["", " ", "-", "_"]), st.sampled_from([str.upper, str.lower, str.title]))
def test_case_and_separators_do_not_matter(card: Card, between: str, case: object) -> None:
    assert callable(case)
    for name in (card.name, card.option):
        assert find_card(case(between.join(name.split(" ")))) == card
    assert find_card(f"NVIDIA {card.name}") == card


@pytest.mark.parametrize(
    "said", ["", "cpu", "cuda", "local", "onnx", "sm120", "tpu", "rtx", "gtx1080ti", "rx7900xtx", "1"]
)
def test_what_is_no_card_finds_none(said: str) -> None:
    assert find_card(said) is None


@pytest.mark.parametrize("said", ["rtx6000", "RTX 5000", "4000", "rtx4000 laptop"])
def test_a_name_that_several_cards_share_is_refused_with_their_names(said: str) -> None:
    with pytest.raises(MisuseError, match=r"^several cards are called RTX \d+: name one of .*\(rtx\w+\), "):
        find_card(said)


def test_a_memory_that_a_card_never_had_is_refused() -> None:
    with pytest.raises(MisuseError, match=r"^'rtx 3060 10 gb': RTX 3060 has 12 or 8 GB of memory, not 10$"):
        find_card("rtx 3060 10 gb")


def test_variants_differ_in_memory_only() -> None:
    card = find_card("rtx4060ti")
    assert card is not None
    assert [other.name for other in other_variants(card)] == ["RTX 4060 Ti 16 GB"]


@pytest.mark.parametrize(
    ("said", "meant"),
    [("rtx4070it", "rtx4070ti"), ("rtx407", "rtx4070"), ("4080 supr", "rtx4080super"), ("rtx5080super", "rtx5080")],
)
def test_a_slip_is_answered_with_the_card_that_was_meant(said: str, meant: str) -> None:
    assert find_card(said) is None
    assert meant in close_names(said)


def test_nothing_is_suggested_for_a_name_of_another_kind() -> None:
    assert close_names("tpu") == []
