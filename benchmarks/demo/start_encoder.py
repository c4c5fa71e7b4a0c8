"""The encoder's half of the start: pictures to signals, signals to components (see `init.py`)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from swiftvr_trt.export.reae import UNSHUFFLE, MemBlock

from . import batch as batched
from .layout import (
    COLOUR_LIFT,
    COLOUR_WEIGHT,
    FRAME,
    KEPT,
    LARGE_FRAME,
    LUMA_LIFT,
    PAIR,
    SLOPES,
    STRONGEST,
    rows_of,
)

_ROOM = 3.0
"""Added inside a delaying branch so that its ReLU cuts nothing."""


def copy_signals(layers: list[nn.Module]) -> None:
    """Everything up to an eighth of the size: 88 signals of four frames, then a one.

    `denoiser.py` fills in what finds the small picture.
    """
    first, pool, half = layers[0], layers[2], layers[3]
    first.weight.mul_(0.3)
    first.weight[:4] = 0
    first.bias[:4] = torch.tensor([LUMA_LIFT, COLOUR_LIFT, COLOUR_LIFT, 1.0])
    _stack(pool.conv.weight, 3, one=3)
    half.weight.zero_()  # what is left over is for the blocks behind it, which begin with nothing there
    for frame in range(2):
        for p in range(4):
            half.weight[frame * FRAME + p, 3 * frame, 1 + p // 2, 1 + p % 2] = 1
            for colour in range(2):
                half.weight[frame * FRAME + 4 + colour, 3 * frame + 1 + colour, 1 + p // 2, 1 + p % 2] = 0.25
    half.weight[PAIR, 6, 1, 1] = 1
    _delay(layers[4], list(range(PAIR)), one=PAIR)
    pool, eighth, ones = layers[7], layers[8], 2 * PAIR
    _stack(pool.conv.weight, PAIR, one=PAIR)
    eighth.weight[: 4 * LARGE_FRAME + 1] = 0
    for frame in range(4):
        of, to = frame * FRAME, frame * LARGE_FRAME
        for p in range(4):
            for q in range(4):
                eighth.weight[to + 4 * p + q, of + q, 1 + p // 2, 1 + p % 2] = 1
            for colour in range(2):
                for s in range(3):
                    eighth.weight[to + 16 + 3 * colour + s, of + 4 + colour, 1 + p // 2, 1 + p % 2] = SLOPES[s, p]
        for s in (17, 18, 20, 21):
            eighth.weight[to + s, ones, 1, 1] = COLOUR_LIFT
    eighth.weight[4 * LARGE_FRAME, ones, 1, 1] = 1
    _delay(layers[9], list(range(3 * LARGE_FRAME, 4 * LARGE_FRAME)), one=4 * LARGE_FRAME)
    nn.init.dirac_(layers[12].conv.weight)


def _stack(weight: Tensor, signals: int, one: int) -> None:
    """Pooling two frames: the signals of either, then the one (its channel is `one`)."""
    n = weight.shape[0]
    weight[: 2 * signals + 1] = 0
    for frame in range(2):
        for k in range(signals):
            weight[frame * signals + k, frame * n + k] = 1
    weight[2 * signals, one] = 1


def _delay(block: MemBlock, channels: list[int], one: int) -> None:
    """Show `channels` as they were a frame before, x + (past - x), or as they are if there was no frame before."""
    first, second, last = block.conv[0], block.conv[2], block.conv[4]
    witness, n = len(channels), block.channels
    for h in range(witness + 1):
        first.weight[h] = 0
        second.weight[h] = 0
        second.weight[h, h, 1, 1] = 1
    first.weight[witness, n + one, 1, 1] = 1
    for h, channel in enumerate(channels):
        first.weight[h, channel, 1, 1] = -1
        first.weight[h, n + channel, 1, 1] = 1
        first.weight[h, n + one, 1, 1] = _ROOM
        last.weight[channel] = 0
        last.weight[channel, h, 1, 1] = 1
        last.weight[channel, witness, 1, 1] = -_ROOM


def components(layers: list[nn.Module], damaged: Tensor, enlarged: Tensor, clips: int) -> tuple[Tensor, Tensor, Tensor]:
    """Fill the stride-2 kernel to a sixteenth: of each of four neighbours the components in which clean pictures vary.

    Returns the basis [88, KEPT] (signals - mean = basis @ components), the mean [88] and the components' lifts [KEPT].
    """
    signals = 4 * LARGE_FRAME
    x, y = (_features(layers[:13], frames, clips)[:, :signals] for frames in (damaged, enlarged))
    mean = x.mean((0, 2, 3))
    weight = torch.tensor(([1.0] * 16 + [COLOUR_WEIGHT] * 6) * 4)
    spreads = [torch.cov(rows_of(clip).T) for clip in (y * weight[:, None, None]).chunk(clips)]
    spread = sum(c / c.diagonal().sum().sqrt() for c in spreads) / clips  # calm and wild clips count alike
    assert isinstance(spread, Tensor)
    vectors = torch.linalg.eigh(spread.double())[1].flip(1).float()[:, :KEPT]
    deviation = ((rows_of(x) - mean) * weight @ vectors).std(0)
    gain = STRONGEST / (deviation[0] * deviation).sqrt()  # half-way to equally strong ones
    turn = vectors.T * gain[:, None] * weight
    found = (rows_of(x) - mean) @ turn.T
    lift = 1.3 * (-found).amax(0) + 0.05
    kernel = layers[13].weight
    kernel[: 4 * KEPT + 1] = 0
    for p in range(4):
        to = slice(p * KEPT, (p + 1) * KEPT)
        kernel[to, :signals, 1 + p // 2, 1 + p % 2] = turn
        kernel[to, signals, 1 + p // 2, 1 + p % 2] = lift - turn @ mean
    kernel[4 * KEPT, signals, 1, 1] = 1
    return vectors / gain / weight[:, None], mean, lift


def _features(layers: list[nn.Module], frames: Tensor, clips: int) -> Tensor:
    """What the encoder's layers make of frames."""
    x = F.pixel_unshuffle(frames, UNSHUFFLE)
    for layer in layers:
        x = batched.memory(layer, x, clips) if isinstance(layer, MemBlock) else layer(x)
    return x
