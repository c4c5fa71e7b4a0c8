"""The memory plan: who owns which bytes of a GPU, and where they lie. A pure function of the manifest.

    weights      the engines' own: each file once, shared by all streams
    arena        what stages need while they run; they run one after another, in all streams, so the largest need serves
    one stream   one piece of device memory with every buffer in it, and one piece of pinned host memory with the
                 frames that go in and come out

    staging      in the stream's memory: where slots of a buffer do not begin at an aligned address (sizes that are no
                 multiple of something), a stage reads and writes these instead, and slots are copied to and fro

`plan_memory` is what `inspect` prints; a device allocates exactly it. Nothing else is allocated by this package; what
the driver, TensorRT's contexts and the CUDA graphs take besides is not known before they are made.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from swiftvr_trt.engines.bundle.manifest import Manifest, Role
from swiftvr_trt.engines.bundle.targets import find_target

from .program import BufferSpec, Copy, Run, Step, View, plan_buffers, stage_shape

ALIGNMENT = 256
"""Every buffer begins at a multiple of this many bytes, as TensorRT and coalesced access want it."""


@dataclass(frozen=True)
class Layout:
    """Where each buffer begins in one piece of memory of `nbytes` bytes."""

    offsets: Mapping[str, int]
    nbytes: int


@dataclass(frozen=True)
class MemoryPlan:
    """All bytes of one stream and of what it shares with other streams.

    device: the layout of the stream's device memory. host: the layout of its pinned host memory. weight_bytes and
    arena_bytes are there once however many streams run.
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
        """GPU bytes by what they are for; they add up to `gpu_bytes`."""
        kinds = {"weights": self.weight_bytes, "arena": self.arena_bytes}
        kinds |= {"frames": 0, "latents": 0, "state": 0, "staging": 0}
        for name, nbytes in _places(self.buffers).items():
            kinds[_kind(name)] += nbytes
        padding = self.gpu_bytes - sum(kinds.values())
        return {**kinds, "padding": padding}


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
    """The plan for one stream whose frames come in as `height x width` pixels."""
    return plan_stream(manifest, plan_buffers(manifest, height, width))


def plan_stream(manifest: Manifest, buffers: Mapping[str, BufferSpec]) -> MemoryPlan:
    """The plan for one stream with these buffers, to which those for staging are added."""
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
    if find_target(manifest.recipe.target).usual_device == "cpu":
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
    """The weights of all engines; stages that share a file share them."""
    weights = {stage.file: 0 for stage in manifest.stages}
    for stage in manifest.stages:
        weights[stage.file] = max(weights[stage.file], stage.weight_bytes)
    return sum(weights.values())


def arena_bytes(manifest: Manifest) -> int:
    """The arena that all stages share."""
    return aligned(max(stage.arena_bytes for stage in manifest.stages))


def device_layout(buffers: Mapping[str, BufferSpec]) -> Layout:
    """Buffers one after another, except for those that lie over another one and share its place."""
    places = _one_after_another(_places(buffers).items())
    offsets = {name: places.offsets[spec.over or name] for name, spec in buffers.items()}
    return Layout(offsets, places.nbytes)


def host_layout(buffers: Mapping[str, BufferSpec]) -> Layout:
    """The buffers that the host reads or writes."""
    return _one_after_another((name, spec.nbytes) for name, spec in buffers.items() if spec.host)


def staging(manifest: Manifest, buffers: Mapping[str, BufferSpec]) -> dict[str, BufferSpec]:
    """Aligned places for what a stage reads and writes in buffers whose slots are not aligned; mostly none.

    Stages run one after another, so all inputs share one place, and all outputs another.
    """
    added: dict[str, BufferSpec] = {}
    for kind in ("input", "output"):
        largest: BufferSpec | None = None
        for stage in manifest.stages:
            tensor = (stage.inputs if kind == "input" else stage.outputs)[0]
            spec = BufferSpec(stage_shape(tensor, buffers), tensor.dtype)
            stride = spec.nbytes if tensor.role is Role.FRAMES else spec.slot_bytes  # frames go by whole latents
            if stride % ALIGNMENT and stage.name != "dit_edge":  # which begins at slot 0
                added[_staged(stage.name, kind)] = spec
                largest = max(largest or spec, spec, key=lambda s: s.nbytes)
        owner = next((name for name, spec in added.items() if spec is largest), None)
        for name in [name for name in added if name.endswith(kind) and name != owner]:
            added[name] = replace(added[name], over=owner)
    return added


def aligned_steps(steps: Sequence[Step], buffers: Mapping[str, BufferSpec]) -> tuple[Step, ...]:
    """The same steps, but stages touch aligned addresses only: a slot that is not goes through its staging buffer."""
    return tuple(
        part for step in steps for part in (_stage_through(step, buffers) if isinstance(step, Run) else [step])
    )


def _stage_through(run: Run, buffers: Mapping[str, BufferSpec]) -> Iterator[Step]:
    inputs, outputs = list(run.inputs), list(run.outputs)
    for kind, views in (("input", inputs), ("output", outputs)):
        if not _is_aligned(views[0], buffers):
            views[0] = View(_staged(run.stage, kind), 0, views[0].count)
    if inputs[0] != run.inputs[0]:
        yield Copy(run.inputs[0], inputs[0])
    yield Run(run.stage, tuple(inputs), tuple(outputs))
    if outputs[0] != run.outputs[0]:
        yield Copy(outputs[0], run.outputs[0])


def _is_aligned(view: View, buffers: Mapping[str, BufferSpec]) -> bool:
    return view.start * buffers[view.buffer].slot_bytes % ALIGNMENT == 0


def _staged(stage: str, kind: str) -> str:
    return f"staging_{stage}_{kind}"


def aligned(nbytes: int) -> int:
    """`nbytes`, rounded up to the alignment."""
    return -(-nbytes // ALIGNMENT) * ALIGNMENT


def _places(buffers: Mapping[str, BufferSpec]) -> dict[str, int]:
    """Bytes of each place, under the name of the buffer that owns it: the most that one of its users needs."""
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


def _kind(buffer: str) -> str:
    for kind in ("frames", "staging"):
        if buffer.startswith(f"{kind}_"):
            return kind
    return "latents" if buffer.startswith("latents_") else "state"
