"""A start that already passes the picture through: copies, principal components and least squares instead of noise.

Encoder. The input is an enlarged picture, so the first convolution finds the small one again: three signals a pixel.
Six signals of a pair of frames, two by two, make 24 at a quarter of the size; the first MemBlock there shows the pair
before instead, because the decoder's output runs three frames late. Two pairs make 48; principal components make 96 at
an eighth and 192 at a sixteenth, each set turned at random so that all channels are equally loud.

Decoder. Every enlargement is the least-squares answer to "what did the encoder have here?", the last one to "what is
the clean picture?"; one MemBlock delays the later frame of each pair by a pair, the third frame of the lag.

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
_EIGHTH = 96
_AXES = (0, 1)
_GATES = ((0,), (1,), (0, 1))
"""Parities that must both be even where a gate is open: rows, columns."""
_ROOM = 4.0
"""Added inside a delaying branch so that its ReLUs cut nothing."""
_DEVIATION = 0.5


def initialise(reae: Reae, dit: Dit, damaged: Tensor, clean: Tensor, clips: int) -> None:
    """Frames [clips * T, 3, H, W] in [0, 1] to measure on. Random numbers come from torch's global state."""
    with torch.no_grad():
        for layer in (*reae.encoder, *reae.decoder):
            _draw(layer)
        quarter, eighth, x = _encoder(list(reae.encoder), F.pixel_unshuffle(damaged, UNSHUFFLE), clips)
        _draw_dit(dit)
        x = x - unpatch(dit.proj_out.bias.expand(len(x), x.shape[2] * x.shape[3] // 4, -1), x, dit.config.patch)
        _decoder(list(reae.decoder), x, quarter, eighth, F.pixel_unshuffle(clean, UNSHUFFLE), clips)


def _encoder(layers: list[nn.Module], x: Tensor, clips: int) -> tuple[Tensor, Tensor, Tensor]:
    """Fill the encoder; returns features without means at a quarter (24) and an eighth (96), and the latents."""
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
    eighth = x = _components(layers[8], layers[7](x))
    _lift(layers[9], x)
    x = _blocks(layers[9:12], x, clips)
    nn.init.dirac_(layers[12].conv.weight)
    x = _components(layers[13], layers[12](x))
    _lift(layers[14], x)
    x = _blocks(layers[14:17], x, clips)
    last = layers[17]
    n = last.weight.shape[0] - len(_AXES)
    _, vectors = torch.linalg.eigh(torch.cov(x.transpose(0, 1).flatten(1)))
    last.weight.zero_()[:n, :, 1, 1] = torch.linalg.qr(torch.randn(n, n))[0] @ vectors[:, -n:].T
    last.weight.mul_(_LATENT / last(x)[:, :n].std((0, 2, 3)).mean())
    last.bias.copy_(-last(x).mean((0, 2, 3)))
    return quarter, eighth - eighth.mean((0, 2, 3), keepdim=True), last(x)


def _decoder(layers: list[nn.Module], x: Tensor, quarter: Tensor, eighth: Tensor, clean: Tensor, clips: int) -> None:
    """Fill the decoder. quarter, eighth: what its levels shall have; clean: what it shall show, 12 channels."""
    first = layers[1]
    n = first.weight.shape[0] - len(_AXES)
    x = layers[0](x)
    first.weight.zero_()[:n, :n, 1, 1] = torch.linalg.qr(torch.randn(n, n))[0] * _DEVIATION / _LATENT
    for k in range(n, n + len(_AXES)):
        first.weight[k, k, 1, 1] = 1
    first.bias.copy_(1.2 - first(x).mean((0, 2, 3)))
    x = _blocks(layers[3:6], F.relu(first(x)), clips)
    nn.init.dirac_(layers[7].proj.weight)
    x = _level(layers[7:12], x, eighth, clips, carriers=[n, n + 1], late=[])
    _blocks_of_targets(layers[13], x, quarter)
    late = [k for k in range(_PAIR) if k % (2 * _SIGNALS) >= _SIGNALS]
    x = _level(layers[13:18], x, quarter, clips, carriers=[4 * _PAIR, 4 * _PAIR + 1], late=late)
    _take_turns(layers[19], late)
    frames = clean.view(clips, -1, *clean.shape[1:])
    shown = F.pad(frames, (0, 0, 0, 0, 0, 0, 3, 0))[:, : frames.shape[1]].flatten(0, 1)
    x = F.relu(_fit(layers[19], layers[20], x, shown, clips))
    last = layers[22]
    last.weight.mul_(0.02)
    last.weight[:, : shown.shape[1]] = 0
    for k in range(shown.shape[1]):
        last.weight[k, k, 1, 1] = 1
    last.bias.copy_(-last(x).mean((0, 2, 3)) + x[:, : shown.shape[1]].mean((0, 2, 3)))


def _level(
    layers: list[nn.Module], x: Tensor, wanted: Tensor, clips: int, *, carriers: list[int], late: list[int]
) -> Tensor:
    """TGrow, enlarging convolution and three MemBlocks: `wanted` first, then parity, then differences between phases.

    Enlarging by repetition cannot make neighbours differ that share a source, so carriers of alternating sign come
    along; the ReLU of the first block makes parity of them, and gates in the other two add what neighbours lack.
    """
    grow, convolution, *blocks = layers
    n, u = wanted.shape[1], grow(x)
    extra = list(range(n + 2 * len(_AXES), convolution.weight.shape[0]))
    _fit(grow, convolution, x, wanted, clips)
    convolution.weight[n:] = 0
    for axis, carrier in zip(_AXES, carriers, strict=True):
        swing = 1 / u[:, carrier].std()
        for sign in (0, 1):
            row = convolution.weight[n + 2 * axis + sign, carrier]
            before, at = ((0, 1), (1, 1)) if axis == 0 else ((1, 0), (1, 1))
            row[before] = -swing * (1 - 2 * sign) / 2
            row[at] = swing * (1 - 2 * sign) / 2
    convolution.weight[extra, :, 1, 1] = _differences(u, convolution, wanted, len(extra))
    y = convolution(F.interpolate(u, scale_factor=2, mode="nearest"))
    _lift(blocks[0], y)
    blocks[0].conv[4].bias[n : n + 2 * len(_AXES)] = 0
    if late:
        _delay(blocks[0], late)
        wanted = _past(wanted, late, clips)
    y = _blocks(blocks[:1], y, clips)
    for turn, block in enumerate(blocks[1:]):
        keep = _settled(len(y), clips)
        _gate(block, y[keep], wanted[keep], extra[turn::2], n)
        y = _blocks([block], y, clips)
    return y


def _past(x: Tensor, channels: list[int], clips: int) -> Tensor:
    """x with `channels` a frame later."""
    frames = x.view(clips, -1, *x.shape[1:]).clone()
    frames[:, 1:, channels] = x.view_as(frames)[:, :-1, channels]
    return frames.flatten(0, 1)


def _differences(u: Tensor, convolution: nn.Conv2d, wanted: Tensor, count: int) -> Tensor:
    """The directions [count, in] of u that say most about what the enlargement misses at the four phases."""
    missing = wanted - convolution(F.interpolate(u, scale_factor=2, mode="nearest"))[:, : wanted.shape[1]]
    rows, answers = _rows(u), _rows(F.pixel_unshuffle(missing, 2))
    fitted = _least_squares(rows, answers - answers.mean(0), 1e-3)
    _, vectors = torch.linalg.eigh(torch.cov((rows @ fitted).T))
    found = (fitted @ vectors[:, -count:]).T
    return found / (rows @ found.T).std(0)[:, None] * _DEVIATION


def _gate(block: MemBlock, x: Tensor, wanted: Tensor, extra: list[int], n: int) -> None:
    """Hidden channels that pass a difference only at some parity; their sum, by least squares, is what is missing."""
    first, second, last = block.conv[0], block.conv[2], block.conv[4]
    hidden = first.weight.shape[0]
    first.weight.zero_()
    deviation = x.std((0, 2, 3))
    level = x.mean((0, 2, 3))
    for h in range(hidden):
        channel, gate = extra[h // len(_GATES) % len(extra)], _GATES[h % len(_GATES)]
        first.weight[h, channel, 1, 1] = 1
        bias = 3 * deviation[channel] - level[channel]
        for axis in gate:
            for sign in (0, 1):
                first.weight[h, n + 2 * axis + sign, 1, 1] = 6 * deviation[channel]
            bias = bias - 6 * deviation[channel]
        first.bias[h] = bias
        second.weight[h] = 0
        second.weight[h, h, 1, 1] = 1
    h = F.relu(F.conv2d(x, first.weight[:, : block.channels], first.bias, padding=1))
    features = torch.cat([h, x[:, n : n + 2 * len(_AXES)], x[:, extra]], dim=1)
    rows = _rows(features)
    rows = rows - rows.mean(0)
    missing = _rows(wanted) - _rows(x)[:, : wanted.shape[1]]
    some = torch.randperm(len(rows))[:60000]
    kernel = _least_squares(rows[some], (missing - missing.mean(0))[some], 1e-3)
    last.weight.zero_()[: wanted.shape[1], :, 1, 1] = kernel[:hidden].T

    last.bias[: wanted.shape[1]] = -kernel[:hidden].T @ h.mean((0, 2, 3))


def _settled(frames: int, clips: int) -> Tensor:
    """Indices of the frames in the last three quarters of each clip: delays have something to show there."""
    at = torch.arange(frames).view(clips, -1)
    return at[:, at.shape[1] // 4 :].flatten()


def _rows(x: Tensor) -> Tensor:
    return x.permute(0, 2, 3, 1).flatten(0, 2)


def _blocks_of_targets(grow: TGrow, x: Tensor, pairs: Tensor) -> None:
    """Kernels of a doubling TGrow: channel k of either frame estimates channel k of its 2x2 block; parity comes last."""
    rows = _rows(x)
    weight = grow.conv3d.weight.zero_()
    n = 4 * pairs.shape[1]
    for frame, tap in ((0, 2), (1, 0)):
        wanted = _rows(F.pixel_unshuffle(pairs[frame::2], 2))
        weight[:n, :, tap, 0, 0] = _least_squares(rows, wanted, 1e-3).T
        for axis in _AXES:
            for sign in (0, 1):
                weight[n + axis, _EIGHTH + 2 * axis + sign, tap, 0, 0] = 1


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
    block.conv[4].bias.copy_((2.5 * deviation).clamp_min(0.5) - x.mean((0, 2, 3)))


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


def _take_turns(grow: TGrow, late: list[int]) -> None:
    """The two frames of a pair: each has its own signals first, then the other's, then the channels left over."""
    weight = grow.conv3d.weight.zero_()
    early = [k for k in range(_PAIR) if k not in late]
    rest = list(range(_PAIR, weight.shape[0]))
    for tap, order in ((2, late + early + rest), (0, early + late + rest)):
        for k, channel in enumerate(order):
            weight[k, channel, tap, 0, 0] = 1


def _fit(grow: TGrow, layer: nn.Conv2d, x: Tensor, wanted: Tensor, clips: int, samples: int = 60000) -> Tensor:
    """The kernel behind an enlargement; its first outputs become `wanted`, the others keep small random kernels."""
    u = F.interpolate(grow(x), scale_factor=2, mode="nearest")
    pick = _settled(len(u), clips)
    pick = pick[torch.randperm(len(pick))[:256]]
    patches = F.unfold(u[pick], 3).transpose(1, 2).flatten(0, 1)
    answers = wanted[pick][:, :, 1:-1, 1:-1].permute(0, 2, 3, 1).flatten(0, 2)
    some = torch.randperm(len(patches))[:samples]
    still = _one_tap_each(u.mean((0, 2, 3))) * len(some) ** 0.5
    silence = torch.zeros(9, wanted.shape[1])
    if not bool((answers.mean(0).abs() < 0.1).all()):
        silence[4] = answers.mean(0) * len(some) ** 0.5
    kernel = _least_squares(torch.cat([patches[some], still]), torch.cat([answers[some], silence]), 1e-3)
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
    dit.proj_out.weight.mul_(0.02)
    carrier = dit.proj_out.bias.view(2, 2, -1)[:, :, -len(_AXES) :]
    for axis in _AXES:
        carrier.select(axis, 0)[:, axis] = -_LATENT
        carrier.select(axis, 1)[:, axis] = _LATENT
    dit.condition_embedder.time_proj.weight.mul_(0.1)
