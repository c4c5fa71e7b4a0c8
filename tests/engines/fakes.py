"""Bundles written by hand: a consistent manifest, and stage files without content."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from swiftvr_trt import Bundle
from swiftvr_trt.engines.bundle.files import BundleWriter
from swiftvr_trt.engines.bundle.manifest import (
    COLOUR_INPUTS,
    FileSpec,
    Manifest,
    Recipe,
    Role,
    StageSpec,
    TensorSpec,
    Toolchain,
)
from swiftvr_trt.engines.bundle.pixel_formats import PIXEL_FORMATS, PixelFormat, given_formats

WHERE = Path("bundle") / "manifest.json"
RECIPE = Recipe(checkpoint="c0" * 32, width=100, height=60, clip_len=8, precision="fp32", target="cpu")
TOOLCHAIN = Toolchain("swiftvr-trt test", "none", "1.0")
WEIGHTS = "weights.bin"


def fake_stages(recipe: Recipe = RECIPE) -> tuple[StageSpec, ...]:
    """Stages with the tensors that the recipe implies, and one state each for `encode` and `decode`."""
    size = recipe.resolution
    grid = (size.latent_height, size.latent_width)
    pixels = TensorSpec("pixels", "float32", (4, 12, *size.pixel_grid), Role.PIXELS)
    before = TensorSpec("state_in_0", "float32", (1, 8, *grid), Role.STATE_IN)
    after = TensorSpec("state_out_0", "float32", (1, 8, *grid), Role.STATE_OUT)

    def latents(count: int) -> TensorSpec:
        return TensorSpec("latents", "float32", (count, 12, *grid), Role.LATENTS)

    def stage(name: str, inputs: tuple[TensorSpec, ...], outputs: tuple[TensorSpec, ...]) -> StageSpec:
        return StageSpec(name, f"{name}.onnx", inputs, outputs)

    def colour(form: PixelFormat) -> tuple[TensorSpec, ...]:
        shapes = COLOUR_INPUTS.items() if form.yuv else ()
        return tuple(TensorSpec(name, "float32", shape, Role.COLOUR) for name, shape in shapes)

    def take(form: PixelFormat) -> StageSpec:
        frames = TensorSpec("frames", "uint8", form.free_shape(4), Role.FRAMES)
        return stage(form.take, (frames, *colour(form)), (pixels,))

    def give(form: PixelFormat) -> StageSpec:
        frames = TensorSpec("frames", "uint8", (4, *form.byte_shape(size.height, size.width)), Role.FRAMES)
        return stage(form.give, (pixels, *colour(form)), (frames,))

    middle, edge = latents(recipe.latents), latents(recipe.latents + 1)
    return (
        *map(take, PIXEL_FORMATS),
        stage("encode", (pixels, before), (latents(1), after)),
        stage("dit", (middle,), (middle,)),
        stage("dit_edge", (edge,), (edge,)),
        stage("decode", (latents(1), before), (pixels, after)),
        *map(give, given_formats(size.height, size.width)),
    )


def fake_manifest(recipe: Recipe = RECIPE) -> Manifest:
    stages = fake_stages(recipe)
    files = tuple(FileSpec(stage.file, 5, "ab" * 32) for stage in stages)
    return Manifest(recipe, TOOLCHAIN, stages, files)


def raw_manifest() -> dict[str, Any]:
    """The fake manifest as parsed JSON, for tests to damage."""
    raw: dict[str, Any] = json.loads(fake_manifest().to_json())
    return raw


def write_fake_bundle(
    path: Path, recipe: Recipe = RECIPE, *, content: bytes = b"weights", midway: Callable[[], object] = lambda: None
) -> Bundle:
    """Build a bundle whose weights are `content`. midway: called when half of its files are written."""
    with BundleWriter(path) as writer:
        (writer.directory / WEIGHTS).write_bytes(content)
        midway()
        stages = fake_stages(recipe)
        for stage in stages:
            (writer.directory / stage.file).write_text(stage.name)
        return writer.commit(recipe, TOOLCHAIN, stages)


def names_in(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())
