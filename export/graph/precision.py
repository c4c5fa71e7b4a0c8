"""Precisions: which number formats a stage computes in, and where.

Engines are strongly typed, so the graph decides the precision, not the compiler. Every precision keeps the
transformer's residual stream and norms in float32. In float16 the stream of this model family overflows, which shows as
black frames; in float32 it costs no extra kernel, because the additions fuse with the norms that follow.

    fp32    everything in float32
    bf16    products, attention and convolutions in bfloat16
    fp16    the same in float16
    fp8     linears and attention of the transformer's blocks in E4M3, everything else as fp16
    nvfp4   the blocks' linears in NVFP4 (E2M1, a scale per 16 values), attention in E4M3, everything else as fp16
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor, nn

from ...errors import MisuseError

Module = TypeVar("Module", bound=nn.Module)


@dataclass(frozen=True)
class Precision:
    """compute: dtype of products and convolutions. stream: dtype of the residual stream and the norms. None leaves the
    dtype of the weights as it is (float32 from a checkpoint, float64 in the proofs). linears, attention: how the
    blocks' products are quantised; None if they are not.

    The last two choose between equivalent forms by what the compiler makes of them (docs/engines.md). joint_inputs: q,
    k and v come from one product; the compiler merges products of one input only if they are not quantised. ffn_parts:
    number of parts in which the feed-forward part takes a chunk; its hidden state is the largest tensor.
    """

    name: str
    compute: torch.dtype | None = None
    stream: torch.dtype | None = None
    linears: str | None = None
    attention: str | None = None
    joint_inputs: bool = False
    ffn_parts: int = 1

    @classmethod
    def named(cls, name: str) -> Precision:
        """Raises `MisuseError` for an unknown name."""
        for candidate in _ALL:
            if candidate.name == name:
                return candidate
        raise MisuseError(f"precision {name!r} is not known, expected one of {', '.join(p.name for p in _ALL)}")

    @property
    def quantised(self) -> bool:
        return self.linears is not None

    def narrow(self, x: Tensor) -> Tensor:
        """To the dtype of products."""
        return x if self.compute is None else x.to(self.compute)

    def widen(self, x: Tensor) -> Tensor:
        """To the dtype of the residual stream."""
        return x if self.stream is None else x.to(self.stream)

    def converted(self, module: Module) -> Module:
        """The module, or a copy whose parameters have the dtype of products."""
        return module if self.compute is None else copy.deepcopy(module).to(self.compute)


FP32 = Precision("fp32")
_ALL = (
    FP32,
    Precision("bf16", torch.bfloat16, torch.float32),
    Precision("fp16", torch.float16, torch.float32),
    Precision("fp8", torch.float16, torch.float32, linears="fp8", attention="fp8", joint_inputs=True, ffn_parts=2),
    Precision("nvfp4", torch.float16, torch.float32, linears="nvfp4", attention="fp8", joint_inputs=True, ffn_parts=2),
)
