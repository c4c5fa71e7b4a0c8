"""The CPU device: stages run in ONNX Runtime over preallocated NumPy buffers.

A recorded stage is an `IOBinding` that points into the buffers, so a replay copies nothing and allocates nothing of its
own. (ONNX Runtime keeps arenas for the tensors inside stages: see `renew_arena`.)
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ...engines.bundle.files import Bundle
from ...engines.bundle.manifest import NETWORK_STAGES
from ...errors import Cancelled, MachineError, MisuseError
from ...machine import available_memory
from ...text import format_bytes
from ..stream.buffers import BufferSpec, View, in_host_memory, place_bytes, used_stages
from ..stream.device import DONE, Done
from ..stream.program import Clear, Copy, Download, Run, Step, Upload
from ..stream.trace import Trace, timed
from .ort import import_onnxruntime, load_session, renew_arena, stage_error

if TYPE_CHECKING:
    import onnxruntime as ort


class CpuDevice:
    """All stages of a bundle in ONNX Runtime sessions on the CPU. Safe to share between threads."""

    overlap = surfaces = False

    def __init__(self, bundle: Bundle, *, threads: int | None = None, trace: Trace | None = None) -> None:
        """threads: CPU threads that one stage may use, None for one per physical core. trace: records stage times.

        Raises `BundleError` if a stage cannot be loaded, `MissingPackageError` or `MachineError` if ONNX Runtime is not
        installed or too old.
        """
        self._trace, self._bundle, self._threads = trace, bundle, threads
        self._loading = threading.Lock()
        self._closed = False
        self._sessions: dict[str, ort.InferenceSession] = {}
        renew_arena()
        self._load(NETWORK_STAGES)

    def workspace(self, buffers: Mapping[str, BufferSpec]) -> CpuWorkspace:
        """Allocate the buffers of a session. Raises `MachineError` if memory is short, `MisuseError` after `close`."""
        sessions = self._load(used_stages(buffers))  # a copy: workspaces may outlive the device
        return CpuWorkspace(sessions, buffers, self._trace)

    def _load(self, stages: Iterable[str]) -> dict[str, ort.InferenceSession]:
        """The stages by name. Those of pixel formats are loaded when a stream first uses them."""
        with self._loading:
            if self._closed:
                raise MisuseError("the bundle on the CPU is closed; open it again with Restorer.open()")
            for stage in stages:
                if stage not in self._sessions:
                    spec = self._bundle.manifest.stage(stage)
                    self._sessions[stage] = load_session(self._bundle, spec, threads=self._threads)
            return dict(self._sessions)

    def close(self) -> None:
        """Release the stages. A second call does nothing."""
        with self._loading:
            if not self._closed:
                renew_arena()
            self._closed = True
            self._sessions.clear()


class CpuWorkspace:
    """The buffers of one session, as NumPy arrays. The host sees the memory that the stages use."""

    def __init__(
        self,
        sessions: Mapping[str, ort.InferenceSession],
        buffers: Mapping[str, BufferSpec],
        trace: Trace | None = None,
    ) -> None:
        ort = import_onnxruntime()
        self._sessions, self._trace = sessions, trace
        placed = in_host_memory(buffers)
        own = {name: spec for name, spec in placed.items() if spec.over is None}
        nbytes = sum(place_bytes(placed).values())
        _check_memory(nbytes)
        try:
            with timed(trace, "host", "allocate stream", nbytes=nbytes):
                arrays = {name: np.zeros(spec.shape, spec.dtype) for name, spec in own.items()}
        except MemoryError as error:
            raise MachineError(
                f"not enough memory for the buffers of a stream ({error}); close other programs, or build a bundle for "
                "a smaller resolution"
            ) from error
        self._arrays = {name: arrays[spec.over or name] for name, spec in placed.items()}
        self._options = ort.RunOptions()
        self._cancelled = threading.Event()

    def host(self, buffer: str) -> NDArray[Any]:
        return self._buffer(buffer)

    def record(self, steps: Sequence[Step], *, once: bool = False) -> _CpuRecording:  # noqa: ARG002 (recording is cheap)
        with timed(self._trace, "host", "record"):
            return _CpuRecording(tuple(call for call in map(self._call, steps) if call is not None), self._cancelled)

    def cancel(self) -> None:
        self._cancelled.set()
        self._options.terminate = True

    def close(self) -> None:
        """Release the buffers. Recording in another thread raises `Cancelled` from then on."""
        self._arrays = {}

    def _call(self, step: Step) -> Callable[[], None] | None:
        """What a step does when it is replayed; None if that is nothing."""
        if isinstance(step, Run):
            return self._stage_call(step)
        if isinstance(step, Copy):
            source, target = self._array(step.source), self._array(step.target)
            return lambda: np.copyto(target, source)
        if isinstance(step, Clear):
            cleared = self._array(step.target)
            return lambda: cleared.fill(0)
        if isinstance(step, Upload | Download):
            return None  # host and device are the same memory
        raise TypeError(f"unknown step {step!r}")

    def _array(self, view: View) -> NDArray[Any]:
        return self._buffer(view.buffer)[view.start : view.start + view.count]

    def _buffer(self, name: str) -> NDArray[Any]:
        arrays = self._arrays  # `close` in another thread may empty it at any moment
        if not arrays:
            raise Cancelled
        return arrays[name]

    def _stage_call(self, step: Run) -> Callable[[], None]:
        session = self._sessions[step.stage]
        binding = session.io_binding()
        inputs, outputs = ([self._array(view) for view in views] for views in (step.inputs, step.outputs))
        for spec, array in zip(session.get_inputs(), inputs, strict=True):
            binding.bind_input(spec.name, "cpu", 0, array.dtype, array.shape, array.ctypes.data)
        for spec, array in zip(session.get_outputs(), outputs, strict=True):
            binding.bind_output(spec.name, "cpu", 0, array.dtype, array.shape, array.ctypes.data)
        call = _StageCall(step.stage, session, binding, (*inputs, *outputs), self._options, self._cancelled)
        return call if self._trace is None else _traced(self._trace, call)


def _check_memory(nbytes: int) -> None:
    """Raise `MachineError` if so many bytes do not fit. Linux would allocate them and kill whoever uses them."""
    free = available_memory()
    if free is not None and nbytes > free:
        raise MachineError(
            f"the buffers of a stream take {format_bytes(nbytes)} of memory, {format_bytes(free)} are free; close "
            "other programs, shrink the input, or build a bundle with a smaller resolution or --clip-len"
        )


@dataclass(frozen=True)
class _StageCall:
    """One stage over fixed buffers. The binding holds bare addresses; `arrays` keeps what they point to alive."""

    stage: str
    session: ort.InferenceSession
    binding: ort.IOBinding
    arrays: tuple[NDArray[Any], ...]
    options: ort.RunOptions
    cancelled: threading.Event

    def __call__(self) -> None:
        try:
            self.session.run_with_iobinding(self.binding, self.options)
        except Exception as error:
            if self.cancelled.is_set():
                raise Cancelled from error
            raise stage_error(self.stage, error) from error


def _traced(trace: Trace, call: _StageCall) -> Callable[[], None]:
    def traced() -> None:
        with trace.timed("compute", call.stage):
            call()

    return traced


@dataclass(frozen=True)
class _CpuRecording:
    """Steps of one workspace. `submit` runs them all before it returns."""

    calls: tuple[Callable[[], None], ...]
    cancelled: threading.Event

    def submit(self) -> Done:
        for call in self.calls:
            if self.cancelled.is_set():
                raise Cancelled
            call()
        return DONE

    def replay(self) -> None:
        self.submit().wait()
