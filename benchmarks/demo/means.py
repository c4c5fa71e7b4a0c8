"""Means of what the first kernels of MemBlocks see, for `outer.Centred`."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from swiftvr_trt.export.reae import MemBlock, Reae


def input_means(reae: Reae, frames: Tensor) -> dict[MemBlock, Tensor]:
    """frames [4k, 3, H, W], taken for one clip -> for each block the mean of what its first kernel sees [in]."""
    means: dict[MemBlock, Tensor] = {}
    hooks = []

    def watch(block: MemBlock) -> Callable[[nn.Module, tuple[Tensor, ...]], None]:
        def see(_: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            means[block] = inputs[0].mean((0, 2, 3))

        return see

    for block in reae.modules():
        if isinstance(block, MemBlock):
            hooks.append(block.conv[0].register_forward_pre_hook(watch(block)))
    height, width = frames.shape[2] // 16, frames.shape[3] // 16
    with torch.no_grad():
        latents, _ = reae.encoder(frames, reae.encoder.initial_state(height, width))
        reae.decoder(latents, reae.decoder.initial_state(height, width))
    for hook in hooks:
        hook.remove()
    return means
