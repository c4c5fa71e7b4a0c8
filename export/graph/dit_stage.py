"""The transformer as it is traced: constants computed, rewrites applied, one number of latents and one grid.

`Dit` in `dit.py` says what is computed; this says how. Each part of a block is built in one of two or three forms, by
what `Rewrites` allows, so that a doubt about a rewrite can be settled by switching it off.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from swiftvr_trt.engines.bundle.geometry import Resolution
from swiftvr_trt.export.network.dit import (
    Attention,
    Block,
    Dit,
    DitConfig,
    embed,
    rope_tables,
    rotate,
    unpatch,
    widened,
)
from swiftvr_trt.export.network.windows import LayerPlan, plan_owned_queries, plan_whole_windows, plan_windows

from .lowering import PLAIN, Lowering
from .rewrites import Affine, Rewrites, distinct_rows, halves, prompt_logits, value_differences


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
    def __init__(
        self,
        dit: Dit,
        prompt: Tensor,
        size: Resolution,
        latents: int,
        rewrites: Rewrites,
        lowering: Lowering = PLAIN,
    ) -> None:
        """latents: the largest T; fewer may be given. `lowering` decides the number formats."""
        super().__init__()
        self.patch, self.eps, self.precision = dit.config.patch, dit.config.eps, lowering.precision
        self.patch_embedding = lowering.precision.converted(dit.patch_embedding)
        rows, columns = size.token_rows, size.token_columns
        conditioning = condition(dit, prompt, rewrites)
        # Layers of one parity share their windows, so two plans serve any depth.
        plans, order = plan_layers(dit.config, rows, columns, rewrites)
        self.order = _Take(order)
        self.back = _Take(_inverse(order))
        rope = rope_tables(dit.config.head_dim, latents, rows, columns)
        tables = [self.order(table.to(prompt.dtype)) for table in rope]
        self.windows = nn.ModuleList([Windows(plan) for plan in plans])
        self.rope = Rope(*map(lowering.precision.narrow, tables), split=rewrites.halves)
        self.ffn_cuts = _cuts(latents, lowering.precision.ffn_parts)
        self.blocks = nn.ModuleList(
            BlockStage(widened(block), conditioning, rewrites, lowering.inside(f"blocks.{layer}"))
            for layer, block in enumerate(dit.blocks)
        )
        shift, scale = conditioning.final
        self.before_out, project = _modulated(Affine.of(dit.proj_out), scale, shift, fold=rewrites.modulation)
        self.project = lowering.plain(project)

    def forward(self, latents: Tensor) -> Tensor:
        x = self.embedded(latents)
        for layer, block in enumerate(self.blocks):
            x = self.through(block, layer, x)
        x = self.precision.narrow(self.before_out(F.layer_norm(x, (x.shape[-1],), eps=self.eps)))
        velocity = unpatch(self.back(self.project(x)), latents, self.patch)
        return latents - velocity.to(latents.dtype)

    def embedded(self, latents: Tensor) -> Tensor:
        """Latents [T, C, h, w] -> the residual stream before the first block: [T, S, dim], in the stored order."""
        tokens = embed(self.precision.narrow(latents), self.patch_embedding)
        x: Tensor = self.order(self.precision.widen(tokens))
        return x

    def through(self, block: nn.Module, layer: int, x: Tensor) -> Tensor:
        """The residual stream behind block number `layer`."""
        out: Tensor = block(x, self.rope, self.windows[layer % 2], self.ffn_cuts)
        return out


def _cuts(latents: int, parts: int) -> tuple[int, ...]:
    """Where to cut a chunk of `latents` or one latent less into `parts` equal parts; nowhere if the last part, whose
    length is free, could be a single latent: the tracer would take that for a constant.
    """
    cuts = tuple(latents * k // parts for k in range(1, parts))
    return cuts if cuts and latents - 1 - cuts[-1] > 1 else ()


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

    def __init__(self, block: Block, conditioning: Conditioning, rewrites: Rewrites, lowering: Lowering) -> None:
        super().__init__()
        self.eps, self.precision = block.eps, lowering.precision
        shift, scale, gate, ffn_shift, ffn_scale, ffn_gate = block.modulation(conditioning.time)
        self.attention = SelfAttention(block.attn1, (shift, scale, gate), rewrites, lowering.inside("attention"))
        self.cross = _cross_attention(block, conditioning, rewrites, lowering.inside("cross"))
        first, last = (Affine.of(linear) for linear in block.ffn.linears())
        self.before_ffn, first = _modulated(first, ffn_scale, ffn_shift, fold=rewrites.modulation)
        self.after_ffn, last = _gated(last, ffn_gate, fold=rewrites.modulation)
        self.up, self.down = lowering.linear(first, "up"), lowering.linear(last, "down")

    def forward(self, x: Tensor, rope: Rope, windows: Windows, ffn_cuts: tuple[int, ...]) -> Tensor:
        """x [T, S, dim]; ffn_cuts: after how many latents the feed-forward part begins anew."""
        x = x + self.precision.widen(self.attention(self.normalise(x), rope, windows))
        x = x + self.precision.widen(self.cross(self.normalise(x)))
        parts = [self.feed_forward(x[start:stop]) for start, stop in pairwise((0, *ffn_cuts, None))]
        return torch.cat(parts) if len(parts) > 1 else parts[0]

    def feed_forward(self, x: Tensor) -> Tensor:
        hidden = F.gelu(self.up(self.before_ffn(self.normalise(x))), approximate="tanh")
        return x + self.precision.widen(self.after_ffn(self.down(hidden)))

    def normalise(self, x: Tensor) -> Tensor:
        return self.precision.narrow(F.layer_norm(x, (x.shape[-1],), eps=self.eps))


class SelfAttention(nn.Module):
    """Windowed self-attention of the normed input, modulated before and gated behind.

    q and k come from one product, and are normed and rotated side by side, [T, S, 2, heads, head_dim]; v comes from
    the same product or from one of its own. The softmax's scale sits in the weight of q's norm.
    """

    def __init__(
        self, attention: Attention, modulation: tuple[Tensor, Tensor, Tensor], rewrites: Rewrites, lowering: Lowering
    ) -> None:
        super().__init__()
        shift, scale, gate = modulation
        self.heads, self.precision = attention.heads, lowering.precision
        dim = attention.to_q.in_features
        head_dim = dim // self.heads
        order = halves(self.heads, head_dim) if rewrites.halves else torch.arange(dim)
        both = Affine.of(attention.to_q).rows(order).beside(Affine.of(attention.to_k).rows(order))
        self.before, inputs = _modulated(both.beside(Affine.of(attention.to_v)), scale, shift, fold=rewrites.modulation)
        if self.precision.joint_inputs:
            self.inputs = nn.ModuleList([lowering.linear(inputs, "qkv")])
        else:
            both, values = inputs.parts(2 * dim)
            self.inputs = nn.ModuleList([lowering.linear(both, "qk"), lowering.linear(values, "v")])
        weights = attention.norm_q.weight[order] * head_dim**-0.5, attention.norm_k.weight[order]
        self.norm, self.eps = nn.Buffer(self.precision.narrow(torch.stack(weights))), _eps(attention.norm_q)
        self.after, out = _gated(Affine.of(attention.to_out[0]), gate, fold=rewrites.modulation)
        self.out = lowering.linear(out, "out")
        self.attend = lowering.attention()

    def forward(self, x: Tensor, rope: Rope, windows: Windows) -> Tensor:
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
    """Rotates x [T, S, 2, heads, head_dim]; pairs are the halves of a head if `split`, neighbours otherwise.

    The tables [latents, S, 1, 1, head_dim / 2] are made for the largest T; fewer latents use their beginning.
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
        self.queries = nn.ModuleList([_Take(group.queries.ravel()) for group in plan.groups])
        self.keys = nn.ModuleList([_Take(group.keys.ravel()) for group in plan.groups])
        self.out = _Take(plan.out)

    def forward(self, query: Tensor, key: Tensor, value: Tensor, attend: Callable[..., Tensor]) -> Tensor:
        mixed = []
        for count, queries, keys in zip(self.counts, self.queries, self.keys, strict=True):
            parts = (queries(query), keys(key), keys(value))
            q, k, v = (_into_windows(part, count) for part in parts)
            mixed.append(_out_of_windows(attend(q, k, v), query.shape[0]))
        whole: Tensor = self.out(torch.cat(mixed, dim=1) if len(mixed) > 1 else mixed[0])
        return whole


class PlainCross(nn.Module):
    """Cross-attention with constant keys and values, every prompt row by itself."""

    def __init__(self, attention: Attention, query: Affine, text: Tensor, lowering: Lowering) -> None:
        super().__init__()
        self.heads, self.precision, self.norm = attention.heads, lowering.precision, attention.norm_q
        self.query = lowering.linear(query, "query")
        self.out = lowering.linear(Affine.of(attention.to_out[0]), "out")
        keys, values = attention.keys_and_values(text)
        self.keys, self.values = (
            nn.Buffer(lowering.precision.narrow(keys)),
            nn.Buffer(lowering.precision.narrow(values)),
        )

    def forward(self, x: Tensor) -> Tensor:
        q = self.precision.narrow(self.norm(self.precision.widen(self.query(x.flatten(0, 1)))))
        q = q.view(1, -1, self.heads, q.shape[-1] // self.heads).transpose(1, 2)
        mixed = F.scaled_dot_product_attention(q, self.keys, self.values)
        out: Tensor = self.out(mixed[0].transpose(0, 1).flatten(1)).view_as(x)
        return out


class PromptCross(nn.Module):
    """Cross-attention to few distinct prompt rows, values projected (rewrite 4), differences of logits (rewrite 12).

    With the logits taken straight from the input (rewrite 10) they lie beside q, of which only the mean square is used.
    """

    def __init__(
        self,
        attention: Attention,
        query: Affine,
        conditioning: Conditioning,
        weight: Tensor,
        lowering: Lowering,
        *,
        direct: bool,
    ) -> None:
        super().__init__()
        keys, values = (part[0] for part in attention.keys_and_values(conditioning.text))
        self.heads, self.differences = keys.shape[0], keys.shape[1] - 1
        self.dim, self.eps, self.precision = query.weight.shape[0], _eps(attention.norm_q), lowering.precision
        keys, self.weight = keys[:, :-1] - keys[:, -1:], nn.Buffer(weight[:-1] - weight[-1])
        self.values = lowering.plain(value_differences(values, Affine.of(attention.to_out[0])))
        self.norm = None if direct else attention.norm_q
        if direct:
            self.query = lowering.linear(query.beside(prompt_logits(query, attention.norm_q.weight, keys)), "query")
        else:
            self.query = lowering.linear(query, "query")
            self.keys = nn.Buffer(keys.transpose(1, 2) * keys.shape[2] ** -0.5)

    def forward(self, x: Tensor) -> Tensor:
        logits = self.logits(self.query(x)).unflatten(-1, (self.heads, self.differences)) + self.weight
        if self.differences == 1:
            chosen = torch.sigmoid(logits)
        else:
            chosen = torch.softmax(F.pad(logits, (0, 1)), dim=-1)[..., :-1]
        out: Tensor = self.values(self.precision.narrow(chosen.flatten(-2)))
        return out

    def logits(self, query: Tensor) -> Tensor:
        """By how much each prompt row's logit exceeds that of the last: [.., heads * differences]."""
        wide = self.precision.widen
        if self.norm is None:
            q, logits = query.split([self.dim, self.heads * self.differences], dim=-1)
            return wide(logits) * rms_factor(wide(q), self.eps)
        normed: Tensor = self.norm(wide(query))
        return torch.matmul(normed.unflatten(-1, (self.heads, 1, -1)), self.keys).flatten(-3)


def _cross_attention(block: Block, conditioning: Conditioning, rewrites: Rewrites, lowering: Lowering) -> nn.Module:
    """The cheapest form that is allowed; takes the input normed without its affine part."""
    attention = block.attn2
    query = Affine.of(attention.to_q)
    scale, query = _modulated(query, block.norm2.weight - 1, block.norm2.bias, fold=rewrites.modulation)
    weight, direct = conditioning.weight, rewrites.logits
    if weight is None or len(weight) == 1:
        return nn.Sequential(scale, PlainCross(attention, query, conditioning.text, lowering))
    return nn.Sequential(scale, PromptCross(attention, query, conditioning, weight, lowering, direct=direct))


def rms_factor(x: Tensor, eps: float) -> Tensor:
    """What an RMSNorm multiplies x by: [.., 1]."""
    return torch.rsqrt(x.square().mean(-1, keepdim=True) + eps)


def _eps(norm: nn.RMSNorm) -> float:
    if norm.eps is None:
        raise TypeError("expected an RMSNorm with a fixed epsilon")
    return norm.eps


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
