"""Convolutions of the decoder in INT8: close to the plain ones, chosen by what they cost; the encoder has none."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from swiftvr_trt import MisuseError
from swiftvr_trt.engines.bundle.calibration import Calibration, Int8Scales
from swiftvr_trt.engines.bundle.manifest import Recipe
from swiftvr_trt.export.graph import calibration, convolutions
from swiftvr_trt.export.graph.calibration import calibrate
from swiftvr_trt.export.graph.convolutions import Int8Conv, choose_convolutions, convolution_names, with_int8
from swiftvr_trt.export.graph.layers import LayerFactory
from swiftvr_trt.export.graph.precision import FP32
from swiftvr_trt.export.graph.stages import stages_of
from swiftvr_trt.export.graph.to_onnx import stage_to_onnx
from swiftvr_trt.export.moving_picture import synthetic_frame
from swiftvr_trt.export.network.checkpoint import Checkpoint, load_checkpoint

RECIPE = Recipe("a" * 64, 45, 37, 4, "fp16", "rtx3090", autoencoder="int8")


@pytest.fixture(scope="module")
def checkpoint(mini_checkpoint: Path) -> Checkpoint:
    return load_checkpoint(mini_checkpoint)


@pytest.fixture(scope="module")
def found(checkpoint: Checkpoint) -> Calibration:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(calibration, "_PATCH_SIDE", 1)
        return calibrate(checkpoint, RECIPE, [synthetic_frame(0, 16, 16)], "a test picture")


@pytest.mark.parametrize("alike", [False, True], ids=["plain", "alike"])
@pytest.mark.parametrize("spread", [1.0, 100.0])
def test_a_convolution_in_int8_is_close_and_factors_keep_small_channels(alike: bool, spread: float) -> None:
    generator = torch.Generator().manual_seed(1)
    plain = nn.Conv2d(16, 8, 3, padding=1, bias=False)
    with torch.no_grad():
        plain.weight.copy_(torch.randn(plain.weight.shape, generator=generator))
        plain.weight[1] /= spread
    x = torch.randn(2, 16, 12, 12, generator=generator)
    with torch.no_grad():
        exact, ours = plain(x), Int8Conv(plain, float(x.abs().max()), FP32, alike=alike)(x)
    noise = (ours - exact)[:, 1].square().mean() / exact[:, 1].square().mean()
    assert (noise < 1e-2) == (alike or spread == 1.0), "without factors, a small channel drowns"


def test_every_convolution_of_a_memory_block_is_measured(found: Calibration, checkpoint: Checkpoint) -> None:
    assert len(found.int8) == 27
    assert list(found.int8) == sorted(convolution_names(checkpoint.reae.decoder))
    assert set(found.largest) == set(), "fp16 quantises nothing else"
    assert all(scales.bits in (8, 16) for scales in found.int8.values())
    assert not any(isinstance(part, Int8Conv) for part in checkpoint.reae.modules()), "each was put back"


def test_the_noise_of_all_chosen_ones_stays_within_bounds(
    found: Calibration, checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken = sorted(scales.decibels for scales in found.int8.values())[10]
    monkeypatch.setattr(convolutions, "LEAST_DECIBELS", taken)
    largest = {name: scales.largest for name, scales in found.int8.items()}
    fewer = choose_convolutions(checkpoint.reae.decoder, torch.randn(1, 12, 1, 1), largest)
    chosen = [scales for scales in fewer.values() if scales.bits == 8]
    assert 0 < len(chosen) < 27
    assert sum(10 ** (-scales.decibels / 10) for scales in chosen) <= 10 ** (-taken / 10) * 1.01
    assert min(s.decibels for s in chosen) >= max(s.decibels for s in fewer.values() if s.bits == 16)


@pytest.mark.parametrize("largest", [0.0, float("nan")], ids=["unused", "broken"])
def test_what_calibration_has_not_seen_stays_in_16_bits(
    found: Calibration, checkpoint: Checkpoint, largest: float
) -> None:
    """An input that was zero in every frame would get a scale of 1, which rounds what comes later to nothing."""
    name, *others = found.int8
    magnitudes = {name: largest} | {one: found.int8[one].largest for one in others}
    scales = choose_convolutions(checkpoint.reae.decoder, torch.randn(1, 12, 1, 1), magnitudes)[name]
    assert (scales.bits, scales.decibels) == (16, 0.0)


def test_only_the_chosen_ones_are_replaced_and_states_keep_their_type(
    found: Calibration, checkpoint: Checkpoint
) -> None:
    name, *others = found.int8
    int8 = {name: replace(found.int8[name], bits=8)} | {one: replace(found.int8[one], bits=16) for one in others}
    decoder = checkpoint.reae.decoder
    changed = with_int8(decoder, LayerFactory(FP32, {}, int8))
    assert [f"decoder.{one}" for one, part in changed.named_modules() if isinstance(part, Int8Conv)] == [name]
    with pytest.raises(MisuseError, match="calibration has no"):
        with_int8(decoder, LayerFactory(FP32, {}, {name: Int8Scales(8, 40.0, 1.0, ())}))


def test_the_graph_has_a_quantised_input_and_weight_for_each(found: Calibration, checkpoint: Checkpoint) -> None:
    int8 = {name: replace(scales, bits=8) for name, scales in found.int8.items()}
    stages = {stage.name: stage for stage in stages_of(checkpoint, RECIPE, {}, int8)}
    assert not any(isinstance(part, Int8Conv) for part in stages["encode"].module.modules())
    decode = stages["decode"]
    assert {tensor.dtype for tensor in decode.example[1:]} == {torch.float16}
    operators = [node.op_type for node in stage_to_onnx(decode).graph]
    assert operators.count("DequantizeLinear") == 54
    assert operators.count("QuantizeLinear") == 27
