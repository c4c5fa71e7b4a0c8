"""A calibration file fits its network by every name, or is refused before anything is traced."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from swiftvr_trt import MisuseError
from swiftvr_trt.engines.bundle.calibration import Calibration, Int8Scales
from swiftvr_trt.engines.bundle.manifest import Recipe
from swiftvr_trt.export.graph.calibration_file import ScaledParts, read_fitting_calibration, scaled_parts
from swiftvr_trt.export.graph.stages import stages_of
from swiftvr_trt.export.network.checkpoint import Checkpoint, load_checkpoint

RECIPE = Recipe("a" * 64, 45, 37, 4, "int8", "rtx5090", autoencoder="int8")
LINEAR, CONVOLUTION = "blocks.1.down", "decoder.3.conv.2"
Write = Callable[[Calibration], Path]


@pytest.fixture(scope="module")
def checkpoint(mini_checkpoint: Path) -> Checkpoint:
    return load_checkpoint(mini_checkpoint)


@pytest.fixture(scope="module")
def parts(checkpoint: Checkpoint) -> ScaledParts:
    return scaled_parts(checkpoint, RECIPE)


@pytest.fixture(scope="module")
def whole(parts: ScaledParts) -> Calibration:
    """A number for everything, so that it serves every precision."""
    linears = {name: Int8Scales(8, 40.0, 2.0, (0,) * inputs) for name, inputs in parts.linears.items()}
    convolutions = {name: Int8Scales(16, 30.0, 2.0, ()) for name in parts.convolutions}
    return Calibration("a" * 64, "a test", 100.0, dict.fromkeys(parts.inputs, 3.0), linears | convolutions)


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def written(calibration: Calibration) -> Path:
        path = tmp_path / "calibration.json"
        path.write_text(calibration.to_json())
        return path

    return written


@pytest.mark.parametrize(
    ("recipe", "largest", "int8"),
    [
        (RECIPE, True, ("linears", "convolutions")),
        (replace(RECIPE, autoencoder=None), True, ("linears",)),
        (replace(RECIPE, precision="fp8"), True, ("convolutions",)),
        (replace(RECIPE, precision="nvfp4", autoencoder=None), True, ()),
        (replace(RECIPE, precision="fp16"), False, ("convolutions",)),
    ],
    ids=["int8", "int8, 16-bit decoder", "fp8", "nvfp4, 16-bit decoder", "fp16, 8-bit decoder"],
)
def test_a_recipe_takes_what_it_needs(
    checkpoint: Checkpoint, whole: Calibration, write: Write, recipe: Recipe, largest: bool, int8: tuple[str, ...]
) -> None:
    """The rest is left out, since `inspect` lists as INT8 what the file of a bundle lists."""
    found = read_fitting_calibration(write(whole), checkpoint, recipe)
    parts = scaled_parts(checkpoint, recipe)
    assert found.largest.keys() == (parts.inputs if largest else set())
    assert found.int8.keys() == {name for kind in int8 for name in getattr(parts, kind)}


def _without(calibration: Calibration, *names: str) -> Calibration:
    kept = {name: scales for name, scales in calibration.int8.items() if name not in names}
    return replace(calibration, int8=kept)


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (
            lambda c: replace(c, int8=c.int8 | {"blocks.0.atention.qkv": c.int8[LINEAR]}),
            r"the network has no blocks.0.atention.qkv; correct or remove this",
        ),
        (
            lambda c: replace(c, int8=c.int8 | {"blocks.99.up": c.int8[LINEAR], "blocks.98.up": c.int8[LINEAR]}),
            r"the network has no blocks.98.up and one other;",
        ),
        (
            lambda c: replace(c, int8=c.int8 | {"encoder.4.conv.0": c.int8[CONVOLUTION]}),
            r"the network has no encoder.4.conv.0;",
        ),
        (lambda c: replace(c, largest=c.largest | {"blocks.0.attention.Q": 1.0}), r"has no blocks.0.attention.Q;"),
        (lambda c: _without(c, LINEAR), r"no numbers for blocks.1.down, which precision int8 needs; omit"),
        (lambda c: replace(c, int8={}), r"no numbers for blocks.0.attention.out and \d+ others, which precision int8"),
        (lambda c: _without(c, CONVOLUTION), r"no numbers for decoder.3.conv.2, which --autoencoder int8 \(--auto"),
        (lambda c: replace(c, largest={}), r"no numbers for blocks.0.attention.k and \d+ others, which precision int8"),
        (
            lambda c: replace(c, int8=c.int8 | {LINEAR: replace(c.int8[LINEAR], shifts=(1, 2))}),
            r"blocks.1.down has 2 shifts, expected \d+, one per input",
        ),
    ],
    ids=["misspelt", "too many blocks", "encoder", "operand", "linear", "all", "convolution", "largest", "shifts"],
)
def test_a_file_that_does_not_fit_is_refused(
    checkpoint: Checkpoint, whole: Calibration, write: Write, edit: Callable[[Calibration], Calibration], message: str
) -> None:
    path = write(edit(whole))
    with pytest.raises(MisuseError, match=f"^{re.escape(str(path))}: .*{message}"):
        read_fitting_calibration(path, checkpoint, RECIPE)


def test_shifts_of_a_linear_in_16_bits_do_not_matter(checkpoint: Checkpoint, whole: Calibration, write: Write) -> None:
    edited = replace(whole, int8={**whole.int8, LINEAR: Int8Scales(16, 20.0, 2.0, ())})
    assert read_fitting_calibration(write(edited), checkpoint, RECIPE).int8[LINEAR].bits == 16


def test_the_parts_are_those_that_are_traced(checkpoint: Checkpoint, parts: ScaledParts) -> None:
    asked = set[str]()

    class Magnitudes(dict[str, float]):
        def __missing__(self, name: str) -> float:
            asked.add(name)
            return 1.0

    class Scales(dict[str, Int8Scales]):
        def __missing__(self, name: str) -> Int8Scales:
            asked.add(name)
            return Int8Scales(16, 0.0, 1.0, ())

    list(stages_of(checkpoint, RECIPE, Magnitudes({"": 1.0}), Scales({"": Int8Scales(16, 0.0, 1.0, ())}), joint=True))
    assert asked == parts.linears.keys() | parts.convolutions
    list(stages_of(checkpoint, replace(RECIPE, precision="fp8", autoencoder=None), Magnitudes({"": 1.0}), joint=True))
    assert asked == parts.inputs | parts.convolutions
