"""Precisions: which number formats a stage computes in, and where.

Engines are strongly typed, so the graph decides the precision, not the compiler. No precision has the transformer's
residual stream in float16: in this model family it overflows, which shows as black frames.

    fp32    everything in float32
    bf16    products, attention and convolutions in bfloat16
    fp16    the same in float16
    fp8     linears and attention of the transformer's blocks in E4M3
    int8    the blocks' linears in INT8, attention in E4M3 on GPUs that have it
    nvfp4   the blocks' linears in NVFP4 (E2M1, a scale per 16 values), attention in E4M3

What quantised precisions leave in 16 bits is bfloat16 in the transformer, the residual stream included, and float16 in
the autoencoder, whose values are small and profit from its digits. What has no arithmetic in bfloat16 takes float16 and
a float32 stream instead: ONNX Runtime on the CPU, which has to run all graphs, and old GPUs.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace
from typing import TypeVar

import torch
from torch import Tensor, nn

from ...engines.bundle.geometry import Resolution
from ...engines.bundle.targets import multiplies_in
from ...errors import MisuseError

Module = TypeVar("Module", bound=nn.Module)


@dataclass(frozen=True)
class Precision:
    """Number formats, and forms that the compiler tells apart.

    compute: dtype of products and convolutions. stream: dtype of the transformer's residual stream; the statistics of
    its norms are float32 in any case. convolutions: dtype of the autoencoder, if it is not `compute`. None leaves the
    dtype of the weights as it is (float32 from a checkpoint, float64 in the proofs). linears, attention: how the
    blocks' products are quantised; None if they are not.

    The last two choose between equivalent forms by what the compiler makes of them (docs/engines.md). joint_inputs: q,
    k and v come from one product; the compiler merges products of one input only if they are not quantised. ffn_parts:
    number of parts in which the feed-forward part takes a chunk; its hidden state is the largest tensor.
    """

    name: str
    compute: torch.dtype | None = None
    stream: torch.dtype | None = None
    convolutions: torch.dtype | None = None
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

    def on(self, capability: str | None) -> Precision:
        """This precision on a GPU of this compute capability, e.g. `8.6`; None for graphs, which ONNX Runtime runs.

        Without FP8, attention stays in 16 bits, also in graphs of int8, which serve GPUs that lack it. ONNX Runtime has
        no arithmetic in bfloat16 on the CPU.
        """
        has_bf16 = capability is not None and multiplies_in("bf16", capability)
        found = _IN_BF16.get(self.name, self) if has_bf16 else self
        has_fp8 = multiplies_in("fp8", capability) and (capability is not None or self.linears != "int8")
        return found if has_fp8 or found.attention is None else replace(found, attention=None)

    def at(self, size: Resolution) -> Precision:
        """This precision for an output size: quantised ones take the feed-forward part of large pictures in two parts.

        One part saves kernels and 0.4 % of the time, but takes memory: 83 MB at 1920x1080, and four times as much at
        3840x2160 (docs/engines.md).
        """
        large = size.padded_width * size.padded_height > _ONE_PART_PIXELS
        return replace(self, ffn_parts=2) if self.quantised and large else self

    def exact(self) -> Precision:
        """The same form, in the dtype of the weights."""
        return replace(self, compute=None, stream=None, convolutions=None)

    @property
    def quantised(self) -> bool:
        return self.linears is not None

    @property
    def autoencoder(self) -> Precision:
        """That of the autoencoder, which has no stream."""
        return self if self.convolutions is None else replace(self, compute=self.convolutions, convolutions=None)

    def narrow(self, x: Tensor) -> Tensor:
        """To the dtype of products."""
        return x if self.compute is None else x.to(self.compute)

    def carry(self, x: Tensor) -> Tensor:
        """To the dtype of the residual stream."""
        return x if self.stream is None else x.to(self.stream)

    def widen(self, x: Tensor) -> Tensor:
        """To the dtype of statistics and latents."""
        return x if self.compute is None else x.float()

    def converted(self, module: Module) -> Module:
        """The module, or a copy whose parameters have the dtype of products."""
        return module if self.compute is None else copy.deepcopy(module).to(self.compute)


_ONE_PART_PIXELS = 1920 * 1088
FP32 = Precision("fp32")
_BF16, _FP16, _WIDE = torch.bfloat16, torch.float16, torch.float32
_FP8 = Precision("fp8", _FP16, _WIDE, linears="fp8", attention="fp8", joint_inputs=True, ffn_parts=2)
_INT8 = replace(_FP8, name="int8", linears="int8")
_NVFP4 = replace(_FP8, name="nvfp4", linears="nvfp4")
_ALL = (FP32, Precision("bf16", _BF16, _WIDE), Precision("fp16", _FP16, _WIDE), _FP8, _INT8, _NVFP4)
_IN_BF16 = {
    "fp8": replace(_FP8, compute=_BF16, stream=_BF16, convolutions=_FP16, ffn_parts=1),
    "int8": replace(_INT8, compute=_BF16, stream=_BF16, convolutions=_FP16, ffn_parts=1),
    "nvfp4": replace(_NVFP4, compute=_BF16, stream=_BF16, convolutions=_FP16),
}
