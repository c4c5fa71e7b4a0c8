"""Windows: the published start positions, and who owns what, by brute force."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from swiftvr_trt import Resolution
from swiftvr_trt.export.network.windows import plan_owned_queries, plan_whole_windows, plan_windows, window_starts
from tests.export.small import GRIDS

sides = st.integers(1, 50)
windows = st.integers(1, 20)


@pytest.mark.parametrize(
    ("length", "even", "odd"),
    [
        (1, (0,), (0,)),
        (16, (0,), (0,)),
        (17, (0, 1), (0, 1)),
        (20, (0, 4), (0, 4)),
        (24, (0, 8), (0, 8)),
        (32, (0, 16), (0, 16)),  # odd: 8 goes, its neighbours touch
        (33, (0, 16, 17), (0, 8, 17)),
        (34, (0, 16, 18), (0, 8, 18)),  # 1080 rows
        (40, (0, 16, 24), (0, 8, 24)),
        (45, (0, 16, 29), (0, 8, 24, 29)),  # 1440 rows
        (48, (0, 16, 32), (0, 8, 24, 32)),
        (60, (0, 16, 32, 44), (0, 8, 24, 40, 44)),  # 1920 columns
        (80, (0, 16, 32, 48, 64), (0, 8, 24, 40, 56, 64)),  # 2560 columns
    ],
)
def test_windows_start_where_the_published_ones_do(length: int, even: tuple[int, ...], odd: tuple[int, ...]) -> None:
    assert window_starts(length, 16, shifted=False) == even
    assert window_starts(length, 16, shifted=True) == odd


@given(sides, windows, st.booleans())
def test_windows_of_an_axis_cover_it_in_order_and_stay_inside(length: int, window: int, shifted: bool) -> None:
    starts = window_starts(length, window, shifted=shifted)
    assert starts == tuple(sorted(set(starts)))
    covered = {start + k for start in starts for k in range(min(window, length))}
    assert covered == set(range(length))


@given(sides, sides, windows, windows, st.integers(0, 29))
def test_every_token_keeps_the_copy_of_its_first_or_last_window(
    rows: int, columns: int, height: int, width: int, layer: int
) -> None:
    plan = plan_windows(rows, columns, (height, width), layer=layer)
    covering: dict[int, list[int]] = {token: [] for token in range(rows * columns)}
    tops, lefts = (window_starts(n, w, shifted=layer % 2 == 1) for n, w in ((rows, height), (columns, width)))
    corners = [(top, left) for top in tops for left in lefts]
    for number, (top, left) in enumerate(corners):
        inside = [
            row * columns + column
            for row in range(top, top + min(height, rows))
            for column in range(left, left + min(width, columns))
        ]
        assert plan.gather[number].tolist() == inside
        for token in inside:
            covering[token].append(number)
    owners = [covering[token][-1 if layer % 2 else 0] for token in range(rows * columns)]
    assert (plan.owner // plan.tokens_per_window).tolist() == owners
    assert plan.gather.ravel()[plan.owner].tolist() == list(range(rows * columns))
    assert plan.windows == len(corners)


@pytest.mark.parametrize("layer", [0, 1])
def test_a_grid_no_larger_than_a_window_is_one_window(layer: int) -> None:
    plan = plan_windows(9, 16, (16, 16), layer=layer)
    np.testing.assert_array_equal(plan.gather, np.arange(9 * 16)[None])
    np.testing.assert_array_equal(plan.owner, np.arange(9 * 16))


def test_a_token_covered_twice_has_another_owner_on_odd_layers() -> None:
    even, odd = (plan_windows(1, 17, (16, 16), layer=layer) for layer in (2, 3))
    assert (even.owner // 16).tolist() == [0] * 16 + [1]
    assert (odd.owner // 16).tolist() == [0] + [1] * 16


@pytest.mark.parametrize("size", [*GRIDS, Resolution(1920, 1080), Resolution(2560, 1440)], ids=str)
def test_owned_queries_ask_for_every_token_in_two_calls(size: Resolution) -> None:
    for layer in (0, 1):
        plan = plan_windows(size.token_rows, size.token_columns, (16, 16), layer=layer)
        owned = plan_owned_queries(plan)
        assert len(owned.groups) <= 2
        assert set(owned.queries.tolist()) == set(range(size.token_rows * size.token_columns))
        assert np.array_equal(owned.queries[owned.out], np.arange(owned.out.size))
        window_of = {token: w for w, tokens in enumerate(plan.gather.tolist()) for token in tokens}
        assert len(window_of) == owned.out.size
        for group in owned.groups:
            for queries, keys in zip(group.queries.tolist(), group.keys.tolist(), strict=True):
                assert set(queries) <= set(keys)
                assert keys in plan.gather.tolist()


def test_whole_windows_ask_for_everything_and_drop_what_they_do_not_own() -> None:
    plan = plan_windows(1, 17, (16, 16), layer=0)
    whole = plan_whole_windows(plan)
    [group] = whole.groups
    assert group.queries.tolist() == group.keys.tolist() == [list(range(16)), list(range(1, 17))]
    assert whole.out.tolist() == [*range(16), 31]  # the second window owns its last token only


def test_windows_that_own_less_repeat_their_last_token() -> None:
    """Of two windows over 20 tokens the second owns 4. Two calls need no repetition, one call repeats 12 times."""
    plan = plan_windows(1, 20, (16, 16), layer=0)
    assert [group.queries.shape for group in plan_owned_queries(plan, calls=2).groups] == [(1, 16), (1, 4)]
    [group] = plan_owned_queries(plan, calls=1).groups
    assert group.queries[1].tolist() == [16, 17, 18, *[19] * 13]


def test_a_plan_follows_its_tokens_to_other_places() -> None:
    """Token t is stored at position 19 - t."""
    plan, position = plan_owned_queries(plan_windows(1, 20, (16, 16), layer=0)), np.arange(20)[::-1].copy()
    moved = plan.reordered(position)
    assert (19 - moved.queries).tolist() == plan.queries.tolist()
    assert [(19 - group.keys).tolist() for group in moved.groups] == [group.keys.tolist() for group in plan.groups]
    assert np.array_equal(moved.queries[moved.out], np.arange(20))
