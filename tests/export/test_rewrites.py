"""Every rewrite is the same function as what it replaces, in float64 on random weights."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn

from swiftvr_trt.export.reae import Decoder, Encoder, ReaeConfig, TGrow, walk
from swiftvr_trt.export.rewrites import Grow, fold_growth

RELATIVE = 1e-9
CONFIG = ReaeConfig(latent_channels=5, encoder=(6, 7, 8, 9), decoder=(12, 10, 8, 6))


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(3)


@pytest.fixture(autouse=True)
def _no_grad() -> Iterator[None]:
    with torch.no_grad():
        yield


def assert_same(ours: Tensor, theirs: Tensor) -> None:
    assert ours.shape == theirs.shape
    assert float((ours - theirs).abs().max()) <= RELATIVE * float(theirs.abs().max())


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("size", [(1, 1), (1, 5), (4, 3)])
def test_growth_is_one_transposed_convolution(stride: int, size: tuple[int, int]) -> None:
    grow, convolution = TGrow(4, stride).double(), nn.Conv2d(4, 3, 3, padding=1, bias=False).double()
    x = torch.randn(2, 4, *size, dtype=torch.float64)
    plain = convolution(grow(nn.functional.interpolate(x, scale_factor=2, mode="nearest")))
    assert_same(Grow(grow, convolution)(x), plain)


def test_folded_decoder_is_the_decoder() -> None:
    decoder = Decoder(CONFIG).double()
    latents = torch.randn(3, 5, 2, 3, dtype=torch.float64)
    state = tuple(torch.rand_like(past) for past in decoder.initial_state(2, 3))
    plain, plain_after = walk(decoder, latents, state)
    folded, folded_after = walk(fold_growth(decoder), latents, state)
    assert_same(folded, plain)
    for ours, theirs in zip(folded_after, plain_after, strict=True):
        assert_same(ours, theirs)


@pytest.mark.parametrize("cut", [1, 2, 4])
def test_one_latent_at_a_time_is_the_whole_chunk(cut: int) -> None:
    encoder, decoder = Encoder(CONFIG).double(), Decoder(CONFIG).double()
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
