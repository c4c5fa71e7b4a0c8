"""ONNX Runtime: the package, and a session for each stage of a bundle of graphs. For the CPU and CUDA devices."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ...engines.bundle.files import Bundle
from ...engines.bundle.manifest import StageSpec
from ...errors import BundleError, MachineError, MissingPackageError
from ...text import first_line

if TYPE_CHECKING:
    import onnxruntime as ort

CPU_PROVIDER = "CPUExecutionProvider"
_ERRORS_ONLY = 3
"""ONNX Runtime's number for this log level."""
_OLDEST = (1, 25)
"""Earlier versions follow a graph's references to weights anywhere on the disk."""


def import_onnxruntime(extra: str = "cpu", purpose: str = "running a bundle on the CPU") -> Any:
    """The package. extra: of ours, to install it with. purpose: what needs it, for the message.

    Raises `MissingPackageError` if it is not installed, `MachineError` if it is too old.
    """
    try:
        import onnxruntime
    except ImportError as error:
        package = "onnxruntime-gpu" if extra == "gpu" else "onnxruntime"
        raise MissingPackageError(package, purpose, extra) from error
    if tuple(int(part) for part in onnxruntime.__version__.split(".")[:2]) < _OLDEST:
        raise MachineError(
            f"onnxruntime {onnxruntime.__version__} is too old, expected {_OLDEST[0]}.{_OLDEST[1]} or newer; "
            "pip install --upgrade onnxruntime"
        )
    return onnxruntime


def load_session(
    bundle: Bundle, stage: StageSpec, providers: Sequence[Any] = (CPU_PROVIDER,), threads: int | None = None
) -> ort.InferenceSession:
    """Load the graph of one stage.

    providers: as ONNX Runtime takes them, the preferred one first. threads: CPU threads of the stage, None for one per
    physical core. Raises `BundleError` if the graph cannot be loaded or has other tensors than the manifest says.
    """
    ort = import_onnxruntime()
    options = ort.SessionOptions()
    options.log_severity_level = _ERRORS_ONLY
    options.intra_op_num_threads = threads or 0
    # Threads that spin while they wait take cores from the decoder, the encoder and other programs.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    path = bundle.stage_path(stage.name)
    try:
        session = ort.InferenceSession(str(path), options, providers=list(providers), enable_fallback=0)
    except Exception as error:
        version = ort.__version__
        raise BundleError(f"{path}: ONNX Runtime {version} cannot load this stage ({first_line(error)})") from error
    _check_signature(bundle, stage, session)
    return session


def _check_signature(bundle: Bundle, stage: StageSpec, session: ort.InferenceSession) -> None:
    """The graph must have the inputs and outputs that the manifest sized the buffers for.

    Bindings are raw addresses: a graph with larger tensors would read or write past the end of a buffer.
    """
    for ours, theirs in ((stage.inputs, session.get_inputs()), (stage.outputs, session.get_outputs())):
        expected = [(t.name, t.dtype, t.shape) for t in ours]
        found = [(t.name, _dtype(t.type), tuple(map(_side, t.shape))) for t in theirs]
        if expected != found:
            raise BundleError(
                f"{bundle.stage_path(stage.name)}: its inputs and outputs differ from those in the manifest; "
                "rebuild the bundle"
            )


def _dtype(ort_type: str) -> str:
    """`tensor(float)` -> float32."""
    inner = ort_type.removeprefix("tensor(").removesuffix(")")
    return {"float": "float32"}.get(inner, inner)


def _side(side: Any) -> int | None:
    """Open sides have names, or none at all."""
    return side if isinstance(side, int) else None
