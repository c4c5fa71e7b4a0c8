"""What one chunk does, as data: which buffers a stream needs, and which steps run over them in which order.

Both are pure functions of the manifest and of the chunk, so that a device can allocate once, record a program once
(bindings on the CPU, a captured graph on a GPU) and replay it for every later chunk of the same shape. Nothing here
executes anything.

    frames_in_s   uint8 [c + 4, h, w, 3]    frames of the chunk as they came; the host writes it
    latents_s     [n + 1, C, H/16, W/16]    what the transformer sees; the other one is the previous chunk's
    restored      the same                  what it returns; there is one, since only this chunk reads it
    frames_out_s  uint8 [c + 4, H, W, 3]    all decoded frames; the host reads it
    encode_k_s, decode_k_s                  state k of each stage: one is read while the other is written

There are two of the others, s = 0 and 1. Chunks take turns, so that the host may fill the frames of the next chunk and
read those of the last one while a chunk runs. Slots of a buffer are selected along its first axis, so a stage reads and
writes its slot in place: nothing is copied between stages.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from swiftvr_trt.engines.bundle.geometry import FRAMES_PER_LATENT
from swiftvr_trt.engines.bundle.manifest import DTYPE_BYTES, MAX_STREAM_BYTES, Manifest, Role, StageSpec, TensorSpec
from swiftvr_trt.errors import MisuseError

from .chunks import Chunk


@dataclass(frozen=True)
class BufferSpec:
    """Shape and dtype (a NumPy name) of one buffer.

    host: the caller reads or writes it between programs. over: a buffer whose device memory this one may use, because
    no program needs the content of both at a time; a device for which host and device memory are one must not.
    """

    shape: tuple[int, ...]
    dtype: str
    host: bool = False
    over: str | None = None

    @property
    def nbytes(self) -> int:
        return math.prod(self.shape) * DTYPE_BYTES[self.dtype]

    @property
    def slot_bytes(self) -> int:
        """Bytes of one step along the first axis."""
        return self.nbytes // self.shape[0]


@dataclass(frozen=True)
class View:
    """Slots `start` to `start + count` of a buffer's first axis."""

    buffer: str
    start: int
    count: int


@dataclass(frozen=True)
class Run:
    """Execute a stage; views are in the order of the stage's inputs and outputs."""

    stage: str
    inputs: tuple[View, ...]
    outputs: tuple[View, ...]


@dataclass(frozen=True)
class Copy:
    """Copy one view to another of the same size; they do not overlap."""

    source: View
    target: View


@dataclass(frozen=True)
class Clear:
    """Set a view to zeros."""

    target: View


@dataclass(frozen=True)
class Upload:
    """Make what the host wrote into a view visible to the stages."""

    view: View


@dataclass(frozen=True)
class Download:
    """Make what the stages wrote into a view visible to the host."""

    view: View


Step = Run | Copy | Clear | Upload | Download


@dataclass(frozen=True)
class Phase:
    """Which of each pair of buffers is current: holds the state to read, or is the turn's (frames and latents)."""

    encoder: int = 0
    decoder: int = 0
    turn: int = 0


def plan_buffers(manifest: Manifest, height: int, width: int) -> dict[str, BufferSpec]:
    """Every buffer of one stream whose frames come in as `height x width` pixels."""
    recipe = manifest.recipe
    slots = recipe.latents + 1
    latent = _of_role(manifest.stage("dit_edge"), Role.LATENTS)
    frames = slots * FRAMES_PER_LATENT
    buffers: dict[str, BufferSpec] = {}
    for side in (0, 1):
        buffers[f"frames_in_{side}"] = BufferSpec((frames, height, width, 3), "uint8", host=True)
        buffers[f"latents_{side}"] = BufferSpec(latent.shape, latent.dtype)
        # Decoding begins when all frames of the chunk are encoded, and nobody fills a side again before its last
        # chunk has been downloaded.
        shape = (frames, recipe.height, recipe.width, 3)
        buffers[f"frames_out_{side}"] = BufferSpec(shape, "uint8", host=True, over=f"frames_in_{side}")
    buffers["restored"] = BufferSpec(latent.shape, latent.dtype)
    for stage in ("encode", "decode"):
        states = [spec for spec in manifest.stage(stage).inputs if spec.role is Role.STATE_IN]
        for k, spec in enumerate(states):
            for side in (0, 1):
                buffers[_state(stage, k, side)] = BufferSpec(_static(spec.shape), spec.dtype)
    total = sum(spec.nbytes for spec in buffers.values())
    if total > MAX_STREAM_BYTES:
        raise MisuseError(
            f"a stream of {width}x{height} frames through {recipe.describe()} needs {total / 1e9:.0f} GB of buffers, "
            f"the limit is {MAX_STREAM_BYTES / 1e9:.0f} GB; take a smaller resolution or a shorter clip length"
        )
    return buffers


def stage_shape(tensor: TensorSpec, buffers: Mapping[str, BufferSpec]) -> tuple[int, ...]:
    """The shape of a stage's tensor in a stream: free sides are those of the frames that come in."""
    frames = buffers["frames_in_0"].shape
    return tuple(frames[axis] if side is None else side for axis, side in enumerate(tensor.shape))


def clear_program(manifest: Manifest) -> tuple[Step, ...]:
    """Steps that put a stream back to its beginning; the phase after it is `Phase()`."""
    return tuple(
        Clear(View(_state(stage, k, 0), 0, 1))
        for stage in ("encode", "decode")
        for k in range(_states(manifest.stage(stage)))
    )


def chunk_program(manifest: Manifest, chunk: Chunk, phase: Phase, *, first: bool) -> tuple[tuple[Step, ...], Phase]:
    """The steps of one chunk and the phase that they leave behind. `first`: no chunk of the stream came before."""
    turn = phase.turn
    frames_in, latents, frames_out = (f"{name}_{turn}" for name in ("frames_in", "latents", "frames_out"))
    previous = f"latents_{1 - turn}"
    # Latents end at the last slot in every kind of chunk, so that the next one finds the most recent at the end.
    base = manifest.recipe.latents + 1 - chunk.window
    new = base + chunk.context
    encode, decode = manifest.stage("encode"), manifest.stage("decode")
    encoder, decoder = phase.encoder, phase.decoder
    steps: list[Step] = [Upload(View(frames_in, 0, chunk.latents * FRAMES_PER_LATENT))]
    if chunk.context:
        front = View(latents, base, chunk.context)
        steps.append(Clear(front) if first else Copy(View(previous, base + chunk.latents, chunk.context), front))
    for k in range(chunk.latents):
        steps.append(_advance(encode, _four(frames_in, k), View(latents, new + k, 1), encoder))
        encoder = 1 - encoder
    stage = "dit" if chunk.window == manifest.recipe.latents else "dit_edge"
    steps.append(Run(stage, (View(latents, base, chunk.window),), (View("restored", base, chunk.window),)))
    for k in range(chunk.latents):
        steps.append(_advance(decode, View("restored", new + k, 1), _four(frames_out, k), decoder))
        decoder = 1 - decoder
    steps.append(Download(View(frames_out, chunk.skip, chunk.emit)))
    return tuple(steps), Phase(encoder, decoder, 1 - turn)


def stage_program(manifest: Manifest, name: str) -> tuple[Step, ...]:
    """One run of a stage by itself, over the first slots of what it uses in a chunk; for trying stages one by one.

    All it reads is uploaded before, and all it writes is downloaded after it, so those buffers must be the host's.
    """
    stage = manifest.stage(name)
    if name == "encode":
        run = _advance(stage, _four("frames_in_0", 0), View("latents_0", 0, 1), 0)
    elif name == "decode":
        run = _advance(stage, View("restored", 0, 1), _four("frames_out_0", 0), 0)
    else:
        count = manifest.recipe.latents + (name == "dit_edge")
        run = Run(name, (View("latents_0", 0, count),), (View("restored", 0, count),))
    return (*map(Upload, run.inputs), run, *map(Download, run.outputs))


def _four(buffer: str, k: int) -> View:
    """The frames of latent number `k`."""
    return View(buffer, k * FRAMES_PER_LATENT, FRAMES_PER_LATENT)


def _advance(stage: StageSpec, source: View, target: View, side: int) -> Run:
    """One step of a stateful stage: state is read on `side` and written on the other."""
    count = _states(stage)
    before = tuple(View(_state(stage.name, k, side), 0, 1) for k in range(count))
    after = tuple(View(_state(stage.name, k, 1 - side), 0, 1) for k in range(count))
    return Run(stage.name, (source, *before), (target, *after))


def _states(stage: StageSpec) -> int:
    return len(stage.inputs) - 1


def _state(stage: str, k: int, side: int) -> str:
    return f"{stage}_{k}_{side}"


def _of_role(stage: StageSpec, role: Role) -> BufferSpec:
    spec = next(spec for spec in stage.inputs if spec.role is role)
    return BufferSpec(_static(spec.shape), spec.dtype)


def _static(shape: tuple[int | None, ...]) -> tuple[int, ...]:
    return tuple(side for side in shape if side is not None)
