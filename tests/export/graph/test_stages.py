"""Stages: what they are, that their tensors are those of the manifest, and that they compute what the network does."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from swiftvr_trt.engines.bundle.manifest import STAGES, Recipe, Role
from swiftvr_trt.export.graph.stages import Stage, stages_of
from swiftvr_trt.export.network.checkpoint import Checkpoint, load_checkpoint
from swiftvr_trt.export.network.pixels import frames_to_pixels, pixels_to_frames
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


def stage_named(name: str, checkpoint: Checkpoint, recipe: Recipe = RECIPE) -> Stage:
    return next(stage for stage in stages_of(checkpoint, recipe) if stage.name == name)


def test_a_bundle_has_four_stages_and_an_engine_one_graph_for_both_lengths(checkpoint: Checkpoint) -> None:
    assert tuple(stage.name for stage in stages_of(checkpoint, RECIPE)) == STAGES
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
                free = (1, 2) if entry.name in stage.free_size else ()
                shape = tuple(None if axis in free else side for axis, side in enumerate(tensor.shape))
                assert entry.shape == shape


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
def test_encode_is_the_resize_and_then_the_encoder(
    checkpoint: Checkpoint, without: tuple[str, ...], parity: bool
) -> None:
    recipe = replace(RECIPE, parity=parity, without=without)
    frames = torch.randint(0, 256, (4, 20, 31, 3), dtype=torch.uint8)
    encoder, size = checkpoint.reae.encoder, recipe.resolution
    state = random_state(encoder.initial_state(size.latent_height, size.latent_width))
    expected, after = encoder(frames_to_pixels(frames, size, parity=parity), state)
    latent, *ours = stage_named("encode", checkpoint, recipe).module(frames, *state)
    torch.testing.assert_close(latent, expected, rtol=1e-4, atol=1e-4)
    for mine, theirs in zip(ours, after, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("without", [(), ("growth",)], ids=["folded", "plain"])
def test_decode_is_the_decoder_and_then_the_rounding(checkpoint: Checkpoint, without: tuple[str, ...]) -> None:
    recipe = replace(RECIPE, without=without)
    decoder, size = checkpoint.reae.decoder, recipe.resolution
    state = random_state(decoder.initial_state(size.latent_height, size.latent_width))
    latent = torch.randn(1, 12, size.latent_height, size.latent_width)
    pixels, after = decoder(latent, state)
    frames, *ours = stage_named("decode", checkpoint, recipe).module(latent, *state)
    assert frames.shape == (4, 37, 45, 3)
    difference = frames.numpy().astype(int) - pixels_to_frames(pixels, size).numpy().astype(int)
    assert np.abs(difference).max() <= 1, "a level where the rounding is close"
    for mine, theirs in zip(ours, after, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-4)


def random_state(zeros: State) -> State:
    return tuple(torch.rand_like(past) for past in zeros)


@pytest.mark.parametrize(
    ("name", "dtype"), [("fp32", torch.float32), ("bf16", torch.bfloat16), ("fp16", torch.float16)]
)
def test_states_have_the_dtype_of_products_and_latents_are_float32(
    checkpoint: Checkpoint, name: str, dtype: torch.dtype
) -> None:
    recipe = replace(RECIPE, precision=name)
    encode, decode = (stage_named(stage, checkpoint, recipe) for stage in ("encode", "decode"))
    for stage, first in ((encode, torch.uint8), (decode, torch.float32)):
        assert [tensor.dtype for tensor in stage.example] == [first, *[dtype] * 9]
    latent, *state = encode.module(*encode.example)
    assert latent.dtype == torch.float32
    assert {past.dtype for past in state} == {dtype}
    assert decode.module(*decode.example)[0].dtype == torch.uint8


def test_the_checkpoint_is_not_changed_by_a_narrow_precision(checkpoint: Checkpoint) -> None:
    list(stages_of(checkpoint, replace(RECIPE, precision="fp16")))
    assert {parameter.dtype for parameter in checkpoint.reae.parameters()} == {torch.float32}
