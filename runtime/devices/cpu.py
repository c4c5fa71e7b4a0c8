"""The CPU device: stages run in ONNX Runtime over preallocated NumPy buffers.

A recorded stage is an `IOBinding` that points into the buffers, so a replay copies nothing and allocates nothing of its
own. (ONNX Runtime keeps an arena for the tensors inside a stage.)
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ...engines.bundle.files import Bundle
from ...engines.bundle.manifest import STAGES
from ...errors import Cancelled, MachineError, MisuseError, StageError
from ...text import first_line
from ..stream.device import DONE, Done
from ..stream.program import BufferSpec, Clear, Copy, Download, Run, Step, Upload, View
from ..stream.trace import Trace, timed
from .ort import import_onnxruntime, load_session

if TYPE_CHECKING:
    import onnxruntime as ort


class CpuDevice:
    """All stages of a bundle in ONNX Runtime sessions on the CPU. Safe to share between threads."""

    def __init__(self, bundle: Bundle, *, threads: int | None = None, trace: Trace | None = None) -> None:
        """threads: CPU threads that one stage may use, None for one per physical core. trace: records stage times.

        Raises `BundleError` if a stage cannot be loaded, `MissingPackageError` or `MachineError` if ONNX Runtime is not
        installed or too old.
        """
        self._trace = trace
        self._sessions: dict[str, ort.InferenceSession] = {}
        for stage in STAGES:
            self._sessions[stage] = load_session(bundle, bundle.manifest.stage(stage), threads=threads)

    def workspace(self, buffers: Mapping[str, BufferSpec]) -> CpuWorkspace:
        """Allocate the buffers of a session. Raises `MachineError` if memory is short, `MisuseError` after `close`."""
        sessions = dict(self._sessions)  # a copy: workspaces may outlive the device
        if not sessions:
            raise MisuseError("the bundle on the CPU is closed; open it again with Restorer.open()")
        return CpuWorkspace(sessions, buffers, self._trace)

    def close(self) -> None:
        """Release the stages. A second call does nothing."""
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
        nbytes = sum(spec.nbytes for spec in buffers.values())
        try:
            with timed(trace, "host", "allocate stream", nbytes=nbytes):
                self._arrays = {name: np.zeros(spec.shape, spec.dtype) for name, spec in buffers.items()}
        except MemoryError as error:
            raise MachineError(
                f"not enough memory for the buffers of a stream ({error}); close other programs, or build a bundle for "
                "a smaller resolution"
            ) from error
        self._options = ort.RunOptions()
        self._cancelled = threading.Event()

    def host(self, buffer: str) -> NDArray[Any]:
        return self._arrays[buffer]

    def record(self, steps: Sequence[Step], *, once: bool = False) -> _CpuRecording:  # noqa: ARG002 (recording is cheap)
        with timed(self._trace, "host", "record"):
            return _CpuRecording(tuple(call for call in map(self._call, steps) if call is not None), self._cancelled)

    def cancel(self) -> None:
        self._cancelled.set()
        self._options.terminate = True

    def close(self) -> None:
        self._arrays.clear()

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
        return self._arrays[view.buffer][view.start : view.start + view.count]

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
            raise StageError(f"stage {self.stage} failed in ONNX Runtime ({first_line(error)})") from error


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
