"""TensorRT, as much of it as the CUDA device needs: engines, and one execution context for each stage of a stream.

TensorRT 11 and TensorRT-RTX are two libraries with one API; a bundle says which of them compiled it, and only that one
can load it. What TensorRT-RTX alone has is looked for before it is used. Everything that TensorRT returns is checked:
it reports failure by returning None or False, and gives the reason to its logger.

`TensorRTEngines` owns the runtime, the engines and the kernels compiled for this GPU; a `TensorRTContext` refers to its
engine and to memory that the device lends it. TensorRT allocates no activations: contexts are USER_MANAGED and
run, one after another, on one arena.
"""

from __future__ import annotations

import importlib
import mmap
import re
from collections import deque
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from swiftvr_trt.engines.bundle.files import Bundle
from swiftvr_trt.engines.bundle.manifest import Recipe, StageSpec, TensorSpec
from swiftvr_trt.engines.bundle.targets import RTX, TRT
from swiftvr_trt.errors import BundleError, MachineError, MissingPackageError, StageError

from .cuda_memory import OutOfGpuMemoryError

if TYPE_CHECKING:
    import tensorrt_rtx as trt

_MODULES = {RTX: ("tensorrt_rtx", "rtx"), TRT: ("tensorrt", "tensorrt")}
_DTYPES = {"FLOAT": "float32", "HALF": "float16", "BF16": "bfloat16", "UINT8": "uint8"}
_LINE = 300
_NO_MEMORY = re.compile(r"out ?of ?memory|MemoryAllocation|amount of GPU memory", re.IGNORECASE)
"""In the messages of TensorRT and of CUDA's runtime and driver: OutOfMemory, cudaErrorMemoryAllocation and so on."""

Shape = tuple[int, ...]


def import_tensorrt(compiler: str) -> Any:
    """The module that runs what `compiler` has made."""
    if compiler not in _MODULES:
        raise BundleError(f"compiled by {compiler!r}, expected {' or '.join(_MODULES)}; rebuild the bundle")
    name, extra = _MODULES[compiler]
    try:
        return importlib.import_module(name)
    except (ImportError, OSError) as error:
        raise MissingPackageError(name.replace("_", "-"), f"running engines of {compiler}", extra) from error


class TensorRTEngines:
    """All engine files of a bundle, each deserialised once. Close its contexts before it."""

    def __init__(self, library: Any, bundle: Bundle, compiled: bytes | None = None) -> None:
        """compiled: what `compiled_kernels` returned in an earlier process, or None.

        Raises `BundleError` for an engine that is not valid here or is not what the manifest says.
        """
        self._library = library
        self._log = _make_log(library)
        self._runtime: trt.Runtime | None = library.Runtime(self._log)
        self._engines: dict[str, trt.ICudaEngine] = {}
        self._configs: dict[str, trt.IRuntimeConfig] = {}
        self._kernels: trt.IRuntimeCache | None = None
        for stage in bundle.manifest.stages:
            path = bundle.stage_path(stage.name)
            if stage.file not in self._engines:
                self._engines[stage.file] = self._load(path, bundle.manifest.recipe)
                self._configs[stage.file] = self._configure(self._engines[stage.file], compiled)
            _check_signature(library, self._engines[stage.file], stage, path)

    def arena_bytes(self, stage: StageSpec) -> int:
        """Activation memory of one stage, by the engine's own account."""
        engine: trt.ICudaEngine = self._engines[stage.file]
        return int(engine.get_device_memory_size_for_profile_v2(stage.profile))

    def context(self, stage: StageSpec) -> trt.IExecutionContext:
        """A fresh execution context for one stage."""
        engine: trt.ICudaEngine = self._engines[stage.file]
        context = engine.create_execution_context(self._configs[stage.file])
        if context is None:
            what = f"stage {stage.name}: TensorRT cannot create an execution context"
            if self._short_of_memory():
                raise OutOfGpuMemoryError(f"{what}{self.reason()}")
            raise StageError(f"{what}{self.reason()}")
        return context

    def compiled_kernels(self) -> bytes | None:
        """What TensorRT-RTX compiled for this GPU so far, for the next process; None for TensorRT, which has none."""
        if self._kernels is None:
            return None
        kernels: trt.IRuntimeCache = self._kernels
        data = kernels.serialize()
        return None if data is None else bytes(data)

    def reason(self) -> str:
        """What TensorRT said last, ready to follow a message; empty if it said nothing."""
        errors: deque[str] = self._log.errors
        if not errors:
            return ""
        line = errors[-1].strip().splitlines()[0][:_LINE]
        errors.clear()
        return f" ({line})"

    def close(self) -> None:
        """Release in the order in which they depend on each other. A second call does nothing."""
        self._configs.clear()
        self._kernels = None
        self._engines.clear()
        self._runtime = None

    def _short_of_memory(self) -> bool:
        """Whether TensorRT has lately said so; it has no other way to tell."""
        return any(_NO_MEMORY.search(line) for line in self._log.errors)

    def _load(self, path: Path, recipe: Recipe) -> trt.ICudaEngine:
        runtime: trt.Runtime = self._runtime
        with path.open("rb") as file:
            if not path.stat().st_size:
                raise BundleError(f"{path}: empty, expected an engine; rebuild the bundle: {recipe.command()}")
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as plan:  # gigabytes: never copied
                if hasattr(runtime, "get_engine_validity"):  # TensorRT-RTX alone
                    validity, causes = runtime.get_engine_validity(plan)
                    self._check_validity(validity, int(causes), path, recipe)
                engine = runtime.deserialize_cuda_engine(plan)
        if engine is None:
            what = f"{path}: {self._library.__name__} {self._library.__version__} cannot load this engine"
            if self._short_of_memory():
                raise OutOfGpuMemoryError(f"{what}{self.reason()}")
            raise BundleError(f"{what}{self.reason()}; rebuild the bundle on this machine: {recipe.command()}")
        return engine

    def _check_validity(self, validity: trt.EngineValidity, causes: int, path: Path, recipe: Recipe) -> None:
        library = self._library
        if validity != library.EngineValidity.INVALID:
            return
        members = library.EngineInvalidityDiagnostics.__members__
        names = [name.lower().replace("_", " ") for name, bit in members.items() if causes & int(bit)]
        raise BundleError(
            f"{path}: not valid on this machine: {', '.join(names) or 'for no reason given'}{self.reason()}; "
            f"rebuild the bundle: {recipe.command()}"
        )

    def _configure(self, engine: trt.ICudaEngine, compiled: bytes | None) -> trt.IRuntimeConfig:
        """How contexts of an engine are made."""
        library = self._library
        config: trt.IRuntimeConfig = engine.create_runtime_config()
        config.set_execution_context_allocation_strategy(library.ExecutionContextAllocationStrategy.USER_MANAGED)
        if hasattr(config, "cuda_graph_strategy"):  # TensorRT-RTX alone
            # Whole chunks are captured here. A graph of the library's own inside of them would be one too many.
            config.cuda_graph_strategy = library.CudaGraphStrategy.DISABLED
            # LAZY would change kernels for better ones at some later time, which a captured graph never sees.
            config.dynamic_shapes_kernel_specialization_strategy = (
                library.DynamicShapesKernelSpecializationStrategy.EAGER
            )
        if hasattr(config, "create_runtime_cache"):  # TensorRT-RTX alone
            self._share_kernels(config, compiled)
        return config

    def _share_kernels(self, config: trt.IRuntimeConfig, compiled: bytes | None) -> None:
        """One store of compiled kernels for all engines, so that there is one file to keep."""
        if self._kernels is None:
            kernels: trt.IRuntimeCache = config.create_runtime_cache()
            if compiled is not None and not kernels.deserialize(compiled):
                kernels.reset()  # of another version: compile again
            self._log.errors.clear()
            self._kernels = kernels
        if not config.set_runtime_cache(self._kernels):
            raise MachineError(f"TensorRT-RTX does not take its own runtime cache{self.reason()}")


class TensorRTContext:
    """One stage of one stream: an execution context whose profile, shapes and arena never change after it is made.

    So a graph that was captured from it stays valid. Addresses do change between runs: TensorRT bakes them into what
    it enqueues, and what was captured keeps those that were bound then.
    """

    def __init__(
        self, engines: TensorRTEngines, stage: StageSpec, shapes: Mapping[str, Shape], arena: tuple[int, int]
    ) -> None:
        """shapes: of every tensor, by name. arena: address and bytes, lent for as long as the context lives."""
        self.stage = stage
        self._engines = engines
        self._context: trt.IExecutionContext = engines.context(stage)
        self._shapes, self._arena = shapes, arena

    def prepare(self, stream: int) -> None:
        """Choose profile, shapes and arena; what that takes on the GPU is enqueued on `stream`."""
        context: trt.IExecutionContext = self._context
        if not context.set_optimization_profile_async(self.stage.profile, stream):
            raise self._failure(f"optimization profile {self.stage.profile} was refused")
        for tensor in self.stage.inputs:
            shape = self._shapes[tensor.name]
            if not context.set_input_shape(tensor.name, shape):
                raise self._failure(f"input {tensor.name} cannot be {list(shape)}; take frames of another size")
        for tensor in self.stage.outputs:
            # A larger one would be written past the end of its buffer.
            found = tuple(context.get_tensor_shape(tensor.name))
            if found != self._shapes[tensor.name]:
                raise self._failure(
                    f"output {tensor.name} is {list(found)}, expected {list(self._shapes[tensor.name])}"
                )
        address, nbytes = self._arena
        context.set_device_memory(address, nbytes)  # last: what it must hold depends on the profile

    def enqueue(self, addresses: Sequence[int], stream: int) -> None:
        """Run the stage on `stream`; addresses are those of its inputs, then of its outputs."""
        context: trt.IExecutionContext = self._context
        for tensor, address in zip((*self.stage.inputs, *self.stage.outputs), addresses, strict=True):
            if not context.set_tensor_address(tensor.name, address):
                raise self._failure(f"tensor {tensor.name} cannot lie at address {address:#x}")
        if not context.execute_async_v3(stream):
            raise self._failure("it could not be enqueued")

    def check_capturable(self, stream: int) -> None:
        """Raise `StageError` if the stage does something that a CUDA graph cannot hold."""
        context: trt.IExecutionContext = self._context
        if hasattr(context, "is_stream_capturable") and not context.is_stream_capturable(stream):  # TensorRT-RTX alone
            raise self._failure("it cannot be captured in a CUDA graph; rebuild the bundle with this version")

    def close(self) -> None:
        self._context = None

    def _failure(self, what: str) -> StageError:
        return StageError(f"stage {self.stage.name}: {what}{self._engines.reason()}")


def _check_signature(library: Any, engine: trt.ICudaEngine, stage: StageSpec, path: Path) -> None:
    """The engine must have the inputs and outputs that the manifest sized the buffers for.

    Bindings are raw addresses: an engine that expects more than the manifest says would write past a buffer's end.
    """
    tensors = {tensor.name: tensor for tensor in (*stage.inputs, *stage.outputs)}
    found = [engine.get_tensor_name(index) for index in range(engine.num_io_tensors)]
    if sorted(found) != sorted(tensors) or stage.profile >= engine.num_optimization_profiles:
        raise BundleError(f"{path}: inputs and outputs are not those of the manifest; rebuild the bundle")
    inputs = {tensor.name for tensor in stage.inputs}
    for name, tensor in tensors.items():
        mode = library.TensorIOMode.INPUT if name in inputs else library.TensorIOMode.OUTPUT
        dtype = _DTYPES.get(engine.get_tensor_dtype(name).name)
        shape = tuple(engine.get_tensor_shape(name))
        if engine.get_tensor_mode(name) != mode or dtype != tensor.dtype or not _agree(shape, tensor):
            raise BundleError(
                f"{path}: tensor {name} is {dtype} {list(shape)}, the manifest says {tensor.dtype} "
                f"{list(tensor.shape)}; rebuild the bundle"
            )


def _agree(shape: Shape, tensor: TensorSpec) -> bool:
    """A side of -1 is open until a context has its profile and its shapes; it is looked at again then."""
    return len(shape) == len(tensor.shape) and all(
        theirs in (-1, ours) for theirs, ours in zip(shape, tensor.shape, strict=True)
    )


@cache
def _make_log(library: Any) -> Any:
    """A TensorRT logger that remembers the latest errors; one for all of a process.

    The library keeps the first one that it is given and sends it all messages, whoever makes the next, so that one must
    live as long as the library does.
    """

    class Log(library.ILogger):  # type: ignore[misc]
        def __init__(self) -> None:
            library.ILogger.__init__(self)
            self.errors: deque[str] = deque(maxlen=8)

        def log(self, severity: Any, msg: str) -> None:
            if severity in (library.ILogger.Severity.ERROR, library.ILogger.Severity.INTERNAL_ERROR):
                self.errors.append(msg)

    return Log()
