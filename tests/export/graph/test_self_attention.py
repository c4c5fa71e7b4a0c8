"""Self-attention as it is traced: gathers that lose nothing, plans that agree, and the result of the plain network."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from torch import nn

from swiftvr_trt import Resolution
from swiftvr_trt.export.graph.layers import FLOAT32
from swiftvr_trt.export.graph.rewrites import ALL, Rewrites
from swiftvr_trt.export.graph.self_attention import (
    Rope,
    SelfAttention,
    Take,
    Windows,
    by_latent,
    by_window,
    inverse,
    plan_layers,
)
from swiftvr_trt.export.network.dit import Attention, rope_tables
from swiftvr_trt.export.network.windows import plan_windows
from tests.export.small import DIT, GRIDS, assert_same


@pytest.fixture(autouse=True)
def _deterministic() -> Iterator[None]:
    torch.manual_seed(3)
    with torch.no_grad():
        yield


def test_taking_everything_in_order_does_nothing() -> None:
    x = torch.randn(2, 6, 3)
    take = Take(np.arange(6))
    assert take(x) is x
    assert not list(take.parameters())


def test_taking_a_run_of_tokens_is_a_slice() -> None:
    x = torch.randn(2, 6, 3)
    take = Take(np.arange(2, 5))
    assert torch.equal(take(x), x[:, 2:5])
    assert take(x).data_ptr() == x[:, 2].data_ptr()
    assert torch.equal(Take(np.arange(4))(x), x[:, :4])


def test_any_other_index_is_a_gather() -> None:
    x = torch.randn(2, 6, 3)
    assert torch.equal(Take(np.array([5, 0, 0, 2]))(x), x[:, [5, 0, 0, 2]])


def test_tokens_go_into_windows_and_come_back() -> None:
    x = torch.randn(2, 3 * 4, 5, 6)  # 2 latents, 3 windows of 4 tokens, 5 heads of 6 channels
    inside = by_window(x, 3)
    assert inside.shape == (3, 5, 2 * 4, 6)
    assert torch.equal(inside[1, 4, 4 + 2], x[1, 4 + 2, 4])  # the second latent follows the first
    assert torch.equal(by_latent(inside, 2), x.flatten(2))


def test_an_order_is_undone_by_its_inverse() -> None:
    order = np.array([3, 0, 2, 1])
    assert order[inverse(order)].tolist() == inverse(order)[order].tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize("size", GRIDS, ids=str)
def test_tokens_stay_in_place_without_the_rewrite(size: Resolution) -> None:
    plans, order = plan_layers(DIT, size.token_rows, size.token_columns, ALL.without(["order"]))
    assert order.tolist() == list(range(size.token_rows * size.token_columns))
    assert len(plans) == 2


@pytest.mark.parametrize("size", GRIDS, ids=str)
@pytest.mark.parametrize("rewrites", [ALL, ALL.without(["owned"])], ids=["owned", "whole"])
def test_reordered_tokens_attend_to_the_same_tokens(size: Resolution, rewrites: Rewrites) -> None:
    rows, columns = size.token_rows, size.token_columns
    plans, order = plan_layers(DIT, rows, columns, rewrites)
    plain, _ = plan_layers(DIT, rows, columns, rewrites.without(["order"]))
    assert sorted(order.tolist()) == list(range(rows * columns))
    for ours, theirs in zip(plans, plain, strict=True):
        assert order[ours.queries].tolist() == theirs.queries.tolist()
        assert np.array_equal(ours.queries[ours.out], np.arange(rows * columns))
        for mine, other in zip(ours.groups, theirs.groups, strict=True):
            assert np.array_equal(order[mine.keys], other.keys)


def test_even_layers_slice_where_windows_do_not_overlap() -> None:
    plans, _ = plan_layers(DIT, 8, 8, ALL)
    windows = Windows(plans[0])
    assert all(take.is_slice for take in (*windows.queries, *windows.keys, windows.out))


@pytest.mark.parametrize("layer", [0, 1])
@pytest.mark.parametrize(
    "rewrites",
    [ALL, ALL.without(Rewrites.names()), *(ALL.without([name]) for name in ("halves", "owned", "order", "modulation"))],
    ids=["all", "none", "without-halves", "without-owned", "without-order", "without-modulation"],
)
def test_the_result_is_that_of_the_plain_network(rewrites: Rewrites, layer: int) -> None:
    attention, latents, rows, columns = Attention(DIT).double(), 2, 7, 6
    for parameter in attention.parameters():
        nn.init.normal_(parameter, std=0.3)
    shift, scale, gate = torch.randn(3, DIT.dim, dtype=torch.float64)
    x = torch.randn(latents, rows * columns, DIT.dim, dtype=torch.float64)
    cos, sin = rope_tables(DIT.head_dim, latents, rows, columns)
    plan = plan_windows(rows, columns, DIT.window, layer=layer)
    gather, owner = torch.from_numpy(plan.gather), torch.from_numpy(plan.owner)
    expected = attention.windowed(x * (1 + scale) + shift, (cos, sin), gather, owner) * gate

    plans, order = plan_layers(DIT, rows, columns, rewrites)
    stored, back = Take(order), Take(inverse(order))
    rope = Rope(stored(cos), stored(sin), split=rewrites.halves)
    stage = SelfAttention(attention, (shift, scale, gate), rewrites, FLOAT32)
    assert_same(back(stage(stored(x), rope, Windows(plans[layer]))), expected)


def test_fewer_latents_use_the_beginning_of_the_tables() -> None:
    cos, sin = rope_tables(12, 5, 2, 3)
    x = torch.randn(4, 6, 2, 3, 12, dtype=torch.float64)
    short = Rope(*rope_tables(12, 4, 2, 3), split=True)
    assert torch.equal(Rope(cos, sin, split=True)(x), short(x))
