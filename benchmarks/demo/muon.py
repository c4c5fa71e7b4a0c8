"""Muon: momentum whose matrix is orthogonalised before it becomes a step (Jordan et al., 2024).

A convolution's kernel [out, in, 3, 3] is a matrix [out, in * 9]. The step has all its singular values near 1, so quiet
directions of the input learn as fast as loud ones.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

_QUINTIC = (3.4445, -4.7750, 2.0315)
_ITERATIONS = 5


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
    """Nesterov momentum, orthogonalised.

    A step's singular values are lr times `scale`, or, if that is None, times those of the parameter (root mean square).
    """

    def __init__(self, parameters: Iterable[dict[str, Any]], lr: float, momentum: float = 0.95) -> None:
        super().__init__(parameters, {"lr": lr, "momentum": momentum, "scale": None})

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
                step = orthogonalise(parameter.grad.lerp(mean, group["momentum"]).flatten(1))
                scale = group["scale"]
                if scale is None:
                    scale = float(parameter.norm()) / min(step.shape) ** 0.5
                parameter.add_(step.view_as(parameter), alpha=-group["lr"] * scale)
