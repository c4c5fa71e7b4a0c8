"""The CUDA device: the stages of a bundle on one GPU, each chunk of frames one launch of a captured graph.

A `StageProvider` loads the stages and runs them; buffers, copies, order and capture are the same for all of them. The
memory of a session is allocated when its workspace is opened, in two blocks laid out by `plan_stream`. Every stage then
runs once before anything is captured, because TensorRT compiles kernels and allocates memory at its first run, which a
capture forbids. `cuda_recording.py` takes over from there. docs/cuda-runtime.md gives the reason for each rule.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass
from typing import Any
from weakref import WeakSet

from numpy.typing import NDArray

from ...engines.bundle.files import Bundle
from ...engines.bundle.manifest import StageSpec, tensor_bytes
from ...errors import MachineError, MisuseError
from ..stream.plan import aligned, aligned_steps, arena_bytes, plan_memory, plan_stream, weight_bytes
from ..stream.program import BufferKind, BufferSpec, Step, paired, stage_shape
from ..stream.trace import Trace, timed
from .cuda_memory import OutOfGpuMemoryError, SessionMemory, address, allocate, detect_out_of_memory
from .cuda_recording import ChunkStreams, Compute, Copies, CudaRecording, GpuTracing, Guard, stream_handle
from .gpu import Gpu, explain_cuda_errors
from .stage_provider import Arena, LoadedStages, Shapes, StageContext, StageProvider
from .what_fits import shortage_message


class CudaDevice:
    """All stages of a bundle on one GPU. Safe to share between threads.

    compute: what all sessions share. graphs: whether chunks are captured.
    """

    def __init__(
        self,
        bundle: Bundle,
        provider: StageProvider,
        *,
        index: int = 0,
        graphs: bool = True,
        trace: Trace | None = None,
    ) -> None:
        """Check and load a bundle.

        provider: the library that runs its stages. index: number of the GPU. graphs: False enqueues every stage of each
        chunk anew, which gives the same frames more slowly. Stages that cannot be captured always run this way.
        Raises `MissingPackageError` or `MachineError` if the machine lacks something, `BundleError` if the bundle does
        not run here.
        """
        self.manifest, self.trace, self.graphs = bundle.manifest, trace, graphs and provider.capturable
        self._opening = threading.Lock()  # held while a workspace is opened, and while the device is closed
        self._closed = False
        self._workspaces: WeakSet[CudaWorkspace] = WeakSet()
        self._resources = ExitStack()
        gpu = Gpu(index)
        provider.check(bundle, gpu)
        failure = f"{bundle.path}: {gpu.name} cannot load it"
        with close_on_error(self._resources), explain_cuda_errors(failure, MachineError):
            self._check_memory(gpu)
            self.compute = self._open_compute(gpu)
            self._stages = self._load(bundle, provider)
            self._arena = self._allocate_arena()

    def workspace(self, buffers: Mapping[str, BufferSpec]) -> CudaWorkspace:
        """Allocate the buffers of one session and make its stages ready.

        Raises `MachineError` if memory is short, with what would fit; `MisuseError` after `close`.
        """
        with self._opening:
            self.check_open()
            with explain_cuda_errors(f"{self.compute.gpu.name} cannot be used"):
                self.compute.gpu.make_current()
            workspace = CudaWorkspace(self, buffers)
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
        return self._stages.context(stage, shapes, self._arena, stream_handle(self.compute.stream))

    def timed(self, name: str, **details: Any) -> AbstractContextManager[None]:
        """Trace the time that a block takes on the host."""
        return timed(self.trace, "host", name, **details)

    @contextmanager
    def suggest_what_fits(self, height: int, width: int, held: int) -> Iterator[None]:
        """If the block runs out of device memory, raise a `MachineError` that names builds that would fit.

        height, width: of the frames that come in, in pixels. held: bytes that this pipeline has allocated already.
        """
        try:
            yield
        except OutOfGpuMemoryError as error:
            free = self.compute.gpu.free_bytes()
            room = None if free is None else free + held
            raise MachineError(shortage_message(self.manifest, height, width, room)) from error

    def _check_memory(self, gpu: Gpu) -> None:
        """Refuse a bundle that cannot fit before gigabytes of it are read."""
        size, free = self.manifest.recipe.resolution, gpu.free_bytes()
        plan = plan_memory(self.manifest, size.height, size.width)
        if free is not None and plan.weight_bytes + plan.arena_bytes > free:
            raise MachineError(shortage_message(self.manifest, size.height, size.width, free))

    def _open_compute(self, gpu: Gpu) -> Compute:
        stream = self._resources.enter_context(closing(gpu.device.create_stream()))
        tracing = GpuTracing.start(self.trace, gpu, stream, self._resources) if self.trace else None
        compute = Compute(gpu, stream, threading.Lock(), tracing)
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

    def _allocate_arena(self) -> Arena:
        """As large as the stages or the manifest say, whichever is more."""
        if not self._stages.arena_bytes:
            return Arena(0, 0)
        size, held = self.manifest.recipe.resolution, weight_bytes(self.manifest)
        nbytes = max(aligned(self._stages.arena_bytes), arena_bytes(self.manifest))
        with self.timed("allocate arena", nbytes=nbytes), self.suggest_what_fits(size.height, size.width, held):
            memory = allocate(self.compute.gpu, "arena", nbytes, self.compute.stream, self._resources)
        return Arena(address(memory), nbytes)


@dataclass(frozen=True)
class _SingleUse:
    """What was recorded with `once`. `resources` closes its events."""

    steps: tuple[Step, ...]
    recording: CudaRecording
    resources: ExitStack


class CudaWorkspace:
    """The buffers of one session, its stage contexts and its CUDA streams. Opened by `CudaDevice.workspace`."""

    def __init__(self, device: CudaDevice, buffers: Mapping[str, BufferSpec]) -> None:
        self._device, self._plan = device, plan_stream(device.manifest, buffers)
        self._guard = Guard(threading.Lock(), threading.Event())
        self._recordings: dict[tuple[Step, ...], CudaRecording] = {}
        self._single_use: _SingleUse | None = None
        self._contexts: dict[str, StageContext] = {}
        self._resources = ExitStack()
        self._closed = False
        with close_on_error(self._resources), explain_cuda_errors("the stages could not be made ready"):
            self._streams = self._open_streams()
            self._memory = self._allocate()
            self._resources.callback(self._contexts.clear)
            for stage in device.manifest.stages:
                device.check_open()  # compiling kernels may take minutes
                self._warm_up(stage)
            self._memory.clear(device.compute.stream)
            device.compute.stream.sync()
            self._resources.callback(self._forget_single_use)

    def host(self, buffer: str) -> NDArray[Any]:
        return self._memory.arrays[buffer]

    def record(self, steps: Sequence[Step], *, once: bool = False) -> CudaRecording:
        """Steps that were recorded before give the same recording.

        With `once` nothing is captured: a capture enqueues every stage, which is all that a single use takes. Raises
        `StageError` if a stage cannot be captured, `MisuseError` after `close`.
        """
        key = tuple(steps)
        with self._guard.lock:
            if self._closed:
                raise MisuseError("this session is closed; open another one with Restorer.session()")
            self._streams.check()
            if once:
                return self._record_once(key)
            if key not in self._recordings:
                self._recordings[key] = self._record(key, self._resources, graph=self._device.graphs)
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
            return CudaRecording(self._streams, self._memory, self._contexts, moved, resources, graph=graph)

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
            self._suggest_what_fits(plan.weight_bytes + plan.arena_bytes),
        ):
            return SessionMemory(device.compute.gpu, plan, device.compute.stream, self._resources)

    def _suggest_what_fits(self, held: int) -> AbstractContextManager[None]:
        height, width = self._plan.buffers[paired(BufferKind.FRAMES_IN, 0)].shape[1:3]
        return self._device.suggest_what_fits(height, width, held)

    def _warm_up(self, stage: StageSpec) -> None:
        """Make the context of a stage and run it once, on memory that is cleared afterwards."""
        device, plan, compute = self._device, self._plan, self._device.compute
        tensors = (*stage.inputs, *stage.outputs)
        shapes = {tensor.name: stage_shape(tensor, plan.buffers) for tensor in tensors}
        sizes = [tensor_bytes(shapes[tensor.name], tensor.dtype) for tensor in tensors]
        with (
            device.timed(f"warm up {stage.name}"),
            self._suggest_what_fits(plan.gpu_bytes),
            detect_out_of_memory(),
            explain_cuda_errors(f"stage {stage.name} failed in its first run"),
        ):
            context = device.context(stage, shapes)
            self._contexts[stage.name] = context
            with compute.lock:  # other sessions use the arena, too
                context.enqueue(self._memory.scratch(sizes), stream_handle(compute.stream))
            compute.stream.sync()


@contextmanager
def close_on_error(resources: ExitStack) -> Iterator[None]:
    """Close `resources` if the block fails. Errors of closing are dropped: the first error is the one to report."""
    try:
        yield
    except BaseException:
        with suppress(Exception):
            resources.close()
        raise
