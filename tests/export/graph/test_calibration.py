"""Calibration measures what the plain network computes, holds one block at a time, and checks every file."""

from __future__ import annotations

import copy
import weakref
from dataclasses import replace
from pathlib import Path
from typing import cast

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from swiftvr_trt import MisuseError, Resolution
from swiftvr_trt.engines.bundle.calibration import Calibration, Int8Scales
from swiftvr_trt.engines.bundle.manifest import Recipe
from swiftvr_trt.errors import CheckpointError
from swiftvr_trt.export.graph import calibration as calibrating
from swiftvr_trt.export.graph.calibration import (
    SAMPLE_CLIP,
    CalibrationSource,
    calibrate,
    calibration_size,
    magnitude,
)
from swiftvr_trt.export.graph.dit_stage import BlockStage
from swiftvr_trt.export.graph.int8_search import LEAST_DECIBELS
from swiftvr_trt.export.graph.layers import Int8Linear
from swiftvr_trt.export.graph.stages import stages_of
from swiftvr_trt.export.moving_picture import synthetic_frame
from swiftvr_trt.export.network.checkpoint import Checkpoint, load_checkpoint
from swiftvr_trt.export.network.dit import Block, Dit, without_blocks
from swiftvr_trt.export.network.reference import Reference
from swiftvr_trt.runtime.stream.session import Frame

RECIPE = Recipe("a" * 64, 45, 37, 4, "fp8", "rtx5090")


@pytest.fixture(scope="module")
def checkpoint(mini_checkpoint: Path) -> Checkpoint:
    return load_checkpoint(mini_checkpoint)


@pytest.fixture(scope="module")
def frames() -> list[Frame]:
    return [synthetic_frame(index, 40, 60) for index in range(10)]


@pytest.fixture(scope="module")
def found(checkpoint: Checkpoint, frames: list[Frame]) -> Calibration:
    return calibrate(checkpoint, RECIPE, frames, "a test picture")


def test_magnitudes_are_those_of_sorted_values() -> None:
    x = torch.tensor([[-4.0, 1.0], [2.0, 3.0]])
    assert [magnitude(x, percentile) for percentile in (100, 75, 50, 25)] == [4, 3, 2, 1]
    assert np.isnan(magnitude(torch.tensor([1.0, float("nan")]), 90.0))


@pytest.mark.parametrize(
    ("width", "height", "size"),
    [(320, 176, Resolution(640, 352)), (1920, 1056, Resolution(640, 352)), (176, 320, Resolution(352, 640))],
)
def test_large_clips_are_calibrated_at_a_moderate_size(width: int, height: int, size: Resolution) -> None:
    assert calibration_size(width, height) == size


def test_every_name_that_the_graph_asks_for_is_found(checkpoint: Checkpoint, found: Calibration) -> None:
    asked = set()

    class Asked(dict[str, float]):
        def __missing__(self, name: str) -> float:
            asked.add(name)
            return 1.0

    list(stages_of(checkpoint, RECIPE, Asked(), joint=True))
    assert asked == set(found.largest)
    assert all(value > 0 for value in found.largest.values())


def test_magnitudes_are_those_in_the_plain_network(
    checkpoint: Checkpoint, frames: list[Frame], found: Calibration
) -> None:
    """The input of the last linear of a block is the same in every form of the network."""
    seen = dict[int, float]()

    def watch(layer: int, inputs: tuple[Tensor, ...]) -> None:
        seen[layer] = max(seen.get(layer, 0), float(inputs[0].abs().max()))

    hooks = []
    for layer, block in enumerate(checkpoint.dit.blocks):
        last = cast("Block", block).ffn.linears()[1]
        hooks.append(last.register_forward_pre_hook(lambda _m, inputs, layer=layer: watch(layer, inputs)))
    list(Reference(checkpoint, calibration_size(60, 40), clip_len=RECIPE.clip_len).trace(frames))
    for hook in hooks:
        hook.remove()
    for layer, value in seen.items():
        assert found.largest[f"blocks.{layer}.down"] == pytest.approx(value, rel=1e-4)


def test_blocks_are_widened_one_at_a_time(
    checkpoint: Checkpoint, frames: list[Frame], monkeypatch: pytest.MonkeyPatch
) -> None:
    alive: weakref.WeakSet[nn.Module] = weakref.WeakSet()
    most = []

    class Counted(BlockStage):
        def __init__(self, *arguments: object) -> None:
            super().__init__(*arguments)  # type: ignore[arg-type]
            alive.add(self)
            most.append(len(alive))

    deeper = replace(checkpoint, dit=_with_blocks(checkpoint, 5))
    monkeypatch.setattr(calibrating, "BlockStage", Counted)
    calibrate(deeper, RECIPE, frames, "a test picture")
    assert len(most) == 5
    assert max(most) <= 2  # the one being made, and the one before it


def _with_blocks(checkpoint: Checkpoint, count: int) -> Dit:
    dit = without_blocks(checkpoint.dit)
    dit._modules["blocks"] = nn.ModuleList([checkpoint.dit.blocks[0]] * count)
    return dit


def test_a_percentile_cuts_the_largest_values(checkpoint: Checkpoint, frames: list[Frame], found: Calibration) -> None:
    cut = calibrate(checkpoint, RECIPE, frames, "a test picture", percentile=99.0)
    assert all(cut.largest[name] <= value for name, value in found.largest.items())
    assert sum(cut.largest[name] < value for name, value in found.largest.items()) > len(found.largest) / 2


@pytest.mark.parametrize("percentile", [0.0, 89.9, 100.1, float("nan")])
def test_percentiles_out_of_range_are_refused(checkpoint: Checkpoint, frames: list[Frame], percentile: float) -> None:
    with pytest.raises(MisuseError, match="percentile"):
        calibrate(checkpoint, RECIPE, frames, "a test picture", percentile)


def test_a_damaged_checkpoint_is_reported(checkpoint: Checkpoint, frames: list[Frame]) -> None:
    dit = copy.deepcopy(checkpoint.dit)
    assert dit.patch_embedding.bias is not None
    torch.nn.init.constant_(dit.patch_embedding.bias, float("nan"))
    damaged = replace(checkpoint, dit=dit)
    with pytest.raises(CheckpointError, match="not finite"):
        calibrate(damaged, RECIPE, frames, "a test picture")


@pytest.fixture(scope="module")
def int8(checkpoint: Checkpoint, frames: list[Frame]) -> Calibration:
    return calibrate(checkpoint, replace(RECIPE, precision="int8"), frames, "a test picture")


def test_in_int8_every_linear_has_scales_and_a_measured_error(
    checkpoint: Checkpoint, found: Calibration, int8: Calibration
) -> None:
    asked = set()

    class Asked(dict[str, Int8Scales]):
        def __missing__(self, name: str) -> Int8Scales:
            asked.add(name)
            return Int8Scales(16, 0.0, 1.0, ())

    list(stages_of(checkpoint, replace(RECIPE, precision="int8"), int8.largest, Asked(), joint=True))
    assert asked == set(int8.int8)
    assert len(asked) == 5 * len(checkpoint.dit.blocks)
    assert int8.largest == found.largest, "the same file serves all quantised precisions"
    assert not found.int8
    for scales in int8.int8.values():
        assert scales.bits == (8 if scales.decibels >= LEAST_DECIBELS else 16)


def test_a_linear_that_the_file_leaves_in_16_bits_is_not_quantised(checkpoint: Checkpoint, int8: Calibration) -> None:
    edited = {**int8.int8, "blocks.1.down": replace(int8.int8["blocks.1.down"], bits=16)}
    dit = next(
        stage
        for stage in stages_of(checkpoint, replace(RECIPE, precision="int8"), int8.largest, edited, joint=True)
        if stage.name == "dit"
    )
    names = {name for name, part in dit.module.named_modules() if isinstance(part, Int8Linear)}
    expected = {name for name, scales in edited.items() if scales.bits == 8}
    assert {name.replace("inputs.0", "qkv").replace("cross.1.", "cross.") for name in names} == expected


def test_the_identity_tells_sources_apart(tmp_path: Path) -> None:
    other = tmp_path / "other.mp4"
    other.write_bytes(SAMPLE_CLIP.read_bytes() + b"\0")
    scales = [
        CalibrationSource(),
        CalibrationSource(percentile=99.9),
        CalibrationSource(clip=other),
        CalibrationSource(file=other),
    ]
    assert len({choice.identity for choice in scales}) == len(scales)
    assert CalibrationSource(clip=SAMPLE_CLIP).identity == CalibrationSource().identity
