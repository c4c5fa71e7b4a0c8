"""A start that already passes the picture through: copies, principal components and least squares instead of noise.

Encoder. The input is an enlarged picture, so the first convolution finds the small one again: three signals a pixel.
Six signals of a pair of frames, two by two, make 24 at a quarter of the size; the first MemBlock there shows the pair
before instead, because the decoder's output runs three frames late. Two pairs make 48, of which 192 at an eighth of the
size; the strongest 96 components are kept, and at a sixteenth the strongest 47 of each of four neighbours.

Decoder. It enlarges by repeating pixels and a 3x3 convolution, which cannot make four pixels of one: on latents that
are the same everywhere it can only draw what is the same everywhere. So the transformer, whose output is a patch of
2x2 latents, adds a chequered carrier on two channels, and every level makes parity of it: then each of four groups of
channels is shut but at its own pixel, which is an exact depth-to-space. Measured: least squares without parity keeps
96 % of the signal's variance at each of two levels, this 99.5 % and 99 %. One MemBlock delays the later frame of each
pair by a pair, the third frame of the lag. The last enlargement is the least-squares answer to "what is the clean
picture?".

Features are positive (blocks end in a ReLU), so each level's first MemBlock lifts its input by its last bias. All other
residual branches start silent, all channels left over with small random kernels.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from swiftvr_trt.export.dit import Dit, unpatch
from swiftvr_trt.export.reae import UNSHUFFLE, MemBlock, Reae, TGrow

from . import batch as batched

_LATENT = 0.7
_SIGNALS = 3
_PAIR = 24
_AXES = (0, 1)
_KEPT = 47
"""Components kept of each of four neighbours at an eighth of the size."""
_FRAME_KEPT = 8
"""The same of twelve signals of one frame at a quarter of the size."""
_ROOM = 2.5
"""Added inside a delaying branch so that its ReLUs cut nothing."""
_DEVIATION = 0.5
_LIFT = 3.5
"""Deviations between a feature's mean and the ReLU."""


def initialise(reae: Reae, dit: Dit, damaged: Tensor, clean: Tensor, clips: int) -> None:
    """Frames [clips * T, 3, H, W] in [0, 1] to measure on. Random numbers come from torch's global state."""
    with torch.no_grad():
        for layer in (*reae.encoder, *reae.decoder):
            _draw(layer)
        quarter, x = _encoder(list(reae.encoder), F.pixel_unshuffle(damaged, UNSHUFFLE), clips)
        _draw_dit(dit)
        x = x - unpatch(dit.proj_out.bias.expand(len(x), x.shape[2] * x.shape[3] // 4, -1), x, dit.config.patch)
        turn = reae.encoder[-1].weight[: 4 * _KEPT, : 4 * _KEPT, 1, 1]
        _decoder(list(reae.decoder), x, turn, quarter, F.pixel_unshuffle(clean, UNSHUFFLE), clips)


def _encoder(layers: list[nn.Module], x: Tensor, clips: int) -> tuple[Tensor, Tensor]:
    """Fill the encoder; returns features without means at a quarter of the size (24), and the latents."""
    first, pool, half = layers[0], layers[2], layers[3]
    first.weight.copy_(0.2 * first.weight)
    first.weight[:_SIGNALS] = small_picture_kernel()
    first.bias.copy_(0.3 - first(x).mean((0, 2, 3)).clamp_max(0.3))
    first.bias[:_SIGNALS] = torch.tensor([0.0, 1.0, 1.0])
    x = F.relu(first(x))
    weight = pool.conv.weight
    weight[: 2 * _SIGNALS] = 0
    for frame in range(2):
        for k in range(_SIGNALS):
            weight[frame * _SIGNALS + k, frame * first.weight.shape[0] + k] = 1
    x = pool(x)
    half.weight.mul_(0.5)
    _space_to_depth(half.weight, 2 * _SIGNALS)
    half.weight[:_PAIR].mul_(_DEVIATION / half(x)[:, :_PAIR].std())
    x = half(x)
    _lift(layers[4], x)
    _delay(layers[4], list(range(_PAIR)))
    x = _blocks(layers[4:7], x, clips)
    quarter = x[:, :_PAIR] - x[:, :_PAIR].mean((0, 2, 3), keepdim=True)
    merge = layers[7].conv.weight.zero_()
    for k in range(2 * _PAIR):
        merge[k, k % _PAIR + k // _PAIR * half.weight.shape[0], 0, 0] = 1
    x = _components(layers[8], layers[7](x))
    _lift(layers[9], x)
    x = _blocks(layers[9:12], x, clips)
    nn.init.dirac_(layers[12].conv.weight)
    x = _phases(layers[13], layers[12](x))
    _lift(layers[14], x)
    x = _blocks(layers[14:17], x, clips)
    last, n = layers[17], 4 * _KEPT
    last.weight.zero_()[:n, :n, 1, 1] = torch.linalg.qr(torch.randn(n, n))[0]
    last.weight.mul_(_LATENT / last(x)[:, :n].std((0, 2, 3)).mean())
    last.bias.copy_(-last(x).mean((0, 2, 3)))
    return quarter, last(x)


def _decoder(layers: list[nn.Module], x: Tensor, turn: Tensor, quarter: Tensor, clean: Tensor, clips: int) -> None:
    """Fill the decoder. turn: the encoder's last kernel [n, n]; quarter: what is wanted there; clean: 12 channels."""
    first, n = layers[1], 4 * _KEPT
    x = layers[0](x)
    first.weight.zero_()[:n, :n, 1, 1] = torch.linalg.inv(turn)
    carriers = list(range(first.weight.shape[0] - len(_AXES), first.weight.shape[0]))
    for k in carriers:
        first.weight[k, k, 1, 1] = 1
    deviation = first(x).std((0, 2, 3))
    first.bias.copy_((_LIFT * deviation).clamp_min(0.5) - first(x).mean((0, 2, 3)))
    for k in carriers:  # 0 and a positive number, the latter first: as if the picture went on beyond its border
        first.bias[k] = -x[:, k].min()
    x = _blocks(layers[3:6], F.relu(first(x)), clips)
    nn.init.dirac_(layers[7].proj.weight)
    x = _level(layers[7:12], x, _KEPT, clips, carriers, late=[])
    basis = _pair_signals(layers[13], x, quarter, n)
    count = 2 * _FRAME_KEPT
    late = [p * count + k for p in range(4) for k in range(_FRAME_KEPT, count)]
    x = _level(layers[13:18], x, count, clips, [4 * count, 4 * count + 1], late)
    _take_turns(layers[19], basis)
    frames = clean.view(clips, -1, *clean.shape[1:])
    shown = F.pad(frames, (0, 0, 0, 0, 0, 0, 3, 0))[:, : frames.shape[1]].flatten(0, 1)
    x = F.relu(_fit(layers[19], layers[20], x, shown, clips))
    last = layers[22]
    last.weight.mul_(0.02)
    last.weight[:, : shown.shape[1]] = 0
    for k in range(shown.shape[1]):
        last.weight[k, k, 1, 1] = 1
    last.bias.copy_(-last(x).mean((0, 2, 3)) + x[:, : shown.shape[1]].mean((0, 2, 3)))


def _level(layers: list[nn.Module], x: Tensor, count: int, clips: int, carriers: list[int], late: list[int]) -> Tensor:
    """TGrow, enlarging convolution and three MemBlocks that put four groups of `count` channels at four pixels.

    Enlarging by repetition cannot make neighbours differ that share a source. So carriers of alternating sign come
    along; the ReLU of the first block makes parity of them, and the second block shuts each group but at its pixel.
    """
    grow, convolution, *blocks = layers
    n, u = 4 * count, grow(x)
    weight = convolution.weight
    weight[n + 2 * len(_AXES) :] *= 0.3
    weight[: n + 2 * len(_AXES)] = 0
    for k in range(n):
        weight[k, k, 1, 1] = 1
    for axis, carrier in zip(_AXES, carriers, strict=True):
        swing = 0.5 / float(u[:, carrier].std())
        before = (0, 1) if axis == 0 else (1, 0)
        for sign, row in ((1, n + 2 * axis), (-1, n + 2 * axis + 1)):
            weight[row, carrier, 1, 1] = sign * swing
            weight[row, carrier, before[0], before[1]] = -sign * swing
    y = convolution(F.interpolate(u, scale_factor=2, mode="nearest"))
    _lift(blocks[0], y)
    blocks[0].conv[4].bias[n : n + 2 * len(_AXES)] = 0
    if late:
        _delay(blocks[0], late)
    y = _blocks(blocks[:1], y, clips)
    _shut(blocks[1], y, count)
    return _blocks(blocks[1:], y, clips)


def _shut(block: MemBlock, x: Tensor, count: int) -> None:
    """Hidden channel p counts the parities that are not group p's; each takes the group's channels below zero."""
    first, second, last = block.conv[0], block.conv[2], block.conv[4]
    enough = x.mean((0, 2, 3)) + 8 * x.std((0, 2, 3))
    for p in range(4):
        first.weight[p] = 0
        first.bias[p] = 0
        for axis, odd in zip(_AXES, (p // 2, p % 2), strict=True):
            at = 4 * count + 2 * axis
            first.weight[p, at : at + 2, 1, 1] = 1 if odd else -1
            first.bias[p] += 0 if odd else 1
        second.weight[p] = 0
        second.weight[p, p, 1, 1] = 1
        group = slice(p * count, (p + 1) * count)
        last.weight[group, p, 1, 1] = -enough[group]


def _phases(layer: nn.Conv2d, x: Tensor) -> Tensor:
    """Stride-2 kernel: of each of four neighbours the strongest components, turned so that all are equally strong."""
    _, vectors = torch.linalg.eigh(torch.cov(_rows(x).T))
    turn = torch.linalg.qr(torch.randn(_KEPT, _KEPT))[0] @ vectors[:, -_KEPT:].T
    layer.weight.zero_()
    for p in range(4):
        layer.weight[p * _KEPT : (p + 1) * _KEPT, :, 1 + p // 2, 1 + p % 2] = turn
    layer.weight.mul_(_DEVIATION / layer(x)[:, : 4 * _KEPT].std((0, 2, 3)).mean())
    return layer(x)


def _pair_signals(grow: TGrow, x: Tensor, pairs: Tensor, parity: int) -> Tensor:
    """Kernels of a doubling TGrow: per pixel of a 2x2 block the strongest 8 of 12 signals of either frame of a pair.

    Returns the 12 -> 8 basis. Parity, from channels `parity` on, comes behind.
    """
    early = [k for k in range(_PAIR) if k % (2 * _SIGNALS) < _SIGNALS]
    late = [k for k in range(_PAIR) if k not in early]
    _, vectors = torch.linalg.eigh(torch.cov(torch.cat([_rows(pairs[:, early]), _rows(pairs[:, late])]).T))
    basis = (torch.linalg.qr(torch.randn(_FRAME_KEPT, _FRAME_KEPT))[0] @ vectors[:, -_FRAME_KEPT:].T).contiguous()
    signals = torch.cat([torch.einsum("kc,nchw->nkhw", basis, pairs[:, part]) for part in (early, late)], 1)
    rows, weight = _rows(x), grow.conv3d.weight.zero_()
    n = 4 * signals.shape[1]
    for frame, tap in ((0, 2), (1, 0)):
        wanted = _rows(F.pixel_unshuffle(signals[frame::2], 2).unflatten(1, (-1, 4)).transpose(1, 2).flatten(1, 2))
        kernel = _least_squares(rows - rows.mean(0), wanted - wanted.mean(0), 1e-3)
        weight[:n, :, tap, 0, 0] = kernel.T
        for axis in _AXES:
            weight[n + axis, parity + 2 * axis : parity + 2 * axis + 2, tap, 0, 0] = 1
    return basis


def _take_turns(grow: TGrow, basis: Tensor) -> None:
    """The two frames of a pair: each has its own 12 signals first, then the other's, then the channels left over."""
    weight = grow.conv3d.weight.zero_()
    kept, signals = basis.shape
    for tap, first in ((2, 1), (0, 0)):  # the first frame to be shown is the later one of the pair before
        for p in range(4):
            for place, which in ((0, first), (1, 1 - first)):
                at = 2 * kept * p + kept * which
                weight[place * signals : (place + 1) * signals, at : at + kept, tap, 0, 0] = basis.T
        for k in range(2 * signals, weight.shape[0]):
            weight[k, k, tap, 0, 0] = 1


def _settled(frames: int, clips: int) -> Tensor:
    """Indices of the frames in the last three quarters of each clip: delays have something to show there."""
    at = torch.arange(frames).view(clips, -1)
    return at[:, at.shape[1] // 4 :].flatten()


def _rows(x: Tensor) -> Tensor:
    return x.permute(0, 2, 3, 1).flatten(0, 2)


def small_picture_kernel() -> Tensor:
    """[3, 12, 3, 3]: luma and two colour differences of the picture that was enlarged twofold bilinearly."""
    noise = torch.randn(8, 3, 24, 24, generator=torch.Generator().manual_seed(1))
    big = F.interpolate(noise, scale_factor=2, mode="bilinear", align_corners=False)
    rows = F.unfold(F.pixel_unshuffle(big, UNSHUFFLE), 3).transpose(1, 2).flatten(0, 1)
    mix = torch.tensor([[0.299, 0.587, 0.114], [-0.25, -0.25, 0.5], [0.5, -0.4, -0.1]])
    wanted = torch.einsum("kc,nchw->nhwk", mix, noise[:, :, 1:-1, 1:-1]).flatten(0, 2)
    grey = _one_tap_each(torch.ones(12)) * len(rows) ** 0.5
    silence = torch.zeros(9, 3)
    silence[4, 0] = len(rows) ** 0.5
    return _least_squares(torch.cat([rows, grey]), torch.cat([wanted, silence]), 1e-4).T.reshape(3, 12, 3, 3)


def _one_tap_each(mean: Tensor) -> Tensor:
    """[9, in * 9]: patches that show `mean` at one tap and nothing elsewhere, so that a border does no harm."""
    return torch.einsum("c,ts->tcs", mean, torch.eye(9)).flatten(1)


def _least_squares(rows: Tensor, wanted: Tensor, ridge: float) -> Tensor:
    """[n, a], [n, b] -> [a, b]; `ridge` is a share of the mean variance of a column."""
    spread = ridge * len(rows) * rows.var(0).mean()
    gram = (rows.T @ rows).double() + spread.double() * torch.eye(rows.shape[1], dtype=torch.float64)
    return torch.linalg.solve(gram, (rows.T @ wanted).double()).float()


def _draw(layer: nn.Module) -> None:
    for name, parameter in layer.named_parameters():
        if name.endswith("bias") or name.startswith("conv.4"):
            nn.init.zeros_(parameter)
        else:
            flat = torch.empty(parameter.shape[0], parameter[0].numel())
            nn.init.orthogonal_(flat, 2**0.5 if isinstance(layer, MemBlock) else 1.0)
            parameter.copy_(flat.view_as(parameter))


def _space_to_depth(weight: Tensor, signals: int) -> None:
    """Output 4k ... of a stride-2 kernel: signal by signal at each of the four pixels."""
    weight[: 4 * signals] = 0
    for place in range(4):
        for k in range(signals):
            weight[place * signals + k, k, 1 + place // 2, 1 + place % 2] = 1


def _components(layer: nn.Conv2d, x: Tensor) -> Tensor:
    """Stride-2 kernel: principal components of four neighbours' channels, turned so that all are equally strong."""
    channels = x.shape[1]
    blocks = F.pixel_unshuffle(x, 2).transpose(0, 1).flatten(1)
    _, vectors = torch.linalg.eigh(torch.cov(blocks[:, :: max(1, blocks.shape[1] // 40000)]))
    n = layer.weight.shape[0]
    turn = torch.linalg.qr(torch.randn(n, n))[0] @ vectors[:, -n:].T
    layer.weight.zero_()[:, :, 1:, 1:] = turn.view(n, channels, 2, 2)
    layer.weight.mul_(_DEVIATION / layer(x).std((0, 2, 3)).mean())
    return layer(x)


def _lift(block: MemBlock, x: Tensor) -> None:
    """Let the block's last bias move every channel's mean to where little is cut off."""
    deviation = x.std((0, 2, 3))
    block.conv[4].bias.copy_((_LIFT * deviation).clamp_min(0.5) - x.mean((0, 2, 3)))


def _delay(block: MemBlock, channels: list[int]) -> None:
    """Show `channels` as they were a frame before: x + (past - x)."""
    first, second, last = block.conv[0], block.conv[2], block.conv[4]
    for h, channel in enumerate(channels):
        first.weight[h] = 0
        first.weight[h, channel, 1, 1] = -1
        first.weight[h, block.channels + channel, 1, 1] = 1
        first.bias[h] = _ROOM
        second.weight[h] = 0
        second.weight[h, h, 1, 1] = 1
        last.weight[channel] = 0
        last.weight[channel, h, 1, 1] = 1
        last.bias[channel] -= _ROOM


def _blocks(blocks: list[nn.Module], x: Tensor, clips: int) -> Tensor:
    for block in blocks:
        assert isinstance(block, MemBlock)
        x = batched.memory(block, x, clips)
    return x


def _fit(grow: TGrow, layer: nn.Conv2d, x: Tensor, wanted: Tensor, clips: int) -> Tensor:
    """The kernel behind an enlargement; its first outputs become `wanted`, the others keep small random kernels."""
    u = F.interpolate(grow(x), scale_factor=2, mode="nearest")
    pick = _settled(len(u), clips)
    pick = pick[torch.randperm(len(pick))[:256]]
    patches = F.unfold(u[pick], 3, padding=1).transpose(1, 2).flatten(0, 1)
    answers = _rows(wanted[pick])
    some = torch.randperm(len(patches))[:60000]
    kernel = _least_squares(patches[some], answers[some], 1e-3)
    n = wanted.shape[1]
    layer.weight.mul_(0.3)
    layer.weight[:n] = kernel.T.reshape(n, *layer.weight.shape[1:])
    return layer(u)


def _draw_dit(dit: Dit) -> None:
    for name, parameter in dit.named_parameters():
        if name.endswith("scale_shift_table"):
            parameter.normal_(0, 0.02)
            if parameter.shape[1] == 6:
                parameter[:, (2, 5)] += 0.5
        elif "norm" in name:
            parameter.fill_(1.0 if name.endswith("weight") else 0.0)
        elif name.endswith("bias"):
            parameter.zero_()
        else:
            nn.init.normal_(parameter.view(parameter.shape[0], -1), 0, parameter[0].numel() ** -0.5)
    dit.proj_out.weight.mul_(0.001)
    carrier = dit.proj_out.bias.view(2, 2, -1)[:, :, -len(_AXES) :]
    for axis in _AXES:
        carrier.select(axis, 0)[:, axis] = -_LATENT
        carrier.select(axis, 1)[:, axis] = _LATENT
    dit.condition_embedder.time_proj.weight.mul_(0.1)
