"""The plain network computes what the published one does."""

from __future__ import annotations

from pathlib import Path

import torch
from torch.nn.functional import pixel_shuffle

from benchmarks.plain_network import PlainDecode, PlainDit
from swiftvr_trt.engines.bundle.geometry import Resolution
from swiftvr_trt.export.network.checkpoint import load_checkpoint
from tests.mini import REAE

SIZE = Resolution(64, 64)


def test_the_plain_transformer_is_the_published_one(mini_checkpoint: Path) -> None:
    loaded = load_checkpoint(mini_checkpoint)
    size = Resolution(620, 500)  # 20 x 16 tokens: windows that overlap
    latents = torch.randn(3, REAE.latent_channels, size.latent_height, size.latent_width)
    with torch.no_grad():
        theirs = loaded.dit(latents, loaded.prompt)
        ours = PlainDit(loaded.dit, loaded.prompt, size, 3, torch.float32)(latents)
    assert torch.allclose(ours, theirs, atol=1e-5)
    assert not torch.allclose(ours, latents, atol=1e-2)


def test_the_plain_decoder_is_the_published_one(mini_checkpoint: Path) -> None:
    decoder = load_checkpoint(mini_checkpoint).reae.decoder
    latents = torch.randn(3, REAE.latent_channels, 4, 4)
    state = decoder.initial_state(4, 4)
    with torch.no_grad():
        theirs, _ = decoder(latents, state)
        ours, *_ = PlainDecode(decoder, torch.float32)(latents, *state)
    assert torch.allclose(pixel_shuffle(ours, 2), theirs, atol=1e-5)
