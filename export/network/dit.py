"""The video transformer (DiT) in plain torch: one pass over the latents of a chunk.

    latents  float32 [T, channels, h, w], T latents of one chunk, h and w even
    result   float32, same shape: `z_hq = z_lq - v`

A token is a 2x2 patch of one latent, or 32x32 pixels. Hidden states are [T, rows * columns, dim]. Time comes first, so
that windows and their owners are gathers along the second axis only.

This is the readable reference: it computes what the checkpoint says, and folds nothing. `graph/dit_stage.py` is the
form that is exported. Source: the published SwiftVR code (arXiv 2606.09516); attributes have the names of the published
checkpoint.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .windows import plan_windows

TIMESTEP = 1000.0
ROPE_THETA = 10000.0


@dataclass(frozen=True)
class DitConfig:
    """Sizes of one member of the family. window: rows, columns in tokens. patch: side of a token in latent pixels."""

    heads: int
    head_dim: int
    layers: int
    ffn_dim: int
    latent_channels: int
    text_dim: int
    freq_dim: int
    eps: float
    window: tuple[int, int]
    patch: int = 2

    @property
    def dim(self) -> int:
        return self.heads * self.head_dim


class Attention(nn.Module):
    """q, k, v and output projections, and RMSNorms of q and k over the whole dim, before the split into heads."""

    def __init__(self, config: DitConfig) -> None:
        super().__init__()
        self.heads = config.heads
        self.to_q = nn.Linear(config.dim, config.dim)
        self.to_k = nn.Linear(config.dim, config.dim)
        self.to_v = nn.Linear(config.dim, config.dim)
        self.to_out = nn.ModuleList([nn.Linear(config.dim, config.dim)])
        self.norm_q = nn.RMSNorm(config.dim, config.eps)
        self.norm_k = nn.RMSNorm(config.dim, config.eps)

    def split(self, x: Tensor) -> Tensor:
        """[..., dim] -> [..., heads, head_dim]."""
        return x.reshape(*x.shape[:-1], self.heads, x.shape[-1] // self.heads)

    def keys_and_values(self, prompt: Tensor) -> tuple[Tensor, Tensor]:
        """prompt [L, dim] -> keys and values [1, heads, L, head_dim]."""
        k = self.split(self.norm_k(self.to_k(prompt)))
        v = self.split(self.to_v(prompt))
        return k.transpose(0, 1)[None], v.transpose(0, 1)[None]

    def cross(self, x: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        """x [T, S, dim] attends to the prompt's keys and values: [T, S, dim]."""
        q = self.split(self.norm_q(self.to_q(x.flatten(0, 1)))).transpose(0, 1)[None]
        mixed = F.scaled_dot_product_attention(q, keys, values)[0]
        y: Tensor = self.to_out[0](mixed.transpose(0, 1).flatten(1))
        return y.view_as(x)

    def windowed(self, x: Tensor, rope: tuple[Tensor, Tensor], gather: Tensor, owner: Tensor) -> Tensor:
        """x [T, S, dim] attends to itself inside windows: [T, S, dim].

        rope: cosines and sines, each [T, S, 1, head_dim / 2]. gather [windows, tokens], owner [S]: see `WindowPlan`.
        """
        q = rotate(self.split(self.norm_q(self.to_q(x))), rope)
        k = rotate(self.split(self.norm_k(self.to_k(x))), rope)
        v = self.split(self.to_v(x))
        q, k, v = (into_windows(part, gather) for part in (q, k, v))
        mixed = F.scaled_dot_product_attention(q, k, v)
        y: Tensor = self.to_out[0](out_of_windows(mixed, x.shape[0], owner))
        return y


class _Gelu(nn.Module):
    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        self.proj = nn.Linear(before, after)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = F.gelu(self.proj(x), approximate="tanh")
        return y


class FeedForward(nn.Module):
    """Two linears with GELU(tanh) between them, numbered as in the checkpoint."""

    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        self.net = nn.ModuleList([_Gelu(dim, hidden), nn.Identity(), nn.Linear(hidden, dim)])

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.net:
            x = layer(x)
        return x

    def linears(self) -> tuple[nn.Module, nn.Module]:
        """The two linears, in order."""
        return self.net[0].get_submodule("proj"), self.net[2]


class Block(nn.Module):
    """Windowed self-attention, cross-attention to the prompt, feed-forward; first and last are modulated and gated."""

    def __init__(self, config: DitConfig) -> None:
        super().__init__()
        self.eps = config.eps
        self.scale_shift_table = nn.Parameter(torch.empty(1, 6, config.dim))
        self.attn1 = Attention(config)
        self.norm2 = nn.LayerNorm(config.dim, config.eps)
        self.attn2 = Attention(config)
        self.ffn = FeedForward(config.dim, config.ffn_dim)

    def modulation(self, time: Tensor) -> tuple[Tensor, ...]:
        """time [6, dim] -> shift, scale and gate of the attention, then of the feed-forward, each [dim]."""
        return (self.scale_shift_table[0] + time).unbind(0)

    def forward(
        self,
        x: Tensor,
        time: Tensor,
        prompt: Tensor,
        rope: tuple[Tensor, Tensor],
        gather: Tensor,
        owner: Tensor,
    ) -> Tensor:
        """x [T, S, dim] -> [T, S, dim]. time [6, dim], prompt [L, dim]; the rest as for `Attention.windowed`."""
        shift, scale, gate, ffn_shift, ffn_scale, ffn_gate = self.modulation(time)
        normed = self.normalise(x) * (1 + scale) + shift
        x = x + self.attn1.windowed(normed, rope, gather, owner) * gate
        x = x + self.attn2.cross(self.norm2(x), *self.attn2.keys_and_values(prompt))
        normed = self.normalise(x) * (1 + ffn_scale) + ffn_shift
        out: Tensor = x + self.ffn(normed) * ffn_gate
        return out

    def normalise(self, x: Tensor) -> Tensor:
        return F.layer_norm(x, (x.shape[-1],), eps=self.eps)


class _Embedder(nn.Module):
    def __init__(self, before: int, dim: int) -> None:
        super().__init__()
        self.linear_1 = nn.Linear(before, dim)
        self.linear_2 = nn.Linear(dim, dim)


class ConditionEmbedder(nn.Module):
    """Embeds the timestep and the prompt. Both are constant, so none of this depends on a frame."""

    def __init__(self, config: DitConfig) -> None:
        super().__init__()
        self.freq_dim = config.freq_dim
        self.time_embedder = _Embedder(config.freq_dim, config.dim)
        self.time_proj = nn.Linear(config.dim, 6 * config.dim)
        self.text_embedder = _Embedder(config.text_dim, config.dim)

    def time(self) -> tuple[Tensor, Tensor]:
        """temb [dim], added to the final norm's table, and its projection [6, dim], added to every block's table."""
        weight = self.time_embedder.linear_1.weight
        hidden = F.silu(self.time_embedder.linear_1(sinusoids(TIMESTEP, self.freq_dim).to(weight)))
        temb = self.time_embedder.linear_2(hidden)
        return temb, self.time_proj(F.silu(temb)).view(6, -1)

    def text(self, prompt: Tensor) -> Tensor:
        """prompt [L, text_dim] -> [L, dim]."""
        hidden = F.gelu(self.text_embedder.linear_1(prompt), approximate="tanh")
        y: Tensor = self.text_embedder.linear_2(hidden)
        return y


class Dit(nn.Module):
    """The transformer, with the attributes of the published checkpoint."""

    def __init__(self, config: DitConfig) -> None:
        super().__init__()
        self.config = config
        size = config.patch
        self.patch_embedding = nn.Conv3d(config.latent_channels, config.dim, (1, size, size), (1, size, size))
        self.condition_embedder = ConditionEmbedder(config)
        self.blocks = nn.ModuleList([Block(config) for _ in range(config.layers)])
        self.proj_out = nn.Linear(config.dim, config.latent_channels * size * size)
        self.scale_shift_table = nn.Parameter(torch.empty(1, 2, config.dim))

    def forward(self, latents: Tensor, prompt: Tensor) -> Tensor:
        """latents [T, C, h, w], prompt [L, text_dim] -> restored latents [T, C, h, w]."""
        temb, time = self.condition_embedder.time()
        text = self.condition_embedder.text(prompt)
        x = embed(latents, self.patch_embedding)
        rows, columns = latents.shape[2] // self.config.patch, latents.shape[3] // self.config.patch
        rope = tuple(table.to(x) for table in rope_tables(self.config.head_dim, latents.shape[0], rows, columns))
        for layer, stored in enumerate(self.blocks):
            block = widened(stored)
            plan = plan_windows(rows, columns, self.config.window, layer=layer)
            x = block(x, time, text, rope, torch.from_numpy(plan.gather), torch.from_numpy(plan.owner))
        shift, scale = (self.scale_shift_table[0] + temb).unbind(0)
        x = F.layer_norm(x, (x.shape[-1],), eps=self.config.eps) * (1 + scale) + shift
        return latents - unpatch(self.proj_out(x), latents, self.config.patch)


def without_blocks(dit: Dit) -> Dit:
    """The same transformer without its blocks; tensors are shared."""
    bare = copy.copy(dit)
    bare._modules = {**dit._modules, "blocks": nn.ModuleList()}
    return bare


def widened(block: nn.Module) -> Block:
    """The block in float32 or wider: itself, or a copy if it is stored in 16 bits.

    Keep one copy at a time: 5 B parameters fit in 16 GB of memory only as they are stored. Raises `TypeError` for any
    other module.
    """
    if not isinstance(block, Block):
        raise TypeError(f"expected a transformer block, got {type(block).__name__}")
    stored = next(block.parameters()).dtype
    return block if stored in (torch.float32, torch.float64) else copy.deepcopy(block).float()


def embed(latents: Tensor, convolution: nn.Conv3d) -> Tensor:
    """Latents [T, C, h, w] -> tokens [T, S, dim] in row-major order. Patches do not overlap."""
    weight, stride = convolution.weight[:, :, 0], convolution.stride[1:]
    return F.conv2d(latents, weight, convolution.bias, stride=stride).flatten(2).transpose(1, 2)


def unpatch(x: Tensor, latents: Tensor, patch: int) -> Tensor:
    """Tokens [T, S, patch * patch * C] -> [T, C, h, w], the shape of `latents`."""
    frames, channels, height, width = latents.shape
    x = x.view(frames, height // patch, width // patch, patch, patch, channels)
    return x.permute(0, 5, 1, 3, 2, 4).flatten(4, 5).flatten(2, 3)


def sinusoids(timestep: float, size: int) -> Tensor:
    """The timestep's embedding, float64 [size]: cosines, then sines, of frequencies 10000^(-i / (size / 2))."""
    half = size // 2
    angle = timestep * 10000.0 ** (-np.arange(half) / half)
    return torch.from_numpy(np.concatenate([np.cos(angle), np.sin(angle)]))


def rope_tables(head_dim: int, latents: int, rows: int, columns: int) -> tuple[Tensor, Tensor]:
    """Cosines and sines, each float64 [latents, rows * columns, 1, head_dim / 2], for interleaved pairs.

    A head's pairs are split into a time, a row and a column part. Positions start at 0 in every chunk, because
    attention depends on differences of positions only (docs/rewrites.md, rewrite 1).
    """
    spatial = 2 * (head_dim // 6)
    parts = (head_dim - 2 * spatial, spatial, spatial)
    shape = (latents, rows, columns)
    angles = []
    for axis, (size, length) in enumerate(zip(parts, shape, strict=True)):
        frequency = ROPE_THETA ** (-np.arange(0, size, 2) / size)
        angle = np.outer(np.arange(length), frequency)
        view = [1, 1, 1, angle.shape[1]]
        view[axis] = length
        angles.append(np.broadcast_to(angle.reshape(view), (*shape, angle.shape[1])))
    table = np.concatenate(angles, axis=-1).reshape(latents, rows * columns, 1, head_dim // 2)
    return torch.from_numpy(np.cos(table)), torch.from_numpy(np.sin(table))


def rotate(x: Tensor, rope: tuple[Tensor, Tensor]) -> Tensor:
    """Rotate the interleaved pairs of x [T, S, heads, head_dim]. rope: as from `rope_tables`."""
    cos, sin = rope
    even, odd = x[..., 0::2], x[..., 1::2]
    return torch.stack([even * cos - odd * sin, even * sin + odd * cos], dim=-1).flatten(-2)


def into_windows(x: Tensor, gather: Tensor) -> Tensor:
    """[T, S, heads, head_dim] -> [windows, heads, T * tokens, head_dim]."""
    windows, tokens = gather.shape
    latents, _, heads, head_dim = x.shape
    x = x.index_select(1, gather.flatten()).view(latents, windows, tokens, heads, head_dim)
    return x.permute(1, 3, 0, 2, 4).flatten(2, 3)


def out_of_windows(x: Tensor, latents: int, owner: Tensor) -> Tensor:
    """[windows, heads, T * tokens, head_dim] -> [T, S, dim], each token from the window that owns it."""
    windows, heads, length, head_dim = x.shape
    x = x.view(windows, heads, latents, length // latents, head_dim).permute(2, 0, 3, 1, 4)
    return x.flatten(3).flatten(1, 2).index_select(1, owner)
