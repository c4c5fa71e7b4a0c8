"""The CUDA device: the stages of a bundle on one GPU, each chunk of frames one launch of a captured graph.

A `StageProvider` loads the stages and runs them; buffers, copies, order and capture are the same for all of them. The
memory of a session is allocated when its workspace is opened, in two blocks laid out by `plan_stream`. Every stage then
runs once before anything is captured, because TensorRT compiles kernels and allocates memory at its first run, which a
capture forbids. `cuda_recording.py` takes over from there. docs/cuda-runtime.md gives the reason for each rule.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager, nullcontext, suppress
from dataclasses import dataclass
from typing import Any
from weakref import WeakSet

from numpy.typing import NDArray

from ...engines.bundle.files import Bundle
from ...engines.bundle.manifest import StageSpec, tensor_bytes
from ...errors import MachineError, MisuseError
from ..stream.buffers import BufferSpec, View, frame_size, stage_shape, used_stages
from ..stream.frames import FrameForm, Planes, Surface
from ..stream.plan import aligned, aligned_steps, arena_bytes, is_decoding, plan_memory, plan_stream, weight_bytes
from ..stream.program import Step
from ..stream.trace import Trace, timed
from .cuda_graph import GraphPolicy
from .cuda_memory import OutOfGpuMemoryError, SessionMemory, address, allocate, detect_out_of_memory
from .cuda_recording import ChunkStreams, Compute, Contexts, Copies, CudaRecording, GpuTracing, Guard, stream_handle
from .cuda_surfaces import SurfaceCopies
from .gpu import Gpu, explain_cuda_errors
from .notes import noted
from .stage_provider import Arena, LoadedStages, Shapes, StageContext, StageProvider
from .what_fits import shortage_message


class CudaDevice:
    """All stages of a bundle on one GPU. Safe to share between threads.

    compute: what all sessions share.
    """

    surfaces = True

    def __init__(
        self,
        bundle: Bundle,
        provider: StageProvider,
        *,
        index: int = 0,
        graphs: bool = True,
        overlap: bool = False,
        trace: Trace | None = None,
    ) -> None:
        """Check and load a bundle.

        provider: the library that runs its stages. index: number of the GPU. graphs: False enqueues every stage of each
        chunk anew, which gives the same frames more slowly. Stages that cannot be captured run this way, too. overlap:
        decode a chunk beside the work on the next one, with a CUDA stream and an arena for the decoder.
        Raises `MissingPackageError` or `MachineError` if the machine lacks something, `BundleError` if the bundle does
        not run here.
        """
        self.manifest, self.trace, self.overlap = bundle.manifest, trace, overlap
        self._opening = threading.Lock()  # held while a workspace is opened, and while the device is closed
        self._closed = False
        self._compiled: set[str] = set()
        self._workspaces: WeakSet[CudaWorkspace] = WeakSet()
        self._resources = ExitStack()
        gpu = Gpu(index)
        provider.check(bundle, gpu)
        failure = f"{bundle.path}: {gpu.name} cannot load it"
        with close_on_error(self._resources), explain_cuda_errors(failure, MachineError):
            self._check_memory(gpu)
            self.compute = self._open_compute(gpu, graphs=graphs and provider.capturable)
            self._stages = self._load(bundle, provider)
            self._arenas = self._allocate_arenas()

    def workspace(self, buffers: Mapping[str, BufferSpec]) -> CudaWorkspace:
        """Allocate the buffers of one session and make its stages ready.

        Raises `MachineError` if memory is short, with what would fit; `MisuseError` after `close`.
        """
        with self._opening:
            self.check_open()
            with explain_cuda_errors(f"{self.compute.gpu.name} cannot be used"):
                self.compute.gpu.make_current()
            others = [each.held_bytes for each in self._workspaces if each.held_bytes]
            workspace = CudaWorkspace(self, buffers, others)
            self._workspaces.add(workspace)
            return workspace

    def close(self) -> None:
        """Release everything, open workspaces included. A second call does nothing.

        A workspace that another thread is opening is given up after the stage at hand, which this waits for.
        """
        self._closed = True  # before the lock, which that thread holds
        with self._opening:
            for workspace in list(self._workspaces):
                workspace.close()
            with suppress(Exception):  # a GPU that is lost cannot be made current, and has nothing left to release
                self.compute.gpu.make_current()
            self._resources.close()

    def check_open(self) -> None:
        """Raise `MisuseError` after `close`."""
        if self._closed:
            raise MisuseError(f"the bundle on {self.compute.gpu.name} is closed; open it again with Restorer.open()")

    def context(self, stage: StageSpec, shapes: Shapes) -> StageContext:
        """What runs a stage for one session, ready to run."""
        arena = self._arenas[self.overlap and is_decoding(stage.name)]
        return self._stages.context(stage, shapes, arena, stream_handle(self.compute.stream_of(stage.name)))

    def timed(self, name: str, **details: Any) -> AbstractContextManager[None]:
        """Trace the time that a block takes on the host."""
        return timed(self.trace, "host", name, **details)

    def noting_first_start(self, part: str) -> AbstractContextManager[None]:
        """Note that the block compiles the kernels of a stage, if it does. part: which, for the note."""
        if part in self._compiled or not self._stages.compiles_kernels:
            return nullcontext()
        self._compiled.add(part)
        return noted(f"compiling kernels for {self.compute.gpu.name}, {part}; later starts use them again")

    @contextmanager
    def suggest_what_fits(self, height: int, width: int, held: int, others: Sequence[int] = ()) -> Iterator[None]:
        """If the block runs out of device memory, raise a `MachineError` that names builds that would fit.

        height, width: of the frames that come in, in pixels. held: bytes that this pipeline has allocated already.
        others: what each other workspace has, which `held` does not count.
        """
        try:
            yield
        except OutOfGpuMemoryError as error:
            free = self.compute.gpu.free_bytes()
            room = None if free is None else free + held + sum(others)
            message = shortage_message(self.manifest, height, width, room, overlap=self.overlap, others=others)
            raise MachineError(message) from error

    def _check_memory(self, gpu: Gpu) -> None:
        """Refuse a bundle that cannot fit before gigabytes of it are read."""
        size, free = self.manifest.recipe.resolution, gpu.free_bytes()
        plan = plan_memory(self.manifest, size.height, size.width, overlap=self.overlap)
        if free is not None and plan.shared_bytes > free:
            raise MachineError(shortage_message(self.manifest, size.height, size.width, free, overlap=self.overlap))

    def _open_compute(self, gpu: Gpu, *, graphs: bool) -> Compute:
        stream = self._resources.enter_context(closing(gpu.device.create_stream()))
        tracing = GpuTracing.start(self.trace, gpu, stream, self._resources) if self.trace else None
        policy = GraphPolicy(wanted=graphs, is_lost=lambda: gpu.loss(stream) is not None)
        decoder = self._resources.enter_context(closing(gpu.device.create_stream())) if self.overlap else None
        compute = Compute(gpu, stream, decoder, threading.Lock(), tracing, policy)
        self._resources.callback(compute.finish_releases)
        return compute

    def _load(self, bundle: Bundle, provider: StageProvider) -> LoadedStages:
        size = self.manifest.recipe.resolution
        with (
            self.timed("load stages", nbytes=sum(entry.size for entry in self.manifest.files)),
            self.suggest_what_fits(size.height, size.width, held=0),
        ):
            stages = provider.load(bundle, self.compute.gpu, self.compute.stream)
        self._resources.callback(stages.close)
        return stages

    def _allocate_arenas(self) -> tuple[Arena, Arena]:
        """That of all stages, and the decoder's. Each is as large as the stages or the manifest say, whichever is more.

        Without overlap there is one, for all stages.
        """
        planned, made = arena_bytes(self.manifest, overlap=self.overlap), list[Arena]()
        held = weight_bytes(self.manifest)
        for decoding, name in enumerate(("arena", "decoder arena")[: 1 + self.overlap]):
            sharing = [s for s in self.manifest.stages if (self.overlap and is_decoding(s.name)) == decoding]
            needed = self._stages.arena_bytes(sharing)
            nbytes = max(aligned(needed), planned[decoding]) if needed else 0
            made.append(self._allocate_arena(name, nbytes, held) if nbytes else Arena(0, 0))
            held += nbytes
        return made[0], made[-1]

    def _allocate_arena(self, name: str, nbytes: int, held: int) -> Arena:
        """held: bytes that the device has allocated already."""
        size = self.manifest.recipe.resolution
        with self.timed(f"allocate {name}", nbytes=nbytes), self.suggest_what_fits(size.height, size.width, held):
            memory = allocate(self.compute.gpu, name, nbytes, self.compute.stream, self._resources)
        return Arena(address(memory), nbytes)


@dataclass(frozen=True)
class _SingleUse:
    """What was recorded with `once`. `resources` closes its events."""

    steps: tuple[Step, ...]
    recording: CudaRecording
    resources: ExitStack


class CudaWorkspace:
    """The buffers of one session, its stage contexts and its CUDA streams. Opened by `CudaDevice.workspace`."""

    def __init__(self, device: CudaDevice, buffers: Mapping[str, BufferSpec], others: Sequence[int] = ()) -> None:
        """others: bytes that each other open workspace has."""
        self._device, self._plan, self._others = device, plan_stream(device.manifest, buffers), tuple(others)
        self._guard = Guard(threading.Lock(), threading.Event())
        self._recordings: dict[tuple[Step, ...], CudaRecording] = {}
        self._single_use: _SingleUse | None = None
        self._contexts: dict[str, StageContext] = {}
        self._resources = ExitStack()
        self._closed = False
        with close_on_error(self._resources), explain_cuda_errors("the stages could not be made ready"):
            self._streams = self._open_streams()
            self._memory = self._allocate()
            uploads = self._streams.copies.uploads
            self._surfaces = SurfaceCopies(device.compute.gpu, self._memory, uploads)
            self._resources.callback(self._surfaces.close)
            self._resources.callback(self._contexts.clear)
            used = used_stages(buffers)
            stages = [entry for entry in device.manifest.stages if entry.name in used]
            for number, stage in enumerate(stages, 1):
                device.check_open()  # compiling kernels may take minutes
                with device.noting_first_start(f"part {number} of {len(stages)} ({stage.name})"):
                    self._warm_up(stage)
            self._memory.clear(device.compute.stream)
            device.compute.stream.sync()
            self._resources.callback(self._forget_single_use)

    @property
    def held_bytes(self) -> int:
        """Device memory of its buffers; 0 once it is closed."""
        return 0 if self._closed else self._plan.device.nbytes

    def host(self, buffer: str) -> NDArray[Any]:
        return self._memory.arrays[buffer]

    def copy_in(self, frame: Surface | Planes, views: Sequence[View]) -> None:
        with self._guard.lock:
            self._streams.check()
            self._surfaces.take(frame, views)

    def copy_out(self, view: View, form: FrameForm) -> Surface:
        size = self._device.manifest.recipe.resolution
        with self._guard.lock:
            self._streams.check()
            return self._surfaces.give(view, form, (size.height, size.width))

    def record(self, steps: Sequence[Step], *, once: bool = False) -> CudaRecording:
        """Steps that were recorded before give the same recording.

        With `once` nothing is captured: a graph pays from the third use on. Raises `StageError` if the driver refuses
        an event, `MisuseError` after `close`.
        """
        key = tuple(steps)
        with self._guard.lock:
            if self._closed:
                raise MisuseError("this session is closed; open another one with Restorer.session()")
            self._streams.check()
            if once:
                return self._record_once(key)
            if key not in self._recordings:
                self._recordings[key] = self._record(key, self._resources, graph=True)
            return self._recordings[key]

    def cancel(self) -> None:
        """Nothing else starts. A running graph cannot be stopped: waiting for it raises `Cancelled` when it ends."""
        self._guard.cancelled.set()

    def close(self) -> None:
        """Wait for the work in progress, then release everything. A second call does nothing."""
        with self._guard.lock:
            if not self._closed:
                self._closed = True
                self._release()

    def _release(self) -> None:
        compute = self._device.compute
        self._guard.cancelled.set()  # recordings must not touch memory that is released
        with suppress(Exception):  # a GPU that is lost cannot be made current
            compute.gpu.make_current()
        for stream in self._streams.all_running:
            with suppress(Exception):  # nor does it have work in progress
                stream.sync()
        self._recordings.clear()
        self._resources.close()
        compute.finish_releases()  # for the next workspace

    def _record(self, steps: tuple[Step, ...], resources: ExitStack, *, graph: bool) -> CudaRecording:
        with self._device.timed("record"), self._suggest_what_fits(self._plan.gpu_bytes), detect_out_of_memory():
            moved = aligned_steps(steps, self._plan.buffers)
            contexts = Contexts(self._contexts, self._context)
            return CudaRecording(self._streams, self._memory, contexts, moved, resources, graph=graph)

    def _record_once(self, steps: tuple[Step, ...]) -> CudaRecording:
        """There is one such recording at a time; the same steps reuse it."""
        if self._single_use is None or self._single_use.steps != steps:
            self._forget_single_use()
            with ExitStack() as resources:
                recording = self._record(steps, resources, graph=False)
                self._single_use = _SingleUse(steps, recording, resources.pop_all())
        return self._single_use.recording

    def _forget_single_use(self) -> None:
        if self._single_use is not None:
            resources = self._single_use.resources
            self._single_use = None
            resources.close()

    def _open_streams(self) -> ChunkStreams:
        device = self._device.compute.gpu.device
        uploads, downloads, captures = (
            self._resources.enter_context(closing(device.create_stream())) for _ in range(3)
        )
        return ChunkStreams(self._device.compute, Copies(uploads, downloads, captures), self._guard)

    def _allocate(self) -> SessionMemory:
        device, plan = self._device, self._plan
        with (
            device.timed("allocate stream", nbytes=plan.device.nbytes, pinned=plan.host.nbytes),
            self._suggest_what_fits(plan.shared_bytes),
        ):
            return SessionMemory(device.compute.gpu, plan, device.compute.stream, self._resources)

    def _suggest_what_fits(self, held: int) -> AbstractContextManager[None]:
        return self._device.suggest_what_fits(*frame_size(self._plan.buffers), held, self._others)

    def _context(self, stage: str) -> StageContext:
        """Another context of a stage, with the shapes of this session."""
        spec = self._device.manifest.stage(stage)
        tensors = (*spec.inputs, *spec.outputs)
        return self._device.context(spec, {tensor.name: stage_shape(tensor, self._plan.buffers) for tensor in tensors})

    def _warm_up(self, stage: StageSpec) -> None:
        """Make the context of a stage and run it once, on memory that is cleared afterwards."""
        device, plan, compute = self._device, self._plan, self._device.compute
        stream = compute.stream_of(stage.name)
        tensors = (*stage.inputs, *stage.outputs)
        shapes = {tensor.name: stage_shape(tensor, plan.buffers) for tensor in tensors}
        sizes = [tensor_bytes(shapes[tensor.name], tensor.dtype) for tensor in tensors]
        with (
            device.timed(f"warm up {stage.name}"),
            self._suggest_what_fits(plan.gpu_bytes),
            detect_out_of_memory(),
            compute.explaining(f"stage {stage.name}", "failed in its first run"),
        ):
            context = self._context(stage.name)
            self._contexts[stage.name] = context
            with compute.lock:  # other sessions use the arena, too
                context.enqueue(self._memory.scratch(sizes), stream_handle(stream))
            stream.sync()


@contextmanager
def close_on_error(resources: ExitStack) -> Iterator[None]:
    """Close `resources` if the block fails. Errors of closing are dropped: the first error is the one to report."""
    try:
        yield
    except BaseException:
        with suppress(Exception):
            resources.close()
        raise
