"""Divides an output into overlapping tiles, and blends restored tiles into pictures. Pure.

A tile is as large as the bundle's pictures. Neighbours overlap. In the outer quarter of an overlap a tile counts
nothing, because near its edge the network lacks the picture beyond; over the middle half, one passes into the other.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...engines.bundle.geometry import MAX_SIDE, PIXELS_PER_TOKEN, Resolution
from ...errors import MisuseError
from .shrink import mix, taps

LEAST_SIDE = 1024
"""Pixels of a tile's side, at least, if the picture has as many. Smaller tiles show the network too little."""
OVERLAP = 128
"""Pixels that neighbours share, at least; benchmarks/tiles.py measures what more brings."""
_USUAL_AREA = 1920 * 1088
"""Pixels of a tile that `auto` chooses, at most."""
_MOST = 16
"""Tiles along an axis."""

Codes = NDArray[Any]


@dataclass(frozen=True)
class Tile:
    """A part of the output, in pixels: its first row and column, and its size."""

    top: int
    left: int
    height: int
    width: int

    @property
    def place(self) -> tuple[slice, slice]:
        """Where it lies in a picture."""
        return slice(self.top, self.top + self.height), slice(self.left, self.left + self.width)


@dataclass(frozen=True)
class Tiling:
    """How pictures of `size` consist of tiles. Raises `MisuseError` for tiles that cannot cover them like this."""

    size: Resolution
    tile: Resolution
    overlap: int = OVERLAP

    def __post_init__(self) -> None:
        if self.tile.width > self.size.width or self.tile.height > self.size.height:
            raise MisuseError(f"the tiles are {self.tile}, expected at most the output, {self.size}: leave out --tile")
        for tile, whole in ((self.tile.width, self.size.width), (self.tile.height, self.size.height)):
            if tile < whole and tile <= 2 * self.overlap:
                raise MisuseError(
                    f"the tiles are {self.tile}, expected sides above {2 * self.overlap} pixels or those of the output"
                )

    @classmethod
    def whole(cls, size: Resolution) -> Tiling:
        """Pictures that are one tile."""
        return cls(size, size)

    @classmethod
    def from_dict(cls, plain: dict[str, Any]) -> Tiling:
        """The inverse of `dataclasses.asdict`."""
        return cls(Resolution(**plain["size"]), Resolution(**plain["tile"]), plain["overlap"])

    @property
    def is_whole(self) -> bool:
        """True if pictures are one tile."""
        return self.tile == self.size

    @cached_property
    def tiles(self) -> tuple[Tile, ...]:
        """All tiles, row by row."""
        rows = _starts(self.size.height, self.tile.height, self.overlap)
        columns = _starts(self.size.width, self.tile.width, self.overlap)
        return tuple(Tile(top, left, self.tile.height, self.tile.width) for top, left in product(rows, columns))

    @cached_property
    def weights(self) -> tuple[NDArray[np.float32], ...]:
        """What each tile counts at each of its pixels, float32 [height, width, 1]. They add up to 1 everywhere."""
        rows = _shares(_starts(self.size.height, self.tile.height, self.overlap), self.tile.height, self.size.height)
        columns = _shares(_starts(self.size.width, self.tile.width, self.overlap), self.tile.width, self.size.width)
        return tuple((down[:, None] * across)[..., None] for down, across in product(rows, columns))

    def part_size(self, height: int, width: int) -> tuple[int, int]:
        """Height and width of the largest of the `parts` of a frame of this size."""
        rows = [_samples(height, tile.top, tile.height, self.size.height) for tile in self.tiles]
        columns = [_samples(width, tile.left, tile.width, self.size.width) for tile in self.tiles]
        return (
            max(self.tile.height if each is None else len(each) for each in rows),
            max(self.tile.width if each is None else len(each) for each in columns),
        )

    def blend(self, restored: Sequence[Codes]) -> Codes:
        """A picture from its restored tiles, each [height, width, 3]; in the same type, rounded."""
        picture = np.zeros((self.size.height, self.size.width, 3), np.float32)
        for tile, weights, pixels in zip(self.tiles, self.weights, restored, strict=True):
            picture[tile.place] += weights * pixels
        return np.rint(picture).astype(restored[0].dtype)

    def parts(self, frame: Codes) -> Iterator[Codes]:
        """The part of an input frame [h, w, 3] that belongs to each tile, to be resized to the tile by the network."""
        for tile in self.tiles:
            rows = _part(frame, 0, tile.top, tile.height, self.size.height)
            yield np.ascontiguousarray(_part(rows, 1, tile.left, tile.width, self.size.width))


def plan_tiles(wanted: str, size: Resolution, bundle: Resolution | None = None) -> Tiling | None:
    """The tiling that a user asks for; None if the output is one tile.

    wanted: `auto` or `WxH`. size: of the output. bundle: of the pictures of a bundle that was named; None if one can be
    built. Raises `MisuseError` for tiles that are too small, or not those of the bundle.
    """
    tile = parse_tile(wanted) or bundle or auto_tile(size)
    if bundle is not None and tile != bundle:
        raise MisuseError(f"--tile is {tile}, but the bundle restores to {bundle}: give --tile auto")
    if tile == size:
        return None
    for side, whole in ((tile.width, size.width), (tile.height, size.height)):
        if side < min(LEAST_SIDE, whole):
            raise MisuseError(
                f"the tiles are {tile}, expected sides of {LEAST_SIDE} pixels or more, or those of the output, {size}"
            )
    return Tiling(size, tile)


def parse_tile(wanted: str) -> Resolution | None:
    """The size of a tile that a user asks for, `WxH`; None for `auto`. Raises `MisuseError` for anything else."""
    if wanted == "auto":
        return None
    try:
        return Resolution.parse(wanted)
    except MisuseError:
        sides = f"{MAX_SIDE}x{MAX_SIDE}"
        raise MisuseError(
            f"--tile is {wanted!r}, expected auto, or WIDTHxHEIGHT up to {sides} in pixels, e.g. 1920x1080"
        ) from None


def auto_tile(size: Resolution) -> Resolution:
    """The tile for pictures of a size: as few tiles as possible, none much larger than 1920x1080."""
    found: list[tuple[int, int, Resolution]] = []
    for down, across in product(range(1, _MOST + 1), repeat=2):
        height, width = _side(size.height, down), _side(size.width, across)
        if height is not None and width is not None and (height * width <= _USUAL_AREA or down == across == _MOST):
            found.append((down * across, height * width, Resolution(width, height)))
    if not found:
        raise MisuseError(f"the output is {size}, which is too large for {_MOST}x{_MOST} tiles: choose a smaller one")
    return min(found, key=lambda each: each[:2])[2]


def _side(length: int, count: int) -> int | None:
    """The side of so many tiles along an axis; None if they would be too small."""
    if count == 1:
        return length
    side = -(-(length + (count - 1) * OVERLAP) // count)
    side = -(-side // PIXELS_PER_TOKEN) * PIXELS_PER_TOKEN
    return side if LEAST_SIDE <= side < length else None


def _starts(length: int, tile: int, overlap: int) -> list[int]:
    """Where tiles begin along an axis: evenly, at whole tokens if tiles are that large; the last one ends with it."""
    last, most = length - tile, tile - overlap
    if last <= 0:
        return [0]
    unit = PIXELS_PER_TOKEN if most >= PIXELS_PER_TOKEN else 1
    gaps = -(-last // (most // unit * unit))
    starts = {min(-(-last * number // (gaps * unit)) * unit, last) for number in range(gaps)}
    return sorted({*starts, last})


def _shares(starts: Sequence[int], tile: int, length: int) -> list[NDArray[np.float32]]:
    """What each tile counts along an axis, float32 [tile]."""
    places = np.arange(length, dtype=np.float32) + 0.5
    shares = np.ones((len(starts), length), np.float32)
    for number, start in enumerate(starts[1:], 1):
        common = starts[number - 1] + tile - start
        ramp = np.clip((places - start - common / 4) / (common / 2), 0, 1)
        shares[number] *= ramp
        shares[number - 1] *= 1 - ramp
    shares /= shares.sum(0)
    return [share[start : start + tile] for share, start in zip(shares, starts, strict=True)]


def _samples(count: int, start: int, length: int, whole: int) -> range | None:
    """Which of `count` samples belong to `length` of `whole` pixels from `start` on; None if that cuts through one."""
    if start * count % whole or length * count % whole:
        return None
    begin = start * count // whole
    return range(begin, begin + length * count // whole)


def _part(frame: Codes, axis: int, start: int, length: int, whole: int) -> Codes:
    """The samples of an axis that belong to `length` of `whole` output pixels from `start` on.

    They are cut out if they begin and end between two samples. Otherwise they are resized as the network resizes.
    """
    count = frame.shape[axis]
    if start == 0 and length == whole:
        return frame
    if (samples := _samples(count, start, length, whole)) is not None:
        return frame.take(samples, axis)
    first, second, share = taps(count, whole)
    part, shape = slice(start, start + length), [-1 if axis == each else 1 for each in range(frame.ndim)]
    mixed = mix(frame.take(first[part], axis), frame.take(second[part], axis), share[part].reshape(shape))
    resized: Codes = np.rint(mixed).astype(frame.dtype)
    return resized
