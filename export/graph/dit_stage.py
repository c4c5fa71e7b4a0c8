"""The transformer, as exported: constants computed, rewrites applied, for one chunk length and one token grid.

`network/dit.py` says what is computed, this says how. Parts of a block have two or three equivalent forms; `Rewrites`
chooses between them, so that any rewrite can be switched off to settle a doubt.
"""

from __future__ import annotations

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...engines.bundle.geometry import Resolution
from ..network.dit import Block, Dit, embed, rope_tables, unpatch, widened
from .conditioning import Conditioning, condition, gated, modulated
from .cross_attention import cross_attention
from .layers import FLOAT32, LayerFactory
from .rewrites import Affine, Rewrites
from .self_attention import Rope, SelfAttention, Take, Windows, inverse, plan_layers


class DitStage(nn.Module):
    """Latents [T, C, h, w] -> restored latents [T, C, h, w]."""

    @torch.no_grad()
    def __init__(
        self,
        dit: Dit,
        prompt: Tensor,
        size: Resolution,
        latents: int,
        rewrites: Rewrites,
        factory: LayerFactory = FLOAT32,
    ) -> None:
        """prompt: [L, text_dim]. latents: the largest T; fewer may be given. factory: decides the number formats."""
        super().__init__()
        self.patch, self.eps, self.precision = dit.config.patch, dit.config.eps, factory.precision
        self.patch_embedding = factory.precision.converted(dit.patch_embedding)
        rows, columns = size.token_rows, size.token_columns
        conditioning = condition(dit, prompt, rewrites)
        # All even layers have the same windows, and so have all odd ones: two plans serve any depth.
        plans, order = plan_layers(dit.config, rows, columns, rewrites)
        self.order = Take(order)
        self.back = Take(inverse(order))
        rope = rope_tables(dit.config.head_dim, latents, rows, columns)
        tables = [self.order(table.to(prompt.dtype)) for table in rope]
        self.windows = nn.ModuleList([Windows(plan) for plan in plans])
        self.rope = Rope(*map(factory.precision.narrow, tables), split=rewrites.halves)
        self.ffn_cuts = cut_chunk(latents, factory.precision.ffn_parts)
        self.blocks = nn.ModuleList(
            BlockStage(widened(block), conditioning, rewrites, factory.inside(f"blocks.{layer}"))
            for layer, block in enumerate(dit.blocks)
        )
        shift, scale = conditioning.final
        self.before_out, project = modulated(Affine.of(dit.proj_out), scale, shift, fold=rewrites.modulation)
        self.project = factory.plain(project)

    def forward(self, latents: Tensor) -> Tensor:
        x = self.embedded(latents)
        for layer, block in enumerate(self.blocks):
            x = self.through(block, layer, x)
        return self.restored(x, latents)

    def restored(self, x: Tensor, latents: Tensor) -> Tensor:
        """The residual stream after the last block and the latents that it began with -> restored latents."""
        x = self.precision.narrow(self.before_out(F.layer_norm(x, (x.shape[-1],), eps=self.eps)))
        velocity = unpatch(self.back(self.project(x)), latents, self.patch)
        return latents - velocity.to(latents.dtype)

    def embedded(self, latents: Tensor) -> Tensor:
        """Latents [T, C, h, w] -> the residual stream before the first block, in stored order: [T, S, dim]."""
        tokens = embed(self.precision.narrow(latents), self.patch_embedding)
        x: Tensor = self.order(self.precision.carry(tokens))
        return x

    def through(self, block: nn.Module, layer: int, x: Tensor) -> Tensor:
        """The residual stream after block number `layer`: [T, S, dim]."""
        out: Tensor = block(x, self.rope, self.windows[layer % 2], self.ffn_cuts)
        return out


def cut_chunk(latents: int, parts: int) -> tuple[int, ...]:
    """Where to cut a chunk of `latents` latents, or one less, into `parts` equal parts.

    Empty if the last part could have a single latent: its length varies, and the tracer would treat a length of one as
    a constant.
    """
    cuts = tuple(latents * k // parts for k in range(1, parts))
    return cuts if cuts and latents - 1 - cuts[-1] > 1 else ()


class BlockStage(nn.Module):
    """One block with constant modulation and a constant prompt."""

    def __init__(self, block: Block, conditioning: Conditioning, rewrites: Rewrites, factory: LayerFactory) -> None:
        super().__init__()
        self.eps, self.precision = block.eps, factory.precision
        shift, scale, gate, ffn_shift, ffn_scale, ffn_gate = block.modulation(conditioning.time)
        self.attention = SelfAttention(block.attn1, (shift, scale, gate), rewrites, factory.inside("attention"))
        self.cross = cross_attention(block, conditioning, rewrites, factory.inside("cross"))
        first, last = (Affine.of(linear) for linear in block.ffn.linears())
        self.before_ffn, first = modulated(first, ffn_scale, ffn_shift, fold=rewrites.modulation)
        self.after_ffn, last = gated(last, ffn_gate, fold=rewrites.modulation)
        self.up, self.down = factory.linear(first, "up"), factory.linear(last, "down")

    def forward(self, x: Tensor, rope: Rope, windows: Windows, ffn_cuts: tuple[int, ...]) -> Tensor:
        """x [T, S, dim] -> [T, S, dim]. ffn_cuts: latents at which the feed-forward part is cut into calls."""
        x = x + self.precision.carry(self.attention(self.normalise(x), rope, windows))
        x = x + self.precision.carry(self.cross(self.normalise(x)))
        parts = [self.feed_forward(x[start:stop]) for start, stop in pairwise((0, *ffn_cuts, None))]
        return torch.cat(parts) if len(parts) > 1 else parts[0]

    def feed_forward(self, x: Tensor) -> Tensor:
        hidden = F.gelu(self.up(self.before_ffn(self.normalise(x))), approximate="tanh")
        return x + self.precision.carry(self.after_ffn(self.down(hidden)))

    def normalise(self, x: Tensor) -> Tensor:
        return self.precision.narrow(F.layer_norm(x, (x.shape[-1],), eps=self.eps))
