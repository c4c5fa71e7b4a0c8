"""One chunk on the GPU: copies in, a captured graph, copies out, on three CUDA streams ordered by events.

    uploads     ──H2D──● uploaded
    compute            └─wait──graph──● computed
    downloads                         └─wait──D2H──● downloaded

If a device decodes beside the work on the next chunk, the graph is two graphs, and the second one has a stream:

    compute            └─wait──graph──● computed    └─wait──graph of the next chunk
    decoder                           └─wait──graph──● decoded
    downloads                                        └─wait──D2H──● downloaded

These two waits on the GPU and two of the host (`wait_uploaded`, `wait`) are enough. Before a buffer is used again the
session has waited for the chunk that used it, and state passes from chunk to chunk in the order of the stream that
uses it. A program that is not divided (one that clears the state, for example) waits for the decoder's stream.
"""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any
from weakref import WeakValueDictionary

from ...errors import Cancelled, MisuseError, StageError, SwiftVRError
from ..stream.plan import is_decoding
from ..stream.program import Beside, Clear, Copy, Download, Run, Step, Upload
from ..stream.trace import Trace
from .cuda_graph import Enqueue, GraphOfCalls, GraphPolicy, own_contexts
from .cuda_memory import SessionMemory
from .gpu import Gpu, explain_cuda_errors
from .stage_provider import StageContext


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


class InProgress:
    """What runs on a GPU, of all sessions: each piece of work until its submission is waited for or dropped."""

    def __init__(self) -> None:
        self._numbers = itertools.count()
        self._submissions: WeakValueDictionary[int, CudaSubmission] = WeakValueDictionary()

    def add(self, submission: CudaSubmission) -> None:
        self._submissions[next(self._numbers)] = submission

    def together_with(self, what: str) -> str:
        """What is in progress, oldest first, and `what`; each kind of it once."""
        alive = [reference() for reference in self._submissions.valuerefs()]
        running = [submission.what for submission in alive if submission is not None and not submission.over]
        return " or ".join(dict.fromkeys([*running, what]))


@dataclass(frozen=True)
class Compute:
    """Where a device runs its stages. All its sessions share it: stages run one after another, on one arena.

    stream: the CUDA stream of the stages. decoder: that of the stages after the transformer if they run beside the
    others, on an arena of their own; else None. lock: held while stages are enqueued, because the launches of two
    sessions must not mix on an arena. tracing: None without a trace. graphs: whether chunks are captured.
    """

    gpu: Gpu
    stream: Any
    decoder: Any | None
    lock: threading.Lock
    tracing: GpuTracing | None
    graphs: GraphPolicy
    in_progress: InProgress = field(default_factory=InProgress)

    @contextmanager
    def explaining(self, what: str, failure: str) -> Iterator[None]:
        """Turn errors of the driver into a `StageError`: `what failure`, with the driver's own words.

        If the GPU is lost, any call may be the first to notice, so the error names all that was in progress instead.
        """
        try:
            with explain_cuda_errors(f"{what} {failure}"):
                yield
        except (Cancelled, MisuseError):
            raise
        except SwiftVRError as error:
            loss = self.gpu.loss(self.stream)
            if loss is None:
                raise
            failed = self.in_progress.together_with(what)
            raise StageError(
                f"{failed} failed on the GPU ({loss}); this process cannot use it any more, start again"
            ) from error

    def stream_of(self, stage: str) -> Any:
        """The CUDA stream that a stage runs on."""
        return self.decoder if self.decoder is not None and is_decoding(stage) else self.stream

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
        streams = (self.copies.uploads, self.compute.stream, self.compute.decoder, self.copies.downloads)
        return tuple(stream for stream in streams if stream is not None)

    def check(self) -> None:
        """Make the GPU current in this thread. Raises `Cancelled` if the session has ended."""
        if self.guard.cancelled.is_set():
            raise Cancelled
        with explain_cuda_errors(f"{self.compute.gpu.name} cannot be used"):
            self.compute.gpu.make_current()


@dataclass(frozen=True)
class Contexts:
    """Where a recording finds what runs its stages.

    shared: by stage, for all recordings of a session that are not captured. make: another one, for a step of a graph.
    """

    shared: Mapping[str, StageContext]
    make: Callable[[str], StageContext]


class CudaRecording:
    """Steps bound to the memory of a session. Submitting them allocates nothing and waits for nothing.

    But for the second time, when they are captured.
    """

    def __init__(
        self,
        streams: ChunkStreams,
        memory: SessionMemory,
        contexts: Contexts,
        steps: Sequence[Step],
        resources: ExitStack,
        *,
        graph: bool,
    ) -> None:
        """steps: uploads first, downloads last. graph: capture all others as CUDA graphs, if that can be: as one, or as
        two if they are divided by `Beside`.

        `resources` closes the events, the graphs and their contexts.
        """
        self._streams = streams
        stages = list(dict.fromkeys(step.stage for step in steps if isinstance(step, Run)))
        self._what = f"a chunk ({', '.join(stages) or 'no stages'})"
        ups, front, decoding, downs = _split(steps)
        compute, captures = streams.compute, streams.copies.captures
        policy = compute.graphs

        def directly(part: Sequence[Step], own: Mapping[int, StageContext] = _NONE) -> list[Enqueue]:
            return [_enqueue(memory, step, own.get(place), contexts.shared) for place, step in enumerate(part)]

        def captured(part: Sequence[Step]) -> Sequence[Enqueue]:
            if not (graph and policy.wanted and part):
                return directly(part)
            own = own_contexts(part, contexts.make, policy, resources)

            def check() -> None:
                for context in own.values():
                    context.check_capturable(stream_handle(captures))

            return [GraphOfCalls(directly(part, own), captures, check, policy, resources)]

        with compute.explaining(self._what, "could not be made ready"):
            self._upload = _StreamWork(compute, "upload", streams.copies.uploads, directly(ups), resources)
            self._compute = _StreamWork(compute, "compute", compute.stream, captured(front), resources)
            self._decode = None
            if compute.decoder is not None and decoding:
                self._decode = _StreamWork(compute, "decode", compute.decoder, captured(decoding), resources)
            self._download = _StreamWork(compute, "download", streams.copies.downloads, directly(downs), resources)

    def submit(self) -> CudaSubmission:
        """Enqueue all steps. Raises `StageError` if the driver refuses, `Cancelled` if the session has ended."""
        streams, parts = self._streams, [self._upload, self._compute, self._download]
        with streams.guard.lock:
            streams.check()
            with streams.compute.explaining(self._what, "could not be submitted"):
                self._upload.enqueue()
                with streams.compute.lock:
                    self._enqueue_stages()
                streams.copies.downloads.wait((self._decode or self._compute).done)
                self._download.enqueue()
        if self._decode is not None:
            parts.insert(2, self._decode)
        return CudaSubmission(streams, self._what, parts)

    def _enqueue_stages(self) -> None:
        stream, decoder = self._streams.compute.stream, self._streams.compute.decoder
        stream.wait(self._upload.done)
        if self._decode is None and decoder is not None:
            stream.wait(decoder)
        self._compute.enqueue()
        if self._decode is not None and decoder is not None:
            decoder.wait(self._compute.done)
            self._decode.enqueue()

    def replay(self) -> None:
        self.submit().wait()


class CudaSubmission:
    """A chunk in progress on its CUDA streams. Its events belong to its recording: one submission of it at a time.

    what: the chunk, for messages. over: it has been waited for.
    """

    def __init__(self, streams: ChunkStreams, what: str, parts: Sequence[_StreamWork]) -> None:
        self._streams, self.what, self._parts = streams, what, parts
        self.over = False
        streams.compute.in_progress.add(self)

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
        self.over = True
        for part in self._parts:
            part.write_span(self.what)

    def _sync(self, event: Any) -> None:
        with self._streams.guard.lock:
            self._streams.check()
            with self._streams.compute.explaining(self.what, "failed on the GPU"):
                event.sync()
            self._streams.check()


class _StreamWork:
    """What one CUDA stream does for a chunk, and the event after it. A trace has an event before it, too."""

    def __init__(
        self, compute: Compute, lane: str, stream: Any, calls: Sequence[Enqueue], resources: ExitStack
    ) -> None:
        self._tracing, self._lane, self._stream, self._calls = compute.tracing, lane, stream, list(calls)
        resources.callback(self._calls.clear)  # a submission that outlives its session must not keep contexts
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
    """Uploads, which come first; the work of the GPU up to `Beside`, and after it; downloads, which come last."""
    uploads = [step for step in steps if isinstance(step, Upload)]
    downloads = [step for step in steps if isinstance(step, Download)]
    body = [step for step in steps if not isinstance(step, Upload | Download)]
    if [*uploads, *body, *downloads] != list(steps):
        raise MisuseError("steps are out of order, expected uploads first and downloads last")
    front = list(itertools.takewhile(lambda step: not isinstance(step, Beside), body))
    yield from (uploads, front, body[len(front) + 1 :], downloads)


_NONE: Mapping[int, StageContext] = {}


def _enqueue(
    memory: SessionMemory, step: Step, own: StageContext | None, shared: Mapping[str, StageContext]
) -> Enqueue:
    """How one step is enqueued. own: the context of this step; None for the shared one of its stage."""
    if isinstance(step, Run):
        addresses = [memory.address(view) for view in (*step.inputs, *step.outputs)]
        context = own or shared[step.stage]
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
        assert isinstance(step, Download)  # `Beside` only divides
        what = f"the download of {step.view.buffer}"
        source, target = memory.on_device(step.view), memory.on_host(step.view)
    return _explained(what, lambda stream: target.copy_from(source, stream=stream))


def _explained(what: str, call: Enqueue) -> Enqueue:
    """The same call; its errors say what it was."""

    def explained(stream: Any) -> None:
        with explain_cuda_errors(f"{what} could not be submitted"):
            call(stream)

    return explained
