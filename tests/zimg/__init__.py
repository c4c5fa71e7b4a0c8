"""What zimg makes of colour bars: an independent truth for the conversions. `make.py` has written `truth.npz`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

TRUTH = Path(__file__).parent / "truth.npz"
HEIGHT, WIDTH = 16, 48
NAMES = {1: "709", 4: "fcc", 5: "470bg", 6: "170m", 7: "240m", 9: "2020_ncl"}
"""Matrices by code point, in zimg's words."""
SITINGS = {"left": (0.0, 0.5), "center": (0.5, 0.5), "topleft": (0.0, 0.0), "bottomleft": (0.0, 1.0)}
Codes = NDArray[np.uint16]


@dataclass(frozen=True)
class Case:
    """One conversion, in both directions."""

    matrix: int
    full: bool
    bits: int
    siting: str

    @property
    def key(self) -> str:
        return f"{NAMES[self.matrix]} {'full' if self.full else 'limited'} {self.bits} {self.siting}"


def cases() -> Iterator[Case]:
    """Every matrix with every range and depth, and every siting with every depth."""
    for bits in (8, 10):
        for full in (False, True):
            for matrix in NAMES:
                yield Case(matrix, full, bits, "left")
        for siting in list(SITINGS)[1:]:
            yield Case(1, False, bits, siting)


def bars() -> Codes:
    """RGB in 12 bits, [HEIGHT, WIDTH, 3]: the eight colour bars at 100 % and, in the lower half, at 75 % on a ramp."""
    colours = np.array([[k >> 1 & 1, k >> 2 & 1, k & 1] for k in range(7, -1, -1)])
    top = np.repeat(np.broadcast_to(colours, (HEIGHT // 2, 8, 3)), WIDTH // 8, axis=1) * 4095.0
    ramp = np.linspace(0.1, 1, HEIGHT // 2)[:, None, None]
    picture: Codes = np.rint(np.concatenate([top, 0.75 * top[::-1] * ramp])).astype(np.uint16)
    return picture


def yuv_codes(case: Case) -> tuple[Codes, Codes]:
    """Luma [HEIGHT, WIDTH] and chroma [2, HEIGHT / 2, WIDTH / 2] of another picture: waves that stay within RGB."""
    y, x = np.mgrid[0:HEIGHT, 0:WIDTH]
    step = 1 << (case.bits - 8)
    luma = (126 + 30 * np.sin(x / 5) + 25 * np.cos(y / 3)) * step
    y, x = np.mgrid[0 : HEIGHT // 2, 0 : WIDTH // 2]
    bars_ = np.where(x // 4 % 2, 24, -20)  # edges, too
    chroma = np.stack([128 + bars_ + 8 * np.sin(y), 128 - 20 * np.cos(x / 3) + 10 * np.cos(y)]) * step
    return np.rint(luma).astype(np.uint16), np.rint(chroma).astype(np.uint16)
