"""The decoder's convolutions in INT8: those of its MemBlocks, which have nine tenths of its operations.

The others stay in 16 bits: the first and the last see latents and pixels, and those that grow gain too little for
another source of error. So does the encoder, which takes a sixth of the decoder's time and sees what no calibration
clip prepares for (docs/engines.md). Names are those of the checkpoint: `decoder.7.conv.2`.

Calibration decides for each convolution. It computes the pixels with this one alone in INT8, and then takes the most
exact ones, until all of them together would make more noise than `LEAST_DECIBELS` allows.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...engines.bundle.calibration import CONVOLUTIONS_IN, MOST_DECIBELS, Int8Scales
from ..network.reae import Decoder, MemBlock
from .int8 import dequantize_int8, fake_quantize_int8, int8_scale, quantize_int8
from .layers import LayerFactory, Observe
from .precision import FP32, Precision
from .rewrites import rows_alike

LEAST_DECIBELS = 45.0
"""PSNR that is left to the pixels if the errors of all convolutions in INT8 add up: a standard deviation of 1.4 of 255
steps. Noise of a few steps shows first as bands in flat areas; this is half of the rounding of a picture of 7 bits."""


class Int8Conv(nn.Module):
    """A convolution with input and weight in INT8, one scale each.

    alike: the output channels of the weight have a factor each, multiplied after the product (rewrite 14). The compiler
    puts the factors into the kernel that quantises for the next convolution. Without factors, it adds the input of a
    MemBlock within the kernel of the convolution, which takes less memory.
    """

    def __init__(self, convolution: nn.Conv2d, largest: float, precision: Precision, *, alike: bool) -> None:
        """largest: magnitude of the input that is represented."""
        super().__init__()
        dtype = precision.compute or torch.float32
        weight, bias = convolution.weight.detach().flatten(1), convolution.bias
        weight, factors = rows_alike(weight, dtype) if alike else (weight, None)
        self.factors = None if factors is None else nn.Buffer(factors.reshape(-1, 1, 1))
        weight = weight.unflatten(1, convolution.weight.shape[1:]).to(dtype)
        self.weight_scale = nn.Buffer(int8_scale(weight.abs().max(), dtype))
        self.weight = nn.Buffer(quantize_int8(weight, self.weight_scale))
        self.input_scale = nn.Buffer(int8_scale(torch.tensor(largest), dtype))
        self.bias = nn.Buffer((torch.zeros(len(weight)) if bias is None else bias.detach()).to(dtype))
        self.stride, self.padding = convolution.stride, convolution.padding

    def forward(self, x: Tensor) -> Tensor:
        """x [T, C, h, w] -> [T, O, h', w']."""
        x, weight = fake_quantize_int8(x, self.input_scale), dequantize_int8(self.weight, self.weight_scale)
        if self.factors is None:
            return F.conv2d(x, weight, self.bias, self.stride, self.padding)
        y: Tensor = F.conv2d(x, weight, None, self.stride, self.padding) * self.factors
        return y + self.bias.reshape(-1, 1, 1)


def with_int8(decoder: Decoder, factory: LayerFactory) -> Decoder:
    """A copy of the decoder with INT8 where calibration chose it. factory: of the autoencoder's precision."""
    decoder = copy.deepcopy(decoder)
    for name, place, convolutions in _all(decoder):
        scales = factory.int8_scales(name)
        if scales.bits == 8:
            convolutions[place] = _in_int8(convolutions, place, scales.largest, factory.precision)
    return decoder


def convolution_names(decoder: Decoder) -> list[str]:
    """The convolutions that calibration decides about."""
    return [name for name, _, _ in _all(decoder)]


@contextmanager
def observed_convolutions(decoder: Decoder, observe: Observe) -> Iterator[None]:
    """Within the block, `observe` gets the name and value of each input that could be quantised."""
    with ExitStack() as stack:
        for full_name, place, convolutions in _all(decoder):
            handle = convolutions[place].register_forward_pre_hook(
                lambda _, inputs, name=full_name: observe(name, inputs[0])
            )
            stack.callback(handle.remove)
        yield


@torch.no_grad()
def choose_convolutions(decoder: Decoder, restored: Tensor, largest: Mapping[str, float]) -> dict[str, Int8Scales]:
    """What becomes of each convolution, by name. `decibels` is the PSNR of the pixels with this one alone in INT8.

    restored: the first latents of a stream, [k, C, h, w]. largest: of inputs. Where all inputs were zero, nothing was
    measured, and the convolution stays in 16 bits.
    """
    state = decoder.initial_state(*restored.shape[2:])
    exact = decoder(restored, state)[0]
    noise = dict[str, float]()
    for name, place, convolutions in _all(decoder):
        plain, convolutions[place] = convolutions[place], _in_int8(convolutions, place, largest[name], FP32)
        error = float((decoder(restored, state)[0] - exact).double().square().mean())
        noise[name] = error if math.isfinite(error) and largest[name] > 0 else 1.0
        convolutions[place] = plain
    chosen, total = set[str](), 0.0
    for name in sorted(noise, key=noise.__getitem__):
        total += noise[name]
        if total <= 10 ** (-LEAST_DECIBELS / 10):
            chosen.add(name)
    return {
        name: Int8Scales(8 if name in chosen else 16, _decibels(value), largest[name], ())
        for name, value in noise.items()
    }


def _decibels(noise: float) -> float:
    """Against white, which is 1."""
    return MOST_DECIBELS if noise == 0 else round(10 * math.log10(1 / noise), 2)


def _in_int8(convolutions: nn.Sequential, place: int, largest: float, precision: Precision) -> Int8Conv:
    """The convolution in this place in INT8. The last one of a MemBlock has no factors, see `Int8Conv`."""
    convolution = convolutions[place]
    assert isinstance(convolution, nn.Conv2d)
    return Int8Conv(convolution, largest, precision, alike=place != len(convolutions) - 1)


def _all(decoder: Decoder) -> Iterator[tuple[str, int, nn.Sequential]]:
    """The convolutions of all MemBlocks: name, and place in the sequence that holds it."""
    for index, layer in enumerate(decoder):
        if isinstance(layer, MemBlock):
            for place, part in enumerate(layer.conv):
                if isinstance(part, nn.Conv2d):
                    yield f"{CONVOLUTIONS_IN}{index}.conv.{place}", place, layer.conv
