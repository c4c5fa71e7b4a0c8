"""Lower precisions: where the graph is wide and where it is narrow, and what that costs."""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto
from torch import Tensor

from swiftvr_trt import Bundle, MisuseError, Resolution
from swiftvr_trt.engines.bundle.manifest import Recipe
from swiftvr_trt.engines.bundle.targets import PRECISIONS, QUANTISED
from swiftvr_trt.export.graph.calibration import CALIBRATION_FILE, calibrate
from swiftvr_trt.export.graph.dit_stage import DitStage
from swiftvr_trt.export.graph.layers import LayerFactory
from swiftvr_trt.export.graph.precision import Precision
from swiftvr_trt.export.graph.rewrites import ALL
from swiftvr_trt.export.network.checkpoint import Checkpoint, load_checkpoint
from swiftvr_trt.export.network.dit import Block, Dit
from swiftvr_trt.export.verify import synthetic_frame, verify_bundle
from swiftvr_trt.export.write import write_bundle

SIZE = Resolution(45, 37)
FRAMES = [synthetic_frame(index, 40, 60) for index in range(6)]


@pytest.fixture(autouse=True)
def _no_grad() -> Iterator[None]:
    with torch.no_grad():
        yield


@pytest.fixture(scope="module")
def checkpoint(mini_checkpoint: Path) -> Checkpoint:
    return load_checkpoint(mini_checkpoint)


@pytest.fixture(scope="module", params=["fp16", "fp8"])
def bundle(request: pytest.FixtureRequest, checkpoint: Checkpoint, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    recipe = Recipe("a" * 64, SIZE.width, SIZE.height, 4, request.param, "onnx")
    scales = calibrate(checkpoint, recipe, FRAMES, "a test picture") if request.param == "fp8" else None
    path = tmp_path_factory.mktemp(request.param) / "bundle"
    return write_bundle(checkpoint, recipe, path, calibration=scales)


def test_a_bundle_is_close_to_the_float32_network(bundle: Bundle, checkpoint: Checkpoint) -> None:
    rows = list(verify_bundle(bundle, checkpoint, "a" * 64))
    assert {row.subject.split(",")[0] for row in rows} == {"encode", "dit", "dit_edge", "decode", "whole loop"}
    assert all(row.passed for row in rows), rows


def test_scales_are_kept_in_the_bundle(bundle: Bundle) -> None:
    assert (bundle.path / CALIBRATION_FILE).exists() == (bundle.manifest.recipe.precision == "fp8")


def test_the_stream_and_the_norms_are_wide_and_products_narrow(bundle: Bundle) -> None:
    graph = onnx.shape_inference.infer_shapes(onnx.load(bundle.path / "dit.onnx", load_external_data=False)).graph
    types = {value.name: value.type.tensor_type.elem_type for value in (*graph.value_info, *graph.input)}
    types |= {tensor.name: tensor.data_type for tensor in graph.initializer}
    norms = [node for node in graph.node if node.op_type == "LayerNormalization"]
    assert norms
    assert {types[node.input[0]] for node in norms} == {TensorProto.FLOAT}
    products = [node for node in graph.node if node.op_type in ("MatMul", "Gemm")]
    assert {types[name] for node in products for name in node.input[:2]} == {TensorProto.FLOAT16}
    states = [t.dtype for t in bundle.manifest.stage("decode").inputs[1:]]
    assert set(states) == {"float16"}


def test_linears_and_attention_are_quantised_in_the_form_that_fuses(bundle: Bundle) -> None:
    """Per block qkv, out, query, up and down; per attention q, k, the softmax and v."""
    graph = onnx.load(bundle.path / "dit.onnx", load_external_data=False).graph
    operators = Counter(node.op_type for node in graph.node)
    quantised = bundle.manifest.recipe.precision == "fp8"
    blocks, calls = 2, 2
    assert operators["QuantizeLinear"] == (blocks * 5 + calls * 4 if quantised else 0)
    assert operators["DequantizeLinear"] == (blocks * 5 * 2 + calls * 4 if quantised else 0)
    assert operators["Softmax" if quantised else "Attention"] == calls
    stored = Counter(tensor.data_type for tensor in graph.initializer)
    assert stored[TensorProto.FLOAT8E4M3FN] == (blocks * 5 if quantised else 0)


def signal_to_noise(ours: Tensor, theirs: Tensor) -> float:
    noise = (ours.double() - theirs.double()).square().sum()
    return float(10 * torch.log10(theirs.double().square().sum() / noise))


def test_fp16_is_no_worse_than_a_plain_cast(checkpoint: Checkpoint) -> None:
    latents = torch.randn(2, 12, SIZE.latent_height, SIZE.latent_width, generator=torch.Generator().manual_seed(1))
    wide = checkpoint.dit(latents, checkpoint.prompt)
    dit = copy.deepcopy(checkpoint.dit)  # a stage may share tensors with it, and the cast happens in place
    cast = DitStage(dit, checkpoint.prompt, SIZE, 2, ALL.without(ALL.names())).half()
    plain = cast(latents.half())
    ours = DitStage(checkpoint.dit, checkpoint.prompt, SIZE, 2, ALL, LayerFactory(Precision.named("fp16")))(latents)
    assert signal_to_noise(ours, wide) >= signal_to_noise(plain, wide)


def test_a_stream_beyond_the_range_of_float16_stays_finite(checkpoint: Checkpoint) -> None:
    """What makes published models of this family show black frames when they are cast."""
    dit: Dit = copy.deepcopy(checkpoint.dit)
    assert dit.patch_embedding.bias is not None
    dit.patch_embedding.bias.fill_(0.0)
    for block in dit.blocks:
        last = cast("Block", block).ffn.linears()[1]
        assert isinstance(last, torch.nn.Linear)
        last.bias[0] = 6e4
    latents = torch.randn(1, 12, SIZE.latent_height, SIZE.latent_width, generator=torch.Generator().manual_seed(1))
    wide = dit(latents, checkpoint.prompt)
    ours = DitStage(dit, checkpoint.prompt, SIZE, 1, ALL, LayerFactory(Precision.named("fp16")))(latents)
    assert bool(torch.isfinite(ours).all())
    assert signal_to_noise(ours, wide) > 40


def test_a_quantised_precision_without_scales_is_refused(checkpoint: Checkpoint, tmp_path: Path) -> None:
    recipe = Recipe("a" * 64, SIZE.width, SIZE.height, 4, "fp8", "onnx")
    with pytest.raises(MisuseError, match="precision fp8 needs scales"):
        write_bundle(checkpoint, recipe, tmp_path / "bundle")
    assert not np.any([path.name for path in tmp_path.iterdir()])


def test_an_unknown_precision_is_refused() -> None:
    with pytest.raises(
        MisuseError, match=r"precision 'fp4' is not known, expected one of fp32, bf16, fp16, fp8, nvfp4$"
    ):
        Precision.named("fp4")


@pytest.mark.parametrize("name", PRECISIONS)
def test_every_precision_of_a_recipe_has_a_definition(name: str) -> None:
    found = Precision.named(name)
    assert found.name == name
    assert found.quantised == (name in QUANTISED)
    assert found.stream in (None, torch.float32), "the stream of this model family overflows in float16"
