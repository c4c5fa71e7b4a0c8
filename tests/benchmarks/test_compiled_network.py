"""A compiled network: memory for more blocks than it has, and counts that agree with a recount."""

from __future__ import annotations

import importlib.util
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.compiled_network import CompiledNetwork, Setup, compile_stages
from benchmarks.recount import Recount
from swiftvr_trt.engines.bundle.geometry import Resolution
from swiftvr_trt.engines.bundle.manifest import Recipe
from swiftvr_trt.engines.bundle.targets import find_target
from swiftvr_trt.engines.compile.report import CompiledStage
from swiftvr_trt.export.graph.stages import stages_of
from swiftvr_trt.export.network.checkpoint import load_checkpoint
from tests.engines.fakes import RECIPE, fake_stages
from tests.mini import DIT

SIZE = Resolution(64, 64)
LATENTS = 2


def test_further_blocks_add_their_weights_and_nothing_else() -> None:
    stages = {name: CompiledStage(name, 1000, 0, {}, ()) for name in ("encode", "dit", "dit_edge", "decode")}
    specs = tuple(replace(spec, arena_bytes=1000, weight_bytes=5000) for spec in fake_stages() if spec.name in stages)
    network = CompiledNetwork(RECIPE, 4, 2, 300, stages, specs)
    here, published = network.memory(2), network.memory(30)
    assert here.weight_bytes == 3 * 5000  # encode, decode, and one file for both lengths of the transformer
    assert published.weight_bytes == 3 * 5000 + 28 * 300
    assert published.gpu_bytes - here.gpu_bytes == 28 * 300


def dit_flops(latents: int) -> int:
    """Of the mini transformer with all rewrites at 64x64: 2 x 2 tokens, one window, two distinct prompt rows."""
    tokens, d, f, heads = 4 * latents, DIT.dim, DIT.ffn_dim, DIT.heads
    ends = 2 * (d * 4 * DIT.latent_channels)
    linears = 3 * d * d + d * d + d * (d + heads) + heads * d + 2 * d * f
    attention = 2 * tokens * d
    return 2 * tokens * (ends + DIT.layers * (linears + attention))


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("tensorrt_rtx") is None, reason="needs TensorRT-RTX")
def test_the_recount_of_a_compiled_transformer_agrees(mini_checkpoint: Path, tmp_path: Path) -> None:
    recipe = Recipe("0" * 64, SIZE.width, SIZE.height, 4 * LATENTS, "fp16", "rtx5090")
    stages = stages_of(load_checkpoint(mini_checkpoint), recipe, joint=True)
    transformer = (stage for stage in stages if stage.name == "dit")
    setup = Setup(recipe, find_target("rtx5090"), recount=True)
    network = compile_stages(transformer, setup, tmp_path / "dit", 4, DIT.layers)
    for name, latents in (("dit", LATENTS), ("dit_edge", LATENTS + 1)):
        stage, recount = network.stages[name], network.recounts[name]
        assert stage.total_flops == network.torch_flops[name] == dit_flops(latents)
        assert recount == Recount(len(stage.kernels), stage.fused, stage.arena_bytes)
    assert network.specs[0].weight_bytes > DIT.layers * network.block_bytes
