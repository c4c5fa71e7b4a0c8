"""A start that already reconstructs its input: closed-form, three minutes, instead of hours of training.

Encoder: copies, then principal components of what the layers before it give on real clips. Features are lifted above
zero by the bias of a level's first MemBlock, since blocks end in a ReLU; its other blocks begin as the identity.
Decoder: every block and every upsampling step is the least-squares answer to "what did the encoder have here?". Output
lags input by three frames, so a decoded window is the end of one latent's window and the start of the next one's; the
regressions see both. The transformer begins as "change nothing".
"""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from swiftvr_trt.export.dit import Dit
from swiftvr_trt.export.reae import UNSHUFFLE, MemBlock, Reae

from . import batch as batched

LAG = 3
_ROOM = 0.5
"""Standard deviations between the smallest feature seen and zero."""
_CALM = 10.0
"""Weight of the demand that a kernel's outer taps ignore the features' mean."""
_LATENT_STD = 0.15
"""Spread of the widest latent: small, so that the decoder's 3*tanh(x/3) stays linear."""
_ENCODER_LEVELS = (2, 7, 12)
_DECODER_LEVELS = (3, 9, 15)
_MAX_SAMPLES = 40_000


@torch.no_grad()
def initialise(reae: Reae, dit: Dit, clips: Tensor, generator: torch.Generator) -> None:
    """Set all weights from clean clips [B, T, 3, H, W] at the network's input (T = 4k)."""
    for block in (m for m in reae.modules() if isinstance(m, MemBlock)):
        _identity_block(block)
    _init_encoder(reae, clips)
    _init_decoder(reae, clips, generator)
    _init_transformer(dit)


# Layers are `Any` below: an element of a ModuleList is a bare Module to a type checker.


def _identity_block(block: Any) -> None:
    for index in (0, 2):
        nn.init.kaiming_normal_(block.conv[index].weight)
        nn.init.zeros_(block.conv[index].bias)
    nn.init.zeros_(block.conv[4].weight)
    nn.init.zeros_(block.conv[4].bias)


def _init_encoder(reae: Any, clips: Tensor) -> None:
    count = clips.shape[0]
    layers = reae.encoder
    _copy_pixels(reae)
    x = F.pixel_unshuffle(clips.flatten(0, 1), UNSHUFFLE)
    for level, start in enumerate(_ENCODER_LEVELS):
        x = _walk(layers, x, count, start - 2, start)
        if level == 1:
            pool = layers[start]
            pairs = x.reshape(x.shape[0] // 2, -1, *x.shape[2:])
            pool.conv.weight.copy_(_principal(_rows(pairs), pool.conv.out_channels)[:, :, None, None])
        if level == 2:
            nn.init.dirac_(layers[start].conv.weight)
        x = layers[start](x)
        conv = layers[start + 1]
        if level > 0:
            conv.weight.copy_(_block_kernel(_principal(_rows(F.pixel_unshuffle(x, 2)), conv.out_channels)))
        x = conv(x)
        _lift(layers[start + 2], x)
        x = batched.step(layers[start + 2], x, count)
    _init_latents(reae, x)


def _walk(layers: nn.ModuleList, x: Tensor, count: int, first: int, last: int) -> Tensor:
    """Layers `first` ... `last - 1`."""
    for layer in list(layers)[first:last]:
        x = batched.step(layer, x, count)
    return x


def _copy_pixels(reae: Any) -> None:
    """Level 1 holds the half-size pixels of 2x2 places and 2 frames as they are, 24 channels; the rest is random."""
    first, pool, conv = reae.encoder[0], reae.encoder[2].conv, reae.encoder[3]
    for layer in (first, pool, conv):
        nn.init.kaiming_normal_(layer.weight)
        layer.weight.mul_(0.3)
    nn.init.zeros_(first.bias)
    first.weight[:3] = 0
    pool.weight[:6] = 0
    conv.weight[:24] = 0
    width = first.out_channels
    for c in range(3):
        first.weight[c, 4 * c : 4 * c + 4, 1, 1] = 0.25
        for frame in range(2):
            pool.weight[3 * frame + c, width * frame + c] = 1
    for c in range(6):
        for place in range(4):
            conv.weight[4 * c + place, c, 1 + place // 2, 1 + place % 2] = 1


def _init_latents(reae: Any, x: Tensor) -> None:
    """Latents are the last features, centred and scaled; the decoder's first convolution undoes it."""
    last, first = reae.encoder[17], reae.decoder[1]
    mean, scale = x.mean((0, 2, 3)), _LATENT_STD / x.std((0, 2, 3)).max()
    for conv in (last, first):
        nn.init.zeros_(conv.weight)
    last.weight[:, :, 1, 1] = torch.eye(last.out_channels, last.in_channels) * scale
    last.bias.copy_(-mean * scale)
    first.weight[:, :, 1, 1] = torch.eye(first.out_channels, first.in_channels) / scale
    first.bias.copy_(mean)


def _init_decoder(reae: Any, clips: Tensor, generator: torch.Generator) -> None:
    count = clips.shape[0]
    shown = torch.cat([clips[:, :1]] * LAG + [clips[:, :-LAG]], dim=1)
    wanted = _features(reae, shown)
    layers = reae.decoder
    x = _walk(layers, batched.encode(reae, clips.flatten(0, 1), count), count, 0, 3)
    for level, start in enumerate(_DECODER_LEVELS):
        for block in list(layers)[start : start + 3]:
            _fit_block(block, x, wanted[2 - level], count, generator)
            x = batched.step(block, x, count)
        grow, conv = layers[start + 4], layers[start + 5]
        target = wanted[1 - level] if level < 2 else _pixel_target(shown, conv.out_channels)
        _fit_growth(grow, conv, x, target, generator)
        x = conv(grow(layers[start + 3](x)))
    last = layers[22]
    nn.init.kaiming_normal_(last.weight)
    last.weight.mul_(0.1)
    last.weight[:, :12] = 0
    last.weight[range(12), range(12), 1, 1] = 1
    nn.init.zeros_(last.bias)


def _pixel_target(clips: Tensor, channels: int) -> Tensor:
    pixels = F.pixel_unshuffle(clips.flatten(0, 1), UNSHUFFLE)
    return F.pad(pixels, (0, 0, 0, 0, 0, channels - pixels.shape[1]))


def _features(reae: Any, clips: Tensor) -> list[Tensor]:
    """The encoder's features after each level."""
    x, found = F.pixel_unshuffle(clips.flatten(0, 1), UNSHUFFLE), []
    for index, layer in enumerate(reae.encoder):
        x = batched.step(layer, x, clips.shape[0])
        if index in (6, 11, 16):
            found.append(x)
    return found


def _fit_block(block: Any, x: Tensor, target: Tensor, count: int, generator: torch.Generator) -> None:
    """A linear filter over this frame and the one before that takes x closer to `target`.

    The very first one does the lag: this latent and the one before -> the window that ends three frames earlier.
    """
    both = torch.cat([x, batched.past_of(x, count)], dim=1)
    weight, bias = _regress(both, target - x, generator)
    change = F.conv2d(both, weight, bias, padding=1)
    lift = 1.2 * -change.amin((0, 2, 3)).clamp_max(0)
    block.conv[0].weight.copy_(weight)
    block.conv[0].bias.copy_(bias + lift)
    for index in (2, 4):
        nn.init.dirac_(block.conv[index].weight)
        nn.init.zeros_(block.conv[index].bias)
    block.conv[4].bias.copy_(-lift)


def _fit_growth(grow: Any, conv: Any, x: Tensor, target: Tensor, generator: torch.Generator) -> None:
    """Upsample, TGrow and convolution as one regression per frame that comes out, then factored by an SVD."""
    up = F.interpolate(x, scale_factor=2, mode="nearest")
    kernels = [_regress(up, target[s :: grow.stride], generator, bias=False)[0] for s in range(grow.stride)]
    _factor(grow, conv, kernels, up)


def _factor(grow: Any, conv: Any, kernels: list[Tensor], x: Tensor) -> None:
    """kernels[s] [out, in, 3, 3] ~ conv o taps[s], optimal for inputs with x's covariance."""
    if grow.stride == 1:
        nn.init.dirac_(grow.proj.weight)
        conv.weight.copy_(kernels[0])
        return
    flat = _rows(x)
    spread = torch.linalg.cholesky(flat.T @ flat / len(flat) + 1e-6 * torch.eye(flat.shape[1]))
    tall = [k.permute(2, 3, 0, 1).reshape(-1, k.shape[1]) @ spread for k in kernels]  # [9 * out, in]
    u, s, v = torch.linalg.svd(torch.cat(tall, dim=1), full_matrices=False)
    rank = conv.in_channels
    root = s[:rank].sqrt()
    shared = (u[:, :rank] * root).reshape(3, 3, conv.out_channels, rank)
    conv.weight.copy_(shared.permute(2, 3, 0, 1))
    first, second = ((root[:, None] * v[:rank, i * rank : (i + 1) * rank]) @ torch.linalg.inv(spread) for i in (0, 1))
    middle = (first + second) / 3
    taps = torch.stack([second - middle, middle, first - middle], dim=-1)  # [out, in, 3]
    grow.conv3d.weight.copy_(taps[..., None, None])


def _lift(block: Any, x: Tensor) -> None:
    """Bias that keeps nearly all of x above zero."""
    std = x.std((0, 2, 3))
    block.conv[4].bias.copy_((_ROOM * std - x.amin((0, 2, 3))).clamp_min(0))


def _rows(x: Tensor) -> Tensor:
    """[N, C, h, w] -> at most `_MAX_SAMPLES` rows of C, evenly spread."""
    rows = x.permute(0, 2, 3, 1).flatten(0, 2)
    return rows[:: max(1, len(rows) // _MAX_SAMPLES)]


def _principal(rows: Tensor, count: int) -> Tensor:
    """[count, C]: principal axes, scaled so that the output's spread falls off like the root of the component's."""
    moment = (rows.T @ rows / len(rows)).double()
    _, vectors = torch.linalg.eigh(moment)
    axes = vectors.flip(1)[:, :count].T.float()
    spread = (rows @ axes.T).std(0).clamp_min(1e-4)
    axes = axes * torch.sign((rows @ axes.T).mean(0))[:, None]
    scaled: Tensor = axes * (0.5 * (spread / spread.max()).sqrt() / spread)[:, None]
    return scaled


def _block_kernel(matrix: Tensor) -> Tensor:
    """A map of 2x2 blocks [out, 4 * in] (pixel_unshuffle order) as a 3x3 stride-2 kernel with padding 1."""
    kernel = matrix.new_zeros(matrix.shape[0], matrix.shape[1] // 4, 3, 3)
    kernel[:, :, 1:, 1:] = matrix.view(matrix.shape[0], -1, 2, 2)
    return kernel


def _regress(
    x: Tensor, y: Tensor, generator: torch.Generator, *, side: int = 3, bias: bool = True
) -> tuple[Tensor, Tensor]:
    """The kernel (side x side) and bias that map x [N, C, h, w] to y [N, D, h, w] best.

    Zero-padded like the convolution itself: borders are a large part of a small latent, and features are far from zero.
    """
    few = torch.randperm(len(x), generator=generator)[: max(1, 4 * _MAX_SAMPLES // x[0, 0].numel())]
    patches = F.unfold(x[few], side, padding=side // 2).transpose(1, 2).flatten(0, 1)
    wanted = y[few].permute(0, 2, 3, 1).flatten(0, 2)
    pick = torch.randperm(len(patches), generator=generator)[:_MAX_SAMPLES]
    a, b = patches[pick].double(), wanted[pick].double()
    if bias:
        a = torch.cat([a, torch.ones(len(a), 1, dtype=a.dtype)], dim=1)
    gram = a.T @ a / len(a)
    if side > 1:
        _calm_borders(gram, x)
    gram += torch.eye(len(gram), dtype=gram.dtype) * 1e-5 * gram.diagonal().mean()
    answer = torch.linalg.solve(gram, a.T @ b / len(a)).float()
    size = x.shape[1] * side**2
    offset = answer[size] if bias else answer.new_zeros(y.shape[1])
    return answer[:size].T.reshape(y.shape[1], x.shape[1], side, side), offset


def _calm_borders(gram: Tensor, x: Tensor) -> None:
    """Outer taps must not answer to the mean: outside the picture they see zeros instead of it."""
    mean = x.mean((0, 2, 3)).double()
    for tap in (0, 1, 2, 3, 5, 6, 7, 8):
        at = torch.arange(len(mean)) * 9 + tap
        gram[at[:, None], at[None, :]] += _CALM * torch.outer(mean, mean)


def _init_transformer(dit: Any) -> None:
    """Ordinary small weights, gates half open, and a projection that says "no change"."""
    dim = dit.config.dim
    for name, parameter in dit.named_parameters():
        if name.endswith("scale_shift_table"):
            nn.init.normal_(parameter, std=0.02)
        elif parameter.ndim > 1:
            fan = parameter[0].numel()
            nn.init.normal_(parameter, std=1 / math.sqrt(fan) if fan > 1 else 0.02)
        elif "norm" in name and name.endswith("weight"):
            nn.init.ones_(parameter)
        else:
            nn.init.zeros_(parameter)
    for block in dit.blocks:
        for gate in (2, 5):
            block.scale_shift_table[0, gate] = 0.5
        nn.init.normal_(block.attn2.to_out[0].weight, std=0.1 / math.sqrt(dim))
    nn.init.normal_(dit.condition_embedder.time_proj.weight, std=0.02 / math.sqrt(dim))
    nn.init.zeros_(dit.proj_out.weight)
