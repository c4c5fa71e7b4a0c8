"""The autoencoder (ReAE) in plain torch: pixels to latents and back, causally, for any number of frames at a time.

    frames  float32 [T, 3, H, W] in [0, 1], T a multiple of 4, H and W multiples of 16
    latents float32 [T / 4, channels, H / 16, W / 16]
    state   one tensor [1, C, h, w] per MemBlock: the last frame that the block has seen, zeros before the first

There is one stream and no batch, so frames lie on the batch axis. `state` is all that passes from one call to the next,
so a clip gives the same result at once or four frames at a time.

    state = encoder.initial_state(height, width)
    for four in frames.split(4):
        latent, state = encoder(four, state)

Source: the published SwiftVR code (arXiv 2606.09516); attributes have the names of the published checkpoint.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

State = tuple[Tensor, ...]

UNSHUFFLE = 2
_PIXEL_CHANNELS = 3 * UNSHUFFLE**2
_LEVELS = 3
_BLOCKS_PER_LEVEL = 3
_POOL_STRIDES = (2, 2, 1)
_GROW_STRIDES = (1, 2, 2)


@dataclass(frozen=True)
class ReaeConfig:
    """Widths of one member of the family; everything else is fixed.

    encoder: channels of the first convolution and of each level; 64 everywhere in the published model. decoder:
    channels of each level, coarsest first, and of the last convolution's input; published are 512, 256, 128, 64.
    encoder_hidden, decoder_hidden: channels between the convolutions of each of the nine MemBlocks, in order; None
    takes the level's width, as published. Raises `ValueError` unless there are nine.
    """

    latent_channels: int
    encoder: tuple[int, int, int, int]
    decoder: tuple[int, int, int, int]
    encoder_hidden: tuple[int, ...] | None = None
    decoder_hidden: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        for name in ("encoder_hidden", "decoder_hidden"):
            hidden = getattr(self, name)
            if hidden is not None and len(hidden) != _LEVELS * _BLOCKS_PER_LEVEL:
                raise ValueError(f"{name} has {len(hidden)} widths, expected nine, one per MemBlock")


class MemBlock(nn.Module):
    """A residual block that also sees its input from the previous frame."""

    def __init__(self, channels: int, hidden: int | None = None) -> None:
        super().__init__()
        hidden = channels if hidden is None else hidden
        self.channels = channels
        self.conv = nn.Sequential(
            _conv3(2 * channels, hidden),
            nn.ReLU(),
            _conv3(hidden, hidden),
            nn.ReLU(),
            _conv3(hidden, channels),
        )

    def forward(self, x: Tensor, past: Tensor) -> tuple[Tensor, Tensor]:
        """x [T, C, h, w], past [1, C, h, w] -> the result [T, C, h, w], and `past` for the next call."""
        previous = torch.cat([past, x[:-1]]) if x.shape[0] > 1 else past
        return F.relu(self.conv(torch.cat([x, previous], dim=1)) + x), x[-1:]


class TPool(nn.Module):
    """Merge `stride` neighbouring frames into one: concatenate channels, then a 1x1 convolution."""

    def __init__(self, channels: int, stride: int) -> None:
        super().__init__()
        self.stride = stride
        self.conv = nn.Conv2d(channels * stride, channels, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        frames, channels, height, width = x.shape
        y: Tensor = self.conv(x.reshape(frames // self.stride, self.stride * channels, height, width))
        return y


class TGrow(nn.Module):
    """Stride 1: a 1x1 convolution. Stride 2: each frame becomes two.

    The stored temporal kernel (3, 1, 1) acts on a frame repeated in time. With taps w[0], w[1], w[2], the first of the
    two frames is therefore w[1] + w[2] times the input, the second w[0] + w[1]: two 1x1 convolutions.
    """

    def __init__(self, channels: int, stride: int) -> None:
        super().__init__()
        self.stride = stride
        if stride == 1:
            self.proj = nn.Conv2d(channels, channels, 1, bias=False)
        else:
            self.conv3d = nn.Conv3d(channels, channels, (3, 1, 1), bias=False)

    def taps(self) -> tuple[Tensor, ...]:
        """The 1x1 kernels [C, C, 1, 1]: one per output frame of each input frame."""
        if self.stride == 1:
            return (self.proj.weight,)
        w = self.conv3d.weight
        return w[:, :, 1] + w[:, :, 2], w[:, :, 0] + w[:, :, 1]

    def forward(self, x: Tensor) -> Tensor:
        frames, channels, height, width = x.shape
        y = F.conv2d(x, torch.cat(self.taps()))
        return y.reshape(frames * self.stride, channels, height, width)


def _blocks(width: int, level: int, hidden: Sequence[int] | None) -> list[MemBlock]:
    """The MemBlocks of a level. hidden: inner widths of all levels."""
    numbers = range(level * _BLOCKS_PER_LEVEL, (level + 1) * _BLOCKS_PER_LEVEL)
    return [MemBlock(width, None if hidden is None else hidden[number]) for number in numbers]


class _TanhClamp(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return 3 * torch.tanh(x / 3)


def walk(layers: Iterable[nn.Module], x: Tensor, state: Sequence[Tensor]) -> tuple[Tensor, State]:
    """Apply layers in order. state: the past frame of each MemBlock; the new state is returned with the result."""
    past = iter(state)
    after: list[Tensor] = []
    for layer in layers:
        if isinstance(layer, MemBlock):
            x, last = layer(x, next(past))
            after.append(last)
        else:
            x = layer(x)
    return x, tuple(after)


def decoded_pixels(x: Tensor) -> Tensor:
    """The output of the decoder's last convolution, [T, 12, H/2, W/2], as frames [T, 3, H, W] in [0, 1]."""
    return F.pixel_shuffle(x.clamp(0, 1), UNSHUFFLE)


class _Stateful(nn.ModuleList):
    """Layers in order, some of which keep a past frame."""

    def memory(self) -> list[MemBlock]:
        """The MemBlocks, in the order of their states."""
        return [layer for layer in self if isinstance(layer, MemBlock)]

    def _zeros(self, latent_height: int, latent_width: int, scales: tuple[int, ...]) -> State:
        like = next(self.parameters())
        return tuple(
            like.new_zeros(1, block.channels, latent_height * scale, latent_width * scale)
            for block, scale in zip(self.memory(), scales, strict=True)
        )


class Encoder(_Stateful):
    """Four frames become one latent. Layers are numbered as published (`encoder.0` ... `encoder.17`)."""

    def __init__(self, config: ReaeConfig) -> None:
        first, *levels = config.encoder
        layers: list[nn.Module] = [_conv3(_PIXEL_CHANNELS, first), nn.ReLU()]
        before = first
        for level, (width, stride) in enumerate(zip(levels, _POOL_STRIDES, strict=True)):
            layers += [TPool(before, stride), nn.Conv2d(before, width, 3, stride=2, padding=1, bias=False)]
            layers += _blocks(width, level, config.encoder_hidden)
            before = width
        layers.append(_conv3(before, config.latent_channels))
        super().__init__(layers)

    def forward(self, frames: Tensor, state: Sequence[Tensor]) -> tuple[Tensor, State]:
        """frames [4k, 3, H, W] in [0, 1] and the state -> latents [k, C, H/16, W/16] and the new state."""
        return walk(self, F.pixel_unshuffle(frames, UNSHUFFLE), state)

    def initial_state(self, latent_height: int, latent_width: int) -> State:
        """Zeros for a stream whose latents are `latent_height x latent_width`."""
        return self._zeros(latent_height, latent_width, _per_block((4, 2, 1)))


class Decoder(_Stateful):
    """One latent becomes four frames. Layers are numbered as published (`decoder.1` ... `decoder.22`)."""

    def __init__(self, config: ReaeConfig) -> None:
        layers: list[nn.Module] = [_TanhClamp(), _conv3(config.latent_channels, config.decoder[0]), nn.ReLU()]
        for level, stride in enumerate(_GROW_STRIDES):
            width, after = config.decoder[level : level + 2]
            layers += _blocks(width, level, config.decoder_hidden)
            layers += [nn.Upsample(scale_factor=2, mode="nearest"), TGrow(width, stride)]
            layers.append(nn.Conv2d(width, after, 3, padding=1, bias=False))
        layers += [nn.ReLU(), _conv3(config.decoder[-1], _PIXEL_CHANNELS)]
        super().__init__(layers)

    def forward(self, latents: Tensor, state: Sequence[Tensor]) -> tuple[Tensor, State]:
        """latents [k, C, H/16, W/16] and the state -> frames [4k, 3, H, W] in [0, 1] and the new state.

        The first three frames of a stream precede its first input frame, so the chunk loop drops them.
        """
        x, after = walk(self, latents, state)
        return decoded_pixels(x), after

    def initial_state(self, latent_height: int, latent_width: int) -> State:
        """Zeros for a stream whose latents are `latent_height x latent_width`."""
        return self._zeros(latent_height, latent_width, _per_block((1, 2, 4)))


class Reae(nn.Module):
    """The autoencoder, with the attributes of the published checkpoint."""

    def __init__(self, config: ReaeConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = Encoder(config)
        self.decoder = Decoder(config)


def _conv3(before: int, after: int) -> nn.Conv2d:
    return nn.Conv2d(before, after, 3, padding=1)


def _per_block(scales: tuple[int, ...]) -> tuple[int, ...]:
    """How many times larger than the latent each MemBlock's frame is. scales: one per level."""
    return tuple(scale for scale in scales for _ in range(_BLOCKS_PER_LEVEL))
