"""Finds the card that a name means: as the driver writes it, as shops do, or as people type it.

A name that several cards share is refused, and an unknown one is answered with names that are close: no guess is ever
made. `RTX 4070 Ti`, `rtx-4070ti`, `4070 TI` and `NVIDIA GeForce RTX 4070 Ti` are one card.
"""

from __future__ import annotations

import re
from difflib import get_close_matches

from ...errors import MisuseError
from .cards import CARDS, Card

_NOISE = re.compile(r"nvidia|geforce|tesla|graphics|gpu|generation|edition|workstation|blackwell|design|with|hbm\w*")
_MEMORY = re.compile(
    r"(?:(?:(?<!\d)|(?<=\d{4})|(?<=a100))(?P<glued>\d{1,3})[ _-]*gb|(?<![a-z\d])(?P<apart>\d{1,3})[ _-]*g)(?![a-z0-9])"
)
_LAPTOP = re.compile(r"mobile|notebook|maxq|(?<=\d)m$|(?<=ti)m$|(?<=super)m$")
_SUPER = re.compile(r"(?<=\d)s(?=$|laptop)|(?<=ti)s(?=$|laptop)")
_ALSO = {
    "h100": "h100sxm",
    "h100sxm5": "h100sxm",
    "h200nvl": "h200",
    "a100sxm4": "a100",
    "a100sxm": "a100",
    "a100pcie": "a100",
    "dgxspark": "gb10",
    "gb200": "b200",
}
_SHARED_NUMBER = re.compile(r"rtx(\d{3,4})(laptop)?")


def find_card(name: str) -> Card | None:
    """The card of this name; None if there is none.

    Of cards that differ in memory only, a name without a memory means the usual one. Raises `MisuseError` if several
    cards share the name, or this card was not sold with that memory.
    """
    text = name.casefold()
    said = _MEMORY.search(text)
    memory = int(said["glued"] or said["apart"]) if said else None
    variants = _variants(_normalised(_MEMORY.sub(" ", text)))
    if not variants or memory is None:
        return variants[0] if variants else None
    for card in variants:
        if card.memory_gb == memory:
            return card
    sold = " or ".join(f"{card.memory_gb:g}" for card in variants)
    raise MisuseError(f"{name!r}: {variants[0].base_name} has {sold} GB of memory, not {memory}")


def named_card(name: str) -> Card:
    """The card of this name. Raises `MisuseError` if there is none, with names that are close."""
    card = find_card(name)
    if card is None:
        close = close_names(name)
        hint = f"did you mean {' or '.join(close)}?" if close else "expected a name such as rtx4070 or a6000"
        raise MisuseError(f"card {name!r} is not known, {hint}")
    return card


def other_variants(card: Card) -> tuple[Card, ...]:
    """The cards of the same name with another memory."""
    return tuple(other for other in CARDS if other.base_name == card.base_name and other != card)


def close_names(name: str) -> list[str]:
    """Up to three names of cards that look like `name`, as `--target` takes them; none if nothing is close.

    Cards with the same number come before those that are spelt alike.
    """
    wanted = _normalised(name)
    number = re.search(r"\d{4}", wanted)
    same = [key for key in _BY_KEY if number and number[0] in key]
    spelling = wanted if wanted[:1].isalpha() else f"rtx{wanted}"
    return get_close_matches(spelling, same, n=3, cutoff=0.6) or get_close_matches(spelling, _BY_KEY, n=3, cutoff=0.8)


def _normalised(text: str) -> str:
    """Lower-case letters and digits, without words that tell no cards apart."""
    return _NOISE.sub("", re.sub(r"[^a-z0-9]", "", text.casefold()))


def _variants(key: str) -> tuple[Card, ...]:
    """The cards of a normalised name. Raises `MisuseError` if they are of different kinds."""
    for spelling in _spellings(key):
        if spelling in _BY_KEY:
            return _BY_KEY[spelling]
    match = _SHARED_NUMBER.fullmatch(key if key.startswith("rtx") else f"rtx{key}")
    if match is None:
        return ()
    number, laptop = match[1], bool(match[2])
    sharing = [c for c in CARDS if re.search(rf"(?<!\d){number}(?!\d)", c.base_name) and c.is_laptop >= laptop]
    if len({card.base_name for card in sharing}) > 1:
        names = ", ".join(dict.fromkeys(f"{card.base_name} ({_name_of(card)})" for card in sharing))
        raise MisuseError(f"several cards are called RTX {number}: name one of {names}")
    return tuple(sharing)


def _spellings(key: str) -> list[str]:
    """Names that a normalised one may stand for, the most literal first."""
    spelt = [key, _ALSO.get(key, key)]
    spelt += [_SUPER.sub("super", s) for s in (key, _LAPTOP.sub("laptop", key))]
    spelt += [_LAPTOP.sub("laptop", key)]
    spelt += [f"{s}laptop" for s in spelt]  # a number that was sold in laptops only
    return list(dict.fromkeys([*spelt, *(f"rtx{s}" for s in spelt)]))


def _name_of(card: Card) -> str:
    return _normalised(card.base_name)


def _group() -> dict[str, tuple[Card, ...]]:
    found: dict[str, tuple[Card, ...]] = {}
    for card in CARDS:
        key = _name_of(card)
        found[key] = (*found.get(key, ()), card)
    return found


_BY_KEY = _group()
