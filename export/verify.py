"""Compare a bundle with the float32 torch network it was made from: every stage, and the whole loop.

Each stage gets the same random but plausible inputs on both sides. The loop gets a moving picture long enough for
FIRST, MIDDLE and LAST chunks. Differences are absolute: latents and states as they are, frames in levels of 255.
Float32 bundles are judged by the largest difference, others by their signal-to-noise ratio in decibels.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from ..engines.bundle.cache import BundleCache
from ..engines.bundle.files import Bundle
from ..engines.bundle.manifest import Manifest, Recipe, Role, StageSpec
from ..engines.bundle.targets import bundle_target
from ..errors import MisuseError
from ..runtime.devices.gpu import gpu_index, require_driver
from ..runtime.restore.restorer import OpenOptions, Restorer, open_device
from ..runtime.stream.device import Workspace
from ..runtime.stream.program import BufferSpec, Download, Upload, View, plan_buffers, stage_program
from .graph.stages import Stage, stages_of
from .network.checkpoint import Checkpoint, load_checkpoint
from .network.reference import Reference

TOLERANCE = {"levels": 1.0, "latents": 2e-3, "state": 2e-3}
"""Largest absolute difference allowed in float32. The same limits hold against the published code (tests/golden.py),
whose latents are stored as float16."""
FLOOR = {"fp16": 40.0, "bf16": 25.0, "fp8": 20.0, "nvfp4": 12.0}
"""Lowest signal-to-noise ratio allowed, in decibels. Every sound bundle seen so far had more; how much more depends on
its checkpoint. The signal of frames is white (PSNR); latents and states are their own signal."""
_WHITE = 255.0

_INPUT_SIZE = (90, 122)
_SEED = 20260609

Array = NDArray[np.generic]


@dataclass(frozen=True)
class Comparison:
    """One comparison.

    subject: stage or loop. unit: of the differences, a key of `TOLERANCE`. largest, mean: absolute differences.
    decibels: signal-to-noise ratio, infinity if there is no difference. precision: of the bundle. finite: False if the
    bundle gave a NaN or an infinity.
    """

    subject: str
    unit: str
    largest: float
    mean: float
    decibels: float
    precision: str
    finite: bool

    @property
    def expected(self) -> str:
        """The limit that decides, as text."""
        floor = FLOOR.get(self.precision)
        return f"<= {TOLERANCE[self.unit]:g}" if floor is None else f">= {floor:g} dB"

    @property
    def passed(self) -> bool:
        floor = FLOOR.get(self.precision)
        return self.finite and (self.largest <= TOLERANCE[self.unit] if floor is None else self.decibels >= floor)


@dataclass(frozen=True)
class VerifyOptions:
    """What to compare. Fields have the names of the options of `swiftvr-export verify`.

    bundle, checkpoint: directories. device: see `verification_device`. frames: length of the test clip; None takes two
    chunks and 9 frames. threads: CPU threads per stage. cache: root of the bundle cache, which remembers digests.
    """

    bundle: Path
    checkpoint: Path
    device: str | None = None
    frames: int | None = None
    threads: int | None = None
    cache: Path | None = None


def verify_files(options: VerifyOptions) -> Iterator[Comparison]:
    """Compare a bundle on disk with the checkpoint it was made from; yields each comparison as it is known.

    Raises `MachineError` before the checkpoint is read if the device is a GPU and there is none.
    """
    bundle = Bundle.open(options.bundle)
    device = verification_device(bundle.manifest.recipe, options.device)
    digest = BundleCache(options.cache).checkpoint_digest(options.checkpoint)
    checkpoint = load_checkpoint(options.checkpoint)
    yield from verify_bundle(bundle, checkpoint, digest, device=device, frames=options.frames, threads=options.threads)


def verify_bundle(
    bundle: Bundle,
    checkpoint: Checkpoint,
    digest: str,
    *,
    device: str | None = None,
    frames: int | None = None,
    threads: int | None = None,
) -> Iterator[Comparison]:
    """Compare every stage, then the loop; yields each comparison as it is done.

    digest: of `checkpoint`; raises `MisuseError` if the bundle was made from another. device: as for
    `verification_device`. frames: length of the stream for the loop; None takes one with FIRST, MIDDLE and LAST chunks.
    threads: of the CPU.
    """
    recipe = bundle.manifest.recipe
    if recipe.checkpoint != digest:
        raise MisuseError(
            f"{bundle.path} was made from checkpoint {recipe.checkpoint[:16]}, {checkpoint.path} is {digest[:16]}; "
            "pass the checkpoint it was made from"
        )
    opened = open_device(bundle, verification_device(recipe, device), OpenOptions(threads))
    with Restorer(opened, bundle.manifest) as restorer:
        workspace = opened.workspace(_buffers(bundle.manifest))
        try:
            for stage in stages_of(checkpoint, replace(recipe, precision="fp32", calibration=None)):
                yield from _compare_stage(workspace, bundle.manifest, stage)
        finally:
            workspace.close()
        yield _compare_loop(restorer, checkpoint, frames)


def verification_device(recipe: Recipe, device: str | None) -> str:
    """The device that runs a bundle: as in `Restorer.open`, except that None takes the CPU for ONNX graphs.

    Raises `MisuseError` for an unknown device, `MachineError` for a GPU without a driver. Cheap, so call it
    before reading a checkpoint.
    """
    chosen = device or ("cpu" if bundle_target(recipe.target).runs_on_cpu else "cuda")
    if chosen != "cpu":
        gpu_index(chosen)
        require_driver()
    return chosen


def _buffers(manifest: Manifest) -> dict[str, BufferSpec]:
    """The buffers of a stream, all of them accessible to the host."""
    planned = plan_buffers(manifest, *_input_size(manifest.recipe))
    return {name: replace(spec, host=True) for name, spec in planned.items()}


def _input_size(recipe: Recipe) -> tuple[int, int]:
    """Height and width of input frames. Engines accept none larger than their output."""
    height, width = _INPUT_SIZE
    if bundle_target(recipe.target).compiled:
        return min(height, recipe.height), min(width, recipe.width)
    return height, width


def _compare_stage(workspace: Workspace, manifest: Manifest, stage: Stage) -> Iterator[Comparison]:
    spec = manifest.stage(stage.name)
    inputs = _stage_inputs(spec, *_input_size(manifest.recipe))
    ours = run_stage(workspace, manifest, spec, inputs)
    with torch.no_grad():
        result = stage.module(*(torch.from_numpy(_wide(array)) for array in inputs))
    theirs = [tensor.numpy() for tensor in (result if isinstance(result, tuple) else (result,))]
    for role, unit in ((Role.FRAMES, "levels"), (Role.LATENTS, "latents"), (Role.STATE_OUT, "state")):
        pairs = [(a, b) for t, a, b in zip(spec.outputs, ours, theirs, strict=True) if t.role is role]
        if pairs:
            yield _measure(spec.name, unit, pairs, manifest.recipe.precision)


def run_stage(workspace: Workspace, manifest: Manifest, spec: StageSpec, inputs: list[Array]) -> list[Array]:
    """Run one stage on arrays; returns its outputs in order. All buffers of the workspace must be open to the host."""
    steps = stage_program(manifest, spec.name)
    for step, array in zip((s for s in steps if isinstance(s, Upload)), inputs, strict=True):
        _bytes_of(workspace, step.view)[...] = array.reshape(-1).view(np.uint8)
    workspace.record(steps, once=True).replay()
    found = (_bytes_of(workspace, s.view).copy() for s in steps if isinstance(s, Download))
    return [
        data.view(tensor.dtype).reshape([side or 1 for side in tensor.shape])
        for data, tensor in zip(found, spec.outputs, strict=True)
    ]


def _bytes_of(workspace: Workspace, view: View) -> NDArray[np.uint8]:
    """The host's view of a buffer, as bytes: NumPy has no bfloat16."""
    slots = workspace.host(view.buffer)[view.start : view.start + view.count]
    return slots.reshape(-1).view(np.uint8)


def _wide(array: Array) -> Array:
    """The array as the float32 network takes it."""
    return array if array.dtype == np.uint8 else array.astype(np.float32)


def _stage_inputs(spec: StageSpec, height: int, width: int) -> list[Array]:
    """Random inputs of a stage: frames of a moving picture, latents and states as large as real ones."""
    random = np.random.default_rng(_SEED)
    arrays: list[Array] = []
    for tensor in spec.inputs:
        if tensor.role is Role.FRAMES:
            arrays.append(np.stack([synthetic_frame(index, height, width) for index in range(tensor.shape[0] or 1)]))
        else:
            shape = tuple(side or 1 for side in tensor.shape)
            values = random.standard_normal(shape, dtype=np.float32)
            # not negative, because states come out of a ReLU
            arrays.append((np.abs(values) if tensor.role is Role.STATE_IN else values).astype(tensor.dtype))
    return arrays


def _compare_loop(restorer: Restorer, checkpoint: Checkpoint, frames: int | None) -> Comparison:
    recipe = restorer.manifest.recipe
    count = frames or 2 * recipe.clip_len + 9
    clip = [synthetic_frame(index, *_input_size(recipe)) for index in range(count)]
    reference = Reference(checkpoint, recipe.resolution, clip_len=recipe.clip_len, parity=recipe.parity)
    pairs: list[tuple[Array, Array]] = list(zip(restorer.restore(clip), reference.restore(clip), strict=True))
    return _measure(f"whole loop, {count} frames", "levels", pairs, recipe.precision)


def _measure(subject: str, unit: str, pairs: list[tuple[Array, Array]], precision: str) -> Comparison:
    largest, total, noise, signal, count, finite = 0.0, 0.0, 0.0, 0.0, 0, True
    for ours, theirs in pairs:
        wide = theirs.astype(np.float64)
        difference = np.abs(ours.astype(np.float64) - wide)
        finite = finite and bool(np.isfinite(ours.astype(np.float64)).all())
        largest = max(largest, float(difference.max()))
        total, count = total + float(difference.sum()), count + difference.size
        noise, signal = noise + float((difference**2).sum()), signal + float((wide**2).sum())
    if unit == "levels":
        signal = _WHITE**2 * count
    decibels = 10 * math.log10(signal / noise) if noise > 0 and signal > 0 else math.inf
    return Comparison(subject, unit, largest, total / count, decibels, precision, finite)


def synthetic_frame(index: int, height: int, width: int) -> NDArray[np.uint8]:
    """Frame `index` of a moving test picture, uint8 [height, width, 3]: edges, gradients and texture at all scales."""
    y, x = np.mgrid[0:height, 0:width].astype(np.float64)
    u, v = x + 1.7 * index, y + 0.6 * index
    waves = (
        np.sin(u / 7.0) * np.cos(v / 11.0),
        np.sign(np.sin(u / 23.0 + v / 17.0)),
        np.sin((u * u + v * v) / 900.0),
    )
    levels = 127.5 + 90.0 * np.stack(waves, axis=-1) + 30.0 * np.sin(x / width * 3 + index / 9)[..., None]
    frame: NDArray[np.uint8] = np.clip(np.rint(levels), 0, 255).astype(np.uint8)
    return frame
