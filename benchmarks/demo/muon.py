"""Muon: momentum whose matrix is orthogonalised before it becomes a step (Jordan et al., 2024).

A convolution's kernel [out, in, 3, 3] is a matrix [out, in * 9]. The step has all its singular values near 1, so quiet
directions of the input learn as fast as loud ones. One direction is too loud for that: features are positive (blocks
end in a ReLU), and a step along their mean shifts whole pictures. Gradient and step are turned down along it.
Biases, norms and embeddings take AdamW.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

_QUINTIC = (3.4445, -4.7750, 2.0315)
_ITERATIONS = 5
_ALONG_MEAN = 0.1


def orthogonalise(matrix: Tensor) -> Tensor:
    """The nearest matrix with singular values near 1 (0.7 to 1.2), [r, c] -> [r, c], by Newton and Schulz."""
    a, b, c = _QUINTIC
    x = matrix / (matrix.norm() + 1e-12)
    x = x.T if x.shape[0] > x.shape[1] else x
    x = x.bfloat16()
    for _ in range(_ITERATIONS):
        gram = x @ x.T
        x = a * x + (b * gram + c * (gram @ gram)) @ x
    x = x.float()
    return x.T if matrix.shape[0] > matrix.shape[1] else x


class Muon(torch.optim.Optimizer):
    """Nesterov momentum, orthogonalised. A step's spectral norm is lr * scale * max(1, out / in) ** 0.5.

    `means` maps a parameter to the mean of its input's channels; fill it before the first step, renew it at times.
    """

    def __init__(self, parameters: Iterable[nn.Parameter], lr: float, momentum: float = 0.95) -> None:
        super().__init__(parameters, {"lr": lr, "momentum": momentum, "scale": 1.0})
        self.means: dict[nn.Parameter, Tensor] = {}

    @torch.no_grad()
    def step(self) -> None:  # type: ignore[override]
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is None:
                    continue
                state = self.state[parameter]
                if not state:
                    state["momentum"] = torch.zeros_like(parameter)
                mean = state["momentum"].lerp_(parameter.grad, 1 - group["momentum"])
                ahead = parameter.grad.lerp(mean, group["momentum"])
                loud = self.means.get(parameter)
                step = orthogonalise(_turn_down(ahead, loud).flatten(1)).view_as(parameter)
                flat = step.flatten(1)
                scale = group["scale"] * max(1.0, flat.shape[0] / flat.shape[1]) ** 0.5
                parameter.add_(_turn_down(step, loud), alpha=-group["lr"] * scale)


def _turn_down(matrix: Tensor, mean: Tensor | None) -> Tensor:
    """matrix [out, in, ...] with what acts on the input's mean [in] (the same at every tap) reduced."""
    if mean is None:
        return matrix
    taps = matrix[0, 0].numel()
    unit = (mean / (mean.norm() * taps**0.5 + 1e-12)).view(1, -1, *[1] * (matrix.ndim - 2)).expand_as(matrix)
    along = (matrix * unit).flatten(1).sum(1).view(-1, *[1] * (matrix.ndim - 1))
    return matrix - (1 - _ALONG_MEAN) * along * unit
