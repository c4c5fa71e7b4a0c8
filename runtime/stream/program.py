"""What one chunk does, as data: the buffers of a stream, and the steps that run over them in order.

Both are pure functions of the manifest and the chunk. A device allocates the buffers once, records the steps of a chunk
once (bindings on the CPU, a captured graph on a GPU), and replays them for every later chunk of the same shape. Nothing
here executes anything.

    frames_in_s   uint8 [c + 4, h, w, 3]    input frames of the chunk; written by the host
    latents_s     [n + 1, C, H/16, W/16]    input of the transformer; the other side holds the previous chunk's
    restored      same shape                output of the transformer; one suffices, as only this chunk reads it
    frames_out_s  uint8 [c + 4, H, W, 3]    all decoded frames; read by the host
    encode_k_s, decode_k_s                  state k of each stage: one side is read while the other is written

`c` is the clip length in frames, `n = c / 4` the latents of a MIDDLE chunk, and `s` the side, 0 or 1. Chunks alternate
between the sides, so that the host can fill the next chunk's frames and read the last chunk's while a chunk runs. A
stage reads and writes slots (steps along a buffer's first axis) in place, so nothing is copied between stages.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum

from ...engines.bundle.geometry import FRAMES_PER_LATENT
from ...engines.bundle.manifest import MAX_STREAM_BYTES, Manifest, Role, StageSpec, TensorSpec, tensor_bytes
from ...errors import MisuseError
from .chunks import Chunk


class BufferKind(Enum):
    """What a buffer holds. The value begins the names of such buffers, but for a state's."""

    FRAMES_IN = "frames_in"
    LATENTS = "latents"
    RESTORED = "restored"
    FRAMES_OUT = "frames_out"
    STATE = "state"
    STAGING_IN = "staging_in"
    STAGING_OUT = "staging_out"


RESTORED = BufferKind.RESTORED.value
"""Name of the one buffer of its kind."""


@dataclass(frozen=True)
class BufferSpec:
    """One buffer of a stream: what it holds, its shape, and its dtype (a NumPy name).

    host: the caller reads or writes it between programs. over: name of a buffer whose device memory this one may share,
    because no program needs the contents of both at once. A device whose host and device memory are one must not share.
    """

    kind: BufferKind
    shape: tuple[int, ...]
    dtype: str
    host: bool = False
    over: str | None = None

    @property
    def nbytes(self) -> int:
        return tensor_bytes(self.shape, self.dtype)

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
    """The current side, 0 or 1, of each pair of buffers.

    encoder, decoder: the side that holds the state to read. turn: the side of the chunk's frames and latents.
    """

    encoder: int = 0
    decoder: int = 0
    turn: int = 0


def paired(kind: BufferKind, side: int) -> str:
    """Name of the buffer of a kind that has two sides (frames and latents)."""
    return f"{kind.value}_{side}"


def plan_buffers(manifest: Manifest, height: int, width: int) -> dict[str, BufferSpec]:
    """Every buffer of one stream whose input frames are `height x width` pixels.

    Raises `MisuseError` if they would take more than `MAX_STREAM_BYTES`.
    """
    recipe = manifest.recipe
    latent = _latents(manifest.stage("dit_edge"))
    frames = (recipe.latents + 1) * FRAMES_PER_LATENT
    buffers: dict[str, BufferSpec] = {}
    for side in (0, 1):
        place = paired(BufferKind.FRAMES_IN, side)
        buffers[place] = BufferSpec(BufferKind.FRAMES_IN, (frames, height, width, 3), "uint8", host=True)
        buffers[paired(BufferKind.LATENTS, side)] = BufferSpec(BufferKind.LATENTS, _static(latent.shape), latent.dtype)
        # Output may lie over input: decoding starts after all frames of the chunk are encoded, and a side is not
        # filled again before its last chunk has been downloaded.
        shape = (frames, recipe.height, recipe.width, 3)
        spec = BufferSpec(BufferKind.FRAMES_OUT, shape, "uint8", host=True, over=place)
        buffers[paired(BufferKind.FRAMES_OUT, side)] = spec
    buffers[RESTORED] = BufferSpec(BufferKind.RESTORED, _static(latent.shape), latent.dtype)
    for stage in ("encode", "decode"):
        states = [tensor for tensor in manifest.stage(stage).inputs if tensor.role is Role.STATE_IN]
        for k, tensor in enumerate(states):
            for side in (0, 1):
                buffers[_state(stage, k, side)] = BufferSpec(BufferKind.STATE, _static(tensor.shape), tensor.dtype)
    total = sum(spec.nbytes for spec in buffers.values())
    if total > MAX_STREAM_BYTES:
        raise MisuseError(
            f"a stream of {width}x{height} frames through {recipe.describe()} needs {total / 1e9:.0f} GB of buffers, "
            f"the limit is {MAX_STREAM_BYTES / 1e9:.0f} GB; choose a smaller resolution or a shorter clip length"
        )
    return buffers


def stage_shape(tensor: TensorSpec, buffers: Mapping[str, BufferSpec]) -> tuple[int, ...]:
    """The shape of a stage's tensor in a stream: free sides are those of the input frames."""
    frames = buffers[paired(BufferKind.FRAMES_IN, 0)].shape
    return tuple(frames[axis] if side is None else side for axis, side in enumerate(tensor.shape))


def clear_program(manifest: Manifest) -> tuple[Step, ...]:
    """Steps that reset a stream to its beginning. The phase after them is `Phase()`."""
    return tuple(
        Clear(View(_state(stage, k, 0), 0, 1))
        for stage in ("encode", "decode")
        for k in range(_states(manifest.stage(stage)))
    )


def chunk_program(manifest: Manifest, chunk: Chunk, phase: Phase, *, first: bool) -> tuple[tuple[Step, ...], Phase]:
    """The steps of one chunk, and the phase after them. first: it is the first chunk of its stream."""
    turn, slots = phase.turn, manifest.recipe.latents + 1
    frames_in, latents = paired(BufferKind.FRAMES_IN, turn), paired(BufferKind.LATENTS, turn)
    frames_out, previous = paired(BufferKind.FRAMES_OUT, turn), paired(BufferKind.LATENTS, 1 - turn)
    # Latents of every kind of chunk end at the last slot, where the next chunk looks for the most recent ones.
    base = slots - chunk.window
    new = base + chunk.context
    encode, decode = manifest.stage("encode"), manifest.stage("decode")
    encoder, decoder = phase.encoder, phase.decoder
    steps: list[Step] = [Upload(View(frames_in, 0, chunk.latents * FRAMES_PER_LATENT))]
    if chunk.context:
        front = View(latents, base, chunk.context)
        steps.append(Clear(front) if first else Copy(View(previous, base + chunk.latents, chunk.context), front))
    for k in range(chunk.latents):
        steps.append(_advance(encode, _frames_of(frames_in, k), View(latents, new + k, 1), encoder))
        encoder = 1 - encoder
    stage = "dit" if chunk.window == manifest.recipe.latents else "dit_edge"
    steps.append(Run(stage, (View(latents, base, chunk.window),), (View(RESTORED, base, chunk.window),)))
    for k in range(chunk.latents):
        steps.append(_advance(decode, View(RESTORED, new + k, 1), _frames_of(frames_out, k), decoder))
        decoder = 1 - decoder
    steps.append(Download(View(frames_out, chunk.skip, chunk.emit)))
    return tuple(steps), Phase(encoder, decoder, 1 - turn)


def stage_program(manifest: Manifest, name: str) -> tuple[Step, ...]:
    """One run of a single stage, for trying stages one by one; it uses the first slots of the stage's buffers.

    Uploads every input before the run and downloads every output after it, so all these buffers must be `host` buffers.
    """
    stage = manifest.stage(name)
    latents = paired(BufferKind.LATENTS, 0)
    if name == "encode":
        run = _advance(stage, _frames_of(paired(BufferKind.FRAMES_IN, 0), 0), View(latents, 0, 1), 0)
    elif name == "decode":
        run = _advance(stage, View(RESTORED, 0, 1), _frames_of(paired(BufferKind.FRAMES_OUT, 0), 0), 0)
    else:
        count = manifest.recipe.latents + (name == "dit_edge")
        run = Run(name, (View(latents, 0, count),), (View(RESTORED, 0, count),))
    return (*map(Upload, run.inputs), run, *map(Download, run.outputs))


def _frames_of(buffer: str, k: int) -> View:
    """The frames of latent `k`."""
    return View(buffer, k * FRAMES_PER_LATENT, FRAMES_PER_LATENT)


def _advance(stage: StageSpec, source: View, target: View, side: int) -> Run:
    """One step of a stage with state, which is read on `side` and written on the other."""
    count = _states(stage)
    before = tuple(View(_state(stage.name, k, side), 0, 1) for k in range(count))
    after = tuple(View(_state(stage.name, k, 1 - side), 0, 1) for k in range(count))
    return Run(stage.name, (source, *before), (target, *after))


def _states(stage: StageSpec) -> int:
    return len(stage.inputs) - 1


def _state(stage: str, k: int, side: int) -> str:
    return f"{stage}_{k}_{side}"


def _latents(stage: StageSpec) -> TensorSpec:
    return next(tensor for tensor in stage.inputs if tensor.role is Role.LATENTS)


def _static(shape: tuple[int | None, ...]) -> tuple[int, ...]:
    return tuple(side for side in shape if side is not None)
