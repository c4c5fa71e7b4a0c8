"""Stages: what they are, that their tensors are those of the manifest, and that they compute what the network does."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch.nn.functional import pixel_shuffle, pixel_unshuffle

from swiftvr_trt.benchmarks.compiled_network import SCALES
from swiftvr_trt.engines.bundle.manifest import NETWORK_STAGES, Recipe, Role
from swiftvr_trt.export.graph.stages import Stage, stages_of
from swiftvr_trt.export.network.checkpoint import Checkpoint, load_checkpoint
from swiftvr_trt.export.network.pixels import frames_to_pixels
from swiftvr_trt.export.network.reae import State
from tests.conftest import BundleFactory

RECIPE = Recipe("a" * 64, 45, 37, 8, "fp32", "onnx")


@pytest.fixture(autouse=True)
def _deterministic() -> Iterator[None]:
    torch.manual_seed(3)
    with torch.no_grad():
        yield


@pytest.fixture(scope="module")
def checkpoint(mini_checkpoint: Path) -> Checkpoint:
    return load_checkpoint(mini_checkpoint)


def stage_named(name: str, checkpoint: Checkpoint, recipe: Recipe = RECIPE, capability: str | None = None) -> Stage:
    found = stages_of(checkpoint, recipe, SCALES, capability=capability)
    return next(stage for stage in found if stage.name == name)


def test_a_bundle_has_four_stages_and_an_engine_one_graph_for_both_lengths(checkpoint: Checkpoint) -> None:
    assert tuple(stage.name for stage in stages_of(checkpoint, RECIPE)) == NETWORK_STAGES
    encode, dit, decode = stages_of(checkpoint, RECIPE, joint=True)
    assert (encode.name, dit.name, decode.name) == ("encode", "dit", "decode")
    assert dit.lengths == {"dit": 2, "dit_edge": 3}
    assert dit.example[0].shape[0] == 3, "the example has the most"


def test_tensors_are_those_of_the_manifest(checkpoint: Checkpoint, mini_bundle: BundleFactory) -> None:
    """Names, roles, dtypes and shapes, of what goes in and of what really comes out."""
    manifest = mini_bundle().manifest
    for stage in stages_of(checkpoint, manifest.recipe):
        spec = manifest.stage(stage.name)
        assert [(t.name, t.role) for t in spec.inputs] == list(stage.inputs)
        assert [(t.name, t.role) for t in spec.outputs] == list(stage.outputs)
        results = stage.module(*stage.example)
        results = results if isinstance(results, tuple) else (results,)
        for described, tensors in ((spec.inputs, stage.example), (spec.outputs, results)):
            for entry, tensor in zip(described, tensors, strict=True):
                assert entry.dtype == str(tensor.dtype).removeprefix("torch.")
                assert entry.shape == tuple(tensor.shape)


@pytest.mark.parametrize("name", ["encode", "decode"])
def test_a_state_that_comes_out_goes_in_again(name: str, checkpoint: Checkpoint) -> None:
    stage = stage_named(name, checkpoint)
    first, *state = stage.example
    once = stage.module(first, *state)
    assert [past.shape for past in once[1:]] == [past.shape for past in state]
    again = stage.module(first, *once[1:])
    assert any(not torch.equal(a, b) for a, b in zip(once[1:], again[1:], strict=True)), "the state counts"
    assert sum(role is Role.STATE_IN for _, role in stage.inputs) == len(state) == 9


@pytest.mark.parametrize("parity", [False, True])
@pytest.mark.parametrize("without", [(), ("pooling",)], ids=["folded", "plain"])
def test_encode_is_the_encoder(checkpoint: Checkpoint, without: tuple[str, ...], parity: bool) -> None:
    recipe = replace(RECIPE, parity=parity, without=without)
    frames = torch.randint(0, 256, (4, 20, 31, 3), dtype=torch.uint8)
    encoder, size = checkpoint.reae.encoder, recipe.resolution
    state = random_state(encoder.initial_state(size.latent_height, size.latent_width))
    pixels = frames_to_pixels(frames, size, parity=parity)
    expected, after = encoder(pixels, state)
    latent, *ours = stage_named("encode", checkpoint, recipe).module(pixel_unshuffle(pixels, 2), *state)
    torch.testing.assert_close(latent, expected, rtol=1e-4, atol=1e-4)
    for mine, theirs in zip(ours, after, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("without", [(), ("growth",)], ids=["folded", "plain"])
def test_decode_is_the_decoder(checkpoint: Checkpoint, without: tuple[str, ...]) -> None:
    recipe = replace(RECIPE, without=without)
    decoder, size = checkpoint.reae.decoder, recipe.resolution
    state = random_state(decoder.initial_state(size.latent_height, size.latent_width))
    latent = torch.randn(1, 12, size.latent_height, size.latent_width)
    pixels, after = decoder(latent, state)
    shuffled, *ours = stage_named("decode", checkpoint, recipe).module(latent, *state)
    assert shuffled.shape == (4, 12, 32, 32)
    torch.testing.assert_close(pixel_shuffle(shuffled, 2), pixels, rtol=1e-4, atol=1e-4)
    for mine, theirs in zip(ours, after, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-4)


def random_state(zeros: State) -> State:
    return tuple(torch.rand_like(past) for past in zeros)


@pytest.mark.parametrize("capability", [None, "7.5", "8.0", "12.0"])
@pytest.mark.parametrize(
    ("name", "dtype"),
    [
        ("fp32", torch.float32),
        ("bf16", torch.bfloat16),
        ("fp16", torch.float16),
        ("fp8", torch.float16),
        ("nvfp4", torch.float16),
    ],
)
def test_states_have_the_dtype_of_the_autoencoder_and_latents_are_float32(
    checkpoint: Checkpoint, name: str, dtype: torch.dtype, capability: str | None
) -> None:
    recipe = replace(RECIPE, precision=name)
    encode, decode = (stage_named(stage, checkpoint, recipe, capability) for stage in ("encode", "decode"))
    for stage, first in ((encode, dtype), (decode, torch.float32)):
        assert [tensor.dtype for tensor in stage.example] == [first, *[dtype] * 9]
    latent, *state = encode.module(*encode.example)
    assert latent.dtype == torch.float32
    assert {past.dtype for past in state} == {dtype}
    assert decode.module(*decode.example)[0].dtype == dtype, "pixels have the dtype of products"


def test_the_checkpoint_is_not_changed_by_a_narrow_precision(checkpoint: Checkpoint) -> None:
    list(stages_of(checkpoint, replace(RECIPE, precision="fp16")))
    assert {parameter.dtype for parameter in checkpoint.reae.parameters()} == {torch.float32}
