"""AdamW in coordinates where no direction of a convolution's input is louder than the others.

Features here are positive (blocks end in a ReLU) and their common mean is far larger than what varies, so a step of
plain Adam mostly shifts whole pictures: measured, the weights jittered 5 dB below their own running average. So every
convolution W of the autoencoder is trained as V with W = V P. P comes from the second moment of the input's channels,
estimated once: directions of more than average strength are turned down to it, the others stay. The function is the
same, only the steps differ.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from swiftvr_trt.export.reae import TGrow


def second_moments(module: nn.Module, run: Callable[[], object]) -> dict[str, Tensor]:
    """E[x x'] over the input channels of every convolution that `run` uses, by the convolution's name."""
    sums: dict[str, Tensor] = {}
    hooks = []

    def watch(name: str) -> Callable[[nn.Module, tuple[Tensor, ...]], None]:
        def see(_: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            rows = inputs[0].transpose(0, 1).flatten(1)
            sums[name] = (rows @ rows.T / rows.shape[1]).double()

        return see

    for name, layer in module.named_modules():
        if isinstance(layer, nn.Conv2d):
            hooks.append(layer.register_forward_pre_hook(watch(name)))
        elif isinstance(layer, TGrow) and layer.stride == 2:
            hooks.append(layer.register_forward_pre_hook(watch(f"{name}.conv3d")))
        elif isinstance(layer, TGrow):
            hooks.append(layer.register_forward_pre_hook(watch(f"{name}.proj")))
    with torch.no_grad():
        run()
    for hook in hooks:
        hook.remove()
    return sums


class Whitened:
    """The trainable stand-ins V of a module's convolutions. `pull` before the optimiser's step, `push` after it."""

    def __init__(self, module: nn.Module, moments: dict[str, Tensor]) -> None:
        layers = dict(module.named_modules())
        self._weights = [layers[name].get_parameter("weight") for name in moments]
        roots = [_roots(moment) for moment in moments.values()]
        self._inverse = [inverse for _, inverse in roots]
        self.parameters = [
            nn.Parameter(_mix(w.detach(), root)) for w, (root, _) in zip(self._weights, roots, strict=True)
        ]

    def others(self, module: nn.Module) -> list[nn.Parameter]:
        """The module's parameters that stay as they are: biases."""
        mine = {id(w) for w in self._weights}
        return [p for p in module.parameters() if id(p) not in mine]

    def pull(self) -> None:
        """Gradients of W become gradients of V."""
        for v, w, inverse in zip(self.parameters, self._weights, self._inverse, strict=True):
            v.grad = None if w.grad is None else _mix(w.grad, inverse)
            w.grad = None

    @torch.no_grad()
    def push(self) -> None:
        """W = V P."""
        for v, w, inverse in zip(self.parameters, self._weights, self._inverse, strict=True):
            w.copy_(_mix(v, inverse))


def _roots(moment: Tensor) -> tuple[Tensor, Tensor]:
    """P^-1 and P: square roots of the second moment over its average strength (the strongest left out), at least 1."""
    values, vectors = torch.linalg.eigh(moment)
    root = (values / values[:-1].mean().clamp_min(1e-9)).clamp_min(1).sqrt()
    return ((vectors * root) @ vectors.T).float(), ((vectors / root) @ vectors.T).float()


def _mix(weight: Tensor, matrix: Tensor) -> Tensor:
    """weight [out, in, ...] times a symmetric matrix over its input channels."""
    return torch.einsum("oi...,ij->oj...", weight, matrix)
