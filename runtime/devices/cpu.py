"""The CPU device: stages run by ONNX Runtime over preallocated NumPy buffers.

A recorded stage call is an `IOBinding` that points into the buffers, so a replay copies nothing and allocates nothing
of its own (ONNX Runtime keeps an arena for what lies between its inputs and outputs).
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from swiftvr_trt.engines.bundle.files import Bundle
from swiftvr_trt.engines.bundle.manifest import STAGES, StageSpec
from swiftvr_trt.errors import BundleError, Cancelled, MachineError, MissingPackageError, MisuseError, StageError
from swiftvr_trt.runtime.stream.device import DONE, Done
from swiftvr_trt.runtime.stream.program import BufferSpec, Clear, Copy, Download, Run, Step, Upload, View
from swiftvr_trt.runtime.stream.trace import Trace, timed

if TYPE_CHECKING:
    import onnxruntime as ort

_ERRORS_ONLY = 3
_OLDEST = (1, 25)


class CpuDevice:
    """All stages of a bundle in ONNX Runtime sessions on the CPU. Safe to share between threads."""

    def __init__(self, bundle: Bundle, *, threads: int | None = None, trace: Trace | None = None) -> None:
        """threads: how many one stage may use; None means one per physical core. trace: told how long stages take."""
        self._trace = trace
        self._sessions: dict[str, ort.InferenceSession] = {}
        for stage in STAGES:
            self._sessions[stage] = load(bundle, stage, threads=threads)
            check_signature(bundle, bundle.manifest.stage(stage), self._sessions[stage])

    def workspace(self, buffers: Mapping[str, BufferSpec]) -> CpuWorkspace:
        """Raises `MisuseError` if the device is closed."""
        sessions = dict(self._sessions)  # a copy: workspaces may outlive the device
        if not sessions:
            raise MisuseError("the bundle on the CPU is closed; open it again with Restorer.open()")
        return CpuWorkspace(sessions, buffers, self._trace)

    def close(self) -> None:
        self._sessions.clear()


def import_onnxruntime(extra: str = "cpu", purpose: str = "running a bundle on the CPU") -> Any:
    """The package, new enough. extra: what brings it."""
    try:
        import onnxruntime
    except ImportError as error:
        package = "onnxruntime-gpu" if extra == "gpu" else "onnxruntime"
        raise MissingPackageError(package, purpose, extra) from error
    if tuple(int(part) for part in onnxruntime.__version__.split(".")[:2]) < _OLDEST:
        # Earlier versions follow a graph's references to weights anywhere on the disk.
        raise MachineError(
            f"onnxruntime {onnxruntime.__version__} is too old, expected {_OLDEST[0]}.{_OLDEST[1]} or newer; "
            "pip install --upgrade onnxruntime"
        )
    return onnxruntime


def load(
    bundle: Bundle, stage: str, providers: Sequence[Any] = ("CPUExecutionProvider",), threads: int | None = None
) -> ort.InferenceSession:
    """The session of a stage. providers: as ONNX Runtime wants them, the preferred one first."""
    ort = import_onnxruntime()
    options = ort.SessionOptions()
    options.log_severity_level = _ERRORS_ONLY
    options.intra_op_num_threads = threads or 0
    # Threads that wait busily take the cores from the decoder, the encoder, and whatever else runs.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    path = bundle.stage_path(stage)
    try:
        return ort.InferenceSession(str(path), options, providers=list(providers), enable_fallback=0)
    except Exception as error:
        raise BundleError(f"{path}: ONNX Runtime {ort.__version__} cannot load this stage ({line(error)})") from error


def check_signature(bundle: Bundle, spec: StageSpec, session: ort.InferenceSession) -> None:
    """The graph must have the inputs and outputs that the manifest sized the buffers for.

    Bindings are raw addresses: a graph that expects more than the manifest says would read past a buffer's end.
    """
    for ours, theirs in ((spec.inputs, session.get_inputs()), (spec.outputs, session.get_outputs())):
        want = [(t.name, t.dtype, t.shape) for t in ours]
        have = [(t.name, _dtype(t.type), tuple(_side(side) for side in t.shape)) for t in theirs]
        if want != have:
            raise BundleError(
                f"{bundle.stage_path(spec.name)}: inputs and outputs are not those of the manifest; rebuild the bundle"
            )


def _dtype(ort_type: str) -> str:
    inner = ort_type.removeprefix("tensor(").removesuffix(")")
    return {"float": "float32"}.get(inner, inner)


def _side(side: Any) -> int | None:
    return side if isinstance(side, int) else None


class CpuWorkspace:
    """Buffers are NumPy arrays; the host sees the very memory that the stages use."""

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
            raise MachineError(f"not enough memory for the buffers of one stream ({error})") from error
        self._options = ort.RunOptions()
        self._cancelled = threading.Event()

    def host(self, buffer: str) -> NDArray[Any]:
        return self._arrays[buffer]

    def record(self, steps: Sequence[Step], *, once: bool = False) -> _Recording:  # noqa: ARG002 (it costs nothing)
        with timed(self._trace, "host", "record"):
            return _Recording(tuple(call for call in map(self._call, steps) if call is not None), self._cancelled)

    def cancel(self) -> None:
        self._cancelled.set()
        self._options.terminate = True

    def close(self) -> None:
        self._arrays.clear()

    def _call(self, step: Step) -> Callable[[], None] | None:
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
            raise StageError(f"stage {self.stage} failed in ONNX Runtime ({line(error)})") from error


def _traced(trace: Trace, call: _StageCall) -> Callable[[], None]:
    def traced() -> None:
        with trace.timed("compute", call.stage):
            call()

    return traced


@dataclass(frozen=True)
class _Recording:
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


def line(error: BaseException) -> str:
    """The first line of a foreign error, short enough to read."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[0][:300]
