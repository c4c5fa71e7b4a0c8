"""Several clips through the stateful autoencoder at once.

`export/reae.py` has one stream and lays its frames on the batch axis. Training wants a batch of short clips, each from
its beginning. The layers are the same; only "the frame before" must not reach into the neighbouring clip:

    frames [B * T, 3, H, W], clip after clip  ->  latents [B * T/4, C, H/16, W/16]  ->  frames [B * T, 3, H, W]
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from swiftvr_trt.export.dit import Dit
from swiftvr_trt.export.reae import UNSHUFFLE, MemBlock, Reae


def past_of(x: Tensor, batch: int) -> Tensor:
    """Every frame's predecessor in its own clip, zeros before the first: [B * T, C, h, w]."""
    clips = x.view(batch, -1, *x.shape[1:])
    return torch.cat([torch.zeros_like(clips[:, :1]), clips[:, :-1]], dim=1).view_as(x)


def step(layer: nn.Module, x: Tensor, batch: int) -> Tensor:
    """One layer of the encoder or decoder on a batch of clips that start here."""
    if isinstance(layer, MemBlock):
        return F.relu(layer.conv(torch.cat([x, past_of(x, batch)], dim=1)) + x)
    y: Tensor = layer(x)
    return y


def encode(reae: Reae, frames: Tensor, batch: int) -> Tensor:
    x = F.pixel_unshuffle(frames, UNSHUFFLE)
    for layer in reae.encoder:
        x = step(layer, x, batch)
    return x


def decode(reae: Reae, latents: Tensor, batch: int, *, clamp: bool = True) -> Tensor:
    """Output frame j shows input frame j - 3: the decoder runs three frames behind (`runtime/chunks.py`)."""
    x = latents
    for layer in reae.decoder:
        x = step(layer, x, batch)
    return F.pixel_shuffle(x.clamp(0, 1) if clamp else x, UNSHUFFLE)


def restore(dit: Dit, latents: Tensor, prompt: Tensor, batch: int, cuts: list[int]) -> Tensor:
    """The transformer on every clip, chunk by chunk; `cuts` are the chunks' lengths in latents."""
    done = [dit(chunk, prompt) for clip in latents.chunk(batch) for chunk in torch.split(clip, cuts)]
    return torch.cat(done)
