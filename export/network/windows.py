"""Shifted windows without masks: which tokens attend to each other, and which result a token keeps.

The token grid is `rows x columns`; a token is 32x32 pixels. Attention runs inside windows of 16x16 tokens, over all
latents of a chunk. Even layers start windows at multiples of 16, odd layers half a window earlier. Starts are clamped
into the grid, so windows overlap at its border instead of being masked. A token in two windows keeps the result of one,
its *owner*. All of this is known in advance, so a layer needs constant index lists and no mask, scatter or roll.

Source: the published SwiftVR code (arXiv 2606.09516), whose results in `tests/oracle` this is tested against.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations, pairwise

import numpy as np
from numpy.typing import NDArray


def window_starts(length: int, window: int, *, shifted: bool) -> tuple[int, ...]:
    """First token of every window along an axis of `length` tokens.

    An axis no longer than a window has one window. Otherwise starts are `k * window` (`shifted`: minus half a window),
    clamped to `[0, length - window]`. Duplicates are dropped, and so are middle starts whose two neighbours already
    touch; neighbours are those in the list before any was dropped.
    """
    if length <= window:
        return (0,)
    last = length - window
    shift = window // 2 if shifted else 0
    count = -(-(length + shift) // window)
    starts = sorted({min(max(k * window - shift, 0), last) for k in range(count)})
    return tuple(
        start for i, start in enumerate(starts) if i in (0, len(starts) - 1) or starts[i + 1] - starts[i - 1] > window
    )


@dataclass(frozen=True)
class WindowPlan:
    """The windows of one layer over a `rows x columns` token grid; positions are row-major grid indices.

    gather: int64 [windows, tokens per window], the grid index of each window's tokens.
    owner: int64 [rows * columns], where in the flattened `gather` lies the copy that each grid token keeps.
    """

    rows: int
    columns: int
    gather: NDArray[np.int64]
    owner: NDArray[np.int64]

    @property
    def windows(self) -> int:
        return int(self.gather.shape[0])

    @property
    def tokens_per_window(self) -> int:
        return int(self.gather.shape[1])


def plan_windows(rows: int, columns: int, window: tuple[int, int], *, layer: int) -> WindowPlan:
    """Plan one layer over a grid of `rows x columns` tokens. Shift and owner depend on the parity of its number."""
    shifted = layer % 2 == 1
    grid = np.arange(rows * columns, dtype=np.int64).reshape(rows, columns)
    height, width = min(window[0], rows), min(window[1], columns)
    gather = np.stack(
        [
            grid[top : top + height, left : left + width].ravel()
            for top in window_starts(rows, window[0], shifted=shifted)
            for left in window_starts(columns, window[1], shifted=shifted)
        ]
    )
    # Later assignments win: in reverse order, the first window of a token owns it.
    flat = gather.ravel()
    order = np.arange(flat.size, dtype=np.int64)
    if not shifted:
        flat, order = flat[::-1], order[::-1]
    owner = np.empty(rows * columns, dtype=np.int64)
    owner[flat] = order
    return WindowPlan(rows, columns, gather, owner)


CALLS = 2
"""Attention calls per layer. With one, windows that own few tokens cost as much as full ones: 1.7 times the queries at
1920x1080. With two it is 1.2 times. One call per size would need no extra queries, but most would not fill a GPU."""


@dataclass(frozen=True)
class Group:
    """The windows of one attention call, with equally many queries and equally many keys each.

    queries: int64 [windows, queries per window]. keys: int64 [windows, keys per window]. Both are positions of tokens.
    """

    queries: NDArray[np.int64]
    keys: NDArray[np.int64]


@dataclass(frozen=True)
class LayerPlan:
    """One layer's attention: the calls, and where each token finds its result.

    out: int64 [tokens], index into `queries`.
    """

    groups: tuple[Group, ...]
    out: NDArray[np.int64]

    @property
    def queries(self) -> NDArray[np.int64]:
        """The queries of all groups, flattened, one group after the other."""
        return np.concatenate([group.queries.ravel() for group in self.groups])

    def reordered(self, position: NDArray[np.int64]) -> LayerPlan:
        """The same plan for tokens in another order. position: int64 [tokens], where each token is stored."""
        groups = tuple(Group(position[group.queries], position[group.keys]) for group in self.groups)
        out = np.empty_like(self.out)
        out[position] = self.out
        return LayerPlan(groups, out)


def plan_whole_windows(plan: WindowPlan) -> LayerPlan:
    """As published: every window computes all its tokens, and results that it does not own are dropped."""
    return LayerPlan((Group(plan.gather, plan.gather),), plan.owner)


def plan_owned_queries(plan: WindowPlan, calls: int = CALLS) -> LayerPlan:
    """Every window computes only the tokens it owns, in at most `calls` calls.

    The windows of a call need equally many queries, so those that own fewer tokens repeat their last one. Windows are
    divided between the calls such that the fewest queries are repeated.
    """
    kept = np.zeros(plan.gather.size, dtype=bool)
    kept[plan.owner] = True
    owned = [window[mask] for window, mask in zip(plan.gather, kept.reshape(plan.gather.shape), strict=True)]
    counts = np.array([len(tokens) for tokens in owned])
    groups = []
    for largest, smallest in _count_ranges(counts, calls):
        members = np.flatnonzero((counts <= largest) & (counts >= smallest))
        queries = [np.pad(owned[k], (0, largest - len(owned[k])), mode="edge") for k in members]
        groups.append(Group(np.stack(queries), plan.gather[members]))
    asked = np.concatenate([group.queries.ravel() for group in groups])
    return LayerPlan(tuple(groups), np.unique(asked, return_index=True)[1])  # the first of each


def _count_ranges(counts: NDArray[np.int64], calls: int) -> list[tuple[int, int]]:
    """Ranges (largest, smallest) of `counts`, one per call, that cover all but 0 with the fewest repeated queries."""
    sizes = sorted(set(counts.tolist()) - {0}, reverse=True)
    best: tuple[int, list[tuple[int, int]]] | None = None
    for inner in combinations(range(1, len(sizes)), min(calls, len(sizes)) - 1):
        cuts = (0, *inner, len(sizes))
        ranges = [(sizes[first], sizes[last - 1]) for first, last in pairwise(cuts)]
        asked = sum(high * int(((counts <= high) & (counts >= low)).sum()) for high, low in ranges)
        if best is None or asked < best[0]:
            best = asked, ranges
    return best[1] if best else []
