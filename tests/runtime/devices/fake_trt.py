"""A stand-in for TensorRT: an engine is a list of ONNX graphs, which a context runs in ONNX Runtime, in stream order.

It has the methods that the CUDA device calls, with TensorRT-RTX's names and arguments (a test compares them). It is as
strict as the documentation allows: a context must run once after its shapes are set before it can be captured, and
is captured once, with addresses that never change;
addresses must be aligned, and a stage notices if another one uses its arena at the same time.
"""

from __future__ import annotations

import enum
import json
import time
import weakref
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from swiftvr_trt import Bundle
from swiftvr_trt.engines.bundle.files import BundleWriter
from swiftvr_trt.engines.bundle.manifest import Toolchain
from swiftvr_trt.engines.bundle.targets import RTX
from swiftvr_trt.runtime.devices import tensorrt

from .fake_kernels import Kernels, Profile, is_capturing

if TYPE_CHECKING:
    from tests.cuda_emulator import Emulator

VERSION = "1.7.1.116"
COMPUTE_CAPABILITY = "12.0"
ARENA = {"encode": 3000, "dit": 9000, "dit_edge": 10001, "decode": 5000}
PIXEL_ARENA = 700
_RTX_ONLY = {
    "Runtime": ("get_engine_validity", "engine_header_size"),
    "IExecutionContext": ("is_stream_capturable",),
    "IRuntimeConfig": (
        "create_runtime_cache",
        "set_runtime_cache",
        "cuda_graph_strategy",
        "dynamic_shapes_kernel_specialization_strategy",
    ),
}


def write_engine_bundle(path: Path, graphs: Bundle, *, target: str = "rtx5090", compiler: str = RTX) -> Bundle:
    """Write a bundle of engines that run the graphs of another bundle. Both transformer stages share a file."""
    recipe = replace(graphs.manifest.recipe, target=target)
    names = {stage.name: f"{stage.name}.engine" for stage in graphs.manifest.stages} | {"dit_edge": "dit.engine"}
    stages = tuple(
        replace(
            stage,
            file=names[stage.name],
            profile=int(stage.name == "dit_edge"),
            arena_bytes=ARENA.get(stage.name, PIXEL_ARENA),
            weight_bytes=700,
        )
        for stage in graphs.manifest.stages
    )
    with BundleWriter(path) as writer:
        for file in dict.fromkeys(names.values()):
            profiles = [
                {"stage": s.name, "graph": str(graphs.stage_path(s.name)), "arena": ARENA.get(s.name, PIXEL_ARENA)}
                for s in sorted(stages, key=lambda s: s.profile)
                if s.file == file
            ]
            (writer.directory / file).write_text(json.dumps(profiles))
        return writer.commit(recipe, Toolchain("test", compiler, VERSION, COMPUTE_CAPABILITY), stages)


class FakeTensorRT:
    """Stands in for the module `tensorrt_rtx`, or with `rtx=False` for `tensorrt`.

    calls: how often each method was called. fail: method -> number of the call that fails, as TensorRT fails. words:
    the message of that failure, by default with the name of the method. problems: errors on a stream, where nothing can
    be raised. live: contexts and engines that still exist. running: called with the name of a stage when it begins.
    """

    def __init__(self, emulator: Emulator, *, rtx: bool = True) -> None:
        # A real process has one library, whose log lives as long. Here each log would keep a library and its kernels.
        tensorrt._make_log.cache_clear()
        self.emulator = emulator
        self.running: Callable[[str], None] = lambda _stage: None
        self.kernels: list[Kernels] = []  # never released: a graph may run them at any time
        self.__name__, self.__version__ = ("tensorrt_rtx" if rtx else "tensorrt"), VERSION
        self.calls: Counter[str] = Counter()
        self.calls_before: Counter[str] = Counter()
        self.fail: dict[str, int] = {}
        self.words = ""
        self.problems: list[str] = []
        self.live: weakref.WeakSet[Any] = weakref.WeakSet()
        self.logger: Any = None
        self.compiled = 0
        for cls in (Runtime, ICudaEngine, IExecutionContext, IRuntimeConfig, IRuntimeCache):
            setattr(self, cls.__name__, self._bound(cls, rtx=rtx))
        self.ILogger = ILogger
        self.ExecutionContextAllocationStrategy = ExecutionContextAllocationStrategy
        self.TensorIOMode, self.DataType = TensorIOMode, DataType
        if rtx:
            self.EngineValidity, self.EngineInvalidityDiagnostics = EngineValidity, EngineInvalidityDiagnostics
            self.CudaGraphStrategy = CudaGraphStrategy
            self.DynamicShapesKernelSpecializationStrategy = DynamicShapesKernelSpecializationStrategy

    def _bound(self, cls: type, *, rtx: bool) -> type:
        """A subclass that knows this object; without the features of TensorRT-RTX if `rtx` is False."""
        hidden = () if rtx else _RTX_ONLY.get(cls.__name__, ())

        def lookup(this: Any, name: str) -> Any:
            if name in hidden:
                raise AttributeError(name)
            return object.__getattribute__(this, name)

        return type(cls.__name__, (cls,), {"_library": self, "__getattribute__": lookup})

    def counts(self, name: str) -> bool:
        """Count a call; False if this is the one that fails."""
        self.calls[name] += 1
        if self.calls[name] == self.fail.get(name):
            if self.logger is not None:
                self.logger.log(ILogger.Severity.ERROR, self.words or f"{name} was made to fail")
            return False
        return True


class ILogger:
    class Severity(enum.Enum):
        INTERNAL_ERROR = 0
        ERROR = 1
        WARNING = 2
        INFO = 3
        VERBOSE = 4

    def __init__(self) -> None: ...

    def log(self, severity: Severity, msg: str) -> None: ...


class ExecutionContextAllocationStrategy(enum.Enum):
    STATIC = 0
    ON_PROFILE_CHANGE = 1
    USER_MANAGED = 2


class TensorIOMode(enum.Enum):
    NONE = 0
    INPUT = 1
    OUTPUT = 2


class DataType(enum.Enum):
    FLOAT = 0
    HALF = 1
    UINT8 = 2


class EngineValidity(enum.Enum):
    VALID = 0
    SUBOPTIMAL = 1
    INVALID = 2


class EngineInvalidityDiagnostics(enum.IntEnum):
    VERSION_MISMATCH = 1
    UNSUPPORTED_CC = 2
    OLD_CUDA_DRIVER = 4


class CudaGraphStrategy(enum.Enum):
    DISABLED = 0
    WHOLE_GRAPH_CAPTURE = 1


class DynamicShapesKernelSpecializationStrategy(enum.Enum):
    LAZY = 0
    EAGER = 1
    NONE = 2


class _Bound:
    _library: FakeTensorRT


class IRuntimeCache(_Bound):
    def __init__(self) -> None:
        self.content = b""

    def serialize(self) -> bytes | None:
        return self.content if self._library.counts("serialize") else None

    def deserialize(self, blob: bytes) -> bool:
        if not self._library.counts("deserialize") or not blob.startswith(b"kernels"):
            return False
        self.content = bytes(blob)
        return True

    def reset(self) -> bool:
        self.content = b""
        return self._library.counts("reset")


class IRuntimeConfig(_Bound):
    def __init__(self) -> None:
        self.cuda_graph_strategy = CudaGraphStrategy.WHOLE_GRAPH_CAPTURE
        self.dynamic_shapes_kernel_specialization_strategy = DynamicShapesKernelSpecializationStrategy.LAZY
        self.allocation = ExecutionContextAllocationStrategy.STATIC
        self.kernels: IRuntimeCache | None = None

    def set_execution_context_allocation_strategy(self, strategy: ExecutionContextAllocationStrategy) -> None:
        self.allocation = strategy

    def create_runtime_cache(self) -> IRuntimeCache:
        made: IRuntimeCache = self._library.IRuntimeCache()  # type: ignore[attr-defined]
        return made

    def set_runtime_cache(self, cache: IRuntimeCache) -> bool:
        self.kernels = cache
        return self._library.counts("set_runtime_cache")


class Runtime(_Bound):
    def __init__(self, logger: ILogger) -> None:
        if self._library.logger not in (None, logger):
            self._library.problems.append("a second logger, which TensorRT ignores: it keeps the first")
        self._library.logger = logger

    def get_engine_validity(self, buffer: Any) -> tuple[EngineValidity, int]:
        if not self._library.counts("get_engine_validity") or bytes(buffer[:1]) != b"[":
            return EngineValidity.INVALID, int(EngineInvalidityDiagnostics.UNSUPPORTED_CC)
        return EngineValidity.VALID, 0

    def deserialize_cuda_engine(self, serialized_engine: Any) -> ICudaEngine | None:
        if not self._library.counts("deserialize_cuda_engine"):
            return None
        made: ICudaEngine = self._library.ICudaEngine()  # type: ignore[attr-defined]
        made.profiles = [Profile(entry) for entry in json.loads(bytes(serialized_engine))]
        self._library.live.add(made)
        return made


class ICudaEngine(_Bound):
    profiles: list[Profile]

    @property
    def num_io_tensors(self) -> int:
        return len(self.profiles[0].types)

    @property
    def num_optimization_profiles(self) -> int:
        return len(self.profiles)

    def get_tensor_name(self, index: int) -> str:
        names: list[str] = list(self.profiles[0].types)
        return names[index]

    def get_tensor_mode(self, name: str) -> TensorIOMode:
        return TensorIOMode.INPUT if name in self.profiles[0].inputs else TensorIOMode.OUTPUT

    def get_tensor_dtype(self, name: str) -> DataType:
        kinds = {"tensor(float)": DataType.FLOAT, "tensor(uint8)": DataType.UINT8}
        return kinds[self.profiles[0].types[name]]

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        """Sides in which profiles differ are -1."""
        shapes = [{**p.inputs, **p.outputs}[name] for p in self.profiles]
        return tuple(sides[0] if len(set(sides)) == 1 else -1 for sides in zip(*shapes, strict=True))

    def get_device_memory_size_for_profile_v2(self, profile_index: int) -> int:
        return self.profiles[profile_index].arena

    def create_runtime_config(self) -> IRuntimeConfig:
        made: IRuntimeConfig = self._library.IRuntimeConfig()  # type: ignore[attr-defined]
        return made

    def create_execution_context(self, runtime_config: IRuntimeConfig) -> IExecutionContext | None:
        if not self._library.counts("create_execution_context"):
            return None
        assert runtime_config.allocation is ExecutionContextAllocationStrategy.USER_MANAGED
        if self._library.__name__ == "tensorrt_rtx":
            assert runtime_config.cuda_graph_strategy is CudaGraphStrategy.DISABLED
            assert runtime_config.kernels is not None
            known = f"{[p.stage for p in self.profiles]}".encode()
            if known not in runtime_config.kernels.content:
                self._library.compiled += 1
                runtime_config.kernels.content = (runtime_config.kernels.content or b"kernels") + known
        made: IExecutionContext = self._library.IExecutionContext()  # type: ignore[attr-defined]
        made.engine, made.profile, made.shapes, made.addresses, made.warm = self, None, {}, {}, False
        made.arena, made.captured = (0, 0), {}
        self._library.live.add(made)
        return made


class IExecutionContext(_Bound):
    engine: ICudaEngine
    profile: Profile | None
    shapes: dict[str, tuple[int, ...]]
    addresses: dict[str, int]
    arena: tuple[int, int]
    warm: bool
    captured: dict[str, int]

    def set_device_memory(self, memory: int, size: int) -> None:
        assert memory % 256 == 0
        self.arena = (memory, size)

    def set_optimization_profile_async(self, profile_index: int, stream_handle: int) -> bool:
        self.profile, self.warm = self.engine.profiles[profile_index], False
        return self._library.counts("set_optimization_profile_async") and stream_handle != 0

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        assert self.profile is not None
        declared = self.profile.inputs[name]
        self.shapes[name], self.warm = shape, False
        fits = len(shape) == len(declared) and all(d in (-1, s) for s, d in zip(shape, declared, strict=True))
        return self._library.counts("set_input_shape") and fits

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        assert self.profile is not None
        return self.shapes.get(name) or self.profile.outputs[name]

    def set_tensor_address(self, name: str, memory: int) -> bool:
        self.addresses[name] = memory
        return self._library.counts("set_tensor_address") and memory % 256 == 0

    def is_stream_capturable(self, stream: int) -> bool:
        return self._library.counts("is_stream_capturable") and self.warm and stream != 0

    def execute_async_v3(self, stream_handle: int) -> bool:
        library, profile = self._library, self.profile
        if not library.counts("execute_async_v3") or profile is None:
            return False
        if is_capturing(stream_handle) and not self.warm:
            library.logger.log(ILogger.Severity.ERROR, "captured before it was run once")
            return False
        if self.captured and self.captured != self.addresses:
            library.problems.append(f"{profile.stage}: a context that a graph holds was bound to other addresses")
        if is_capturing(stream_handle):
            if self.captured:
                library.problems.append(f"{profile.stage}: a context was captured twice")
            self.captured = dict(self.addresses)
        if self.arena[1] < profile.arena:
            library.logger.log(ILogger.Severity.ERROR, f"the arena has {self.arena[1]} bytes, {profile.arena} needed")
            return False
        kernels = Kernels(library, profile, dict(self.addresses), dict(self.shapes), self.arena[0])
        for function in kernels.functions:
            error = library.emulator.launch(stream_handle, function)
            if error:
                library.logger.log(ILogger.Severity.ERROR, f"CUDA error {error}")
                return False
            time.sleep(0)  # lets another thread enqueue here, unless a lock prevents it
        self.warm = True
        return True
