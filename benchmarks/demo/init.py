"""A start in which signals pass: orthogonal kernels, silent residual branches, features with mean 1 and deviation 1/2.

Features are positive (blocks end in a ReLU), so each level's first MemBlock lifts its input by its last bias until
little is cut off. The lifts are measured on a batch of clips, layer by layer.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from swiftvr_trt.export.dit import Dit
from swiftvr_trt.export.reae import UNSHUFFLE, MemBlock, Reae, TGrow, TPool

from . import batch as batched

_MEAN, _DEVIATION = 1.0, 0.5
_PIXEL_DEVIATION = 0.1


def initialise(reae: Reae, dit: Dit, frames: Tensor, clips: int) -> None:
    """frames: [clips * T, 3, H, W] in [0, 1], as the encoder will see them. Random numbers come from torch's state."""
    with torch.no_grad():
        for layer in (*reae.encoder, *reae.decoder):
            _draw(layer)
        x = F.pixel_unshuffle(frames, UNSHUFFLE)
        latents = _calibrate(list(reae.encoder), x, clips)
        _calibrate(list(reae.decoder), latents, clips)
        last = reae.decoder[-1]
        last.weight.mul_(_PIXEL_DEVIATION)
        last.bias.mul_(_PIXEL_DEVIATION).add_(0.45)
        _draw_dit(dit)


def _draw(layer: nn.Module) -> None:
    if isinstance(layer, MemBlock):
        for convolution in (layer.conv[0], layer.conv[2]):
            _orthogonal(convolution, 2**0.5)
        nn.init.zeros_(layer.conv[4].get_parameter("weight"))
        nn.init.zeros_(layer.conv[4].get_parameter("bias"))
    elif isinstance(layer, TPool):
        _orthogonal(layer.conv, 1.0)
    elif isinstance(layer, TGrow):
        for parameter in layer.parameters():
            nn.init.orthogonal_(parameter.view(parameter.shape[0], -1), 1.0 if layer.stride == 1 else 0.9)
    elif isinstance(layer, nn.Conv2d):
        _orthogonal(layer, 1.0)


def _orthogonal(layer: nn.Module, gain: float) -> None:
    weight = layer.get_parameter("weight")
    flat = torch.empty(weight.shape[0], weight[0].numel())
    nn.init.orthogonal_(flat, gain)
    weight.copy_(flat.view_as(weight))
    for name, parameter in layer.named_parameters():
        if name == "bias":
            nn.init.zeros_(parameter)


def _calibrate(layers: list[nn.Module], x: Tensor, clips: int) -> Tensor:
    """Walk through, setting scales and lifts on the way; returns what comes out."""
    lifted = False
    for at, layer in enumerate(layers):
        last = at == len(layers) - 1
        if isinstance(layer, MemBlock):
            if not lifted:
                layer.conv[4].get_parameter("bias").copy_(_MEAN - x.mean((0, 2, 3)))
                lifted = True
            x = batched.memory(layer, x, clips)
        elif isinstance(layer, nn.Conv2d):
            x = _convolve(layer, x, to_relu=not last and isinstance(layers[at + 1], nn.ReLU), last=last)
            lifted = False
        else:
            x = layer(x)
    return x


def _convolve(layer: nn.Conv2d, x: Tensor, *, to_relu: bool, last: bool) -> Tensor:
    """Scale the kernel to the wanted deviation; centre or lift what comes out where there is a bias or a mean to use."""
    y = layer(x)
    wanted = 1.0 if last else _DEVIATION
    layer.weight.mul_(wanted / y.std((0, 2, 3)).mean())
    y = layer(x)
    lift = (_MEAN if to_relu else 0.0) - y.mean((0, 2, 3))
    if layer.bias is not None:
        layer.bias.add_(lift)
    elif to_relu:
        mean = x.mean((0, 2, 3))
        layer.weight[:, :, 1, 1].add_(lift[:, None] * mean / mean.square().sum())
    return layer(x)


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
    dit.proj_out.weight.mul_(0.1)
    dit.condition_embedder.time_proj.weight.mul_(0.1)
