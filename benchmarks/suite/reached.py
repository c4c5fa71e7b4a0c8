"""The rates that kernels of torch have been measured to reach on a card, where others have published them.

A peak rate on paper is a clock times units. Under load, an H100 must lower its clock to stay within its power limit. A
GeForce card does half as many products per clock when they are summed in FP32, so its power suffices for more than the
clock on paper. No factor that both cards share can say that, so the projection starts from these rates.

None of them has anything to do with this network: they are of large square products, and of fused attention with the
heads of 128 that this network has too. `docs/roofline.md` names the sources.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from statistics import median

from ...engines.bundle.cards import CARDS, Card

_T = 1e12


@dataclass(frozen=True)
class Reached:
    """Operations per second, of one card.

    fp16        large products in BF16, summed in FP32: the median of all runs of one program, where it has some
    fp8         products in FP8; None if nobody has published it, as below
    attention   `scaled_dot_product_attention` in BF16, as torch up to 2.10 runs it unless told otherwise
    """

    fp16: float
    fp8: float | None = None
    attention: float | None = None


REACHED: Mapping[str, Reached] = {
    "RTX 5090": Reached(237.0 * _T, fp8=388.9 * _T, attention=186.7 * _T),
    "RTX 5090 D": Reached(226.6 * _T),
    "RTX 5060 Ti 16 GB": Reached(47.0 * _T),
    "RTX PRO 6000": Reached(418.0 * _T),
    "RTX PRO 6000 Server": Reached(409.4 * _T),
    "RTX 4090": Reached(163.1 * _T),
    "L40S": Reached(269.2 * _T),
    "RTX 3090": Reached(76.6 * _T),
    "A100 40 GB": Reached(246.3 * _T),
    "A100 80 GB": Reached(264.5 * _T),
    "H100 SXM": Reached(789.2 * _T, attention=329.5 * _T),
    "H100 PCIe": Reached(495.9 * _T),
    "H200": Reached(790.3 * _T),
    "B200": Reached(1696.0 * _T),
    "GB300": Reached(2500.0 * _T * 1696.0 / 2250.0),  # the share that a B200 reaches
}


def as_reached(card: Card) -> Card:
    """The card with these rates in place of those on paper; of another card, with the share that its kind reaches."""
    found = REACHED.get(card.name)
    if found is not None:
        return replace(card, fp16=found.fp16, fp8=found.fp8 or card.fp8)
    shares = _shares().get(_kind(card))
    return replace(card, fp16=card.fp16 * median(shares)) if shares else card


def basis_of(card: Card) -> str:
    """Where the rates of `as_reached` come from, in words."""
    if card.name in REACHED:
        return "rates that others measured"
    return "rates that others measured on its kind" if _kind(card) in _shares() else "rates on paper"


def _kind(card: Card) -> tuple[str, int]:
    """The architecture, and the rate of the tensor cores against the other units: on GeForce cards, it is halved."""
    return card.sm, round(card.fp16 / card.fp32)


def _shares() -> Mapping[tuple[str, int], list[float]]:
    """What the measured cards of each kind reach of their rates on paper."""
    found: dict[tuple[str, int], list[float]] = {}
    for card in CARDS:
        if card.name in REACHED:
            found.setdefault(_kind(card), []).append(REACHED[card.name].fp16 / card.fp16)
    return found


def attention_as_reached(card: Card) -> Card:
    """As `as_reached`, for the attention of torch."""
    found, reached = REACHED.get(card.name), as_reached(card)
    return reached if found is None or found.attention is None else replace(reached, fp16=found.attention)
