"""The buffers of a stream, as data: a pure function of the manifest, the size of the frames and their forms.

    frames_in_s   uint8 [c + 4, ...]        input frames of the chunk, in the format they come in; written by the host
    frames_in_last  uint8 [1, ...]          with surfaces: the last frame fed, which the end of a stream repeats
    pixels        [4, 12, H/2, W/2]         four frames as the network has them: what `encode` reads, `decode` writes
    latents_s     [n + 1, C, H/16, W/16]    input of the transformer; the other side holds the previous chunk's
    restored      same shape                output of the transformer; one suffices, as only this chunk reads it
    frames_out_s  uint8 [c + 4, ...]        all decoded frames, in the format they leave in; read by the host
    encode_k_s, decode_k_s                  state k of each stage: one side is read while the other is written
    take_matrix ... give_siting             how YUV is converted; written by the host before the stream begins

A device may decode a chunk beside the work on the next one, which must then find other buffers: `restored` has two
sides, and `decode` writes `decoded` in place of `pixels`.

`c` is the clip length in frames, `n = c / 4` the latents of a MIDDLE chunk, and `s` the side, 0 or 1. Chunks alternate
between the sides, so that the host can fill the next chunk's frames and read the last chunk's while a chunk runs. Where
the host runs the chunk itself, it does neither meanwhile, and both sides of the frames are one place: `in_host_memory`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import Enum

from ...engines.bundle.geometry import FRAMES_PER_LATENT
from ...engines.bundle.manifest import (
    COLOUR_INPUTS,
    MAX_STREAM_BYTES,
    NETWORK_STAGES,
    Manifest,
    Role,
    StageSpec,
    TensorSpec,
    tensor_bytes,
)
from ...engines.bundle.pixel_formats import RGB24, PixelFormat, format_of_stage
from ...errors import MisuseError


class BufferKind(Enum):
    """What a buffer holds. The value begins the names of such buffers, but for a state's."""

    FRAMES_IN = "frames_in"
    PIXELS = "pixels"
    DECODED = "decoded"
    LATENTS = "latents"
    RESTORED = "restored"
    FRAMES_OUT = "frames_out"
    STATE = "state"
    COLOUR = "colour"
    STAGING_IN = "staging_in"
    STAGING_OUT = "staging_out"


RESTORED, PIXELS, DECODED = BufferKind.RESTORED.value, BufferKind.PIXELS.value, BufferKind.DECODED.value
"""Names of the buffers that are the only ones of their kind. `restored` has two sides if there is `decoded`."""


@dataclass(frozen=True)
class Forms:
    """The forms in which a stream's frames come in and leave, and whether they do so as surfaces: without copies."""

    take: PixelFormat = RGB24
    give: PixelFormat = RGB24
    takes_surfaces: bool = False
    gives_surfaces: bool = False

    @property
    def stages(self) -> tuple[str, ...]:
        """The stages that the stream uses."""
        return (self.take.take, *NETWORK_STAGES, self.give.give)


RGB_FORMS = Forms()


@dataclass(frozen=True)
class BufferSpec:
    """One buffer of a stream: what it holds, its shape, and its dtype (a NumPy name).

    host: the caller reads or writes it between programs. over: name of a buffer whose device memory this one may share,
    because no program needs the contents of both at once; see `in_host_memory` if host and device memory are one.
    stage: the pixel stage that frames in this buffer pass through; empty for other buffers.
    """

    kind: BufferKind
    shape: tuple[int, ...]
    dtype: str
    host: bool = False
    over: str | None = None
    stage: str = ""

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


LAST_FRAME = View(f"{BufferKind.FRAMES_IN.value}_last", 0, 1)
"""Where a stream of surfaces keeps its last frame."""


def paired(kind: BufferKind, side: int) -> str:
    """Name of the buffer of a kind that has two sides (frames and latents)."""
    return f"{kind.value}_{side}"


def restored_buffers(overlap: bool) -> tuple[str, ...]:
    """Names of the buffers for what the transformer gives: one, or one for each turn."""
    return tuple(paired(BufferKind.RESTORED, side) for side in (0, 1)) if overlap else (RESTORED,)


def state_count(stage: StageSpec) -> int:
    """How many states a stage has that keeps some from step to step."""
    return len(stage.inputs) - 1


def state_buffer(stage: str, k: int, side: int) -> str:
    """Name of the buffer of state `k` of a stage."""
    return f"{stage}_{k}_{side}"


def colour_buffer(direction: str, name: str) -> str:
    """Name of the buffer for an input of `COLOUR_INPUTS`. direction: take or give."""
    return f"{direction}_{name}"


def plan_buffers(
    manifest: Manifest, height: int, width: int, forms: Forms = RGB_FORMS, *, overlap: bool = False
) -> dict[str, BufferSpec]:
    """Every buffer of one stream whose input frames are `height x width` pixels.

    overlap: a chunk is decoded beside the work on the next one. Raises `MisuseError` if the buffers would take more
    than `MAX_STREAM_BYTES`, or if frames of this size have no such form.
    """
    recipe, buffers = manifest.recipe, dict[str, BufferSpec]()
    encode = manifest.stage("encode")
    latent, pixels = next(each for each in encode.outputs if each.role is Role.LATENTS), encode.inputs[0]
    slots = (recipe.latents + 1, *_static(latent.shape)[1:])
    for side in (0, 1):
        place = paired(BufferKind.FRAMES_IN, side)
        entering = _frames_spec(manifest, BufferKind.FRAMES_IN, forms.take, (height, width))
        buffers[place] = replace(entering, host=not forms.takes_surfaces)
        if forms.takes_surfaces:
            buffers[LAST_FRAME.buffer] = replace(buffers[place], shape=(1, *entering.shape[1:]))
        buffers[paired(BufferKind.LATENTS, side)] = BufferSpec(BufferKind.LATENTS, slots, latent.dtype)
        # Output may lie over input: decoding starts after all frames of the chunk are encoded, and a side is not
        # filled again before its last chunk has been downloaded.
        spec = _frames_spec(manifest, BufferKind.FRAMES_OUT, forms.give, (recipe.height, recipe.width))
        buffers[paired(BufferKind.FRAMES_OUT, side)] = replace(spec, over=place, host=not forms.gives_surfaces)
    for name in restored_buffers(overlap):
        buffers[name] = BufferSpec(BufferKind.RESTORED, slots, latent.dtype)
    for name, kind in ((PIXELS, BufferKind.PIXELS), (DECODED, BufferKind.DECODED))[: 1 + overlap]:
        buffers[name] = BufferSpec(kind, _static(pixels.shape), pixels.dtype)
    for stage in ("encode", "decode"):
        states = [tensor for tensor in manifest.stage(stage).inputs if tensor.role is Role.STATE_IN]
        for k, tensor in enumerate(states):
            state = BufferSpec(BufferKind.STATE, _static(tensor.shape), tensor.dtype)
            buffers |= {state_buffer(stage, k, side): state for side in (0, 1)}
    for direction, form in (("take", forms.take), ("give", forms.give)):
        for name, shape in COLOUR_INPUTS.items() if form.yuv else ():
            buffers[colour_buffer(direction, name)] = BufferSpec(BufferKind.COLOUR, shape, "float32", host=True)
    total = sum(spec.nbytes for spec in buffers.values())
    if total > MAX_STREAM_BYTES:
        raise MisuseError(
            f"a stream of {width}x{height} frames through {recipe.describe()} needs {total / 1e9:.0f} GB of buffers, "
            f"the limit is {MAX_STREAM_BYTES / 1e9:.0f} GB; choose a smaller resolution or a shorter clip length"
        )
    return buffers


def in_host_memory(buffers: Mapping[str, BufferSpec]) -> dict[str, BufferSpec]:
    """The buffers as they share places on a device that works in the host's memory, and is done when it returns.

    The next chunk then finds the places of the last one's frames free. Frames that leave do not lie over those that
    came: the end of a stream may repeat one of these.
    """
    first = {paired(kind, 1): paired(kind, 0) for kind in (BufferKind.FRAMES_IN, BufferKind.FRAMES_OUT)}
    return {name: replace(s, over=first[name] if first.get(name) in buffers else None) for name, s in buffers.items()}


def place_bytes(buffers: Mapping[str, BufferSpec]) -> dict[str, int]:
    """Bytes of each place, named after the buffer that owns it: the most that any of its buffers needs."""
    sizes: dict[str, int] = {}
    for name, spec in buffers.items():
        owner = spec.over or name
        sizes[owner] = max(sizes.get(owner, 0), spec.nbytes)
    return sizes


def _frames_spec(manifest: Manifest, kind: BufferKind, form: PixelFormat, size: tuple[int, int]) -> BufferSpec:
    """A buffer for the frames of a chunk. size: their height and width."""
    if not form.holds(*size):
        raise MisuseError(f"{form.name} frames have even sides, {size[1]}x{size[0]} has not; use rgb24 or rgb48")
    shape = ((manifest.recipe.latents + 1) * FRAMES_PER_LATENT, *form.byte_shape(*size))
    stage = form.take if kind is BufferKind.FRAMES_IN else form.give
    return BufferSpec(kind, shape, "uint8", host=True, stage=stage)


def used_stages(buffers: Mapping[str, BufferSpec]) -> frozenset[str]:
    """The stages that a stream with these buffers uses."""
    return frozenset(NETWORK_STAGES) | {spec.stage for spec in buffers.values() if spec.stage}


def frame_size(buffers: Mapping[str, BufferSpec]) -> tuple[int, int]:
    """Height and width of the frames that come in, in pixels."""
    spec = buffers[paired(BufferKind.FRAMES_IN, 0)]
    form = format_of_stage(spec.stage)
    return (spec.shape[1], spec.shape[2]) if form is None else form.size_of(spec.shape)


def stage_shape(tensor: TensorSpec, buffers: Mapping[str, BufferSpec]) -> tuple[int, ...]:
    """The shape of a stage's tensor in a stream: free sides are those of the input frames."""
    frames = buffers[paired(BufferKind.FRAMES_IN, 0)].shape
    return tuple(frames[axis] if side is None else side for axis, side in enumerate(tensor.shape))


def _static(shape: tuple[int | None, ...]) -> tuple[int, ...]:
    return tuple(side for side in shape if side is not None)
