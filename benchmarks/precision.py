"""What lower precisions cost: a real clip through a bundle of each precision, compared with the float32 bundle.

    python -m benchmarks.precision --checkpoint DIR [--clip FILE] [--frames 60] [-o results.json]

ONNX Runtime executes all graphs on the CPU, including the quantised ones, so this measures number formats and scales; a
GPU's kernels round in other places. Quantised precisions are also run as engines have them, with a decoder in INT8 and
with BF16 where graphs have FP16 (`engine_graphs`). "plain cast" is the published network cast to float16 as a whole,
without any of this tool's rewrites. "plain cast of the transformer" leaves the autoencoder in float32, which no engine
here does. PSNR is over all frames, and that of the worst one, against white.
"""

from __future__ import annotations

import copy
import json
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path

import click
import torch

from swiftvr_trt import Restorer
from swiftvr_trt.benchmarks.engine_graphs import write_engine_graphs
from swiftvr_trt.benchmarks.suite.likeness import frame_psnrs, psnr
from swiftvr_trt.engines.bundle.cache import BundleCache
from swiftvr_trt.engines.bundle.geometry import Resolution
from swiftvr_trt.engines.bundle.manifest import Recipe
from swiftvr_trt.engines.bundle.targets import QUANTISED
from swiftvr_trt.export.graph.calibration import SAMPLE_CLIP, CalibrationSource
from swiftvr_trt.export.graph.dit_stage import DitStage
from swiftvr_trt.export.graph.rewrites import ALL
from swiftvr_trt.export.network.checkpoint import Checkpoint, load_checkpoint
from swiftvr_trt.export.network.pixels import pixels_to_frames
from swiftvr_trt.export.network.reference import Reference
from swiftvr_trt.export.write import write_bundle
from swiftvr_trt.runtime.media import Picture, open_source
from swiftvr_trt.runtime.stream.session import Frame

PRECISIONS = ("fp16", "fp8", "int8")
ENGINES = "12.0"
"""Compute capability of the engines whose number formats are measured."""


def restore(
    checkpoint: Checkpoint, recipe: Recipe, folder: Path, frames: list[Frame], capability: str | None = None
) -> list[Frame]:
    """Restore the clip with a bundle, which is written to `folder`. capability: compute as engines for such GPUs do."""
    scales = CalibrationSource().obtain(checkpoint, recipe, click.echo) if recipe.precision in QUANTISED else None
    if capability is None:
        bundle = write_bundle(checkpoint, recipe, folder / recipe.precision, calibration=scales)
    else:
        bundle = write_engine_graphs(checkpoint, recipe, folder / f"{recipe.precision}-engines", capability, scales)
    with Restorer.open(bundle) as restorer:
        return list(restorer.restore(frames))


def with_float16_autoencoder(checkpoint: Checkpoint) -> Checkpoint:
    """A copy whose autoencoder computes in float16, with float32 inputs and outputs."""
    reae = copy.deepcopy(checkpoint.reae).half()
    for half in (reae.encoder, reae.decoder):
        half.register_forward_pre_hook(lambda _, inputs: (inputs[0].half(), inputs[1]))
        half.register_forward_hook(lambda _, _inputs, results: (results[0].float(), results[1]))
    return replace(checkpoint, reae=reae)


@torch.no_grad()
def plain_cast(checkpoint: Checkpoint, size: Resolution, clip_len: int, frames: list[Frame]) -> Iterator[Frame]:
    """Restore the clip with a transformer that is cast to float16 as a whole. The autoencoder stays as it is."""
    reference = Reference(checkpoint, size, clip_len=clip_len)
    latents = clip_len // 4 + 1
    cast = DitStage(copy.deepcopy(checkpoint.dit), checkpoint.prompt, size, latents, ALL.without(ALL.names())).half()
    state = checkpoint.reae.decoder.initial_state(size.latent_height, size.latent_width)
    for chunk, seen in reference.encode(frames):
        out = cast(seen.half()).float()[chunk.context :]
        pixels, state = checkpoint.reae.decoder(out, state)
        yield from pixels_to_frames(pixels[chunk.skip : chunk.skip + chunk.emit], size).numpy()


def _restored(checkpoint: Checkpoint, recipe: Recipe, taken: list[Frame]) -> Iterator[tuple[str, list[Frame]]]:
    """The clip in each form, by name; float32 first."""
    size = recipe.resolution
    with tempfile.TemporaryDirectory() as directory:
        for name in ("fp32", *PRECISIONS):
            mine = replace(recipe, precision=name)
            yield name, restore(checkpoint, mine, Path(directory), taken)
            if name in QUANTISED:
                engines = replace(mine, autoencoder="int8")
                yield f"{name}, as in engines", restore(checkpoint, engines, Path(directory), taken, ENGINES)
    cast = with_float16_autoencoder(checkpoint)
    yield "plain cast", list(plain_cast(cast, size, recipe.clip_len, taken))
    yield "plain cast of the transformer", list(plain_cast(checkpoint, size, recipe.clip_len, taken))


@click.command()
@click.option("--checkpoint", type=click.Path(exists=True, path_type=Path), required=True)
@click.option("--clip", type=click.Path(exists=True, path_type=Path), default=SAMPLE_CLIP, show_default=True)
@click.option("--frames", default=40, show_default=True)
@click.option("--clip-len", default=24, show_default=True)
@click.option("--upscale", default=2.0, show_default=True)
@click.option("-o", "--output", type=click.Path(path_type=Path), help="Also write the figures as JSON.")
def main(checkpoint: Path, clip: Path, frames: int, clip_len: int, upscale: float, output: Path | None) -> None:
    """Restore the clip in each precision, and print the PSNR against float32 as soon as it is known."""
    loaded, digest = load_checkpoint(checkpoint), BundleCache().checkpoint_digest(checkpoint)
    with open_source(clip) as source:
        taken = list(islice((item.pixels for item in source if isinstance(item, Picture)), frames))
    size = Resolution(round(taken[0].shape[1] * upscale), round(taken[0].shape[0] * upscale))
    table: dict[str, dict[str, float]] = {}
    exact: list[Frame] = []
    for name, frames_out in _restored(loaded, Recipe(digest, size.width, size.height, clip_len, "fp32", "onnx"), taken):
        exact = exact or frames_out
        if frames_out is not exact:
            values = {"all": psnr(frames_out, exact), "worst frame": min(frame_psnrs(frames_out, exact))}
            table[name] = {key: round(value, 2) for key, value in values.items()}
            click.echo(f"{name:30} {values['all']:6.2f} dB to fp32, worst frame {values['worst frame']:6.2f} dB")
    if output is not None:
        facts = {"checkpoint": checkpoint.name, "clip": clip.name, "frames": len(taken), "size": str(size)}
        output.write_text(json.dumps({**facts, "psnr_db": table}, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
