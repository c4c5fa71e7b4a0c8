"""The transformer as it is traced: constants computed, rewrites applied, one number of latents and one grid.

`Dit` in `dit.py` says what is computed; this says how. Each part of a block is built in one of two or three forms, by
what `Rewrites` allows, so that a doubt about a rewrite can be settled by switching it off.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from ..engines.geometry import Resolution
from .dit import Attention, Block, Dit, DitConfig, embed, rope_tables, rotate, unpatch
from .rewrites import Affine, Rewrites, distinct_rows, halves, projected_values, prompt_logits
from .windows import LayerPlan, plan_owned_queries, plan_whole_windows, plan_windows


@dataclass(frozen=True)
class Conditioning:
    """What the constant timestep and prompt become: numbers.

    time [6, dim] is added to every block's modulation table; final [2, dim] is the last norm's shift and scale; text
    [rows, dim] is what cross-attention sees. `weight` [rows] is there if the rows are the distinct ones of the prompt
    (rewrite 4): the logarithm of how often each occurs, to be added to its logits.
    """

    time: Tensor
    final: Tensor
    text: Tensor
    weight: Tensor | None


@torch.no_grad()
def condition(dit: Dit, prompt: Tensor, rewrites: Rewrites) -> Conditioning:
    """Run everything that depends on the timestep and the prompt only (rewrite 2)."""
    temb, time = dit.condition_embedder.time()
    final = dit.scale_shift_table[0] + temb
    rows, weight = distinct_rows(prompt)
    # Projected values pay while they are fewer than the output projection's columns.
    if rewrites.prompt and dit.config.heads * len(rows) < dit.config.dim:
        return Conditioning(time, final, dit.condition_embedder.text(rows), weight)
    return Conditioning(time, final, dit.condition_embedder.text(prompt), None)


class DitStage(nn.Module):
    """Latents [T, C, h, w] -> restored latents [T, C, h, w], for one T and one grid."""

    @torch.no_grad()
    def __init__(self, dit: Dit, prompt: Tensor, size: Resolution, latents: int, rewrites: Rewrites) -> None:
        super().__init__()
        self.patch_embedding, self.patch, self.eps = dit.patch_embedding, dit.config.patch, dit.config.eps
        rows, columns = size.token_rows, size.token_columns
        conditioning = condition(dit, prompt, rewrites)
        # Layers of one parity share their windows, so two plans serve any depth.
        plans, order = plan_layers(dit.config, rows, columns, rewrites)
        self.order = _Take(order)
        self.back = _Take(_inverse(order))
        rope = rope_tables(dit.config.head_dim, latents, rows, columns)
        tables = [self.order(table.to(prompt.dtype)) for table in rope]
        self.windows = nn.ModuleList([Windows(plan) for plan in plans])
        self.rope = Rope(tables[0], tables[1], split=rewrites.halves)
        self.blocks = nn.ModuleList(
            [BlockStage(block, conditioning, rewrites) for block in dit.blocks if isinstance(block, Block)]
        )
        shift, scale = conditioning.final
        self.before_out, project = _modulated(Affine.of(dit.proj_out), scale, shift, fold=rewrites.modulation)
        self.project = project.module()

    def forward(self, latents: Tensor) -> Tensor:
        x = self.order(embed(latents, self.patch_embedding))
        for layer, block in enumerate(self.blocks):
            x = block(x, self.rope, self.windows[layer % 2])
        x = self.before_out(F.layer_norm(x, (x.shape[-1],), eps=self.eps))
        return latents - unpatch(self.back(self.project(x)), latents, self.patch)


def plan_layers(
    config: DitConfig, rows: int, columns: int, rewrites: Rewrites
) -> tuple[list[LayerPlan], NDArray[np.int64]]:
    """The plans of even and odd layers, and the order in which tokens are stored (rewrites 8 and 9)."""
    cut = plan_owned_queries if rewrites.owned else plan_whole_windows
    plans = [cut(plan_windows(rows, columns, config.window, layer=layer)) for layer in (0, 1)]
    order = np.arange(rows * columns, dtype=np.int64)
    if rewrites.order:
        # Even layers ask for tokens in this order: each where it is first asked for by the window that owns it.
        order = plans[0].queries[np.sort(plans[0].out)]
        plans = [plan.reordered(_inverse(order)) for plan in plans]
    return plans, order


class BlockStage(nn.Module):
    """One block with constant modulation, keys and values."""

    def __init__(self, block: Block, conditioning: Conditioning, rewrites: Rewrites) -> None:
        super().__init__()
        self.eps = block.eps
        shift, scale, gate, ffn_shift, ffn_scale, ffn_gate = block.modulation(conditioning.time)
        self.attention = SelfAttention(block.attn1, (shift, scale, gate), rewrites)
        self.cross = _cross_attention(block, conditioning, rewrites)
        first, last = (Affine.of(linear) for linear in block.ffn.linears())
        self.before_ffn, first = _modulated(first, ffn_scale, ffn_shift, fold=rewrites.modulation)
        self.after_ffn, last = _gated(last, ffn_gate, fold=rewrites.modulation)
        self.widen, self.narrow = first.module(), last.module()

    def forward(self, x: Tensor, rope: Rope, windows: Windows) -> Tensor:
        x = x + self.attention(self.normalise(x), rope, windows)
        x = x + self.cross(self.normalise(x))
        hidden = F.gelu(self.widen(self.before_ffn(self.normalise(x))), approximate="tanh")
        out: Tensor = x + self.after_ffn(self.narrow(hidden))
        return out

    def normalise(self, x: Tensor) -> Tensor:
        return F.layer_norm(x, (x.shape[-1],), eps=self.eps)


class SelfAttention(nn.Module):
    """Windowed self-attention of the normed input, modulated before and gated behind."""

    def __init__(self, attention: Attention, modulation: tuple[Tensor, Tensor, Tensor], rewrites: Rewrites) -> None:
        super().__init__()
        shift, scale, gate = modulation
        self.heads = attention.heads
        dim = attention.to_q.in_features
        order = halves(self.heads, dim // self.heads) if rewrites.halves else torch.arange(dim)
        parts = [
            Affine.of(attention.to_q).rows(order),
            Affine.of(attention.to_k).rows(order),
            Affine.of(attention.to_v),
        ]
        folded = [_modulated(part, scale, shift, fold=rewrites.modulation) for part in parts]
        self.before = folded[0][0]
        self.query, self.key, self.value = (part.module() for _, part in folded)
        self.norm_query, self.norm_key = (_rms(norm, order) for norm in (attention.norm_q, attention.norm_k))
        self.after, out = _gated(Affine.of(attention.to_out[0]), gate, fold=rewrites.modulation)
        self.out = out.module()

    def forward(self, x: Tensor, rope: Rope, windows: Windows) -> Tensor:
        x = self.before(x)
        query = rope(self.split(self.norm_query(self.query(x))))
        key = rope(self.split(self.norm_key(self.key(x))))
        mixed = windows(query, key, self.split(self.value(x)))
        out: Tensor = self.after(self.out(mixed))
        return out

    def split(self, x: Tensor) -> Tensor:
        return x.reshape(*x.shape[:-1], self.heads, x.shape[-1] // self.heads)


class Rope(nn.Module):
    """Rotates x [T, S, heads, head_dim]; pairs are the halves of a head if `split`, neighbours otherwise."""

    def __init__(self, cos: Tensor, sin: Tensor, *, split: bool) -> None:
        super().__init__()
        self.cos, self.sin, self.is_split = nn.Buffer(cos), nn.Buffer(sin), split

    def forward(self, x: Tensor) -> Tensor:
        if not self.is_split:
            return rotate(x, (self.cos, self.sin))
        first, second = x.chunk(2, dim=-1)
        return torch.cat([first * self.cos - second * self.sin, first * self.sin + second * self.cos], dim=-1)


class Windows(nn.Module):
    """Attention inside the windows of one plan: q, k, v [T, S, heads, head_dim] -> [T, S, dim]."""

    def __init__(self, plan: LayerPlan) -> None:
        super().__init__()
        self.counts = [group.queries.shape[0] for group in plan.groups]
        self.queries = nn.ModuleList([_Take(group.queries.ravel()) for group in plan.groups])
        self.keys = nn.ModuleList([_Take(group.keys.ravel()) for group in plan.groups])
        self.out = _Take(plan.out)

    def forward(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        mixed = []
        for count, queries, keys in zip(self.counts, self.queries, self.keys, strict=True):
            parts = (queries(query), keys(key), keys(value))
            q, k, v = (_into_windows(part, count) for part in parts)
            mixed.append(_out_of_windows(F.scaled_dot_product_attention(q, k, v), query.shape[0]))
        whole: Tensor = self.out(torch.cat(mixed, dim=1) if len(mixed) > 1 else mixed[0])
        return whole


class PlainCross(nn.Module):
    """Cross-attention with constant keys and values, every prompt row by itself."""

    def __init__(self, attention: Attention, query: Affine, text: Tensor) -> None:
        super().__init__()
        self.query, self.norm, self.out = query.module(), attention.norm_q, attention.to_out[0]
        self.heads = attention.heads
        self.keys, self.values = (nn.Buffer(part) for part in attention.keys_and_values(text))

    def forward(self, x: Tensor) -> Tensor:
        q = self.norm(self.query(x.flatten(0, 1)))
        q = q.view(1, -1, self.heads, q.shape[-1] // self.heads).transpose(1, 2)
        mixed = F.scaled_dot_product_attention(q, self.keys, self.values)
        out: Tensor = self.out(mixed[0].transpose(0, 1).flatten(1)).view_as(x)
        return out


class PromptCross(nn.Module):
    """Cross-attention to few distinct prompt rows: logits [.., heads, u], softmax, one product (rewrites 4, 10)."""

    def __init__(self, attention: Attention, query: Affine, text: Tensor, weight: Tensor, *, direct: bool) -> None:
        super().__init__()
        keys, values = (part[0] for part in attention.keys_and_values(text))
        self.heads, self.count = keys.shape[0], keys.shape[1]
        self.eps = attention.norm_q.eps
        output = Affine.of(attention.to_out[0])
        self.values = Affine(projected_values(values, output).T, output.bias).module()
        self.weight = nn.Buffer(weight)
        self.dim = query.weight.shape[0]
        self.norm = None if direct else attention.norm_q
        if direct:
            self.query = query.beside(prompt_logits(query, attention.norm_q.weight, keys)).module()
        else:
            self.query = query.module()
            self.keys = nn.Buffer(keys.transpose(1, 2) * keys.shape[2] ** -0.5)

    def forward(self, x: Tensor) -> Tensor:
        shape = (*x.shape[:-1], self.heads, self.count)
        if self.norm is None:
            q, logits = self.query(x).split([self.dim, self.heads * self.count], dim=-1)
            logits = (logits * torch.rsqrt(q.square().mean(-1, keepdim=True) + self.eps)).view(shape)
        else:
            q = self.norm(self.query(x))
            q = q.view(*x.shape[:-1], self.heads, 1, -1)
            logits = (q @ self.keys).view(shape)
        chosen = torch.softmax(logits + self.weight, dim=-1)
        out: Tensor = self.values(chosen.flatten(-2))
        return out


def _cross_attention(block: Block, conditioning: Conditioning, rewrites: Rewrites) -> nn.Module:
    """The cheapest form that is allowed; takes the input normed without its affine part."""
    attention = block.attn2
    query = Affine.of(attention.to_q)
    scale, query = _modulated(query, block.norm2.weight - 1, block.norm2.bias, fold=rewrites.modulation)
    if conditioning.weight is None:
        return nn.Sequential(scale, PlainCross(attention, query, conditioning.text))
    direct = rewrites.logits
    return nn.Sequential(scale, PromptCross(attention, query, conditioning.text, conditioning.weight, direct=direct))


class _Scale(nn.Module):
    """x * gain + shift, where it is not folded into a linear."""

    def __init__(self, gain: Tensor, shift: Tensor | None) -> None:
        super().__init__()
        self.gain = nn.Buffer(gain)
        self.shift = None if shift is None else nn.Buffer(shift)

    def forward(self, x: Tensor) -> Tensor:
        return x * self.gain if self.shift is None else x * self.gain + self.shift


class _Take(nn.Module):
    """x [T, S, ...] -> x[:, index]: nothing if the index is 0, 1, ..., a slice if it is one, a gather otherwise."""

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


def _modulated(linear: Affine, scale: Tensor, shift: Tensor, *, fold: bool) -> tuple[nn.Module, Affine]:
    """What to do before the linear, and the linear."""
    if fold:
        return nn.Identity(), linear.after(1 + scale, shift)
    return _Scale(1 + scale, shift), linear


def _gated(linear: Affine, gate: Tensor, *, fold: bool) -> tuple[nn.Module, Affine]:
    """What to do after the linear, and the linear."""
    return (nn.Identity(), linear.gated(gate)) if fold else (_Scale(gate, None), linear)


def _rms(norm: nn.RMSNorm, order: Tensor) -> nn.RMSNorm:
    """The norm with its weights in another order."""
    new = nn.RMSNorm(norm.weight.shape, norm.eps, device="meta")
    new.weight = nn.Parameter(norm.weight[order], requires_grad=False)
    return new


def _inverse(order: NDArray[np.int64]) -> NDArray[np.int64]:
    inverse = np.empty_like(order)
    inverse[order] = np.arange(len(order))
    return inverse


def _into_windows(x: Tensor, windows: int) -> Tensor:
    """[T, windows * tokens, heads, head_dim] -> [windows, heads, T * tokens, head_dim]."""
    latents, _, heads, head_dim = x.shape
    return x.reshape(latents, windows, -1, heads, head_dim).permute(1, 3, 0, 2, 4).flatten(2, 3)


def _out_of_windows(x: Tensor, latents: int) -> Tensor:
    """[windows, heads, T * tokens, head_dim] -> [T, windows * tokens, dim]."""
    windows, heads, length, head_dim = x.shape
    x = x.view(windows, heads, latents, length // latents, head_dim).permute(2, 0, 3, 1, 4)
    return x.flatten(3).flatten(1, 2)
