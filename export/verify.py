"""Compare a bundle with the float32 torch network it was made from: every stage, and the whole loop.

Each stage gets the same plausible inputs on both sides: the autoencoder the second step of a moving picture, the
transformer random latents. The loop gets a moving picture long enough for FIRST, MIDDLE and LAST chunks. Engines
restore it twice, since a chunk becomes a CUDA graph at the second use, and must give the same frames then. Differences
are absolute: frames in levels of 255, everything else as it is. Float32 bundles are judged by the largest difference,
others by their signal-to-noise ratio in decibels.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..engines.bundle.cache import BundleCache
from ..engines.bundle.files import Bundle
from ..engines.bundle.geometry import FRAMES_PER_LATENT
from ..engines.bundle.manifest import Manifest, Recipe, Role, StageSpec
from ..engines.bundle.pixel_formats import PIXEL_FORMATS, RGB24, PixelFormat
from ..engines.bundle.targets import bundle_target
from ..errors import MisuseError
from ..runtime.devices.cuda import CudaDevice
from ..runtime.devices.gpu import gpu_index, require_driver
from ..runtime.restore.restorer import OpenOptions, Restorer, open_device
from ..runtime.stream.buffers import Forms, View, plan_buffers
from ..runtime.stream.device import Device, Workspace
from ..runtime.stream.frames import Conversion, YuvColour
from ..runtime.stream.program import Download, Upload, stage_program
from ..runtime.stream.session import Frame, Session
from ..text import LineCallback
from .download import obtain_checkpoint
from .graph.stages import Stage, stages_of
from .moving_picture import synthetic_frame
from .network.checkpoint import Checkpoint, load_checkpoint
from .network.pixels import given_codes, taken_pixels
from .network.reference import Reference

_AGAIN = "levels, to the first time"
TOLERANCE = {_AGAIN: 0.0, "levels": 1.0, "pixels": 2e-3, "latents": 2e-3, "state": 2e-3}
"""Largest absolute difference allowed in float32. The same limits hold against the published code (tests/golden.py),
whose latents are stored as float16."""
FLOOR = {"fp16": 40.0, "bf16": 25.0, "fp8": 20.0, "int8": 20.0, "nvfp4": 12.0}
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

    bundle: directory. checkpoint: see `BuildOptions`. device: see `verification_device`. frames: length of the test
    clip; None takes two chunks and 9 frames. threads: CPU threads per stage. cache: root of the bundle cache, which
    remembers digests.
    """

    bundle: Path
    checkpoint: str | Path
    device: str | None = None
    frames: int | None = None
    threads: int | None = None
    cache: Path | None = None


def verify_files(options: VerifyOptions, report: LineCallback = lambda _line: None) -> Iterator[Comparison]:
    """Compare a bundle on disk with the checkpoint it was made from; yields each comparison as it is known.

    report: gets lines about a download. Raises `MachineError` before the checkpoint is read if the device is a GPU and
    there is none.
    """
    bundle = Bundle.open(options.bundle)
    device = verification_device(bundle.manifest.recipe, options.device)
    root = obtain_checkpoint(options.checkpoint, report)
    digest = BundleCache(options.cache).checkpoint_digest(root)
    checkpoint = load_checkpoint(root)
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
        for form in PIXEL_FORMATS:
            with _workspace(opened, bundle.manifest, form) as workspace:
                yield from _compare_pixel_stages(workspace, bundle.manifest, form)
        with _workspace(opened, bundle.manifest, RGB24) as workspace:
            plain = replace(recipe, precision="fp32", calibration=None, autoencoder=None)
            yield from _compare_stages(workspace, bundle.manifest, stages_of(checkpoint, plain))
        yield from _compare_loop(restorer, checkpoint, frames, opened)


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


def _even_size(recipe: Recipe, form: PixelFormat) -> tuple[int, int]:
    """Height and width of input frames of this format."""
    height, width = _input_size(recipe)
    return (height - height % 2, width - width % 2) if form.yuv else (height, width)


@contextmanager
def _workspace(device: Device, manifest: Manifest, form: PixelFormat) -> Iterator[Workspace]:
    """The buffers of a stream of this format, all of them accessible to the host."""
    gives = form.holds(manifest.recipe.height, manifest.recipe.width)
    forms = Forms(form, form if gives else RGB24)
    planned = plan_buffers(manifest, *_even_size(manifest.recipe, form), forms)
    workspace = device.workspace({name: replace(spec, host=True) for name, spec in planned.items()})
    try:
        yield workspace
    finally:
        workspace.close()


def _input_size(recipe: Recipe) -> tuple[int, int]:
    """Height and width of input frames. Engines accept none larger than their output."""
    height, width = _INPUT_SIZE
    if bundle_target(recipe.target).compiled:
        return min(height, recipe.height), min(width, recipe.width)
    return height, width


def _compare_pixel_stages(workspace: Workspace, manifest: Manifest, form: PixelFormat) -> Iterator[Comparison]:
    """The stages of one format, on random frames and pixels."""
    recipe, random, colour = manifest.recipe, np.random.default_rng(_SEED), YuvColour()
    shape = (FRAMES_PER_LATENT, *form.shape(*_even_size(recipe, form)))
    stored = random.integers(0, 1 << form.bits, shape, np.uint16) * np.uint16(form.unit)
    frames = stored.astype(form.host_dtype).reshape(-1).view(np.uint8)
    take = manifest.stage(form.take)
    ours = run_stage(workspace, manifest, take, [frames, *_conversion(form, colour.to_rgb(form.bits))])[0]
    theirs = taken_pixels(stored, form, colour, recipe.resolution, parity=recipe.parity)
    yield _measure(take.name, "pixels", [(ours, theirs)], recipe.precision)
    if not form.holds(recipe.height, recipe.width):
        return
    give = manifest.stage(form.give)
    pixels = random.random([side or 1 for side in give.inputs[0].shape], np.float32).astype(give.inputs[0].dtype)
    found = run_stage(workspace, manifest, give, [pixels, *_conversion(form, colour.from_rgb(form.bits))])[0]
    expected = given_codes(pixels.astype(np.float32), form, colour, recipe.resolution)
    level = form.unit * ((1 << form.bits) - 1) / 255
    codes = found.reshape(-1).view(form.host_dtype).reshape(expected.shape)
    yield _measure(give.name, "levels", [(codes / level, expected / level)], recipe.precision)


def _conversion(form: PixelFormat, conversion: Conversion) -> list[Array]:
    return list(conversion.inputs().values()) if form.yuv else []


@torch.no_grad()
def _compare_stages(workspace: Workspace, manifest: Manifest, stages: Iterable[Stage]) -> Iterator[Comparison]:
    """The stages of the network, in their order. The decoder gets what the encoder made of a moving picture.

    Its states then are in the range of real ones, which those of a decoder with scales must be.
    """
    random = np.random.default_rng(_SEED)
    steps = [_moving_pixels(manifest.recipe, first) for first in (0, FRAMES_PER_LATENT)]
    for stage in stages:
        spec = manifest.stage(stage.name)
        if len(stage.inputs) > 1:
            before = stage.module(steps[0], *stage.example[1:])
            inputs, steps = [steps[1], *before[1:]], [before[0]]
        else:
            shape = tuple(side or 1 for side in spec.inputs[0].shape)
            inputs = [torch.from_numpy(random.standard_normal(shape, dtype=np.float32))]
        arrays = [x.numpy().astype(t.dtype) for x, t in zip(inputs, spec.inputs, strict=True)]
        result = stage.module(*(torch.from_numpy(_wide(array)) for array in arrays))
        theirs = result if isinstance(result, tuple) else (result,)
        if len(stage.inputs) > 1:
            steps.append(theirs[0])
        ours = run_stage(workspace, manifest, spec, arrays)
        for role, unit in ((Role.PIXELS, "pixels"), (Role.LATENTS, "latents"), (Role.STATE_OUT, "state")):
            triples = zip(spec.outputs, ours, theirs, strict=True)
            pairs = [(a, b.numpy()) for tensor, a, b in triples if tensor.role is role]
            if pairs:
                yield _measure(spec.name, unit, pairs, _coarsest(manifest.recipe))


def _moving_pixels(recipe: Recipe, first: int) -> Tensor:
    """Four frames of a moving picture as the network takes them."""
    shown = range(first, first + FRAMES_PER_LATENT)
    frames = np.stack([synthetic_frame(index, recipe.height, recipe.width) for index in shown])
    return torch.from_numpy(_wide(taken_pixels(frames, RGB24, YuvColour(), recipe.resolution, parity=recipe.parity)))


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
    return array.astype(np.float32)


def _compare_loop(
    restorer: Restorer, checkpoint: Checkpoint, frames: int | None, device: Device
) -> Iterator[Comparison]:
    recipe = restorer.manifest.recipe
    count = frames or 2 * recipe.clip_len + 9
    clip = [synthetic_frame(index, *_input_size(recipe)) for index in range(count)]
    reference = Reference(checkpoint, recipe.resolution, clip_len=recipe.clip_len, parity=recipe.parity)
    with restorer.session() as session:
        ours = _restored(session, clip)
        pairs: list[tuple[Array, Array]] = list(zip(ours, reference.restore(clip), strict=True))
        yield _measure(f"whole loop, {count} frames", "levels", pairs, _coarsest(recipe))
        if isinstance(device, CudaDevice) and bundle_target(recipe.target).compiled:
            before = device.compute.graphs.launched
            again = _restored(session, clip)
            graphs = device.compute.graphs.launched - before
            subject = f"whole loop again, {'with' if graphs else 'without'} CUDA graphs"
            yield _measure(subject, _AGAIN, list(zip(again, ours, strict=True)), "")


def _restored(session: Session, clip: Sequence[Frame]) -> list[Array]:
    """Restore a clip as a stream of its own."""
    return [restored for frame in clip for restored in session.feed(frame)] + session.flush()


def _coarsest(recipe: Recipe) -> str:
    """The precision whose floor holds: that of the transformer or of the autoencoder, whichever is lower."""
    return min(recipe.precision, recipe.autoencoder or recipe.precision, key=lambda name: FLOOR.get(name, math.inf))


def _measure(subject: str, unit: str, pairs: list[tuple[Array, Array]], precision: str) -> Comparison:
    largest, total, noise, signal, count, finite = 0.0, 0.0, 0.0, 0.0, 0, True
    for ours, theirs in pairs:
        wide = theirs.astype(np.float64)
        difference = np.abs(ours.astype(np.float64) - wide)
        finite = finite and bool(np.isfinite(ours.astype(np.float64)).all())
        largest = max(largest, float(difference.max()))
        total, count = total + float(difference.sum()), count + difference.size
        noise, signal = noise + float((difference**2).sum()), signal + float((wide**2).sum())
    if unit in ("levels", _AGAIN):
        signal = _WHITE**2 * count
    decibels = 10 * math.log10(signal / noise) if noise > 0 and signal > 0 else math.inf
    return Comparison(subject, unit, largest, total / count, decibels, precision, finite)
