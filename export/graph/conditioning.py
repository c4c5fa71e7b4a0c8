"""Constants made of the timestep and the prompt, and modulation folded into linears (rewrites 2, 3 and 4)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..network.dit import Dit
from .rewrites import Affine, Rewrites, distinct_rows


@dataclass(frozen=True)
class Conditioning:
    """Everything in the transformer that depends on the timestep and the prompt only.

    time [6, dim]: added to every block's modulation table. final [2, dim]: shift and scale of the last norm. text
    [rows, dim]: what cross-attention sees. weight [rows]: if `text` holds each distinct prompt row once, the logarithm
    of how often each occurs, added to its logits; None if `text` holds all rows.
    """

    time: Tensor
    final: Tensor
    text: Tensor
    weight: Tensor | None


@torch.no_grad()
def condition(dit: Dit, prompt: Tensor, rewrites: Rewrites) -> Conditioning:
    """Run the embedders once. prompt: [L, text_dim]."""
    temb, time = dit.condition_embedder.time()
    final = dit.scale_shift_table[0] + temb
    rows, weight = distinct_rows(prompt)
    # Projected values have heads * rows inputs; they pay off while that is less than the output projection's dim.
    if rewrites.prompt and dit.config.heads * len(rows) < dit.config.dim:
        return Conditioning(time, final, dit.condition_embedder.text(rows), weight)
    return Conditioning(time, final, dit.condition_embedder.text(prompt), None)


class Scale(nn.Module):
    """x * gain + shift in the dtype of x: modulation that is not folded into a linear.

    The constants keep the dtype of the weights. A product that follows takes what the norm before it gave.
    """

    def __init__(self, gain: Tensor, shift: Tensor | None) -> None:
        super().__init__()
        self.gain = nn.Buffer(gain)
        self.shift = None if shift is None else nn.Buffer(shift)

    def forward(self, x: Tensor) -> Tensor:
        scaled = x * self.gain if self.shift is None else x * self.gain + self.shift
        return scaled.to(x.dtype)


def modulated(linear: Affine, scale: Tensor, shift: Tensor, *, fold: bool) -> tuple[nn.Module, Affine]:
    """`linear(x * (1 + scale) + shift)` as a module, and a linear to apply after it."""
    if fold:
        return nn.Identity(), linear.after(1 + scale, shift)
    return Scale(1 + scale, shift), linear


def gated(linear: Affine, gate: Tensor, *, fold: bool) -> tuple[nn.Module, Affine]:
    """`linear(x) * gate` as a module, and a linear to apply before it."""
    return (nn.Identity(), linear.gated(gate)) if fold else (Scale(gate, None), linear)
