"""Initial weights of the encoder: pictures to signals, signals to components (see `init.py`)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from swiftvr_trt.export.network.reae import UNSHUFFLE, MemBlock

from . import batch as batched
from .denoiser import colour_kernel, luma_kernel
from .layout import (
    COLOUR_LIFT,
    COLOUR_WEIGHT,
    FRAME,
    KEPT,
    LARGE_FRAME,
    LUMA_LIFT,
    MIX,
    PAIR,
    SLOPES,
    STRONGEST,
    as_stored,
    bias_of,
    convolutions,
    kernel_of,
    rows_of,
)

_ROOM = 3.0
"""Added inside a delaying branch so that its ReLU never clips."""
_ROUNDS = 400
_RATE = 3e-3
_CUTS = 10
"""One unit in this many counts again as if a cut lay between its frames. Without that a cut costs 9 dB more, and calm
clips gain 0.2 dB."""
_UNSEEN = 16 * 2e-5
"""The error of a frame's sixteen pixels that nobody sees: 47 dB."""


def copy_signals(layers: list[nn.Module]) -> None:
    """Set all layers up to an eighth of the size: they pass on 88 signals of four frames and a constant one.

    The enlarged input is made small again on the way (`luma_kernel`, `colour_kernel`).
    """
    first, pool, half = layers[0], layers[2], layers[3]
    kernel_of(first).mul_(0.3)
    kernel_of(first)[: FRAME + 1] = 0
    for phase in range(4):
        kernel_of(first)[phase, phase : 3 * UNSHUFFLE**2 : UNSHUFFLE**2, 1, 1] = MIX[0]
    kernel_of(first)[4:FRAME] = colour_kernel()
    bias_of(first)[: FRAME + 1] = torch.tensor([LUMA_LIFT] * 4 + [COLOUR_LIFT] * 2 + [1.0])
    _stack(pool.get_parameter("conv.weight"), FRAME, one=FRAME)
    kernel_of(half).zero_()  # the other channels are for the next blocks and start empty
    for frame in range(2):
        of = frame * FRAME
        kernel_of(half)[of : of + 4, of : of + 4, 1:, 1:] = _phases(luma_kernel())
        for colour in range(of + 4, of + FRAME):
            kernel_of(half)[colour, colour, 1:, 1:] = 0.25
    kernel_of(half)[PAIR, PAIR, 1, 1] = 1
    _delay(layers[4], list(range(PAIR)), one=PAIR)
    pool, eighth, ones = layers[7], layers[8], 2 * PAIR
    _stack(pool.get_parameter("conv.weight"), PAIR, one=PAIR)
    kernel_of(eighth)[: 4 * LARGE_FRAME + 1] = 0
    for frame in range(4):
        of, to = frame * FRAME, frame * LARGE_FRAME
        for p in range(4):
            for q in range(4):
                kernel_of(eighth)[to + 4 * p + q, of + q, 1 + p // 2, 1 + p % 2] = 1
            for colour in range(2):
                for s in range(3):
                    kernel_of(eighth)[to + 16 + 3 * colour + s, of + 4 + colour, 1 + p // 2, 1 + p % 2] = SLOPES[s, p]
        for s in (17, 18, 20, 21):
            kernel_of(eighth)[to + s, ones, 1, 1] = COLOUR_LIFT
    kernel_of(eighth)[4 * LARGE_FRAME, ones, 1, 1] = 1
    _delay(layers[9], list(range(3 * LARGE_FRAME, 4 * LARGE_FRAME)), one=4 * LARGE_FRAME)
    nn.init.dirac_(layers[12].get_parameter("conv.weight"))


def _phases(kernel: Tensor) -> Tensor:
    """Convert a kernel [n, 4, 4] for pixels to one for their unshuffled phases: [n, 4, 2, 2]."""
    return kernel.reshape(-1, 2, UNSHUFFLE, 2, UNSHUFFLE).permute(0, 2, 4, 1, 3).flatten(1, 2)


def _stack(weight: Tensor, signals: int, one: int) -> None:
    """Set a pooling of two frames: it keeps the signals of both, then the constant one (channel `one`)."""
    n = weight.shape[0]
    weight[: 2 * signals + 1] = 0
    for frame in range(2):
        for k in range(signals):
            weight[frame * signals + k, frame * n + k] = 1
    weight[2 * signals, one] = 1


def _delay(block: nn.Module, channels: list[int], one: int) -> None:
    """Delay `channels` by a frame, as x + (past - x). The first frame stays, because there is none before it."""
    first, second, last = convolutions(block)
    witness, n = len(channels), len(kernel_of(last))
    for h in range(witness + 1):
        kernel_of(first)[h] = 0
        kernel_of(second)[h] = 0
        kernel_of(second)[h, h, 1, 1] = 1
    kernel_of(first)[witness, n + one, 1, 1] = 1
    for h, channel in enumerate(channels):
        kernel_of(first)[h, channel, 1, 1] = -1
        kernel_of(first)[h, n + channel, 1, 1] = 1
        kernel_of(first)[h, n + one, 1, 1] = _ROOM
        kernel_of(last)[channel] = 0
        kernel_of(last)[channel, h, 1, 1] = 1
        kernel_of(last)[channel, witness, 1, 1] = -_ROOM


def components(layers: list[nn.Module], damaged: Tensor, enlarged: Tensor, clips: int) -> tuple[Tensor, Tensor, Tensor]:
    """Set the stride-2 kernel to a sixteenth of the size: it keeps the main components of each of four neighbours.

    Components are chosen for clean pictures. Returns the basis [88, KEPT] (signals - mean = basis @ components), the
    mean [88] and the components' lifts [KEPT].
    """
    signals = 4 * LARGE_FRAME
    x, y = (_features(layers[:13], frames, clips)[:, :signals] for frames in (damaged, enlarged))
    mean = x.mean((0, 2, 3))
    weight = torch.tensor(([1.0] * 16 + [COLOUR_WEIGHT] * 6) * 4)
    around = ((y - mean[:, None, None]) * weight[:, None, None]).flatten(2)
    spreads = around @ around.transpose(1, 2) / around.shape[2]  # a unit has a latent of its own
    vectors = most_worth_keeping(torch.cat([spreads, unrelated(spreads[::_CUTS])]))
    deviation = ((rows_of(x) - mean) * weight @ vectors).std(0)
    gain = STRONGEST / (deviation[0] * deviation).sqrt()  # half-way to equal strength
    turn = as_stored(vectors.T * gain[:, None] * weight)
    found = (rows_of(x) - mean) @ turn.T
    shift = as_stored(1.3 * (-found).amax(0) + 0.05 - turn @ mean)
    kernel = kernel_of(layers[13])
    kernel[: 4 * KEPT + 1] = 0
    for p in range(4):
        to = slice(p * KEPT, (p + 1) * KEPT)
        kernel[to, :signals, 1 + p // 2, 1 + p % 2] = turn
        kernel[to, signals, 1 + p // 2, 1 + p % 2] = shift
    kernel[4 * KEPT, signals, 1, 1] = 1
    return vectors / gain / weight[:, None], mean, shift + turn @ mean


def unrelated(spreads: Tensor) -> Tensor:
    """Spreads [units, 88, 88] as if the four frames were unrelated, as with cuts and fast motion."""
    frame = torch.arange(4 * LARGE_FRAME) // LARGE_FRAME
    return spreads * (frame[:, None] == frame)


def most_worth_keeping(spreads: Tensor) -> Tensor:
    """[88, KEPT], orthonormal: the directions to keep so that frames lose least, in decibels and on average.

    spreads [units, 88, 88]: covariances of the signals of parts of clips. A frame loses the energy in the directions
    that are not kept, and the logarithm of it counts. Principal components would favour busy parts and the middle of
    four frames over calm parts and the ends; the search starts from them and descends.
    """
    free = torch.linalg.eigh(spreads.mean(0))[1].flip(1)[:, :KEPT].clone().requires_grad_()
    optimiser = torch.optim.Adam([free], lr=_RATE)
    frames = torch.arange(4 * LARGE_FRAME).view(4, LARGE_FRAME)
    for step in range(_ROUNDS):
        with torch.enable_grad():
            vectors = torch.linalg.qr(free)[0]
            other = torch.eye(len(free)) - vectors @ vectors.T
            lost = torch.einsum("ij,ujk,ik->ui", other, spreads, other)[:, frames].sum(2)
            loss = torch.log(lost + _UNSEEN).mean()
            optimiser.zero_grad()
            loss.backward()
        optimiser.param_groups[0]["lr"] = _RATE * (1 - step / _ROUNDS)
        optimiser.step()
    kept: Tensor = torch.linalg.qr(free.detach())[0]
    return kept


def _features(layers: list[nn.Module], frames: Tensor, clips: int) -> Tensor:
    """The output of the encoder's layers for these frames."""
    x = F.pixel_unshuffle(frames, UNSHUFFLE)
    for layer in layers:
        x = batched.memory(layer, x, clips) if isinstance(layer, MemBlock) else layer(x)
    return x
