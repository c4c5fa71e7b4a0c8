"""ONNX Runtime: the package, and a session for each stage of a bundle of graphs. For the CPU and CUDA devices."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from ...engines.bundle.files import Bundle
from ...engines.bundle.graph import vet_graph
from ...engines.bundle.manifest import StageSpec
from ...engines.bundle.reach import state_names
from ...errors import BundleError, MachineError, StageError, cannot_import
from ...machine import available_memory, core_limit
from ...text import first_line, format_bytes

if TYPE_CHECKING:
    import onnxruntime as ort

CPU_PROVIDER = "CPUExecutionProvider"
_ERRORS_ONLY = 3
"""ONNX Runtime's number for this log level."""
_OUT_OF_MEMORY = re.compile(r"out of memory|failed to allocate memory|bad[ _]?alloc", re.IGNORECASE)
_OLDEST, _OLDEST_GPU = (1, 25), (1, 27)
"""Earlier versions follow a graph's references to weights anywhere on the disk; with a GPU, they run transposed
convolutions on the CPU."""


def import_onnxruntime(extra: str = "cpu", purpose: str = "running a bundle on the CPU") -> Any:
    """The package. extra: of ours, to install it with. purpose: what needs it, for the message.

    Raises `MissingPackageError` if it is not installed, `MachineError` if it is too old.
    """
    try:
        import onnxruntime
    except ImportError as error:
        package = "onnxruntime-gpu" if extra == "gpu" else "onnxruntime"
        raise cannot_import(error, package, purpose, extra) from error
    package, oldest = ("onnxruntime-gpu", _OLDEST_GPU) if extra == "gpu" else ("onnxruntime", _OLDEST)
    if tuple(int(part) for part in onnxruntime.__version__.split(".")[:2]) < oldest:
        upgrade = f'"{package}[cuda,cudnn]"' if extra == "gpu" else package
        raise MachineError(
            f"{package} {onnxruntime.__version__} is too old, expected {oldest[0]}.{oldest[1]} or newer; "
            f"pip install --upgrade {upgrade}"
        )
    return onnxruntime


def load_session(
    bundle: Bundle, stage: StageSpec, providers: Sequence[Any] = (CPU_PROVIDER,), threads: int | None = None
) -> ort.InferenceSession:
    """Load the graph of one stage.

    providers: as ONNX Runtime takes them, the preferred one first. threads: CPU threads of the stage, None for one per
    physical core that this process may use. Raises `BundleError` if the graph cannot be loaded, holds what it may not
    (`vet_graph`), or has other tensors or remembers more than the manifest says; `MachineError` if memory is short.
    """
    ort = import_onnxruntime()
    options = ort.SessionOptions()
    options.log_severity_level = _ERRORS_ONLY
    options.intra_op_num_threads = threads or core_limit() or 0  # 0: one per physical core, whatever limits us
    # Threads that spin while they wait take cores from the decoder, the encoder and other programs.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.add_session_config_entry("session.strict_shape_type_inference", "1")  # see `vet_graph`
    options.add_session_config_entry("session.load_model_format", "ONNX")
    path, on_cpu = bundle.stage_path(stage.name), tuple(providers) == (CPU_PROVIDER,)
    needed = vet_graph(path, {file.name: file.size for file in bundle.manifest.files}, state_names(stage))
    if not on_cpu:
        options.add_session_config_entry("session.record_ep_graph_assignment_info", "1")  # for `nodes_off`
    if on_cpu:
        _check_memory(bundle, stage, needed.weight_bytes + needed.working_bytes)
        use_shared_arena(options)
    try:
        session = ort.InferenceSession(str(path), options, providers=list(providers), enable_fallback=0)
    except Exception as error:
        reason = first_line(error)
        if is_short_of_memory(error):
            kind, place = ("memory", "") if on_cpu else ("GPU memory", " on the GPU")
            raise MachineError(
                f"not enough {kind} for the graphs of {bundle.manifest.recipe.describe()} ({reason}); close "
                f"other programs{place}, or build a bundle with a smaller resolution or in fp16"
            ) from error
        raise BundleError(f"{path}: ONNX Runtime {ort.__version__} cannot load this stage ({reason})") from error
    _check_signature(bundle, stage, session)
    _check_reach(bundle, stage, needed.reach)
    return session


def graph_bytes(bundle: Bundle, stages: Iterable[str]) -> int:
    """What these stages take on a GPU at least: each is a session, with weights and an arena of its own."""
    files = {file.name: file.size for file in bundle.manifest.files}
    needed = [vet_graph(bundle.stage_path(stage), files) for stage in stages]
    return sum(one.weight_bytes + one.working_bytes for one in needed)


def renew_arena() -> None:
    """Give the stages that are loaded on the CPU from now on a new arena, which they share.

    Stages of a stream run one after another, so a shared arena grows to what the largest needs; one for each grows to
    the sum. An arena is freed once it is renewed and no stage uses it any more.
    """
    ort = import_onnxruntime()
    place = ort.OrtMemoryInfo("Cpu", ort.OrtAllocatorType.ORT_ARENA_ALLOCATOR, 0, ort.OrtMemType.DEFAULT)
    ort.create_and_register_allocator(place, None)  # in the place of the one before, which stages in use still hold


def use_shared_arena(options: ort.SessionOptions) -> None:
    """Let a stage on the CPU use the arena that `renew_arena` made last. Without one, it gets its own."""
    options.add_session_config_entry("session.use_env_allocators", "1")
    # With a pattern, a stage takes its tensors a second time from its second run on, in one block.
    options.enable_mem_pattern = False


def nodes_off(session: ort.InferenceSession, provider: str) -> int | None:
    """How many nodes of a graph run in another provider; None if this version of ONNX Runtime does not say."""
    parts = getattr(session, "get_provider_graph_assignment_info", None)
    if parts is None:
        return None
    return sum(len(part.get_nodes()) for part in parts() if part.ep_name != provider)


def is_short_of_memory(error: BaseException) -> bool:
    """Whether ONNX Runtime or Python says that memory was short."""
    return isinstance(error, MemoryError) or _OUT_OF_MEMORY.search(str(error)) is not None


def stage_error(stage: str, error: Exception) -> StageError:
    """What a stage raises that ONNX Runtime could not run."""
    if is_short_of_memory(error):
        return StageError(
            f"stage {stage} ran out of memory ({first_line(error)}); close other programs, or build a bundle with a "
            "smaller resolution"
        )
    return StageError(f"stage {stage} failed in ONNX Runtime ({first_line(error)})")


def _check_memory(bundle: Bundle, stage: StageSpec, needed: int) -> None:
    """Raise `MachineError` if a stage needs more memory than this process may use."""
    free = available_memory()
    if free is not None and needed > free:
        raise MachineError(
            f"{bundle.stage_path(stage.name)}: needs at least {format_bytes(needed)} of memory, {format_bytes(free)} "
            "are free; close other programs, or build a bundle with a smaller resolution or --clip-len"
        )


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


def _check_reach(bundle: Bundle, stage: StageSpec, found: int | None) -> None:
    """A stream that goes on in the middle begins as many steps before as the manifest says (`runtime/stream/cuts`)."""
    if stage.reach is not None and (found is None or found > stage.reach):
        steps = "all steps" if found is None else f"{found} steps"
        raise BundleError(
            f"{bundle.stage_path(stage.name)}: remembers {steps}, the manifest says {stage.reach}; rebuild the bundle"
        )


def _dtype(ort_type: str) -> str:
    """`tensor(float)` -> float32."""
    inner = ort_type.removeprefix("tensor(").removesuffix(")")
    return {"float": "float32"}.get(inner, inner)


def _side(side: Any) -> int | None:
    """Open sides have names, or none at all."""
    return side if isinstance(side, int) else None
