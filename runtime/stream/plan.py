"""The memory plan: how much GPU memory each part needs, and where it lies. A pure function of the manifest.

    weights      of each engine file once, shared by all streams
    arena        working memory of the stages. They run one after another, in all streams, so the largest need suffices.
    decoder arena  the same for the stages after the transformer, if a chunk is decoded beside the work on the next one
    one stream   one block of device memory that holds every buffer, and one block of pinned host memory for the frames
                 that go in and come out

    staging      Part of the stream's block, where the slots of a buffer do not all begin at an aligned address (odd
                 frame sizes). A stage then reads and writes a staging buffer, and slots are copied to or from it.

`inspect` prints this plan, and a device allocates exactly what it says. This package allocates nothing else on the GPU.
What the driver, TensorRT's contexts and CUDA graphs take on top is only known once they exist.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from ...engines.bundle.manifest import Manifest, Role, StageSpec
from ...engines.bundle.pixel_formats import format_of_stage
from ...engines.bundle.targets import bundle_target
from .buffers import (
    DECODED,
    RGB_FORMS,
    BufferKind,
    BufferSpec,
    Forms,
    View,
    in_host_memory,
    place_bytes,
    plan_buffers,
    stage_shape,
    used_stages,
)
from .program import Copy, Run, Step

ALIGNMENT = 256
"""Every buffer begins at a multiple of this many bytes, as TensorRT and coalesced access require."""

_OWNERS = {
    BufferKind.FRAMES_IN: "frames",
    BufferKind.FRAMES_OUT: "frames",
    BufferKind.PIXELS: "pixels",
    BufferKind.DECODED: "pixels",
    BufferKind.COLOUR: "pixels",
    BufferKind.LATENTS: "latents",
    BufferKind.RESTORED: "latents",
    BufferKind.STATE: "state",
    BufferKind.STAGING_IN: "staging",
    BufferKind.STAGING_OUT: "staging",
}


@dataclass(frozen=True)
class Layout:
    """Where each buffer begins in one block of `nbytes` bytes."""

    offsets: Mapping[str, int]
    nbytes: int


@dataclass(frozen=True)
class MemoryPlan:
    """The memory of one stream, and the memory that all streams share.

    device: layout of the stream's device memory. host: layout of its pinned host memory. weight_bytes, arena_bytes and
    decoder_arena_bytes exist once, however many streams run.
    """

    buffers: Mapping[str, BufferSpec]
    device: Layout
    host: Layout
    weight_bytes: int
    arena_bytes: int
    decoder_arena_bytes: int = 0

    @property
    def shared_bytes(self) -> int:
        """Device memory that all streams share."""
        return self.weight_bytes + self.arena_bytes + self.decoder_arena_bytes

    @property
    def gpu_bytes(self) -> int:
        """Device memory of the whole pipeline with one stream."""
        return self.shared_bytes + self.device.nbytes

    def owners(self) -> dict[str, int]:
        """GPU bytes by purpose; they add up to `gpu_bytes`."""
        owners = {"weights": self.weight_bytes, "arena": self.arena_bytes}
        owners |= {"decoder arena": self.decoder_arena_bytes} if self.decoder_arena_bytes else {}
        owners |= {"frames": 0, "pixels": 0, "latents": 0, "state": 0, "staging": 0}
        for name, nbytes in place_bytes(self.buffers).items():
            owners[_OWNERS[self.buffers[name].kind]] += nbytes
        padding = self.gpu_bytes - sum(owners.values())
        return {**owners, "padding": padding}


@dataclass(frozen=True)
class BufferPlace:
    """Where one buffer of a stream lies.

    offset: where it begins in the stream's device memory; None if it is an array of its own. host_offset: the same in
    pinned host memory; None if the host neither reads nor writes it. over: the buffer whose place it shares, or None.
    """

    name: str
    nbytes: int
    offset: int | None
    host_offset: int | None
    over: str | None


@dataclass(frozen=True)
class StreamLayout:
    """What one stream of frames allocates: bytes in all, GPU bytes by owner, and every buffer."""

    nbytes: int
    owners: Mapping[str, int]
    buffers: tuple[BufferPlace, ...]


def plan_memory(
    manifest: Manifest, height: int, width: int, forms: Forms = RGB_FORMS, *, overlap: bool = False
) -> MemoryPlan:
    """The plan for one stream whose input frames are `height x width` pixels. overlap: as for `plan_buffers`."""
    return plan_stream(manifest, plan_buffers(manifest, height, width, forms, overlap=overlap))


def plan_stream(manifest: Manifest, buffers: Mapping[str, BufferSpec]) -> MemoryPlan:
    """The plan for one stream with these buffers, to which staging buffers are added."""
    buffers = {**buffers, **staging(manifest, buffers)}
    return MemoryPlan(
        buffers,
        device_layout(buffers),
        host_layout(buffers),
        weight_bytes(manifest),
        *arena_bytes(manifest, overlap=overlaps(buffers)),
    )


def describe_stream(manifest: Manifest, height: int, width: int, *, overlap: bool = False) -> StreamLayout:
    """What a stream of `height x width` frames allocates, for `inspect`. overlap: as for `plan_buffers`.

    This is exactly what a device allocates. On the CPU every place is an array of its own.
    """
    if bundle_target(manifest.recipe.target).usual_device == "cpu":
        arrays = in_host_memory(plan_buffers(manifest, height, width))
        buffers = tuple(BufferPlace(name, spec.nbytes, None, None, spec.over) for name, spec in arrays.items())
        nbytes = sum(place_bytes(arrays).values())
        return StreamLayout(nbytes, {"buffers": nbytes}, buffers)
    plan = plan_memory(manifest, height, width, overlap=overlap)
    device, host = plan.device.offsets, plan.host.offsets
    return StreamLayout(
        plan.device.nbytes,
        plan.owners(),
        tuple(BufferPlace(name, s.nbytes, device[name], host.get(name), s.over) for name, s in plan.buffers.items()),
    )


def is_decoding(stage: str) -> bool:
    """Whether a stage comes after the transformer: the decoder, or one that hands frames out."""
    form = format_of_stage(stage)
    return stage == "decode" or (form is not None and stage == form.give)


def overlaps(buffers: Mapping[str, BufferSpec]) -> bool:
    """Whether the buffers are planned for decoding beside the work on the next chunk."""
    return DECODED in buffers


def weight_bytes(manifest: Manifest) -> int:
    """Weights of all engines; stages that share a file share them."""
    weights = {stage.file: 0 for stage in manifest.stages}
    for stage in manifest.stages:
        weights[stage.file] = max(weights[stage.file], stage.weight_bytes)
    return sum(weights.values())


def arena_bytes(manifest: Manifest, *, overlap: bool) -> tuple[int, int]:
    """The arena that all stages share, and the decoder's: 0 without `overlap`, where it shares that one."""
    front, decoding = (
        [stage.arena_bytes for stage in manifest.stages if (overlap and is_decoding(stage.name)) == after]
        for after in (False, True)
    )
    return aligned(max(front)), aligned(max(decoding, default=0))


def device_layout(buffers: Mapping[str, BufferSpec]) -> Layout:
    """Buffers one after another, except those that share another one's place."""
    places = _one_after_another(place_bytes(buffers).items())
    offsets = {name: places.offsets[spec.over or name] for name, spec in buffers.items()}
    return Layout(offsets, places.nbytes)


def host_layout(buffers: Mapping[str, BufferSpec]) -> Layout:
    """The buffers that the host reads or writes."""
    return _one_after_another((name, spec.nbytes) for name, spec in buffers.items() if spec.host)


def staging(manifest: Manifest, buffers: Mapping[str, BufferSpec]) -> dict[str, BufferSpec]:
    """Aligned buffers for the stages that use slots which are not aligned; usually none.

    Stages run one after another, so all staged inputs share one place, and all staged outputs another. Stages that
    decode beside others share their own.
    """
    added: dict[str, BufferSpec] = {}
    used, overlap = used_stages(buffers), overlaps(buffers)
    stages = [stage for stage in manifest.stages if stage.name in used]
    for kind, after in itertools.product((BufferKind.STAGING_IN, BufferKind.STAGING_OUT), (False, True)):
        sharing = [stage for stage in stages if (overlap and is_decoding(stage.name)) == after]
        staged = {_staged(kind, stage.name): _staging_spec(kind, stage, buffers) for stage in sharing}
        needed = {name: spec for name, spec in staged.items() if spec is not None}
        owner = max(needed, key=lambda name: needed[name].nbytes, default=None)
        added |= {name: spec if name == owner else replace(spec, over=owner) for name, spec in needed.items()}
    return added


def _staging_spec(kind: BufferKind, stage: StageSpec, buffers: Mapping[str, BufferSpec]) -> BufferSpec | None:
    """The staging buffer that a stage needs, if any. Only first tensors have slots; a state is one slot."""
    tensor = (stage.inputs if kind is BufferKind.STAGING_IN else stage.outputs)[0]
    spec = BufferSpec(kind, stage_shape(tensor, buffers), tensor.dtype)
    stride = spec.nbytes if tensor.role is Role.FRAMES else spec.slot_bytes  # frames advance by whole latents
    starts_at_0 = stage.name == "dit_edge" or tensor.role is Role.PIXELS
    return None if starts_at_0 or stride % ALIGNMENT == 0 else spec


def aligned_steps(steps: Sequence[Step], buffers: Mapping[str, BufferSpec]) -> tuple[Step, ...]:
    """The same steps, with stages that touch aligned addresses only: other slots go through their staging buffer."""
    return tuple(
        part for step in steps for part in (_stage_through(step, buffers) if isinstance(step, Run) else [step])
    )


def _stage_through(run: Run, buffers: Mapping[str, BufferSpec]) -> Iterator[Step]:
    inputs, outputs = list(run.inputs), list(run.outputs)
    for kind, views in ((BufferKind.STAGING_IN, inputs), (BufferKind.STAGING_OUT, outputs)):
        if not _is_aligned(views[0], buffers):
            views[0] = View(_staged(kind, run.stage), 0, views[0].count)
    if inputs[0] != run.inputs[0]:
        yield Copy(run.inputs[0], inputs[0])
    yield Run(run.stage, tuple(inputs), tuple(outputs))
    if outputs[0] != run.outputs[0]:
        yield Copy(outputs[0], run.outputs[0])


def _is_aligned(view: View, buffers: Mapping[str, BufferSpec]) -> bool:
    return view.start * buffers[view.buffer].slot_bytes % ALIGNMENT == 0


def _staged(kind: BufferKind, stage: str) -> str:
    return f"{kind.value}_{stage}"


def aligned(nbytes: int) -> int:
    """`nbytes`, rounded up to the alignment."""
    return -(-nbytes // ALIGNMENT) * ALIGNMENT


def _one_after_another(sizes: Iterable[tuple[str, int]]) -> Layout:
    offsets, end = {}, 0
    for name, nbytes in sizes:
        offsets[name] = end
        end += aligned(nbytes)
    return Layout(offsets, end)
