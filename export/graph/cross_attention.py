"""Cross-attention to the constant prompt, as exported: keys and values are constants, or folded into weights."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..network.dit import Attention, Block
from .conditioning import Conditioning, modulated
from .layers import LayerFactory, fixed_eps, rms_factor
from .rewrites import Affine, Rewrites, prompt_logits, value_differences


def cross_attention(block: Block, conditioning: Conditioning, rewrites: Rewrites, factory: LayerFactory) -> nn.Module:
    """The cheapest form that `rewrites` allows. Its input [T, S, dim] is normed without the affine part of `norm2`."""
    attention = block.attn2
    query = Affine.of(attention.to_q)
    scale, query = modulated(query, block.norm2.weight - 1, block.norm2.bias, fold=rewrites.modulation)
    text, weight = conditioning.text, conditioning.weight
    if weight is None or len(weight) == 1:
        return nn.Sequential(scale, PlainCross(attention, query, text, factory))
    return nn.Sequential(scale, PromptCross(attention, query, text, weight, factory, direct=rewrites.logits))


class PlainCross(nn.Module):
    """Cross-attention with constant keys and values, one of each per prompt row: [T, S, dim] -> [T, S, dim]."""

    def __init__(self, attention: Attention, query: Affine, text: Tensor, factory: LayerFactory) -> None:
        super().__init__()
        self.heads, self.precision, self.norm = attention.heads, factory.precision, attention.norm_q
        self.query = factory.linear(query, "query")
        self.out = factory.linear(Affine.of(attention.to_out[0]), "out")
        keys, values = attention.keys_and_values(text)
        self.keys = nn.Buffer(factory.precision.narrow(keys))
        self.values = nn.Buffer(factory.precision.narrow(values))

    def forward(self, x: Tensor) -> Tensor:
        q = self.precision.narrow(self.norm(self.precision.widen(self.query(x.flatten(0, 1)))))
        q = q.view(1, -1, self.heads, q.shape[-1] // self.heads).transpose(1, 2)
        mixed = F.scaled_dot_product_attention(q, self.keys, self.values)
        out: Tensor = self.out(mixed[0].transpose(0, 1).flatten(1)).view_as(x)
        return out


class PromptCross(nn.Module):
    """Cross-attention to few distinct prompt rows: projected values (rewrite 4), differences of logits (rewrite 12).

    If `direct`, one product gives both q and the logits, and only the mean square of q is used (rewrite 10).
    [T, S, dim] -> [T, S, dim].
    """

    def __init__(
        self,
        attention: Attention,
        query: Affine,
        text: Tensor,
        weight: Tensor,
        factory: LayerFactory,
        *,
        direct: bool,
    ) -> None:
        """text, weight: see `Conditioning`."""
        super().__init__()
        keys, values = (part[0] for part in attention.keys_and_values(text))
        self.heads, self.differences = keys.shape[0], keys.shape[1] - 1
        self.dim, self.eps, self.precision = query.weight.shape[0], fixed_eps(attention.norm_q), factory.precision
        keys, self.weight = keys[:, :-1] - keys[:, -1:], nn.Buffer(weight[:-1] - weight[-1])
        self.values = factory.plain(value_differences(values, Affine.of(attention.to_out[0])))
        self.norm = None if direct else attention.norm_q
        if direct:
            self.query = factory.linear(query.concat(prompt_logits(query, attention.norm_q.weight, keys)), "query")
        else:
            self.query = factory.linear(query, "query")
            self.keys = nn.Buffer(keys.transpose(1, 2) * keys.shape[2] ** -0.5)

    def forward(self, x: Tensor) -> Tensor:
        logits = self.logits(self.query(x)).unflatten(-1, (self.heads, self.differences)) + self.weight
        if self.differences == 1:
            weights = torch.sigmoid(logits)
        else:
            weights = torch.softmax(F.pad(logits, (0, 1)), dim=-1)[..., :-1]
        out: Tensor = self.values(self.precision.narrow(weights.flatten(-2)))
        return out

    def logits(self, query: Tensor) -> Tensor:
        """How much each prompt row's logit exceeds that of the last row: [T, S, heads * differences]."""
        wide = self.precision.widen
        if self.norm is None:
            q, logits = query.split([self.dim, self.heads * self.differences], dim=-1)
            return wide(logits) * rms_factor(wide(q), self.eps)
        normed: Tensor = self.norm(wide(query))
        return torch.matmul(normed.unflatten(-1, (self.heads, 1, -1)), self.keys).flatten(-3)
