"""Means of what every convolution of the autoencoder sees, for the optimiser."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from swiftvr_trt.export.reae import Reae, TGrow


def input_means(reae: Reae, frames: Tensor) -> dict[nn.Parameter, Tensor]:
    """frames [4k, 3, H, W] of one clip -> for each kernel the mean of its input's channels [in]."""
    means: dict[nn.Parameter, Tensor] = {}
    hooks = []

    def watch(parameter: nn.Parameter) -> Callable[[nn.Module, tuple[Tensor, ...]], None]:
        def see(_: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            means[parameter] = inputs[0].mean((0, 2, 3))

        return see

    for layer in reae.modules():
        if isinstance(layer, nn.Conv2d):
            hooks.append(layer.register_forward_pre_hook(watch(layer.weight)))
        elif isinstance(layer, TGrow):
            (parameter,) = layer.parameters()
            hooks.append(layer.register_forward_pre_hook(watch(parameter)))
    height, width = frames.shape[2] // 16, frames.shape[3] // 16
    with torch.no_grad():
        latents, _ = reae.encoder(frames, reae.encoder.initial_state(height, width))
        reae.decoder(latents, reae.decoder.initial_state(height, width))
    for hook in hooks:
        hook.remove()
    return means
