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
from swiftvr_trt.engines.bundle.calibration import CALIBRATION_FILE, Int8Scales
from swiftvr_trt.engines.bundle.manifest import Recipe
from swiftvr_trt.engines.bundle.pixel_formats import TAKES
from swiftvr_trt.engines.bundle.targets import PRECISIONS, QUANTISED, multiplies_in
from swiftvr_trt.export.graph.dit_stage import DitStage
from swiftvr_trt.export.graph.layers import LayerFactory
from swiftvr_trt.export.graph.precision import Precision
from swiftvr_trt.export.graph.rewrites import ALL
from swiftvr_trt.export.network.checkpoint import Checkpoint, load_checkpoint
from swiftvr_trt.export.network.dit import Block, Dit
from swiftvr_trt.export.verify import verify_bundle
from swiftvr_trt.export.write import write_bundle
from tests.conftest import NarrowBundle

SIZE = Resolution(45, 37)


@pytest.fixture(autouse=True)
def _no_grad() -> Iterator[None]:
    with torch.no_grad():
        yield


@pytest.fixture(scope="module")
def checkpoint(mini_checkpoint: Path) -> Checkpoint:
    return load_checkpoint(mini_checkpoint)


@pytest.fixture(scope="module", params=["fp16", "fp8", "int8"])
def bundle(request: pytest.FixtureRequest, narrow_bundle: NarrowBundle) -> Bundle:
    return narrow_bundle(request.param)


def test_a_bundle_is_close_to_the_float32_network(bundle: Bundle, checkpoint: Checkpoint) -> None:
    rows = list(verify_bundle(bundle, checkpoint, bundle.manifest.recipe.checkpoint))
    stages = {stage.name for stage in bundle.manifest.stages}
    assert {row.subject.split(",")[0] for row in rows} == stages | {"whole loop"}
    assert stages == {"encode", "dit", "dit_edge", "decode", *TAKES, "give_rgb24", "give_rgb48"}  # its sides are odd
    assert all(row.passed for row in rows), rows


def test_scales_are_kept_in_the_bundle(bundle: Bundle) -> None:
    assert (bundle.path / CALIBRATION_FILE).exists() == (bundle.manifest.recipe.precision in QUANTISED)


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
    """Per block qkv, out, query, up and down; per attention q, k, the softmax and v, but not beside INT8 in graphs."""
    graph = onnx.load(bundle.path / "dit.onnx", load_external_data=False).graph
    operators = Counter(node.op_type for node in graph.node)
    quantised = bundle.manifest.recipe.precision in QUANTISED
    blocks, calls = 2, 2
    in_fp8 = calls if quantised and bundle.manifest.recipe.precision != "int8" else 0
    assert operators["QuantizeLinear"] == (blocks * 5 + in_fp8 * 4 if quantised else 0)
    assert operators["DequantizeLinear"] == (blocks * 5 * 2 + in_fp8 * 4 if quantised else 0)
    assert operators["Softmax" if in_fp8 else "Attention"] == calls
    stored = Counter(tensor.data_type for tensor in graph.initializer)
    eight_bits = {"fp8": TensorProto.FLOAT8E4M3FN, "int8": TensorProto.INT8}
    for name, dtype in eight_bits.items():
        assert stored[dtype] == (blocks * 5 if bundle.manifest.recipe.precision == name else 0)


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


def with_a_large_stream(dit: Dit, added: float) -> Dit:
    """A copy with `added` more in one channel of the stream after each block."""
    grown: Dit = copy.deepcopy(dit)
    assert grown.patch_embedding.bias is not None
    grown.patch_embedding.bias.fill_(0.0)
    for block in grown.blocks:
        last = cast("Block", block).ffn.linears()[1]
        assert isinstance(last, torch.nn.Linear)
        last.bias[0] = added
    return grown


def calibrated(dit: Dit, prompt: Tensor, latents: Tensor, precision: Precision) -> LayerFactory:
    """A factory with the scales that suit these latents."""
    seen: dict[str, float] = {}
    int8: dict[str, Int8Scales] = {}

    def observe(name: str, x: Tensor) -> None:
        seen[name] = float(x.abs().max())
        int8[name] = Int8Scales(8, 0.0, seen[name], (0,) * x.shape[-1])

    DitStage(dit, prompt, SIZE, len(latents), ALL, LayerFactory(precision.exact(), observe=observe))(latents)
    return LayerFactory(precision, seen, int8)


FORMS = tuple(
    dict.fromkeys(Precision.named(name).on(gpu) for name in PRECISIONS for gpu in (None, "7.5", "8.6", "12.0"))
)
"""Every precision in each form that a machine gives it."""


@pytest.mark.parametrize("precision", FORMS, ids=lambda precision: f"{precision.name}-{precision.compute}")
def test_a_stream_beyond_the_range_of_float16_stays_finite(checkpoint: Checkpoint, precision: Precision) -> None:
    """What makes published models of this family show black frames when they are cast. The stream grows to 1.2e5 in
    steps that float16 holds; where products are in bfloat16, to 2e5, in steps that it does not.
    """
    dit = with_a_large_stream(checkpoint.dit, 6e4 if precision.compute is torch.float16 else 1e5)
    latents = torch.randn(1, 12, SIZE.latent_height, SIZE.latent_width, generator=torch.Generator().manual_seed(1))
    wide = dit(latents, checkpoint.prompt)
    factory = calibrated(dit, checkpoint.prompt, latents, precision)
    ours = DitStage(dit, checkpoint.prompt, SIZE, 1, ALL, factory)(latents)
    assert bool(torch.isfinite(ours).all())
    assert signal_to_noise(ours, wide) > 40


def test_a_quantised_precision_without_scales_is_refused(checkpoint: Checkpoint, tmp_path: Path) -> None:
    recipe = Recipe("a" * 64, SIZE.width, SIZE.height, 4, "fp8", "onnx")
    with pytest.raises(MisuseError, match="precision fp8 needs scales"):
        write_bundle(checkpoint, recipe, tmp_path / "bundle")
    assert not np.any([path.name for path in tmp_path.iterdir()])


def test_an_unknown_precision_is_refused() -> None:
    with pytest.raises(
        MisuseError, match=r"precision 'fp4' is not known, expected one of fp32, bf16, fp16, fp8, int8, nvfp4$"
    ):
        Precision.named("fp4")


@pytest.mark.parametrize(
    ("capability", "attention"), [(None, None), ("7.5", None), ("8.6", None), ("8.9", "fp8"), ("12.0", "fp8")]
)
def test_int8_attends_in_fp8_where_the_gpu_can(capability: str | None, attention: str | None) -> None:
    """Graphs in int8 are for any GPU that multiplies in INT8, and so have no FP8."""
    named = Precision.named("int8")
    assert named.on(capability).attention == attention
    assert Precision.named("fp16").on(capability) is Precision.named("fp16")


@pytest.mark.parametrize("name", PRECISIONS)
def test_every_precision_of_a_recipe_has_a_definition(name: str) -> None:
    for capability in (None, "7.5", "8.0", "8.6", "8.9", "9.0", "12.0"):
        found = Precision.named(name).on(capability)
        assert found.name == name
        assert found.quantised == (name in QUANTISED)
        assert found.stream is not torch.float16, "the stream of this model family overflows in float16"
        narrow = torch.bfloat16 in (found.compute, found.stream)
        assert name == "bf16" or not narrow or multiplies_in("bf16", capability)
        assert found.autoencoder.compute is {"fp32": None, "bf16": torch.bfloat16}.get(name, torch.float16)
        assert found.exact().narrow(torch.zeros(1, dtype=torch.float64)).dtype == torch.float64


@pytest.mark.parametrize(
    ("name", "capability", "size", "parts"),
    [
        ("fp8", "12.0", Resolution(1920, 1080), 1),
        ("int8", "8.6", Resolution(1080, 1920), 1),
        ("fp8", "12.0", Resolution(1921, 1088), 2),
        ("int8", "12.0", Resolution(3840, 2160), 2),
        ("nvfp4", "12.0", Resolution(640, 352), 2),
        ("fp8", None, Resolution(640, 352), 2),
        ("fp16", "12.0", Resolution(3840, 2160), 1),
    ],
)
def test_large_pictures_are_fed_forward_in_two_parts(
    name: str, capability: str | None, size: Resolution, parts: int
) -> None:
    assert Precision.named(name).on(capability).at(size).ffn_parts == parts


@pytest.mark.parametrize("name", QUANTISED)
def test_where_a_gpu_has_bfloat16_it_is_the_16_bit_type_of_quantised_precisions(name: str) -> None:
    assert Precision.named(name).on("8.0").compute is torch.bfloat16
    assert Precision.named(name).on("7.5").compute is torch.float16
    assert Precision.named(name).on(None).compute is torch.float16, "ONNX Runtime has no arithmetic in it on the CPU"
