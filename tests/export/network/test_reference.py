"""The torch network, its ONNX stages and the whole loop against the published implementation."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest
import torch

from swiftvr_trt import Bundle, Restorer
from swiftvr_trt.engines.bundle.manifest import Recipe
from swiftvr_trt.export.graph.stages import stages_of
from swiftvr_trt.export.graph.to_onnx import write_stages
from swiftvr_trt.export.network.checkpoint import Checkpoint, load_checkpoint
from swiftvr_trt.export.network.reference import Reference
from swiftvr_trt.export.write import write_bundle
from tests.conftest import CheckpointFactory
from tests.golden import DITS, LATENT_TOLERANCE, PIXEL_TOLERANCE, STREAMS, Golden, load_golden, sample


def largest(ours: np.ndarray, theirs: np.ndarray) -> float:
    assert ours.shape == theirs.shape
    return float(np.abs(ours.astype(np.float64) - theirs.astype(np.float64)).max())


@pytest.fixture(scope="module", params=DITS)
def dit_golden(request: pytest.FixtureRequest) -> Golden:
    return load_golden(request.param)


@pytest.fixture(scope="module", params=STREAMS)
def stream_golden(request: pytest.FixtureRequest) -> Golden:
    return load_golden(request.param)


@pytest.fixture(scope="module")
def stream_bundle(
    stream_golden: Golden, oracle_checkpoint: CheckpointFactory, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Bundle, Checkpoint]:
    checkpoint = load_checkpoint(oracle_checkpoint(*stream_golden.checkpoint))
    size = stream_golden.resolution
    recipe = Recipe("0" * 64, size.width, size.height, int(stream_golden.meta["clip_len"]), "fp32", "onnx", True)
    return write_bundle(checkpoint, recipe, tmp_path_factory.mktemp("stream") / "bundle"), checkpoint


def test_torch_dit_agrees_with_the_published_one(dit_golden: Golden, oracle_checkpoint: CheckpointFactory) -> None:
    checkpoint = load_checkpoint(oracle_checkpoint(*dit_golden.checkpoint))
    with torch.no_grad():
        restored = checkpoint.dit(torch.from_numpy(dit_golden.chunk("z", 0)), checkpoint.prompt)
    assert largest(restored.numpy(), dit_golden.chunk("d", 0)) <= LATENT_TOLERANCE


def test_onnx_dit_agrees_with_the_published_one(
    dit_golden: Golden, oracle_checkpoint: CheckpointFactory, tmp_path: Path
) -> None:
    latents = dit_golden.chunk("z", 0)
    count, _, height, width = latents.shape
    checkpoint = load_checkpoint(oracle_checkpoint(*dit_golden.checkpoint))
    # `dit` sees n latents and `dit_edge` n + 1: the odd grid is run as an edge, the large one as a middle.
    name, clip_len = ("dit_edge", 4 * (count - 1)) if count == 3 else ("dit", 4 * count)
    network = stages_of(checkpoint, Recipe("0" * 64, width * 16, height * 16, clip_len, "fp32", "onnx", True))
    list(write_stages([stage for stage in network if stage.name == name], tmp_path))
    session = ort.InferenceSession(tmp_path / f"{name}.onnx", providers=["CPUExecutionProvider"])
    (restored,) = session.run(None, {"latents": latents})
    assert largest(restored, dit_golden.chunk("d", 0)) <= LATENT_TOLERANCE


def test_torch_stream_agrees_with_the_published_one(
    stream_golden: Golden, stream_bundle: tuple[Bundle, Checkpoint]
) -> None:
    _, checkpoint = stream_bundle
    size = stream_golden.resolution
    reference = Reference(checkpoint, size, clip_len=int(stream_golden.meta["clip_len"]), parity=True)
    pixels = []
    for number, turn in enumerate(reference.trace(stream_golden.arrays["frames"])):
        assert largest(turn.latents.numpy(), stream_golden.chunk("z", number)) <= LATENT_TOLERANCE
        assert largest(turn.restored.numpy(), stream_golden.chunk("d", number)) <= LATENT_TOLERANCE
        pixels.append(turn.pixels[:, :, : size.height, : size.width].permute(0, 2, 3, 1).numpy())
    assert f"z{number + 1}" not in stream_golden.arrays, "the published implementation has more chunks"
    assert largest(sample(np.concatenate(pixels)), stream_golden.pixels) <= PIXEL_TOLERANCE


def test_restorer_agrees_with_the_published_stream(
    stream_golden: Golden, stream_bundle: tuple[Bundle, Checkpoint]
) -> None:
    bundle, _ = stream_bundle
    with Restorer.open(bundle) as restorer:
        restored = np.stack(list(restorer.restore(stream_golden.arrays["frames"])))
    assert largest(sample(restored) / 255, stream_golden.pixels) <= PIXEL_TOLERANCE
