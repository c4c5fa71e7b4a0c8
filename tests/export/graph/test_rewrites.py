"""Every rewrite is the same function as what it replaces, in float64 on random weights."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch
from torch import nn

from swiftvr_trt import MisuseError
from swiftvr_trt.export.graph.rewrites import (
    ALL,
    Affine,
    Grow,
    balanced,
    distinct_rows,
    fold_growth,
    fold_pooling,
    halves,
    rows_alike,
)
from swiftvr_trt.export.graph.self_attention import Rope
from swiftvr_trt.export.network.dit import rope_tables
from swiftvr_trt.export.network.reae import Decoder, Encoder, ReaeConfig, TGrow, walk
from tests.export.small import REAE, assert_same, small_prompt

NARROW = replace(REAE, encoder_hidden=(3, 2, 3, 5, 5, 4, 4, 3, 1), decoder_hidden=(7, 4, 6, 4, 2, 4, 6, 5, 3))
CONFIGS = pytest.mark.parametrize("config", [REAE, NARROW], ids=["as wide inside", "narrower inside"])


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(3)


@pytest.fixture(autouse=True)
def _no_grad() -> Iterator[None]:
    with torch.no_grad():
        yield


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("size", [(1, 1), (1, 5), (4, 3)])
def test_growth_is_one_transposed_convolution(stride: int, size: tuple[int, int]) -> None:
    grow, convolution = TGrow(4, stride).double(), nn.Conv2d(4, 3, 3, padding=1, bias=False).double()
    x = torch.randn(2, 4, *size, dtype=torch.float64)
    plain = convolution(grow(nn.functional.interpolate(x, scale_factor=2, mode="nearest")))
    assert_same(Grow(grow, convolution)(x), plain)


@CONFIGS
def test_folded_decoder_is_the_decoder(config: ReaeConfig) -> None:
    decoder = Decoder(config).double()
    latents = torch.randn(3, 5, 2, 3, dtype=torch.float64)
    state = tuple(torch.rand_like(past) for past in decoder.initial_state(2, 3))
    plain, plain_after = walk(decoder, latents, state)
    folded, folded_after = walk(fold_growth(decoder), latents, state)
    assert_same(folded, plain)
    for ours, theirs in zip(folded_after, plain_after, strict=True):
        assert_same(ours, theirs)


@CONFIGS
def test_folded_encoder_is_the_encoder(config: ReaeConfig) -> None:
    encoder = Encoder(config).double()
    frames = torch.rand(8, 12, 16, 24, dtype=torch.float64)
    state = tuple(torch.rand_like(past) for past in encoder.initial_state(2, 3))
    plain, plain_after = walk(encoder, frames, state)
    folded, folded_after = walk(fold_pooling(encoder), frames, state)
    assert_same(folded, plain)
    for ours, theirs in zip(folded_after, plain_after, strict=True):
        assert_same(ours, theirs)


@CONFIGS
@pytest.mark.parametrize("cut", [1, 2, 4])
def test_one_latent_at_a_time_is_the_whole_chunk(cut: int, config: ReaeConfig) -> None:
    encoder, decoder = Encoder(config).double(), Decoder(config).double()
    frames = torch.rand(16, 3, 32, 48, dtype=torch.float64)
    latents, encoder_after = encoder(frames, encoder.initial_state(2, 3))
    restored, decoder_after = decoder(latents, decoder.initial_state(2, 3))
    state, pieces = encoder.initial_state(2, 3), []
    for some in frames.split(4 * cut):
        piece, state = encoder(some, state)
        pieces.append(piece)
    assert_same(torch.cat(pieces), latents)
    assert all(torch.allclose(a, b, rtol=0, atol=1e-12) for a, b in zip(state, encoder_after, strict=True))
    state, pieces = decoder.initial_state(2, 3), []
    for one in latents.split(cut):
        piece, state = decoder(one, state)
        pieces.append(piece)
    assert_same(torch.cat(pieces), restored)
    assert all(torch.allclose(a, b, rtol=0, atol=1e-12) for a, b in zip(state, decoder_after, strict=True))


def test_modulation_folds_into_linears() -> None:
    linear, x = nn.Linear(6, 4).double(), torch.randn(5, 6, dtype=torch.float64)
    gain, shift, gate = (torch.randn(n, dtype=torch.float64) for n in (6, 6, 4))
    folded = Affine.of(linear).after(gain, shift).gated(gate).module()
    assert_same(folded(x), linear(x * gain + shift) * gate)


def test_rotating_halves_is_rotating_pairs_after_reordering() -> None:
    cos, sin = rope_tables(12, 2, 3, 2)
    query, key = (torch.randn(2, 6, 3, 12, dtype=torch.float64) for _ in range(2))
    order = halves(3, 12)
    swapped = [x.flatten(2)[..., order].view_as(x) for x in (query, key)]
    ours = [Rope(cos, sin, split=True)(x.unsqueeze(2)) for x in swapped]
    theirs = [Rope(cos, sin, split=False)(x.unsqueeze(2)) for x in (query, key)]
    assert_same((ours[0] * ours[1]).sum(-1), (theirs[0] * theirs[1]).sum(-1))


def test_distinct_rows_come_with_the_logarithm_of_their_count() -> None:
    rows, weight = distinct_rows(small_prompt(distinct=3))
    assert rows.shape == (3, 7)
    assert sorted(weight.exp().round().int().tolist()) == [1, 1, 7]


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
def test_a_balanced_linear_is_the_linear(dtype: torch.dtype) -> None:
    given = Affine(torch.randn(6, 8, dtype=dtype), torch.randn(6, dtype=dtype))
    x = torch.randn(5, 8, dtype=dtype)
    gain, after = balanced(given, (0, 1, -1, 12, -12, 0, 3, 0))
    assert torch.equal((x * gain) @ after.weight.T + after.bias, x @ given.weight.T + given.bias), "to the last bit"
    with pytest.raises(MisuseError, match="the calibration has 2 shifts for a linear of 8 inputs"):
        balanced(given, (0, 1))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16], ids=str)
def test_rows_alike_are_the_rows_after_the_product(dtype: torch.dtype) -> None:
    weight = torch.randn(6, 8, dtype=torch.float64) * torch.tensor([[0.1], [1.0], [30.0], [0.0], [1e-9], [5.0]])
    x = torch.randn(5, 8, dtype=torch.float64)
    alike, factors = rows_alike(weight, dtype)
    assert factors.dtype == dtype
    assert_same(x @ alike.T * factors.double(), x @ weight.T)
    largest = alike.abs().amax(1)
    assert bool((largest[[0, 1, 2, 5]] > 0.99 * largest.max()).all()), "one scale suits all rows"
    assert torch.isfinite(alike).all()
    assert not rows_alike(weight * 0, dtype)[0].any()
    small = rows_alike(weight * 1e-4, dtype)[0].abs().max()
    assert small / 127 > torch.finfo(torch.float16).tiny, "as a gate makes it"


def test_an_unknown_rewrite_is_refused() -> None:
    with pytest.raises(MisuseError, match="'magic', expected one of modulation"):
        ALL.without(["magic"])
