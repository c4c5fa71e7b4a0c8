"""TensorRT as the CUDA device uses it: engines, and one execution context for each stage of a session.

TensorRT 11 and TensorRT-RTX are two libraries with one API. A bundle records which of them compiled it, and only that
one can load it. Features that only TensorRT-RTX has are tested for before use. Every result is checked: TensorRT
reports a failure by returning None or False, and its reason to the logger.

`TensorRTEngines` owns the runtime, the engines and the kernels compiled for this GPU. A `TensorRTContext` refers to its
engine, and to the arena that the device lends it: contexts are USER_MANAGED and allocate no activations.
"""

from __future__ import annotations

import importlib
import mmap
import re
from collections import deque
from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...engines.bundle.files import Bundle
from ...engines.bundle.manifest import NETWORK_STAGES, Recipe, StageSpec, TensorSpec
from ...engines.bundle.targets import TENSORRT_EXTRAS, TENSORRT_MODULES
from ...errors import BundleError, MachineError, StageError, cannot_import
from ...text import first_line
from .compatible import Environment, check_compatible
from .cuda_memory import OutOfGpuMemoryError
from .driver import package_cuda
from .gpu import Gpu
from .kernel_cache import KernelCache
from .stage_provider import Arena, Shapes

if TYPE_CHECKING:
    import tensorrt_rtx as trt

_DTYPES = {"FLOAT": "float32", "HALF": "float16", "BF16": "bfloat16", "UINT8": "uint8"}
_OUT_OF_MEMORY = re.compile(r"out ?of ?memory|MemoryAllocation|amount of GPU memory", re.IGNORECASE)
"""In messages of TensorRT, the CUDA runtime and the driver: OutOfMemory, cudaErrorMemoryAllocation and so on."""


def import_tensorrt(compiler: str) -> Any:
    """The module that runs what `compiler` made.

    Raises `BundleError` for an unknown compiler, `MissingPackageError` if the module is not installed.
    """
    if compiler not in TENSORRT_MODULES:
        raise BundleError(f"compiled by {compiler!r}, expected {' or '.join(TENSORRT_MODULES)}; rebuild the bundle")
    name = TENSORRT_MODULES[compiler]
    try:
        return importlib.import_module(name)
    except (ImportError, OSError) as error:
        package, purpose = name.replace("_", "-"), f"running engines of {compiler}"
        raise cannot_import(error, package, purpose, TENSORRT_EXTRAS[compiler]) from error


class TensorRTProvider:
    """Loads engines with TensorRT or TensorRT-RTX. A `StageProvider`."""

    capturable = True

    def __init__(self, library: Any, kernel_cache: KernelCache | None = None) -> None:
        """library: what `import_tensorrt` returns. kernel_cache: None for that of the bundle on this GPU."""
        self._library, self._kernel_cache = library, kernel_cache

    def check(self, bundle: Bundle, gpu: Gpu) -> None:
        library = self._library
        environment = Environment(
            gpu=gpu.name,
            compute_capability=gpu.compute_capability,
            driver_cuda=gpu.driver_cuda(),
            library=library.__name__,
            library_version=library.__version__,
            library_cuda=package_cuda(library.__name__),
        )
        check_compatible(bundle, environment)

    def load(self, bundle: Bundle, gpu: Gpu, stream: Any) -> TensorRTEngines:  # noqa: ARG002 (contexts get the stream)
        library = self._library
        kernel_cache = self._kernel_cache or KernelCache.of(bundle, gpu.name, gpu.driver_version(), library.__version__)
        return TensorRTEngines(library, bundle, kernel_cache)


class TensorRTEngines:
    """The engine files of a bundle, each deserialised once. `LoadedStages`."""

    def __init__(self, library: Any, bundle: Bundle, kernel_cache: KernelCache | None = None) -> None:
        """kernel_cache: provides the kernels of earlier processes, and gets those of this one at `close`.

        Raises `BundleError` for an engine that is not valid here or differs from the manifest, `OutOfGpuMemoryError` if
        device memory is short.
        """
        self._library, self._manifest, self._kernel_cache = library, bundle.manifest, kernel_cache
        self._log = _make_log(library)
        self._runtime: trt.Runtime | None = library.Runtime(self._log)
        self._engines: dict[str, trt.ICudaEngine] = {}
        self._configs: dict[str, trt.IRuntimeConfig] = {}
        self._kernels: trt.IRuntimeCache | None = None
        self._checked: set[str] = set()
        self._bundle = bundle
        self._compiled = kernel_cache.load() if kernel_cache else None
        for stage in bundle.manifest.stages:
            if stage.name in NETWORK_STAGES or not stage.arena_bytes:  # 0: the compiler did not say
                self._open(stage)

    def arena_bytes(self, stages: Iterable[StageSpec]) -> int:
        """The largest activation memory of a stage: as the engines give it, or the manifest for those not loaded."""
        return max(map(self._stage_arena_bytes, stages))

    @property
    def compiles_kernels(self) -> bool:
        """True for TensorRT-RTX without the kernels of an earlier process."""
        return self._kernels is not None and self._compiled is None

    def context(self, stage: StageSpec, shapes: Shapes, arena: Arena, stream: int) -> TensorRTContext:
        """Loads the engine of a pixel stage that no stream has used before.

        Raises `OutOfGpuMemoryError` or `StageError` if TensorRT cannot create an execution context or set it up.
        """
        self._open(stage)
        if self._stage_arena_bytes(stage) > arena.nbytes:
            raise StageError(f"stage {stage.name} needs a larger arena than the manifest says; rebuild the bundle")
        engine: trt.ICudaEngine = self._engines[stage.file]
        context = engine.create_execution_context(self._configs[stage.file])
        if context is None:
            kind = OutOfGpuMemoryError if self._is_out_of_memory() else StageError
            raise kind(f"stage {stage.name}: TensorRT cannot create an execution context{self.reason()}")
        return TensorRTContext(self, context, stage, shapes, arena, stream)

    def reason(self) -> str:
        """TensorRT's last error, to append to a message; empty if there is none."""
        errors: deque[str] = self._log.errors
        if not errors:
            return ""
        line = first_line(errors[-1])
        errors.clear()
        return f" ({line})"

    def close(self) -> None:
        """Keep the compiled kernels, then release everything in the order of its dependencies."""
        try:
            self._keep_kernels()
        finally:
            self._configs.clear()
            self._kernels = None
            self._engines.clear()
            self._runtime = None

    def _open(self, stage: StageSpec) -> None:
        """Load the engine of a stage, unless that was done before."""
        path, known = self._bundle.stage_path(stage.name), self._checked
        if stage.file not in self._engines:
            self._engines[stage.file] = self._load(path, self._manifest.recipe)
            self._configs[stage.file] = self._configure(self._engines[stage.file], self._compiled)
        if stage.name not in known:
            _check_signature(self._library, self._engines[stage.file], stage, path)
            known.add(stage.name)

    def _stage_arena_bytes(self, stage: StageSpec) -> int:
        if stage.file not in self._engines:
            return stage.arena_bytes
        engine: trt.ICudaEngine = self._engines[stage.file]
        return int(engine.get_device_memory_size_for_profile_v2(stage.profile))

    def _is_out_of_memory(self) -> bool:
        """TensorRT says so in its log only."""
        return any(_OUT_OF_MEMORY.search(line) for line in self._log.errors)

    def _load(self, path: Path, recipe: Recipe) -> trt.ICudaEngine:
        runtime: trt.Runtime = self._runtime
        with path.open("rb") as file:
            if not path.stat().st_size:
                raise BundleError(f"{path}: empty, expected an engine; rebuild the bundle: {recipe.command()}")
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as plan:  # gigabytes: never copied
                if hasattr(runtime, "get_engine_validity"):  # TensorRT-RTX only
                    validity, causes = runtime.get_engine_validity(plan)
                    self._check_validity(validity, int(causes), path, recipe)
                engine = runtime.deserialize_cuda_engine(plan)
        if engine is None:
            what = f"{path}: {self._library.__name__} {self._library.__version__} cannot load this engine"
            if self._is_out_of_memory():
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
            f"{path}: not valid on this machine: {', '.join(names) or 'no reason given'}{self.reason()}; "
            f"rebuild the bundle: {recipe.command()}"
        )

    def _configure(self, engine: trt.ICudaEngine, compiled: bytes | None) -> trt.IRuntimeConfig:
        """The configuration for the contexts of an engine. compiled: kernels of an earlier process."""
        library = self._library
        config: trt.IRuntimeConfig = engine.create_runtime_config()
        config.set_execution_context_allocation_strategy(library.ExecutionContextAllocationStrategy.USER_MANAGED)
        if hasattr(config, "cuda_graph_strategy"):  # TensorRT-RTX only
            # The device captures whole chunks; the library must not capture graphs of its own inside them.
            config.cuda_graph_strategy = library.CudaGraphStrategy.DISABLED
            # LAZY swaps in better kernels later, which a captured graph never sees.
            config.dynamic_shapes_kernel_specialization_strategy = (
                library.DynamicShapesKernelSpecializationStrategy.EAGER
            )
        if hasattr(config, "create_runtime_cache"):  # TensorRT-RTX only
            self._share_kernels(config, compiled)
        return config

    def _share_kernels(self, config: trt.IRuntimeConfig, compiled: bytes | None) -> None:
        """All engines share one store of compiled kernels, so that there is one file to keep."""
        if self._kernels is None:
            kernels: trt.IRuntimeCache = config.create_runtime_cache()
            if compiled is not None and not kernels.deserialize(compiled):
                kernels.reset()  # those of another version; compile again
            self._log.errors.clear()
            self._kernels = kernels
        if not config.set_runtime_cache(self._kernels):
            raise MachineError(f"TensorRT-RTX refused its own runtime cache{self.reason()}")

    def _keep_kernels(self) -> None:
        """Kernels that TensorRT-RTX compiled for this GPU; TensorRT has none."""
        if self._kernels is None or self._kernel_cache is None:
            return
        kernels: trt.IRuntimeCache = self._kernels
        data = kernels.serialize()
        if data is not None:
            self._kernel_cache.store(bytes(data))


class TensorRTContext:
    """One stage of one session: an execution context whose profile, shapes and arena are set once.

    A graph that was captured from it therefore stays valid. Tensor addresses do change between runs: TensorRT writes
    them into what it enqueues, so a captured run keeps those that were set at the time.
    """

    def __init__(
        self,
        engines: TensorRTEngines,
        context: trt.IExecutionContext,
        stage: StageSpec,
        shapes: Shapes,
        arena: Arena,
        stream: int,
    ) -> None:
        """Set profile, shapes and arena. Raises `StageError` if TensorRT refuses one."""
        self._engines, self._stage = engines, stage
        self._context: trt.IExecutionContext = context
        if not context.set_optimization_profile_async(stage.profile, stream):
            raise self._failure(f"TensorRT refused optimization profile {stage.profile}")
        for tensor in stage.inputs:
            shape = shapes[tensor.name]
            if not context.set_input_shape(tensor.name, shape):
                raise self._failure(f"input {tensor.name} cannot have the shape {list(shape)}; use another frame size")
        for tensor in stage.outputs:
            # A larger one would be written past the end of its buffer.
            found = tuple(context.get_tensor_shape(tensor.name))
            if found != shapes[tensor.name]:
                expected = list(shapes[tensor.name])
                raise self._failure(f"output {tensor.name} has the shape {list(found)}, expected {expected}")
        # Last: the size that is needed depends on the profile.
        context.set_device_memory(arena.address, arena.nbytes)

    def enqueue(self, addresses: Sequence[int], stream: int) -> None:
        """Raises `StageError` if TensorRT refuses an address or the run."""
        context: trt.IExecutionContext = self._context
        for tensor, address in zip((*self._stage.inputs, *self._stage.outputs), addresses, strict=True):
            if not context.set_tensor_address(tensor.name, address):
                raise self._failure(f"TensorRT refused address {address:#x} for tensor {tensor.name}")
        if not context.execute_async_v3(stream):
            raise self._failure("TensorRT could not enqueue it")

    def check_capturable(self, stream: int) -> None:
        context: trt.IExecutionContext = self._context
        if hasattr(context, "is_stream_capturable") and not context.is_stream_capturable(stream):  # TensorRT-RTX only
            raise self._failure("a CUDA graph cannot hold it; rebuild the bundle with this version")

    def _failure(self, what: str) -> StageError:
        return StageError(f"stage {self._stage.name}: {what}{self._engines.reason()}")


def _check_signature(library: Any, engine: trt.ICudaEngine, stage: StageSpec, path: Path) -> None:
    """The engine must have the inputs and outputs that the manifest sized the buffers for.

    Bindings are raw addresses: an engine with larger tensors would read or write past the end of a buffer.
    """
    tensors = {tensor.name: tensor for tensor in (*stage.inputs, *stage.outputs)}
    found = [engine.get_tensor_name(index) for index in range(engine.num_io_tensors)]
    if sorted(found) != sorted(tensors) or stage.profile >= engine.num_optimization_profiles:
        raise BundleError(f"{path}: its inputs and outputs differ from those in the manifest; rebuild the bundle")
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


def _agree(shape: tuple[int, ...], tensor: TensorSpec) -> bool:
    """A side of -1 is open until a context has its profile and shapes; `TensorRTContext` checks it then."""
    return len(shape) == len(tensor.shape) and all(
        theirs in (-1, ours) for theirs, ours in zip(shape, tensor.shape, strict=True)
    )


@cache
def _make_log(library: Any) -> Any:
    """A TensorRT logger that remembers the latest errors; one per process.

    The library keeps the first logger that it gets and sends all messages to it, so that one lives as long as the
    library does.
    """

    class Log(library.ILogger):  # type: ignore[misc]
        def __init__(self) -> None:
            library.ILogger.__init__(self)
            self.errors: deque[str] = deque(maxlen=8)

        def log(self, severity: Any, msg: str) -> None:
            if severity in (library.ILogger.Severity.ERROR, library.ILogger.Severity.INTERNAL_ERROR):
                self.errors.append(msg)

    return Log()
