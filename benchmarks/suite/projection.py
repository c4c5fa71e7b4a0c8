"""What speed to expect where nobody has measured: a roofline times one efficiency factor. Projected, never measured.

    time of a kernel = max(operations / rate that such kernels reach on the card, bytes / memory bandwidth)
    expected speed   = frames / sum of these times * efficiency

`reached.py` holds the rates: published figures of single kernels, where there are some, and otherwise those on paper.

The efficiency is what the published code reaches on an H100 at 2560x1440, where its authors give 31.3 frames/s without
reading and writing video. Every other published speed of that code is a check: how far off is the projection there? The
interval of the factor spans what the factor would be at each measured check. `plain_graph.json` holds the operators of
the published network (`benchmarks/plain_graph.py`).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from ...engines.bundle.card_names import named_card
from ...engines.bundle.cards import Card
from ...engines.report.roofline import kernel_seconds_of
from ...errors import MisuseError
from ...outside import Door, read_json
from .reached import as_reached, attention_as_reached

FACTS = Path(__file__).with_name("plain_graph.json")
ATTENTION = "attention"
"""The kind of a kernel there; products and convolutions have none, nor has what only moves and adds."""
TOLERANCE = 0.20
"""How far off a check may be for the factor to be trusted on such a card."""
_GB300 = Card("GB300", "SM103", 288, 80e12, 2500e12, 5000e12, 15000e12, 167e12, 8000e9)
"""Of one GPU, dense, from NVIDIA's data sheet; it is no target here."""
_DOOR = Door("file of operators", MisuseError, "reinstall swiftvr-trt", max_bytes=1 << 24)


@dataclass(frozen=True)
class Published:
    """A speed of the published network without reading and writing video, in frames per second.

    measured: False if its authors only state it. same: False for another program with the same network.
    """

    card: str
    size: str
    fps: float
    measured: bool = True
    same: bool = True


FITTED = Published("H100 SXM", "2560x1440", 31.3)
OTHERS = (
    Published("H100 SXM", "1920x1080", 54.4),
    Published("H100 SXM", "3840x2160", 13.8),
    Published("RTX 5090", "1920x1080", 22.4),
    Published("RTX 5090", "1920x1080", 26.0, measured=False),
    Published("RTX 5060 Ti 16 GB", "1280x960", 9.1),
    Published("GB300", "2560x1408", 82.9, same=False),
)


@dataclass(frozen=True)
class Check:
    """A published speed beside its projection. off: relative, negative if the projection is too slow."""

    published: Published
    projected_fps: float

    @property
    def off(self) -> float:
        return self.projected_fps / self.published.fps - 1

    @property
    def within(self) -> bool:
        return abs(self.off) <= TOLERANCE


@dataclass(frozen=True)
class Efficiency:
    """The share of that speed that is left, and what the measured checks would have made of it."""

    value: float
    low: float
    high: float
    checks: tuple[Check, ...]


@lru_cache(maxsize=1)
def efficiency() -> Efficiency:
    """The factor that fits the published code on an H100, and its checks."""
    value = FITTED.fps / roofline_fps(FITTED)
    reached = [one.fps / roofline_fps(one) for one in (FITTED, *OTHERS) if one.measured and one.same]
    checks = tuple(Check(one, value * roofline_fps(one)) for one in OTHERS)
    return Efficiency(value, min(reached), max(reached), checks)


def roofline_fps(published: Published) -> float:
    """What the plain network could reach at best on that card, in frames per second."""
    card = _GB300 if published.card == _GB300.name else named_card(published.card)
    cards = {"": as_reached(card), ATTENTION: attention_as_reached(card)}
    build = _builds()[published.size]
    seconds = sum(
        count * kernel_seconds_of(precision, flops, nbytes, cards[kind])
        for kernels in build["kernels"].values()
        for kind, precision, flops, nbytes, count in kernels
    )
    return float(build["clip_len"] / seconds)


@lru_cache(maxsize=1)
def _builds() -> dict[str, Any]:
    return {build["size"]: build for build in read_json(FACTS, _DOOR).content()["builds"]}
