"""Windowed self-attention, as exported: one product for q and k, constant RoPE tables and constant gathers."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ..network.dit import Attention, DitConfig, rotate
from ..network.windows import LayerPlan, plan_owned_queries, plan_whole_windows, plan_windows
from .conditioning import gated, modulated
from .layers import LayerFactory, fixed_eps, rms_factor
from .rewrites import Affine, Rewrites, halves


def plan_layers(
    config: DitConfig, rows: int, columns: int, rewrites: Rewrites
) -> tuple[list[LayerPlan], NDArray[np.int64]]:
    """The plans of even and odd layers, and the stored order of tokens: int64 [rows * columns] (rewrites 8 and 9)."""
    plan_queries = plan_owned_queries if rewrites.owned else plan_whole_windows
    plans = [plan_queries(plan_windows(rows, columns, config.window, layer=layer)) for layer in (0, 1)]
    order = np.arange(rows * columns, dtype=np.int64)
    if rewrites.order:
        # The order in which even layers use tokens. One that is used twice is stored where the kept use is.
        order = plans[0].queries[np.sort(plans[0].out)]
        plans = [plan.reordered(inverse(order)) for plan in plans]
    return plans, order


def inverse(order: NDArray[np.int64]) -> NDArray[np.int64]:
    """The permutation that undoes `order`."""
    positions = np.empty_like(order)
    positions[order] = np.arange(len(order))
    return positions


class SelfAttention(nn.Module):
    """Windowed self-attention of the normed input, modulated before and gated after.

    One product gives q and k, which are normed and rotated side by side as [T, S, 2, heads, head_dim]. v comes from the
    same product or from its own. The scale of the softmax is part of the weight of q's norm.
    """

    def __init__(
        self, attention: Attention, modulation: tuple[Tensor, Tensor, Tensor], rewrites: Rewrites, factory: LayerFactory
    ) -> None:
        """modulation: shift, scale and gate, each [dim]."""
        super().__init__()
        shift, scale, gate = modulation
        self.heads, self.precision = attention.heads, factory.precision
        dim = attention.to_q.in_features
        head_dim = dim // self.heads
        order = halves(self.heads, head_dim) if rewrites.halves else torch.arange(dim)
        both = Affine.of(attention.to_q).rows(order).concat(Affine.of(attention.to_k).rows(order))
        self.before, inputs = modulated(both.concat(Affine.of(attention.to_v)), scale, shift, fold=rewrites.modulation)
        if self.precision.joint_inputs:
            self.inputs = nn.ModuleList([factory.linear(inputs, "qkv")])
        else:
            both, values = inputs.parts(2 * dim)
            self.inputs = nn.ModuleList([factory.linear(both, "qk"), factory.linear(values, "v")])
        weights = attention.norm_q.weight[order] * head_dim**-0.5, attention.norm_k.weight[order]
        self.norm, self.eps = nn.Buffer(self.precision.narrow(torch.stack(weights))), fixed_eps(attention.norm_q)
        self.after, out = gated(Affine.of(attention.to_out[0]), gate, fold=rewrites.modulation)
        self.out = factory.linear(out, "out")
        self.attend = factory.attention()

    def forward(self, x: Tensor, rope: Rope, windows: Windows) -> Tensor:
        """x [T, S, dim] -> [T, S, dim]."""
        x = self.before(x)
        both, value = self.split([project(x) for project in self.inputs])
        both = both * self.precision.narrow(rms_factor(self.precision.widen(both), self.eps)) * self.norm
        query, key = rope(both.unflatten(-1, (self.heads, -1))).unbind(2)
        mixed = windows(query, key, value.unflatten(-1, (self.heads, -1)), self.attend)
        out: Tensor = self.after(self.out(mixed))
        return out

    def split(self, inputs: list[Tensor]) -> tuple[Tensor, Tensor]:
        """q and k [T, S, 2, dim], and v [T, S, dim]."""
        if len(inputs) == 2:
            return inputs[0].unflatten(-1, (2, -1)), inputs[1]
        parts = inputs[0].unflatten(-1, (3, -1))
        return parts[:, :, :2], parts[:, :, 2]


class Rope(nn.Module):
    """Rotates x [T, S, 2, heads, head_dim]. Pairs are the halves of a head if `split`, neighbours otherwise.

    cos, sin: [latents, S, 1, head_dim / 2] for the largest T; fewer latents use their beginning.
    """

    def __init__(self, cos: Tensor, sin: Tensor, *, split: bool) -> None:
        super().__init__()
        self.is_split = split
        self.cos, self.sin = nn.Buffer(cos.unsqueeze(2)), nn.Buffer(sin.unsqueeze(2))

    def forward(self, x: Tensor) -> Tensor:
        cos, sin = self.cos[: x.shape[0]], self.sin[: x.shape[0]]
        if not self.is_split:
            return rotate(x, (cos, sin))
        first, second = x.chunk(2, dim=-1)
        return torch.cat([first * cos - second * sin, first * sin + second * cos], dim=-1)


class Windows(nn.Module):
    """Attention inside the windows of one plan: q, k, v [T, S, heads, head_dim] -> [T, S, dim]."""

    def __init__(self, plan: LayerPlan) -> None:
        super().__init__()
        self.counts = [group.queries.shape[0] for group in plan.groups]
        self.queries = nn.ModuleList([Take(group.queries.ravel()) for group in plan.groups])
        self.keys = nn.ModuleList([Take(group.keys.ravel()) for group in plan.groups])
        self.out = Take(plan.out)

    def forward(self, query: Tensor, key: Tensor, value: Tensor, attend: Callable[..., Tensor]) -> Tensor:
        mixed = []
        for count, queries, keys in zip(self.counts, self.queries, self.keys, strict=True):
            parts = (queries(query), keys(key), keys(value))
            q, k, v = (by_window(part, count) for part in parts)
            mixed.append(by_latent(attend(q, k, v), query.shape[0]))
        whole: Tensor = self.out(torch.cat(mixed, dim=1) if len(mixed) > 1 else mixed[0])
        return whole


class Take(nn.Module):
    """x [T, S, ...] -> x[:, index] by the cheapest means: x itself, a slice, or a gather."""

    def __init__(self, index: NDArray[np.int64]) -> None:
        super().__init__()
        self.start, self.length = int(index[0]), len(index)
        self.is_slice = bool((index == np.arange(self.start, self.start + self.length)).all())
        self.index = None if self.is_slice else nn.Parameter(torch.from_numpy(index), requires_grad=False)

    def forward(self, x: Tensor) -> Tensor:
        if self.index is not None:
            return x.index_select(1, self.index)
        if self.start == 0 and self.length == x.shape[1]:
            return x
        return x[:, self.start : self.start + self.length]


def by_window(x: Tensor, windows: int) -> Tensor:
    """[T, windows * tokens, heads, head_dim] -> [windows, heads, T * tokens, head_dim]."""
    latents, _, heads, head_dim = x.shape
    return x.reshape(latents, windows, -1, heads, head_dim).permute(1, 3, 0, 2, 4).flatten(2, 3)


def by_latent(x: Tensor, latents: int) -> Tensor:
    """[windows, heads, T * tokens, head_dim] -> [T, windows * tokens, dim]."""
    windows, heads, length, head_dim = x.shape
    x = x.view(windows, heads, latents, length // latents, head_dim).permute(2, 0, 3, 1, 4)
    return x.flatten(3).flatten(1, 2)
