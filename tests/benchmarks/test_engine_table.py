"""The engine table: plain forms are the published network, counts are right by hand, and a tiny checkpoint fills it."""

from __future__ import annotations

import importlib.util
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from benchmarks._forms import Form, compile_stages
from benchmarks._rows import Row, fp8_share, kernels_per_block, not_in_fp8, rows
from benchmarks.independent import Opinion, count_with_torch, read
from benchmarks.plain_form import PlainDecode, PlainDit
from swiftvr_trt.engines.bundle.geometry import Resolution
from swiftvr_trt.engines.bundle.manifest import Recipe
from swiftvr_trt.engines.bundle.targets import find_target
from swiftvr_trt.engines.compile.log import ATTENTION
from swiftvr_trt.engines.compile.report import CompiledKernel, CompiledStage
from swiftvr_trt.export.graph.stages import stages_of
from swiftvr_trt.export.network.checkpoint import load_checkpoint
from tests.engines.fakes import RECIPE, fake_stages
from tests.mini import DIT, REAE

SIZE = Resolution(64, 64)
LATENTS = 2


def test_a_row_is_confirmed_if_both_forms_are_within_the_limit() -> None:
    row = Row("", "", plain=200.0, rewritten=100.0, plain_again=201.0, again=99.0, limit=0.01)
    assert row.ratio == 0.5
    assert row.confirmed
    assert not replace(row, limit=0.0).confirmed
    assert not replace(row, plain_again=203.0).confirmed
    assert replace(row, plain=None, limit=0.02).confirmed
    assert replace(row, plain=None).ratio is None


def test_polygraphy_log_is_counted_by_words() -> None:
    log = """Total Activation Memory: 300 bytes
Total Activation Memory: 400 bytes
Name: shape_call_2, LayerType: shape_call, Inputs: []
Name: __myl_Add_myl0_0, LayerType: kgen, Inputs: []
Name: _gemm_mha_v2_myl0_1, LayerType: kgen, Inputs: []
Name: __myl_Add_myl1_0, LayerType: kgen, Inputs: []
Name: _gemm_mha_v2_myl1_1, LayerType: kgen, Inputs: []
Name: __myl_Move_myl1_2, LayerType: kgen, Inputs: []
"""
    assert read(log, 2) == [Opinion(2, 1, 300), Opinion(3, 1, 400)]
    with pytest.raises(RuntimeError, match="2 profiles and 2 graphs, expected 3"):
        read(log, 3)


class _Attention(nn.Module):
    def forward(self, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        return nn.functional.scaled_dot_product_attention(q, k, v)


def test_torch_counts_what_arithmetic_says() -> None:
    assert count_with_torch(nn.Linear(5, 7), [torch.zeros(3, 5)]) == 2 * 3 * 5 * 7
    assert count_with_torch(nn.Conv2d(2, 6, 3, padding=1), [torch.zeros(1, 2, 4, 5)]) == 2 * 6 * 20 * 2 * 9
    deconvolution = nn.ConvTranspose2d(2, 6, 4, stride=2, padding=1)
    assert count_with_torch(deconvolution, [torch.zeros(1, 2, 4, 5)]) == 2 * 2 * 20 * 6 * 16
    qkv = [torch.zeros(2, 3, 10, 16), torch.zeros(2, 3, 12, 16), torch.zeros(2, 3, 12, 16)]
    assert count_with_torch(_Attention(), qkv) == 2 * 2 * 3 * 10 * 12 * (16 + 16)


def _kernel(kind: str, precision: str, constants: str, outputs: str) -> CompiledKernel:
    return CompiledKernel("k", kind, precision, 0, 0, (), (constants,), (outputs,), ())


def _form(kernels: tuple[CompiledKernel, ...], layers: int, bare: Form | None = None) -> Form:
    sizes = {"encode": 8_000_000, "dit": 16_000_000, "dit_edge": 32_000_000, "decode": 64_000_000}
    facts = {name: CompiledStage(name, arena, 0, {"fp16": 2 * arena}, kernels) for name, arena in sizes.items()}
    specs = tuple(replace(spec, arena_bytes=1000, weight_bytes=5000) for spec in fake_stages())
    return Form(RECIPE, 4, layers, 300, facts, specs, bare=bare)


PATCH = _kernel("gemm", "Half", "Half 8x4", "Half 9x4")
UP, DOWN = _kernel("gemm", "FP8", "FP8 4x16", "Half 9x16"), _kernel("gemm", "FP8", "FP8 16x4", "Half 9x4")
VALUES, NORM = _kernel("gemm", "Half", "Half 2x4", "Half 9x4"), _kernel("norm and elementwise", "Half", "", "FP8 9x4")


def test_blocks_cost_what_is_more_than_without_them() -> None:
    form = _form((PATCH, *2 * (NORM, UP, DOWN, VALUES)), 2, _form((PATCH,), 0))
    assert kernels_per_block(form) == 4
    assert len(form.block_gemms()) == 6
    assert fp8_share(form) == pytest.approx(4 / 6)
    assert not_in_fp8(form) == "2 x Half product with Half 2x4"


def test_blocks_that_are_not_there_add_their_weights_and_nothing_else() -> None:
    form = _form((PATCH,), 2)
    here, published = form.memory(2), form.memory(30)
    assert here.weight_bytes == 3 * 5000  # encode, decode, and one file for both lengths of the transformer
    assert published.weight_bytes == 3 * 5000 + 28 * 300
    assert published.gpu_bytes - here.gpu_bytes == 28 * 300


def test_the_table_says_what_the_forms_hold() -> None:
    kernels = (PATCH, UP, _kernel(ATTENTION, "Half", "", "Half 9x4"))
    form = _form(kernels, 1, _form((PATCH,), 0))
    stages = {name: replace(stage, attentions=2) for name, stage in form.facts.items()}
    form = replace(form, facts=stages)
    plain = replace(form, frames=8, torch_flops={name: facts.total_flops for name, facts in form.facts.items()})
    table: dict[str, tuple[float | None, ...]] = {
        row.what: (row.plain, row.rewritten, row.plain_again, row.again) for row in rows(plain, form)
    }
    assert table["decoder: activations"] == (64.0, 64.0, None, None)
    assert table["encoder: operations per frame"] == (0.002, 0.004, 0.002, None)
    assert table["DiT: operations per chunk of n latents"] == (3.2e-5, 3.2e-5, 3.2e-5, None)
    assert table["DiT: kernels per block"] == (2.0, 2.0, None, None)
    assert table["DiT: attention calls fused"] == (0.5, 0.5, None, None)
    assert [row.confirmed for row in rows(plain, form)] == [True] * len(table)


def test_the_plain_transformer_is_the_published_one(mini_checkpoint: Path) -> None:
    loaded = load_checkpoint(mini_checkpoint)
    size = Resolution(620, 500)  # 20 x 16 tokens: windows that overlap
    latents = torch.randn(3, REAE.latent_channels, size.latent_height, size.latent_width)
    with torch.no_grad():
        theirs = loaded.dit(latents, loaded.prompt)
        ours = PlainDit(loaded.dit, loaded.prompt, size, 3, torch.float32)(latents)
    assert torch.allclose(ours, theirs, atol=1e-5)
    assert not torch.allclose(ours, latents, atol=1e-2)


def test_the_plain_decoder_is_the_published_one(mini_checkpoint: Path) -> None:
    decoder = load_checkpoint(mini_checkpoint).reae.decoder
    latents = torch.randn(3, REAE.latent_channels, 4, 4)
    state = decoder.initial_state(4, 4)
    with torch.no_grad():
        theirs, _ = decoder(latents, state)
        ours, *_ = PlainDecode(decoder, SIZE, torch.float32)(latents, *state)
    levels = (theirs.permute(0, 2, 3, 1) * 255).round()
    assert ours.shape == (12, 64, 64, 3)
    assert (ours.float() - levels).abs().max() <= 1


def dit_flops(latents: int) -> int:
    """Of the mini transformer with all rewrites at 64x64: 2 x 2 tokens, one window, two distinct prompt rows."""
    tokens, d, f, heads = 4 * latents, DIT.dim, DIT.ffn_dim, DIT.heads
    ends = 2 * (d * 4 * DIT.latent_channels)
    linears = 3 * d * d + d * d + d * (d + heads) + heads * d + 2 * d * f
    attention = 2 * tokens * d
    return 2 * tokens * (ends + DIT.layers * (linears + attention))


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("tensorrt_rtx") is None, reason="needs TensorRT-RTX")
def test_a_compiled_transformer_is_counted_twice_with_one_result(mini_checkpoint: Path, tmp_path: Path) -> None:
    recipe = Recipe("0" * 64, SIZE.width, SIZE.height, 4 * LATENTS, "fp16", "rtx5090")
    stages = stages_of(load_checkpoint(mini_checkpoint), recipe, joint=True)
    transformer = (stage for stage in stages if stage.name == "dit")
    form = compile_stages(transformer, recipe, 4, DIT.layers, tmp_path / "dit", find_target("rtx5090"), again=True)
    for name, latents in (("dit", LATENTS), ("dit_edge", LATENTS + 1)):
        facts, opinion = form.facts[name], form.opinions[name]
        assert facts.total_flops == form.torch_flops[name] == dit_flops(latents)
        assert opinion == Opinion(len(facts.kernels), facts.fused, facts.arena_bytes)
    assert form.specs[0].weight_bytes > DIT.layers * form.block_bytes
