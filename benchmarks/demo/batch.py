"""Run several clips through the stateful autoencoder at once, in the form that trains fastest.

`export/network/reae.py` has one stream, whose frames lie on the batch axis. Training needs a batch of short clips, each
from its beginning. The layers are the same, but "the frame before" must not reach into the neighbouring clip:

    frames [B * T, 3, H, W], clip after clip  ->  latents [B * T/4, C, H/16, W/16]  ->  frames [B * T, 3, H, W]

Three exact rearrangements save time. A MemBlock applies both halves of its first kernel to x at once and then moves the
result of the past half by a frame. TGrow's 1x1 kernels run before the upsampling, with which they commute. A 3x3
convolution after upsampling runs as four 2x2 convolutions on the small grid.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from swiftvr_trt.export.network.dit import Dit
from swiftvr_trt.export.network.reae import UNSHUFFLE, MemBlock, Reae, TGrow

LAG = 3
"""The decoder's output frame j shows input frame j - LAG."""


def part(x: Tensor, batch: int, which: slice) -> Tensor:
    """Some frames of every clip: [B * T, C, h, w] -> [B * t, C, h, w]."""
    return x.view(batch, -1, *x.shape[1:])[:, which].flatten(0, 1)


def past(x: Tensor, batch: int) -> Tensor:
    """The frame before each frame: [B * T, C, h, w] -> the same shape, with zeros at the beginning of each clip."""
    return F.pad(x.view(batch, -1, *x.shape[1:])[:, :-1], (0, 0, 0, 0, 0, 0, 1, 0)).flatten(0, 1)


def memory(block: MemBlock, x: Tensor, batch: int) -> Tensor:
    """Apply a MemBlock to clips that start here: there is nothing before the first frame."""
    first, n = block.conv[0], block.channels
    weight = first.get_parameter("weight")
    both = F.conv2d(x, torch.cat([weight[:, :n], weight[:, n:]]), padding=1)
    now, later = both.view(batch, -1, *both.shape[1:]).split(weight.shape[0], dim=2)
    y = now + F.pad(later[:, :-1], (0, 0, 0, 0, 0, 0, 1, 0)) + first.get_parameter("bias").to(now)[:, None, None]
    y = F.relu(y.flatten(0, 1))
    return F.relu(block.conv[2:](y) + x)


def enlarge(x: Tensor, grow: TGrow, weight: Tensor) -> Tensor:
    """Upsample twofold, TGrow, convolve with `weight` [out, in, 3, 3]: [F, in, h, w] -> [F * stride, out, 2h, 2w]."""
    x = grow(x)
    rows = (_early(weight, 2), _late(weight, 2))
    phases = [part for row in rows for part in (_early(row, 3), _late(row, 3))]
    out = weight.shape[0]
    y = F.conv2d(F.pad(x, (1, 1, 1, 1)), torch.cat(phases))
    height, width = x.shape[2:]
    cut = [y[:, k * out : (k + 1) * out, k // 2 : k // 2 + height, k % 2 : k % 2 + width] for k in range(4)]
    return F.pixel_shuffle(torch.stack(cut, dim=2).flatten(1, 2), 2)


def _early(weight: Tensor, axis: int) -> Tensor:
    """The two taps of the first of two pixels: the pixel before, and the two that share a source pixel."""
    a, b, c = weight.unbind(axis)
    return torch.stack([a, b + c], axis)


def _late(weight: Tensor, axis: int) -> Tensor:
    a, b, c = weight.unbind(axis)
    return torch.stack([a + b, c], axis)


def encode(reae: Reae, frames: Tensor, batch: int) -> Tensor:
    """frames [B * T, 3, H, W] in [0, 1] -> latents [B * T/4, C, H/16, W/16]."""
    x = F.pixel_unshuffle(frames, UNSHUFFLE).contiguous(memory_format=torch.channels_last)
    for layer in reae.encoder:
        x = memory(layer, x, batch) if isinstance(layer, MemBlock) else layer(x)
    return x


def decode(reae: Reae, latents: Tensor, batch: int) -> Tensor:
    """latents -> frames, not clamped. The decoder runs three frames behind: output frame j shows input frame j - 3."""
    x = latents.contiguous(memory_format=torch.channels_last)
    layers = list(reae.decoder)
    while layers:
        layer = layers.pop(0)
        if isinstance(layer, MemBlock):
            x = memory(layer, x, batch)
        elif isinstance(layer, nn.Upsample):
            grow, convolution = layers.pop(0), layers.pop(0)
            assert isinstance(grow, TGrow)
            x = enlarge(x, grow, convolution.get_parameter("weight"))
        else:
            x = layer(x)
    return F.pixel_shuffle(x, UNSHUFFLE)


def restore(dit: Dit, latents: Tensor, prompt: Tensor, batch: int, cuts: list[int]) -> Tensor:
    """Apply the transformer to each clip, chunk by chunk. cuts: the lengths of the chunks in latents."""
    done = [dit(chunk, prompt) for clip in latents.chunk(batch) for chunk in torch.split(clip, cuts)]
    return torch.cat(done)
