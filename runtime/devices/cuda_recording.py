"""One chunk on the GPU: copies in, a captured graph, copies out, on three streams that wait for each other's events.

    uploads     ──H2D──● uploaded
    compute            └─wait──graph──● computed
    downloads                         └─wait──D2H──● downloaded

The two waits on the GPU and the two of the host (`wait_uploaded`, `wait`) are all there are. Nothing waits before a
turn's buffers are used again, since whoever submits has waited for the submission that used them before; and state
passes from chunk to chunk in the order of one stream.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

from swiftvr_trt.errors import Cancelled, MisuseError
from swiftvr_trt.runtime.stream.program import Clear, Copy, Download, Run, Step, Upload
from swiftvr_trt.runtime.stream.trace import Trace

from .cuda_memory import SessionMemory, closing
from .gpu import Gpu, explain_cuda_errors

CAPTURE_MODE = "thread_local"
"""What must not happen during a capture is an error in this thread; other threads go about their business."""

Call = Callable[[Any], None]
"""Enqueues something on a stream, or on a graph builder, which stands for a stream that is being captured."""


class Context(Protocol):
    """What runs one stage for one stream; see `trt.TensorRTContext`."""

    def prepare(self, stream: int) -> None: ...

    def check_capturable(self, stream: int) -> None: ...

    def enqueue(self, addresses: Sequence[int], stream: int) -> None: ...


@dataclass(frozen=True)
class GpuClock:
    """Where the GPU's time and the host's meet: an event, and when it happened in `time.perf_counter` seconds."""

    event: Any
    seconds: float

    @classmethod
    def start(cls, gpu: Gpu, stream: Any, stack: ExitStack) -> GpuClock:
        event = closing(stack, gpu.device.create_event(gpu.core.EventOptions(timing_enabled=True)))
        stream.record(event)
        event.sync()
        return cls(event, time.perf_counter())

    def at(self, event: Any) -> float:
        """When an event that is over happened."""
        return self.seconds + float(event - self.event) / 1e3


@dataclass(frozen=True)
class GpuTracing:
    """Where spans go, and the clock for those of the GPU."""

    trace: Trace
    clock: GpuClock


@dataclass(frozen=True)
class ChunkStreams:
    """What the chunks of one stream run on.

    compute and lock are the device's: stages of all its streams run one after another, on one arena. captures: a
    stream on which nothing ever runs. use: held by whoever uses what `stack` closes, and by whoever closes it. graphs:
    False enqueues every stage anew. stack: closes what recordings make.
    """

    gpu: Gpu
    uploads: Any
    compute: Any
    downloads: Any
    captures: Any
    lock: threading.Lock
    use: threading.Lock
    graphs: bool
    cancelled: threading.Event
    tracing: GpuTracing | None
    stack: ExitStack

    @property
    def streams(self) -> tuple[Any, ...]:
        """Those on which something may be on its way."""
        return (self.uploads, self.compute, self.downloads)

    def check(self) -> None:
        """Make the GPU current in this thread, unless the stream has ended."""
        if self.cancelled.is_set():
            raise Cancelled
        with explain_cuda_errors(f"{self.gpu.name} cannot be used"):
            self.gpu.make_current()


class CudaRecording:
    """Steps bound to the memory of a stream. Submitting it allocates nothing and waits for nothing."""

    def __init__(
        self,
        lanes: ChunkStreams,
        memory: SessionMemory,
        contexts: Mapping[str, Context],
        steps: Sequence[Step],
    ) -> None:
        """Uploads first, downloads last. Raises `StageError` if a stage cannot be captured."""
        self._lanes = lanes
        stages = list(dict.fromkeys(step.stage for step in steps if isinstance(step, Run)))
        self._what = f"a chunk ({', '.join(stages) or 'no stages'})"
        uploads, body, downloads = ([_call(memory, contexts, step) for step in part] for part in _three_parts(steps))
        with explain_cuda_errors(f"{self._what} could not be captured"):
            if lanes.graphs and body:
                for stage in stages:
                    contexts[stage].check_capturable(handle(lanes.captures))
                body = [_captured(lanes, body)]
            self._upload = _Leg(lanes, "upload", lanes.uploads, uploads)
            self._compute = _Leg(lanes, "compute", lanes.compute, body)
            self._download = _Leg(lanes, "download", lanes.downloads, downloads)

    def submit(self) -> CudaSubmission:
        lanes = self._lanes
        with lanes.use:
            lanes.check()
            with explain_cuda_errors(f"{self._what} could not be submitted"):
                self._upload.enqueue()
                with lanes.lock:  # without graphs, the launches of two streams would mix on the arena
                    lanes.compute.wait(self._upload.done)
                    self._compute.enqueue()
                lanes.downloads.wait(self._compute.done)
                self._download.enqueue()
        return CudaSubmission(lanes, self._what, (self._upload, self._compute, self._download))

    def replay(self) -> None:
        self.submit().wait()


class CudaSubmission:
    """A chunk on its way through the three streams. Events belong to its recording: one submission at a time."""

    def __init__(self, lanes: ChunkStreams, what: str, legs: tuple[_Leg, _Leg, _Leg]) -> None:
        self._lanes, self._what, self._legs = lanes, what, legs

    def done(self) -> bool:
        try:
            with self._lanes.use:
                return self._lanes.cancelled.is_set() or bool(self._legs[-1].done.is_done)
        except Exception:  # noqa: BLE001 (`wait` meets it again and says what it is)
            return True

    def wait_uploaded(self) -> None:
        """Raises `Cancelled`, too."""
        self._sync(self._legs[0].done)

    def wait(self) -> None:
        self._sync(self._legs[-1].done)
        if self._lanes.tracing is not None:
            for leg in self._legs:
                leg.tell(self._lanes.tracing, self._what)

    def _sync(self, event: Any) -> None:
        with self._lanes.use:
            self._lanes.check()
            with explain_cuda_errors(f"{self._what} failed on the GPU"):
                event.sync()
            self._lanes.check()


class _Leg:
    """What one stream does for a chunk, and the event after it; the one before it is for the trace."""

    def __init__(self, lanes: ChunkStreams, name: str, stream: Any, calls: Sequence[Call]) -> None:
        timed = lanes.tracing is not None
        # Whoever waits sleeps: the cores are for decoding and encoding.
        options = lanes.gpu.core.EventOptions(blocking_sync=True, timing_enabled=timed)
        self._name, self._stream, self._calls = name, stream, calls
        self.done = closing(lanes.stack, lanes.gpu.device.create_event(options))
        self._began = closing(lanes.stack, lanes.gpu.device.create_event(options)) if timed else None

    def enqueue(self) -> None:
        if self._began is not None:
            self._stream.record(self._began)
        for call in self._calls:
            call(self._stream)
        self._stream.record(self.done)

    def tell(self, tracing: GpuTracing, what: str) -> None:
        if self._calls and self._began is not None:
            tracing.trace.span(self._name, what, tracing.clock.at(self._began), tracing.clock.at(self.done))


def handle(stream: Any) -> int:
    """The driver's handle, as TensorRT wants it, of a stream or of what stands for one."""
    return int(stream.__cuda_stream__()[1])


def _three_parts(steps: Sequence[Step]) -> Iterator[Sequence[Step]]:
    """Uploads, which come first; what the GPU does; downloads, which come last."""
    uploads = [step for step in steps if isinstance(step, Upload)]
    downloads = [step for step in steps if isinstance(step, Download)]
    body = [step for step in steps if not isinstance(step, Upload | Download)]
    if [*uploads, *body, *downloads] != list(steps):
        raise MisuseError("steps are out of order, expected uploads first and downloads last")
    yield from (uploads, body, downloads)


def _call(memory: SessionMemory, contexts: Mapping[str, Context], step: Step) -> Call:
    """How one step is enqueued."""
    if isinstance(step, Run):
        addresses = [memory.address(view) for view in (*step.inputs, *step.outputs)]
        context = contexts[step.stage]
        return lambda stream: context.enqueue(addresses, handle(stream))
    if isinstance(step, Clear):
        cleared = memory.on_device(step.target)
        return _named(f"clearing {step.target.buffer}", lambda stream: cleared.fill(0, stream=stream))
    if isinstance(step, Copy):
        what = f"copying {step.source.buffer} to {step.target.buffer}"
        source, target = memory.on_device(step.source), memory.on_device(step.target)
    elif isinstance(step, Upload):
        what = f"the upload of {step.view.buffer}"
        source, target = memory.on_host(step.view), memory.on_device(step.view)
    else:
        what = f"the download of {step.view.buffer}"
        source, target = memory.on_device(step.view), memory.on_host(step.view)
    return _named(what, lambda stream: target.copy_from(source, stream=stream))


def _named(what: str, call: Call) -> Call:
    """A call whose failure says what it was."""

    def named(stream: Any) -> None:
        with explain_cuda_errors(f"{what} could not be submitted"):
            call(stream)

    return named


def _captured(lanes: ChunkStreams, calls: Sequence[Call]) -> Call:
    """All calls as one graph, captured beside whatever runs."""
    with _building(lanes.captures) as builder:
        for call in calls:
            call(builder)
        graph = closing(lanes.stack, builder.end_building().complete())
    return lambda stream: graph.launch(stream)


@contextmanager
def _building(stream: Any) -> Iterator[Any]:
    """A capture that is over when the block is, whatever happened in it."""
    builder = stream.create_graph_builder()
    try:
        yield builder.begin_building(CAPTURE_MODE)
    finally:
        builder.close()
