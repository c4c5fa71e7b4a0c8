"""The CUDA device: stages of a bundle of engines on one GPU, each chunk one launch of a captured graph.

All memory of a stream is allocated when its workspace is made, in two pieces, as `plan_stream` lays it out. Every stage
runs once then, before anything is captured, so that TensorRT compiles and allocates what it wants to while it may.
`cuda_chunk.py` is what happens after that. docs/cuda-runtime.md goes through the rules one by one.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from dataclasses import replace
from typing import Any
from weakref import WeakSet

from numpy.typing import NDArray

from swiftvr_trt.engines.bundle.files import Bundle
from swiftvr_trt.engines.bundle.manifest import Manifest, StageSpec, tensor_bytes
from swiftvr_trt.errors import MachineError, MisuseError
from swiftvr_trt.runtime.stream.plan import aligned, aligned_steps, arena_bytes, plan_memory, plan_stream, weight_bytes
from swiftvr_trt.runtime.stream.program import BufferSpec, Step, stage_shape
from swiftvr_trt.runtime.stream.trace import Trace, timed

from .compatible import Environment, check_compatible
from .cuda_memory import OutOfGpuMemoryError, SessionMemory, Span, address, allocate, closing, detect_out_of_memory
from .cuda_recording import ChunkStreams, Context, CudaRecording, GpuClock, GpuTracing, handle
from .driver import package_cuda
from .gpu import Gpu, explain_cuda_errors
from .kernel_cache import KernelCache
from .tensorrt import TensorRTContext, TensorRTEngines, import_tensorrt
from .what_fits import shortage_message


class CudaDevice:
    """All stages of a bundle of engines on one GPU. Safe to share between threads."""

    def __init__(
        self,
        bundle: Bundle,
        *,
        index: int = 0,
        graphs: bool = True,
        trace: Trace | None = None,
        library: Any = None,
        kernels: KernelCache | None = None,
    ) -> None:
        """graphs: False enqueues every stage anew for every chunk, which is slower and otherwise the same.

        library: what stands in for TensorRT, None for what the bundle was compiled with. kernels: where kernels that
        were compiled for this GPU are kept, None for the usual place.
        Raises `MissingPackageError` or `MachineError` if the machine lacks something, `BundleError` if the bundle does
        not run here.
        """
        library = library or import_tensorrt(bundle.manifest.toolchain.compiler)
        self._begin(bundle.manifest, index, graphs, trace)
        check_compatible(bundle, self._machine(library))
        unloadable = f"{bundle.path}: {self.gpu.name} cannot load it"
        with close_on_error(self._stack), explain_cuda_errors(unloadable, MachineError):
            self._check_memory()
            self._load(bundle, library, kernels)

    def workspace(self, buffers: Mapping[str, BufferSpec]) -> CudaWorkspace:
        """Raises `MachineError` if there is no memory for it; the message says what would fit.

        Raises `MisuseError` if the device is closed.
        """
        with self._opening:
            if self._closed:
                raise MisuseError(f"the bundle on {self.gpu.name} is closed; open it again with Restorer.open()")
            with explain_cuda_errors(f"{self.gpu.name} cannot be used"):
                self.gpu.make_current()
            workspace = CudaWorkspace(self, buffers)
            self._workspaces.add(workspace)
            return workspace

    def close(self) -> None:
        """Release everything, workspaces that were left open included. A second call does nothing.

        A workspace that another thread is opening is finished first.
        """
        with self._opening:
            self._closed = True
            for workspace in list(self._workspaces):
                workspace.close()
            with suppress(Exception):  # a GPU that is lost cannot be entered, and has nothing left to release
                self.gpu.make_current()
            self._stack.close()

    def timed(self, name: str, **details: Any) -> AbstractContextManager[None]:
        """Something that takes time on the host, for the trace if there is one."""
        return timed(self.trace, "host", name, **details)

    @contextmanager
    def suggest_what_fits(self, height: int, width: int, held: int) -> Iterator[None]:
        """Device memory is asked for in the block, for frames of this size; `held` bytes are there already."""
        try:
            yield
        except OutOfGpuMemoryError as error:
            free = self.gpu.free_bytes()
            room = None if free is None else free + held
            raise MachineError(shortage_message(self.manifest, height, width, room)) from error

    def context(self, stage: StageSpec, shapes: Mapping[str, tuple[int, ...]]) -> Context:
        """What runs a stage for one stream. shapes: of every tensor, by name."""
        return TensorRTContext(self.engines, stage, shapes, self.arena)

    def _begin(self, manifest: Manifest, index: int, graphs: bool, trace: Trace | None) -> None:
        """What comes before the stages."""
        self.manifest, self.graphs, self.trace = manifest, graphs, trace
        self.lock = threading.Lock()
        self._opening = threading.Lock()  # held while a workspace is opened, and while the device is closed
        self._closed = False
        self._workspaces: WeakSet[CudaWorkspace] = WeakSet()
        self._stack = ExitStack()
        self.gpu = Gpu(index)

    def _machine(self, library: Any) -> Environment:
        gpu, name = self.gpu, library.__name__
        return Environment(
            gpu.name, gpu.compute_capability, gpu.driver_cuda(), name, library.__version__, package_cuda(name)
        )

    def _open_stream(self) -> None:
        self.stream = closing(self._stack, self.gpu.device.create_stream())
        self._stack.callback(self.finish_releases)
        self.tracing = (
            GpuTracing(self.trace, GpuClock.start(self.gpu, self.stream, self._stack)) if self.trace else None
        )

    def _check_memory(self) -> None:
        """Engines that cannot fit are refused before gigabytes of them are read."""
        size, free = self.manifest.recipe.resolution, self.gpu.free_bytes()
        plan = plan_memory(self.manifest, size.height, size.width)
        if free is not None and plan.weight_bytes + plan.arena_bytes > free:
            raise MachineError(shortage_message(self.manifest, size.height, size.width, free))

    def _load(self, bundle: Bundle, library: Any, kernels: KernelCache | None) -> None:
        gpu, stack = self.gpu, self._stack
        self._open_stream()
        cache = kernels or KernelCache.of(bundle, gpu.name, gpu.driver_version(), library.__version__)
        size, weights = self.manifest.recipe.resolution, weight_bytes(self.manifest)
        with (
            self.timed("load engines", nbytes=sum(entry.size for entry in self.manifest.files)),
            self.suggest_what_fits(size.height, size.width, held=0),
        ):
            self.engines = TensorRTEngines(library, bundle, cache.load())
        stack.callback(self.engines.close)
        stack.callback(self._keep_kernels, cache)
        needed = max(self.engines.arena_bytes(stage) for stage in self.manifest.stages)
        nbytes = max(aligned(needed), arena_bytes(self.manifest))
        with self.timed("allocate arena", nbytes=nbytes), self.suggest_what_fits(size.height, size.width, weights):
            memory = allocate(gpu, "arena", nbytes, self.stream, stack)
        self.arena: Span = (address(memory), nbytes)

    def finish_releases(self) -> None:
        """Memory is released in the order of the stream; when this returns it is, for everybody."""
        with suppress(Exception):  # a GPU that is lost has nothing to release
            self.stream.sync()
            self.gpu.trim_memory_pool()

    def _keep_kernels(self, cache: KernelCache) -> None:
        kernels = self.engines.compiled_kernels()
        if kernels is not None:
            cache.store(kernels)


class CudaWorkspace:
    """The buffers of one stream, its execution contexts and its copy streams. Made by `CudaDevice.workspace`."""

    def __init__(self, device: CudaDevice, buffers: Mapping[str, BufferSpec]) -> None:
        self._device, self._plan = device, plan_stream(device.manifest, buffers)
        self._cancelled = threading.Event()
        self._recordings: dict[tuple[Step, ...], CudaRecording] = {}
        self._once: tuple[tuple[Step, ...], CudaRecording, ExitStack] | None = None
        self._contexts: dict[str, Context] = {}
        self._stack = ExitStack()
        self._closed = False
        self._use = threading.Lock()
        with close_on_error(self._stack), explain_cuda_errors("the stages could not be made ready"):
            self._lanes = self._make_lanes()
            self._memory = self._allocate()
            self._stack.callback(self._contexts.clear)
            for stage in device.manifest.stages:
                self._warm_up(stage)
            self._memory.clear(device.stream)
            device.stream.sync()
            self._stack.callback(self._forget)

    def host(self, buffer: str) -> NDArray[Any]:
        return self._memory.arrays[buffer]

    def record(self, steps: Sequence[Step], *, once: bool = False) -> CudaRecording:
        """Raises `StageError` if a stage cannot be captured. The same steps are recorded once.

        With `once` nothing is captured: enqueueing the stages is what a capture does, too, and it is for one use.
        """
        key = tuple(steps)
        with self._use:
            if self._closed:
                raise MisuseError("this stream is closed; open another one with Restorer.session()")
            self._lanes.check()
            if once:
                return self._record_once(key)
            if key not in self._recordings:
                self._recordings[key] = self._recording(self._lanes, key)
            return self._recordings[key]

    def cancel(self) -> None:
        """A graph that runs cannot be stopped: waiting for it raises when it is done, and nothing later begins."""
        self._cancelled.set()

    def close(self) -> None:
        """Wait for what is on its way, then release everything. A second call does nothing."""
        with self._use:
            if not self._closed:
                self._closed = True
                self._release()

    def _release(self) -> None:
        self._cancelled.set()  # recordings of a closed workspace must not touch its memory
        with suppress(Exception):  # a GPU that is lost cannot be entered
            self._device.gpu.make_current()
        for stream in self._lanes.streams:
            with suppress(Exception):  # nor has it anything on its way
                stream.sync()
        self._recordings.clear()
        self._stack.close()
        self._device.finish_releases()  # now another workspace may have it

    def _recording(self, lanes: ChunkStreams, steps: tuple[Step, ...]) -> CudaRecording:
        with self._device.timed("record"), self._suggest_what_fits(self._plan.gpu_bytes), detect_out_of_memory():
            return CudaRecording(lanes, self._memory, self._contexts, aligned_steps(steps, self._plan.buffers))

    def _record_once(self, steps: tuple[Step, ...]) -> CudaRecording:
        """There is one such recording at a time, with a stack of its own for its events."""
        if self._once is None or self._once[0] != steps:
            self._forget()
            with ExitStack() as stack:
                made = self._recording(replace(self._lanes, graphs=False, stack=stack), steps)
                self._once = (steps, made, stack.pop_all())
        return self._once[1]

    def _forget(self) -> None:
        """Release what was recorded for one use."""
        if self._once is not None:
            stack = self._once[2]
            self._once = None
            stack.close()

    def _make_lanes(self) -> ChunkStreams:
        device, stack = self._device, self._stack
        uploads, downloads, captures = (closing(stack, device.gpu.device.create_stream()) for _ in range(3))
        return ChunkStreams(
            device.gpu,
            uploads,
            device.stream,
            downloads,
            captures,
            device.lock,
            self._use,
            device.graphs,
            self._cancelled,
            device.tracing,
            stack,
        )

    def _allocate(self) -> SessionMemory:
        device, plan = self._device, self._plan
        with (
            device.timed("allocate stream", nbytes=plan.device.nbytes, pinned=plan.host.nbytes),
            self._suggest_what_fits(plan.weight_bytes + plan.arena_bytes),
        ):
            return SessionMemory(device.gpu, plan, device.stream, self._stack)

    def _suggest_what_fits(self, held: int) -> AbstractContextManager[None]:
        height, width = self._plan.buffers["frames_in_0"].shape[1:3]
        return self._device.suggest_what_fits(height, width, held)

    def _warm_up(self, stage: StageSpec) -> None:
        """Make the context of a stage and run it once, on memory that is cleared afterwards."""
        device, plan = self._device, self._plan
        tensors = (*stage.inputs, *stage.outputs)
        shapes = {tensor.name: stage_shape(tensor, plan.buffers) for tensor in tensors}
        sizes = [tensor_bytes(shapes[tensor.name], tensor.dtype) for tensor in tensors]
        stream = handle(device.stream)
        with (
            device.timed(f"warm up {stage.name}"),
            self._suggest_what_fits(plan.gpu_bytes),
            detect_out_of_memory(),
            explain_cuda_errors(f"stage {stage.name} failed when it ran first"),
        ):
            context = device.context(stage, shapes)
            self._contexts[stage.name] = context
            context.prepare(stream)
            with device.lock:  # the arena is everybody's
                context.enqueue(self._memory.pieces(sizes), stream)
            device.stream.sync()


@contextmanager
def close_on_error(stack: ExitStack) -> Iterator[None]:
    """Nothing half-made is left behind."""
    try:
        yield
    except BaseException:
        with suppress(Exception):  # what went wrong first is what matters
            stack.close()
        raise
