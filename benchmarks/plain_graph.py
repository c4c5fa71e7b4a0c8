"""Counts what the published code's plain graph does, operator by operator: the facts behind the projection.

    python -m benchmarks.plain_graph

Runs the plain network of the published dimensions, in BF16, on tensors without data (torch's meta device), and notes
the operations and the bytes of every operator that a GPU would run as a kernel: each reads its inputs and writes its
outputs once, and a view is nothing. Needs no GPU, no weights and little memory. Writes
`benchmarks/suite/plain_graph.json`, from which `suite/projection.py` works.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry

from swiftvr_trt.benchmarks.suite.projection import ATTENTION
from swiftvr_trt.engines.bundle.geometry import Resolution
from swiftvr_trt.engines.bundle.manifest import PIXEL_CHANNELS
from swiftvr_trt.export.network.dit import Dit, DitConfig
from swiftvr_trt.export.network.reae import Reae, ReaeConfig

from .plain_network import PlainDecode, PlainDit, PlainEncode

OUTPUT = Path(__file__).resolve().parent / "suite" / "plain_graph.json"
SIZES = ("1280x960", "1920x1080", "2560x1408", "2560x1440", "3840x2160")
CLIP_LEN, LATENTS = 24, 6
PROMPT_ROWS = 512
PUBLISHED = DitConfig(
    heads=24,
    head_dim=128,
    layers=30,
    ffn_dim=14336,
    latent_channels=48,
    text_dim=4096,
    freq_dim=256,
    eps=1e-6,
    window=(16, 16),
)
PUBLISHED_REAE = ReaeConfig(latent_channels=48, encoder=(64, 64, 64, 64), decoder=(512, 256, 128, 64))

Kernels = Counter[tuple[str, str, int, int]]
"""How often an operator of this kind and precision, with so many operations and bytes, runs."""


class KernelCounter(TorchDispatchMode):
    """Counts the operators that run inside the block."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.kernels: Kernels = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        if not func.is_view:
            count = flop_registry.get(func.overloadpacket)
            flops = count(*args, **(kwargs or {}), out_val=out) if count else 0
            self.note(int(flops), [*tree_leaves((args, kwargs)), *tree_leaves(out)])
        return out

    def note(self, flops: int, values: list[Any], kind: str = "") -> None:
        """One kernel that reads and writes these tensors. kind: `ATTENTION`, or nothing."""
        tensors = [value for value in values if isinstance(value, Tensor)]
        if nbytes := sum(tensor.numel() * tensor.element_size() for tensor in tensors):
            wide = any(tensor.dtype == torch.float32 for tensor in tensors)
            self.kernels[kind, "Float" if wide and not flops else "BFloat16", flops, nbytes] += 1


@contextmanager
def fused_attention(counter: KernelCounter) -> Iterator[None]:
    """Attention is one kernel, as FlashAttention is: its scores are never written."""
    real = F.scaled_dot_product_attention

    def attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        batch, heads, queries, head_dim = q.shape
        out = q.new_empty(q.shape)
        counter.note(4 * batch * heads * queries * k.shape[2] * head_dim, [q, k, v, out], ATTENTION)
        return out

    F.scaled_dot_product_attention = attention  # type: ignore[assignment]
    try:
        yield
    finally:
        F.scaled_dot_product_attention = real


def count_kernels(run: Callable[[], object]) -> Kernels:
    """The kernels of a call that works on the meta device."""
    counter = KernelCounter()
    with torch.no_grad(), fused_attention(counter), counter:
        run()
    return counter.kernels


def plain_kernels(
    size: Resolution, config: DitConfig = PUBLISHED, reae: ReaeConfig = PUBLISHED_REAE
) -> dict[str, Kernels]:
    """The kernels of a MIDDLE chunk of the plain network, by stage."""
    with torch.device("meta"):
        auto, dit = Reae(reae), Dit(config)
        grid = (size.latent_height, size.latent_width)
        encode, decode = PlainEncode(auto.encoder, torch.bfloat16), PlainDecode(auto.decoder, torch.bfloat16)
        prompt = torch.empty(PROMPT_ROWS, config.text_dim)
        transform = PlainDit(dit, prompt, size, LATENTS, torch.bfloat16).to("meta")
        pixels = torch.empty(CLIP_LEN, PIXEL_CHANNELS, *size.pixel_grid, dtype=torch.bfloat16)
        latents = torch.empty(LATENTS, config.latent_channels, *grid)
        before = [state.to("meta", torch.bfloat16) for state in auto.encoder.initial_state(*grid)]
        after = [state.to("meta", torch.bfloat16) for state in auto.decoder.initial_state(*grid)]
    return {
        "encode": count_kernels(lambda: encode(pixels, *before)),
        "dit": count_kernels(lambda: transform(latents)),
        "decode": count_kernels(lambda: decode(latents, *after)),
    }


def main() -> None:
    """Write the facts."""
    builds = []
    for size in SIZES:
        kernels = plain_kernels(Resolution.parse(size))
        packed = {
            stage: [[*kernel, count] for kernel, count in sorted(found.items())] for stage, found in kernels.items()
        }
        builds.append({"size": size, "clip_len": CLIP_LEN, "kernels": packed})
    OUTPUT.write_text(json.dumps({"torch": torch.__version__, "builds": builds}, separators=(",", ":")) + "\n")


if __name__ == "__main__":
    main()
