"""What would fit on a GPU whose memory is too small: estimates by pure functions.

Each alternative is a manifest as a smaller build would have it: shapes and activations scale with the pixels, weights
with the bytes of a weight, frame buffers with the clip length. The memory plan of that manifest is the estimate.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from fractions import Fraction

from ...engines.bundle.geometry import FRAMES_PER_LATENT, Resolution
from ...engines.bundle.manifest import Manifest, Recipe, Role, StageSpec, TensorSpec
from ...engines.bundle.targets import BYTES_PER_WEIGHT, TARGETS
from ...text import format_bytes
from ..stream.plan import plan_memory

_SCALES = tuple(Fraction(*ratio) for ratio in ((5, 6), (3, 4), (2, 3), (1, 2), (1, 3), (1, 4)))
_CLIPS = (20, 16, 12, 8, 4)


def shortage_message(
    manifest: Manifest, height: int, width: int, free: int | None, *, overlap: bool = False, others: Sequence[int] = ()
) -> str:
    """The message for a pipeline that does not fit on a GPU.

    height, width: of the frames that come in, in pixels. free: bytes that the whole pipeline can have, including those
    that it holds already; None if unknown. overlap: chunks are decoded beside the next ones, which takes more. others:
    bytes of each other stream that is open at the same time, as that of another tile.
    """
    beside = sum(others)
    needed, without = (
        plan_memory(manifest, height, width, overlap=each).gpu_bytes + beside for each in (overlap, False)
    )
    fits_without = overlap and not others and free is not None and without <= free
    remedy = f"leave out --overlap (then {format_bytes(without)})" if fits_without else None
    available = f"{format_bytes(free)} are available" if free is not None else "the GPU has less"
    streams = f" in {len(others) + 1} streams or tiles" * bool(others)
    return (
        f"not enough GPU memory: {manifest.recipe.describe()} needs {format_bytes(needed)} for "
        f"{width}x{height} frames{streams}{' with --overlap' * overlap}, {available}; "
        f"{remedy or (_FEWER if others else _remedy(manifest, height, width, free))}"
    )


_FEWER = "close other programs on the GPU, or use fewer streams; for tiles, choose a smaller output"


def _remedy(manifest: Manifest, height: int, width: int, free: int | None) -> str:
    options = what_fits(manifest, height, width, free) if free is not None else ()
    if not options:
        return "close other programs on the GPU, or use a GPU with more memory"
    return f"close other programs on the GPU, or build a bundle that would fit: {', or '.join(options)} (estimated)"


def what_fits(manifest: Manifest, height: int, width: int, free: int) -> tuple[str, ...]:
    """Build options that fit into `free` bytes: the smallest change of resolution, of clip length and of precision.

    height, width: of the frames that come in, in pixels. Returns e.g. `("--resolution 1280x720", "--clip-len 16")`.
    """
    found = []
    for kind in (_smaller_sizes, _shorter_clips, _other_precisions):
        for option, smaller in kind(manifest):
            # The frames that come in stay the same, but no engine takes larger frames than it returns.
            size = smaller.recipe.resolution
            if plan_memory(smaller, min(height, size.height), min(width, size.width)).gpu_bytes <= free:
                found.append(option)
                break
    return tuple(found)


def _smaller_sizes(manifest: Manifest) -> Iterator[tuple[str, Manifest]]:
    recipe = manifest.recipe
    for scale in _SCALES:
        size = Resolution(max(round(recipe.width * scale / 2) * 2, 2), max(round(recipe.height * scale / 2) * 2, 2))
        yield f"--resolution {size}", _resized(manifest, size)


def _shorter_clips(manifest: Manifest) -> Iterator[tuple[str, Manifest]]:
    for clip_len in _CLIPS:
        if clip_len < manifest.recipe.clip_len:
            yield f"--clip-len {clip_len}", _reclipped(manifest, clip_len)


def _other_precisions(manifest: Manifest) -> Iterator[tuple[str, Manifest]]:
    """Smaller precisions that the target supports, the largest first."""
    recipe = manifest.recipe
    targets = [t for t in TARGETS if t.name == recipe.target]
    smaller = [p for t in targets for p in t.precisions if BYTES_PER_WEIGHT[p] < BYTES_PER_WEIGHT[recipe.precision]]
    for precision in sorted(smaller, key=lambda p: -BYTES_PER_WEIGHT[p]):
        ratio = BYTES_PER_WEIGHT[precision] / BYTES_PER_WEIGHT[recipe.precision]
        stages = tuple(replace(s, weight_bytes=int(s.weight_bytes * ratio)) for s in manifest.stages)
        yield f"--precision {precision}", replace(manifest, recipe=replace(recipe, precision=precision), stages=stages)


def _resized(manifest: Manifest, size: Resolution) -> Manifest:
    old = manifest.recipe.resolution
    recipe = replace(manifest.recipe, width=size.width, height=size.height)
    tall, wide = Fraction(size.padded_height, old.padded_height), Fraction(size.padded_width, old.padded_width)

    def tensor(spec: TensorSpec) -> TensorSpec:
        if spec.role in (Role.FRAMES, Role.COLOUR):  # the memory plan asks the recipe for the size of frames
            shape = spec.shape
        else:  # pixels, latents and states: count, channels, height, width
            count, channels, height, width = (side or 1 for side in spec.shape)
            shape = (count, channels, max(round(height * tall), 1), max(round(width * wide), 1))
        return replace(spec, shape=shape)

    def stage(spec: StageSpec) -> StageSpec:
        inputs, outputs = tuple(map(tensor, spec.inputs)), tuple(map(tensor, spec.outputs))
        return replace(spec, inputs=inputs, outputs=outputs, arena_bytes=int(spec.arena_bytes * tall * wide))

    return replace(manifest, recipe=recipe, stages=tuple(map(stage, manifest.stages)))


def _reclipped(manifest: Manifest, clip_len: int) -> Manifest:
    """Only the transformer takes a whole clip; encoder and decoder take one latent at a time."""
    old, recipe = manifest.recipe, replace(manifest.recipe, clip_len=clip_len)
    counts = {"dit": recipe.latents, "dit_edge": recipe.latents + 1}

    def stage(spec: StageSpec) -> StageSpec:
        if spec.name not in counts:
            return spec
        count = counts[spec.name]
        inputs, outputs = (
            tuple(replace(tensor, shape=(count, *tensor.shape[1:])) for tensor in tensors)
            for tensors in (spec.inputs, spec.outputs)
        )
        arena = spec.arena_bytes * count // _latents(old, spec)
        return replace(spec, inputs=inputs, outputs=outputs, arena_bytes=arena)

    return replace(manifest, recipe=recipe, stages=tuple(map(stage, manifest.stages)))


def _latents(recipe: Recipe, stage: StageSpec) -> int:
    return recipe.clip_len // FRAMES_PER_LATENT + (stage.name == "dit_edge")
