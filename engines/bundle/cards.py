"""NVIDIA's cards that run engines: compute capability, memory, and peak rates of each.

Sources. Memory, CUDA cores and boost clock: NVIDIA's specification pages and data sheets (laptops: the upper end of the
range of clocks). FP32 is derived: 2 operations x cores x clock, which gives the figures of the data sheets. The other
formats are multiples of it, see `Rates`: dense, with accumulation in FP32, as in the whitepapers of Turing, GA102, Ada
and Blackwell, and in the data sheets of the data centre, halved where these count sparsity. Less certain, as NVIDIA
publishes no such table: RTX PRO Blackwell laptops (clocks of the GeForce with the same chip), and the GB10 (FP4 is
published, the others follow by the multiples of RTX PRO).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum

GB = 1e9
"""Memory is sold in GB of 2^30 bytes and counted here in GB of 10^9: the rest goes to the driver and the desktop."""

_GEFORCE = re.compile(r"RTX \d{4}( Ti)?( SUPER)?")
_VARIANT = re.compile(r" (\d+) GB$")


class Rates(Enum):
    """Multiples of the FP32 rate in FP16 (and BF16), FP8, FP4 and INT8. Without units for FP8 or FP4, the next wider
    format counts."""

    TURING = (4, 4, 4, 16)
    TURING_PRO = (8, 8, 8, 16)
    AMPERE = (2, 2, 2, 8)
    AMPERE_PRO = (4, 4, 4, 8)
    ADA = (2, 4, 4, 8)
    ADA_L40 = (2, 4, 4, 4)
    ADA_PRO = (4, 8, 8, 8)
    BLACKWELL = (2, 4, 16, 8)
    BLACKWELL_PRO = (4, 8, 16, 8)
    A100 = (16, 16, 16, 32)
    HOPPER = (14.79, 29.58, 29.58, 29.58)
    B200 = (30, 60, 120, 60)


@dataclass(frozen=True)
class Card:
    """A graphics card on paper: peak rates in operations per second, bandwidth in bytes per second.

    name: as NVIDIA's driver says it, without the brand; cards sold with different memories carry it in the name.
    sm: compute capability that its engines are built for, e.g. `SM120`. memory_gb: in GB, as sold.
    """

    name: str
    sm: str
    memory_gb: float
    fp32: float
    fp16: float
    fp8: float
    fp4: float
    int8: float
    bandwidth: float

    @property
    def memory_bytes(self) -> float:
        """Bytes that a pipeline may take."""
        return self.memory_gb * GB

    @property
    def base_name(self) -> str:
        """The name without the memory that tells variants apart: `RTX 4060 Ti` for `RTX 4060 Ti 16 GB`."""
        return _VARIANT.sub("", self.name)

    @property
    def is_laptop(self) -> bool:
        return self.name.endswith("Laptop") or " Laptop " in self.name

    @property
    def option(self) -> str:
        """The name as `--target` takes it: `rtx4060ti-16gb`."""
        variant = _VARIANT.search(self.name)
        return re.sub(r"[^a-z0-9]", "", self.base_name.lower()) + (f"-{variant[1]}gb" if variant else "")

    def describe(self) -> str:
        """Name and memory: `RTX 4070 (12 GB)`."""
        return f"{self.base_name} ({self.memory_gb:g} GB)"

    def rate(self, precision: str) -> float:
        """Peak rate of a precision, named as the compiler names it. Unknown ones count as FP32."""
        rates = {"FP4": self.fp4, "FP8": self.fp8, "Int8": self.int8, "Half": self.fp16, "BFloat16": self.fp16}
        return rates.get(precision, self.fp32)


_Row = tuple[str, float, float, int, float]
"""Name, GB of memory, GB/s, CUDA cores, MHz. Of cards that differ in memory only, the usual one comes first."""

_GEFORCE_50: tuple[_Row, ...] = (
    ("RTX 5090", 32, 1792, 21760, 2407),
    ("RTX 5090 D", 32, 1792, 21760, 2407),
    ("RTX 5080", 16, 960, 10752, 2617),
    ("RTX 5070 Ti", 16, 896, 8960, 2452),
    ("RTX 5070", 12, 672, 6144, 2512),
    ("RTX 5060 Ti 16 GB", 16, 448, 4608, 2572),
    ("RTX 5060 Ti 8 GB", 8, 448, 4608, 2572),
    ("RTX 5060", 8, 448, 3840, 2497),
    ("RTX 5050", 8, 320, 2560, 2572),
    ("RTX 5090 Laptop", 24, 896, 10496, 2160),
    ("RTX 5080 Laptop", 16, 896, 7680, 2287),
    ("RTX 5070 Ti Laptop", 12, 672, 5888, 2220),
    ("RTX 5070 Laptop", 8, 384, 4608, 2347),
    ("RTX 5060 Laptop", 8, 384, 3328, 2497),
    ("RTX 5050 Laptop", 8, 384, 2560, 2662),
)
_RTX_PRO: tuple[_Row, ...] = (
    ("RTX PRO 6000", 96, 1792, 24064, 2617),
    ("RTX PRO 6000 Max-Q", 96, 1792, 24064, 2288),
    ("RTX PRO 6000 Server", 96, 1597, 24064, 2493),
    ("RTX PRO 5000 48 GB", 48, 1344, 14080, 2308),
    ("RTX PRO 5000 72 GB", 72, 1344, 14080, 2308),
    ("RTX PRO 4500", 32, 896, 10496, 2617),
    ("RTX PRO 4000", 24, 672, 8960, 2617),
    ("RTX PRO 4000 SFF", 24, 432, 8960, 1343),
    ("RTX PRO 2000", 16, 288, 4352, 1953),
    ("RTX PRO 5000 Laptop", 24, 896, 10496, 2160),
    ("RTX PRO 4000 Laptop", 16, 896, 7680, 2287),
    ("RTX PRO 3000 Laptop", 12, 672, 5888, 2220),
    ("RTX PRO 2000 Laptop", 8, 384, 3328, 2497),
    ("RTX PRO 1000 Laptop", 8, 384, 2560, 2662),
    ("RTX PRO 500 Laptop", 6, 288, 1792, 2662),
)
_GB10: tuple[_Row, ...] = (("GB10", 128, 273, 6144, 2543),)
_GEFORCE_40: tuple[_Row, ...] = (
    ("RTX 4090", 24, 1008, 16384, 2520),
    ("RTX 4090 D", 24, 1008, 14592, 2520),
    ("RTX 4080 SUPER", 16, 736, 10240, 2550),
    ("RTX 4080", 16, 717, 9728, 2505),
    ("RTX 4070 Ti SUPER", 16, 672, 8448, 2610),
    ("RTX 4070 Ti", 12, 504, 7680, 2610),
    ("RTX 4070 SUPER", 12, 504, 7168, 2475),
    ("RTX 4070", 12, 504, 5888, 2475),
    ("RTX 4060 Ti 8 GB", 8, 288, 4352, 2535),
    ("RTX 4060 Ti 16 GB", 16, 288, 4352, 2535),
    ("RTX 4060", 8, 272, 3072, 2460),
    ("RTX 4090 Laptop", 16, 576, 9728, 2040),
    ("RTX 4080 Laptop", 12, 432, 7424, 2280),
    ("RTX 4070 Laptop", 8, 256, 4608, 2175),
    ("RTX 4060 Laptop", 8, 256, 3072, 2370),
    ("RTX 4050 Laptop", 6, 192, 2560, 2370),
)
_L40: tuple[_Row, ...] = (("L40", 48, 864, 18176, 2490), ("L20", 48, 864, 11776, 2520))
_ADA_PRO: tuple[_Row, ...] = (
    ("RTX 6000 Ada", 48, 960, 18176, 2505),
    ("RTX 5880 Ada", 48, 960, 14080, 2460),
    ("RTX 5000 Ada", 32, 576, 12800, 2550),
    ("RTX 4500 Ada", 24, 432, 7680, 2580),
    ("RTX 4000 Ada", 20, 360, 6144, 2175),
    ("RTX 4000 SFF Ada", 20, 280, 6144, 1560),
    ("RTX 2000 Ada", 16, 224, 2816, 2130),
    ("L40S", 48, 864, 18176, 2520),
    ("L4", 24, 300, 7424, 2040),
    ("RTX 5000 Ada Laptop", 16, 576, 9728, 2115),
    ("RTX 4000 Ada Laptop", 12, 432, 7424, 2265),
    ("RTX 3500 Ada Laptop", 12, 432, 5120, 2250),
    ("RTX 3000 Ada Laptop", 8, 256, 4608, 2160),
    ("RTX 2000 Ada Laptop", 8, 256, 3072, 2355),
    ("RTX 1000 Ada Laptop", 6, 192, 2560, 2370),
    ("RTX 500 Ada Laptop", 4, 128, 2048, 2250),
)
_GEFORCE_30: tuple[_Row, ...] = (
    ("RTX 3090 Ti", 24, 1008, 10752, 1860),
    ("RTX 3090", 24, 936, 10496, 1695),
    ("RTX 3080 Ti", 12, 912, 10240, 1665),
    ("RTX 3080 10 GB", 10, 760, 8704, 1710),
    ("RTX 3080 12 GB", 12, 912, 8960, 1710),
    ("RTX 3070 Ti", 8, 608, 6144, 1770),
    ("RTX 3070", 8, 448, 5888, 1725),
    ("RTX 3060 Ti", 8, 448, 4864, 1665),
    ("RTX 3060 12 GB", 12, 360, 3584, 1777),
    ("RTX 3060 8 GB", 8, 240, 3584, 1777),
    ("RTX 3050 8 GB", 8, 224, 2560, 1777),
    ("RTX 3050 6 GB", 6, 168, 2304, 1470),
    ("RTX 3080 Ti Laptop", 16, 512, 7424, 1590),
    ("RTX 3080 Laptop 8 GB", 8, 448, 6144, 1710),
    ("RTX 3080 Laptop 16 GB", 16, 448, 6144, 1710),
    ("RTX 3070 Ti Laptop", 8, 448, 5888, 1485),
    ("RTX 3070 Laptop", 8, 448, 5120, 1620),
    ("RTX 3060 Laptop", 6, 336, 3840, 1703),
    ("RTX 3050 Ti Laptop", 4, 192, 2560, 1695),
    ("RTX 3050 Laptop 4 GB", 4, 192, 2048, 1740),
    ("RTX 3050 Laptop 6 GB", 6, 168, 2560, 1490),
    ("A10G", 24, 600, 9216, 1710),
)
_AMPERE_PRO: tuple[_Row, ...] = (
    ("RTX A6000", 48, 768, 10752, 1800),
    ("RTX A5500", 24, 768, 10240, 1665),
    ("RTX A5000", 24, 768, 8192, 1695),
    ("RTX A4500", 20, 640, 7168, 1650),
    ("RTX A4000", 16, 448, 6144, 1560),
    ("RTX A2000 6 GB", 6, 288, 3328, 1200),
    ("RTX A2000 12 GB", 12, 288, 3328, 1200),
    ("RTX A1000", 8, 192, 2304, 1462),
    ("RTX A400", 4, 96, 768, 1762),
    ("A40", 48, 696, 10752, 1740),
    ("A10", 24, 600, 9216, 1695),
    ("A16", 16, 200, 1280, 1755),
    ("A2", 16, 200, 1280, 1770),
    ("RTX A5500 Laptop", 16, 512, 7424, 1665),
    ("RTX A5000 Laptop", 16, 448, 6144, 1770),
    ("RTX A4500 Laptop", 16, 512, 5888, 1575),
    ("RTX A4000 Laptop", 8, 384, 5120, 1740),
    ("RTX A3000 Laptop 6 GB", 6, 264, 4096, 1560),
    ("RTX A3000 Laptop 12 GB", 12, 336, 4096, 1560),
    ("RTX A2000 Laptop 4 GB", 4, 192, 2560, 1815),
    ("RTX A2000 Laptop 8 GB", 8, 192, 2560, 1815),
)
_GEFORCE_20: tuple[_Row, ...] = (
    ("RTX 2080 Ti", 11, 616, 4352, 1545),
    ("RTX 2080 SUPER", 8, 496, 3072, 1815),
    ("RTX 2080", 8, 448, 2944, 1710),
    ("RTX 2070 SUPER", 8, 448, 2560, 1770),
    ("RTX 2070", 8, 448, 2304, 1620),
    ("RTX 2060 SUPER", 8, 448, 2176, 1650),
    ("RTX 2060 6 GB", 6, 336, 1920, 1680),
    ("RTX 2060 12 GB", 12, 336, 2176, 1650),
    ("RTX 2080 SUPER Laptop", 8, 448, 3072, 1560),
    ("RTX 2080 Laptop", 8, 384, 2944, 1590),
    ("RTX 2070 SUPER Laptop", 8, 448, 2560, 1380),
    ("RTX 2070 Laptop", 8, 384, 2304, 1440),
    ("RTX 2060 Laptop", 6, 336, 1920, 1560),
)
_TURING_PRO: tuple[_Row, ...] = (
    ("TITAN RTX", 24, 672, 4608, 1770),
    ("Quadro RTX 8000", 48, 672, 4608, 1770),
    ("Quadro RTX 6000", 24, 672, 4608, 1770),
    ("Quadro RTX 5000", 16, 448, 3072, 1815),
    ("Quadro RTX 4000", 8, 416, 2304, 1545),
    ("T4", 16, 320, 2560, 1590),
)
_A100: tuple[_Row, ...] = (
    ("A100 40 GB", 40, 1555, 6912, 1410),
    ("A100 80 GB", 80, 2039, 6912, 1410),
    ("A30", 24, 933, 3584, 1440),
)
_HOPPER: tuple[_Row, ...] = (
    ("H100 SXM", 80, 3350, 16896, 1980),
    ("H100 PCIe", 80, 2000, 14592, 1755),
    ("H100 NVL", 94, 3938, 16896, 1785),
    ("H200", 141, 4800, 16896, 1980),
    ("GH200", 96, 4000, 16896, 1980),
)
_B200: tuple[_Row, ...] = (("B200", 180, 8000, 18944, 1980),)

_SERIES = (
    ("SM120", Rates.BLACKWELL, _GEFORCE_50),
    ("SM120", Rates.BLACKWELL_PRO, _RTX_PRO),
    ("SM121", Rates.BLACKWELL_PRO, _GB10),
    ("SM89", Rates.ADA, _GEFORCE_40),
    ("SM89", Rates.ADA_L40, _L40),
    ("SM89", Rates.ADA_PRO, _ADA_PRO),
    ("SM86", Rates.AMPERE, _GEFORCE_30),
    ("SM86", Rates.AMPERE_PRO, _AMPERE_PRO),
    ("SM75", Rates.TURING, _GEFORCE_20),
    ("SM75", Rates.TURING_PRO, _TURING_PRO),
    ("SM80", Rates.A100, _A100),
    ("SM90", Rates.HOPPER, _HOPPER),
    ("SM100", Rates.B200, _B200),
)


def _card(sm: str, rates: Rates, row: _Row) -> Card:
    name, memory_gb, bandwidth, cores, megahertz = row
    fp32 = 2 * cores * megahertz * 1e6
    fp16, fp8, fp4, int8 = (fp32 * multiple for multiple in rates.value)
    return Card(name, sm, memory_gb, fp32, fp16, fp8, fp4, int8, bandwidth * 1e9)


CARDS = tuple(_card(sm, rates, row) for sm, rates, rows in _SERIES for row in rows)
"""All cards, by compute capability."""


def cards_for(sm: str | None) -> tuple[Card, ...]:
    """Cards that run engines of this compute capability; none for None."""
    return tuple(card for card in CARDS if card.sm == sm)


def gaming_cards(sm: str | None) -> tuple[Card, ...]:
    """The GeForce cards for desktops among `cards_for(sm)`, to stand for all; all of them if there are none."""
    cards = cards_for(sm)
    return tuple(card for card in cards if _GEFORCE.fullmatch(card.base_name)) or cards


def largest_card(sm: str | None) -> Card:
    """The card with the most memory that runs engines of this compute capability; of all cards if it is not known."""
    return max(cards_for(sm) or CARDS, key=lambda card: card.memory_gb)
