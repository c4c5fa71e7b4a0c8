"""The memory plan: how much GPU memory each part needs, and where it lies. A pure function of the manifest.

    weights      of each engine file once, shared by all streams
    arena        working memory of the stages. They run one after another, in all streams, so the largest need suffices.
    one stream   one block of device memory that holds every buffer, and one block of pinned host memory for the frames
                 that go in and come out

    staging      Part of the stream's block, where the slots of a buffer do not all begin at an aligned address (odd
                 frame sizes). A stage then reads and writes a staging buffer, and slots are copied to or from it.

`inspect` prints this plan, and a device allocates exactly what it says. This package allocates nothing else on the GPU.
What the driver, TensorRT's contexts and CUDA graphs take on top is only known once they exist.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from ...engines.bundle.manifest import Manifest, Role, StageSpec
from ...engines.bundle.targets import bundle_target
from .program import BufferKind, BufferSpec, Copy, Run, Step, View, plan_buffers, stage_shape

ALIGNMENT = 256
"""Every buffer begins at a multiple of this many bytes, as TensorRT and coalesced access require."""

_OWNERS = {
    BufferKind.FRAMES_IN: "frames",
    BufferKind.FRAMES_OUT: "frames",
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

    device: layout of the stream's device memory. host: layout of its pinned host memory. weight_bytes and arena_bytes
    exist once, however many streams run.
    """

    buffers: Mapping[str, BufferSpec]
    device: Layout
    host: Layout
    weight_bytes: int
    arena_bytes: int

    @property
    def gpu_bytes(self) -> int:
        """Device memory of the whole pipeline with one stream."""
        return self.weight_bytes + self.arena_bytes + self.device.nbytes

    def owners(self) -> dict[str, int]:
        """GPU bytes by purpose; they add up to `gpu_bytes`."""
        owners = {"weights": self.weight_bytes, "arena": self.arena_bytes}
        owners |= {"frames": 0, "latents": 0, "state": 0, "staging": 0}
        for name, nbytes in _places(self.buffers).items():
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


def plan_memory(manifest: Manifest, height: int, width: int) -> MemoryPlan:
    """The plan for one stream whose input frames are `height x width` pixels."""
    return plan_stream(manifest, plan_buffers(manifest, height, width))


def plan_stream(manifest: Manifest, buffers: Mapping[str, BufferSpec]) -> MemoryPlan:
    """The plan for one stream with these buffers, to which staging buffers are added."""
    buffers = {**buffers, **staging(manifest, buffers)}
    return MemoryPlan(
        buffers,
        device_layout(buffers),
        host_layout(buffers),
        weight_bytes(manifest),
        arena_bytes(manifest),
    )


def describe_stream(manifest: Manifest, height: int, width: int) -> StreamLayout:
    """What a stream of `height x width` frames allocates, for `inspect`.

    On a GPU this is exactly what a device allocates. On the CPU every buffer is an array of its own.
    """
    if bundle_target(manifest.recipe.target).usual_device == "cpu":
        arrays = plan_buffers(manifest, height, width)
        buffers = tuple(BufferPlace(name, spec.nbytes, None, None, None) for name, spec in arrays.items())
        nbytes = sum(buffer.nbytes for buffer in buffers)
        return StreamLayout(nbytes, {"buffers": nbytes}, buffers)
    plan = plan_memory(manifest, height, width)
    device, host = plan.device.offsets, plan.host.offsets
    return StreamLayout(
        plan.device.nbytes,
        plan.owners(),
        tuple(BufferPlace(name, s.nbytes, device[name], host.get(name), s.over) for name, s in plan.buffers.items()),
    )


def weight_bytes(manifest: Manifest) -> int:
    """Weights of all engines; stages that share a file share them."""
    weights = {stage.file: 0 for stage in manifest.stages}
    for stage in manifest.stages:
        weights[stage.file] = max(weights[stage.file], stage.weight_bytes)
    return sum(weights.values())


def arena_bytes(manifest: Manifest) -> int:
    """The arena that all stages share."""
    return aligned(max(stage.arena_bytes for stage in manifest.stages))


def device_layout(buffers: Mapping[str, BufferSpec]) -> Layout:
    """Buffers one after another, except those that share another one's place."""
    places = _one_after_another(_places(buffers).items())
    offsets = {name: places.offsets[spec.over or name] for name, spec in buffers.items()}
    return Layout(offsets, places.nbytes)


def host_layout(buffers: Mapping[str, BufferSpec]) -> Layout:
    """The buffers that the host reads or writes."""
    return _one_after_another((name, spec.nbytes) for name, spec in buffers.items() if spec.host)


def staging(manifest: Manifest, buffers: Mapping[str, BufferSpec]) -> dict[str, BufferSpec]:
    """Aligned buffers for the stages that use slots which are not aligned; usually none.

    Stages run one after another, so all staged inputs share one place, and all staged outputs another.
    """
    added: dict[str, BufferSpec] = {}
    for kind in (BufferKind.STAGING_IN, BufferKind.STAGING_OUT):
        staged = {_staged(kind, stage.name): _staging_spec(kind, stage, buffers) for stage in manifest.stages}
        needed = {name: spec for name, spec in staged.items() if spec is not None}
        owner = max(needed, key=lambda name: needed[name].nbytes, default=None)
        added |= {name: spec if name == owner else replace(spec, over=owner) for name, spec in needed.items()}
    return added


def _staging_spec(kind: BufferKind, stage: StageSpec, buffers: Mapping[str, BufferSpec]) -> BufferSpec | None:
    """The staging buffer that a stage needs, if any. Only first tensors have slots; a state is one slot."""
    tensor = (stage.inputs if kind is BufferKind.STAGING_IN else stage.outputs)[0]
    spec = BufferSpec(kind, stage_shape(tensor, buffers), tensor.dtype)
    stride = spec.nbytes if tensor.role is Role.FRAMES else spec.slot_bytes  # frames advance by whole latents
    starts_at_0 = stage.name == "dit_edge"
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


def _places(buffers: Mapping[str, BufferSpec]) -> dict[str, int]:
    """Bytes of each place, named after the buffer that owns it: the most that any of its buffers needs."""
    sizes: dict[str, int] = {}
    for name, spec in buffers.items():
        owner = spec.over or name
        sizes[owner] = max(sizes.get(owner, 0), spec.nbytes)
    return sizes


def _one_after_another(sizes: Iterable[tuple[str, int]]) -> Layout:
    offsets, end = {}, 0
    for name, nbytes in sizes:
        offsets[name] = end
        end += aligned(nbytes)
    return Layout(offsets, end)
