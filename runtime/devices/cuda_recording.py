"""One chunk on the GPU: copies in, a captured graph, copies out, on three CUDA streams ordered by events.

    uploads     ──H2D──● uploaded
    compute            └─wait──graph──● computed
    downloads                         └─wait──D2H──● downloaded

These two waits on the GPU and two of the host (`wait_uploaded`, `wait`) are enough. Before a buffer is used again the
session has waited for the chunk that used it, and state passes from chunk to chunk in the order of the compute stream.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass
from typing import Any

from ...errors import Cancelled, MisuseError
from ..stream.program import Clear, Copy, Download, Run, Step, Upload
from ..stream.trace import Trace
from .cuda_memory import SessionMemory
from .gpu import Gpu, explain_cuda_errors
from .stage_provider import StageContext

CAPTURE_MODE = "thread_local"
"""During a capture the driver refuses forbidden calls from this thread only; other threads carry on."""

Enqueue = Callable[[Any], None]
"""Enqueues something on a CUDA stream, or on a graph builder, which stands for a stream that is being captured."""


@dataclass(frozen=True)
class GpuTracing:
    """Writes spans of the GPU to a trace.

    event, seconds: align the clocks; the event happened when `time.perf_counter` said so.
    """

    trace: Trace
    event: Any
    seconds: float

    @classmethod
    def start(cls, trace: Trace, gpu: Gpu, stream: Any, resources: ExitStack) -> GpuTracing:
        event = resources.enter_context(closing(gpu.device.create_event(gpu.core.EventOptions(timing_enabled=True))))
        stream.record(event)
        event.sync()
        return cls(trace, event, time.perf_counter())

    def span(self, lane: str, name: str, began: Any, ended: Any) -> None:
        """Trace what happened between two events that are over."""
        self.trace.span(lane, name, self._at(began), self._at(ended))

    def _at(self, event: Any) -> float:
        return self.seconds + float(event - self.event) / 1e3


@dataclass(frozen=True)
class Compute:
    """Where a device runs its stages. All its sessions share it: stages run one after another, on one arena.

    stream: the CUDA stream of the stages. lock: held while stages are enqueued, because the launches of two sessions
    must not mix on the arena. tracing: None without a trace.
    """

    gpu: Gpu
    stream: Any
    lock: threading.Lock
    tracing: GpuTracing | None

    def finish_releases(self) -> None:
        """Wait until memory that was released on the stream is free, and return it to the driver."""
        with suppress(Exception):  # a GPU that is lost has nothing to release
            self.stream.sync()
            self.gpu.trim_memory_pool()


@dataclass(frozen=True)
class Copies:
    """The CUDA streams of one session. Nothing ever runs on `captures`: graphs are captured there."""

    uploads: Any
    downloads: Any
    captures: Any


@dataclass(frozen=True)
class Guard:
    """Keeps the resources of a session alive while they are used.

    lock: held by every thread that uses them, and by the one that closes them. cancelled: set when the session ends;
    nothing may be used after that.
    """

    lock: threading.Lock
    cancelled: threading.Event


@dataclass(frozen=True)
class ChunkStreams:
    """The CUDA streams that the chunks of one session run on."""

    compute: Compute
    copies: Copies
    guard: Guard

    @property
    def all_running(self) -> tuple[Any, ...]:
        """Those that may have work in progress."""
        return (self.copies.uploads, self.compute.stream, self.copies.downloads)

    def check(self) -> None:
        """Make the GPU current in this thread. Raises `Cancelled` if the session has ended."""
        if self.guard.cancelled.is_set():
            raise Cancelled
        with explain_cuda_errors(f"{self.compute.gpu.name} cannot be used"):
            self.compute.gpu.make_current()


class CudaRecording:
    """Steps bound to the memory of a session. Submitting them allocates nothing and waits for nothing."""

    def __init__(
        self,
        streams: ChunkStreams,
        memory: SessionMemory,
        contexts: Mapping[str, StageContext],
        steps: Sequence[Step],
        resources: ExitStack,
        *,
        graph: bool,
    ) -> None:
        """contexts: by stage. steps: uploads first, downloads last. graph: capture all others as one CUDA graph.

        `resources` closes the events and the graph. Raises `StageError` if a stage cannot be captured.
        """
        self._streams = streams
        stages = list(dict.fromkeys(step.stage for step in steps if isinstance(step, Run)))
        self._what = f"a chunk ({', '.join(stages) or 'no stages'})"
        uploads, body, downloads = ([_enqueue(memory, contexts, step) for step in part] for part in _split(steps))
        with explain_cuda_errors(f"{self._what} could not be captured"):
            if graph and body:
                for stage in stages:
                    contexts[stage].check_capturable(stream_handle(streams.copies.captures))
                body = [_captured(streams.copies.captures, body, resources)]
            compute = streams.compute
            self._upload = _StreamWork(compute, "upload", streams.copies.uploads, uploads, resources)
            self._compute = _StreamWork(compute, "compute", compute.stream, body, resources)
            self._download = _StreamWork(compute, "download", streams.copies.downloads, downloads, resources)

    def submit(self) -> CudaSubmission:
        """Enqueue all steps. Raises `StageError` if the driver refuses, `Cancelled` if the session has ended."""
        streams = self._streams
        with streams.guard.lock:
            streams.check()
            with explain_cuda_errors(f"{self._what} could not be submitted"):
                self._upload.enqueue()
                with streams.compute.lock:
                    streams.compute.stream.wait(self._upload.done)
                    self._compute.enqueue()
                streams.copies.downloads.wait(self._compute.done)
                self._download.enqueue()
        return CudaSubmission(streams, self._what, (self._upload, self._compute, self._download))

    def replay(self) -> None:
        self.submit().wait()


class CudaSubmission:
    """A chunk in progress on the three streams. Its events belong to its recording: one submission of it at a time."""

    def __init__(self, streams: ChunkStreams, what: str, parts: tuple[_StreamWork, _StreamWork, _StreamWork]) -> None:
        self._streams, self._what, self._parts = streams, what, parts

    def done(self) -> bool:
        try:
            with self._streams.guard.lock:
                return self._streams.guard.cancelled.is_set() or bool(self._parts[-1].done.is_done)
        except Exception:  # noqa: BLE001 (`wait` meets the same error and reports it)
            return True

    def wait_uploaded(self) -> None:
        """Raises `StageError` if the GPU reports an error, `Cancelled` if the session has ended."""
        self._sync(self._parts[0].done)

    def wait(self) -> None:
        """Raises what `wait_uploaded` raises."""
        self._sync(self._parts[-1].done)
        for part in self._parts:
            part.write_span(self._what)

    def _sync(self, event: Any) -> None:
        with self._streams.guard.lock:
            self._streams.check()
            with explain_cuda_errors(f"{self._what} failed on the GPU"):
                event.sync()
            self._streams.check()


class _StreamWork:
    """What one CUDA stream does for a chunk, and the event after it. A trace has an event before it, too."""

    def __init__(
        self, compute: Compute, lane: str, stream: Any, calls: Sequence[Enqueue], resources: ExitStack
    ) -> None:
        self._tracing, self._lane, self._stream, self._calls = compute.tracing, lane, stream, calls
        # A thread that waits sleeps: decoding and encoding need the cores.
        options = compute.gpu.core.EventOptions(blocking_sync=True, timing_enabled=self._tracing is not None)

        def event() -> Any:
            return resources.enter_context(closing(compute.gpu.device.create_event(options)))

        self.done = event()
        self._began = event() if self._tracing else None

    def enqueue(self) -> None:
        if self._began is not None:
            self._stream.record(self._began)
        for call in self._calls:
            call(self._stream)
        self._stream.record(self.done)

    def write_span(self, name: str) -> None:
        if self._tracing and self._calls:
            self._tracing.span(self._lane, name, self._began, self.done)


def stream_handle(stream: Any) -> int:
    """The driver's handle, as TensorRT wants it, of a CUDA stream or of what stands for one."""
    return int(stream.__cuda_stream__()[1])


def _split(steps: Sequence[Step]) -> Iterator[Sequence[Step]]:
    """Uploads, which come first; the work of the GPU; downloads, which come last."""
    uploads = [step for step in steps if isinstance(step, Upload)]
    downloads = [step for step in steps if isinstance(step, Download)]
    body = [step for step in steps if not isinstance(step, Upload | Download)]
    if [*uploads, *body, *downloads] != list(steps):
        raise MisuseError("steps are out of order, expected uploads first and downloads last")
    yield from (uploads, body, downloads)


def _enqueue(memory: SessionMemory, contexts: Mapping[str, StageContext], step: Step) -> Enqueue:
    """How one step is enqueued."""
    if isinstance(step, Run):
        addresses = [memory.address(view) for view in (*step.inputs, *step.outputs)]
        context = contexts[step.stage]
        return lambda stream: context.enqueue(addresses, stream_handle(stream))
    if isinstance(step, Clear):
        cleared = memory.on_device(step.target)
        return _explained(f"clearing {step.target.buffer}", lambda stream: cleared.fill(0, stream=stream))
    if isinstance(step, Copy):
        what = f"copying {step.source.buffer} to {step.target.buffer}"
        source, target = memory.on_device(step.source), memory.on_device(step.target)
    elif isinstance(step, Upload):
        what = f"the upload of {step.view.buffer}"
        source, target = memory.on_host(step.view), memory.on_device(step.view)
    else:
        what = f"the download of {step.view.buffer}"
        source, target = memory.on_device(step.view), memory.on_host(step.view)
    return _explained(what, lambda stream: target.copy_from(source, stream=stream))


def _explained(what: str, call: Enqueue) -> Enqueue:
    """The same call; its errors say what it was."""

    def explained(stream: Any) -> None:
        with explain_cuda_errors(f"{what} could not be submitted"):
            call(stream)

    return explained


def _captured(stream: Any, calls: Sequence[Enqueue], resources: ExitStack) -> Enqueue:
    """Capture all calls on `stream` as one graph; the call that launches it."""
    with _capturing(stream) as builder:
        for call in calls:
            call(builder)
        graph = resources.enter_context(closing(builder.end_building().complete()))
    return lambda stream: graph.launch(stream)


@contextmanager
def _capturing(stream: Any) -> Iterator[Any]:
    """A capture that ends with the block, also if the block fails."""
    builder = stream.create_graph_builder()
    try:
        yield builder.begin_building(CAPTURE_MODE)
    finally:
        builder.close()
