"""A stand-in for TensorRT: engines are lists of ONNX graphs, and a context runs them in ONNX Runtime, in stream order.

It has the methods that the CUDA device calls, under TensorRT-RTX's own names and with its arguments (a test compares
them), and is as strict as the documentation allows: an execution context that was not run since its shapes were set
cannot be captured, addresses must be aligned, and a stage notices when another one runs on its arena meanwhile.
"""

from __future__ import annotations

import enum
import json
import os
import time
import weakref
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from swiftvr_trt import Bundle
from swiftvr_trt.engines.bundle.files import BundleWriter
from swiftvr_trt.engines.bundle.manifest import Toolchain
from swiftvr_trt.engines.bundle.targets import RTX
from tests.cuda_emulator import HostFunction

if TYPE_CHECKING:
    from tests.cuda_emulator import Emulator

VERSION = "1.7.1.116"
COMPUTE_CAPABILITY = "12.0"
ARENA = {"encode": 3000, "dit": 9000, "dit_edge": 10001, "decode": 5000}
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
    """A bundle of engines that do what the graphs of another bundle do; both transformers share a file."""
    recipe = replace(graphs.manifest.recipe, target=target)
    names = {"encode": "encode.engine", "dit": "dit.engine", "dit_edge": "dit.engine", "decode": "decode.engine"}
    stages = tuple(
        replace(
            stage,
            file=names[stage.name],
            profile=int(stage.name == "dit_edge"),
            arena_bytes=ARENA[stage.name],
            weight_bytes=700,
        )
        for stage in graphs.manifest.stages
    )
    with BundleWriter(path) as writer:
        for file in dict.fromkeys(names.values()):
            profiles = [
                {"stage": s.name, "graph": str(graphs.stage_path(s.name)), "arena": ARENA[s.name]}
                for s in sorted(stages, key=lambda s: s.profile)
                if s.file == file
            ]
            (writer.directory / file).write_text(json.dumps(profiles))
        return writer.commit(recipe, Toolchain("test", compiler, VERSION, COMPUTE_CAPABILITY), stages)


class FakeTensorRT:
    """What `import tensorrt_rtx` gives, as an object; `rtx=False` makes it one that `import tensorrt` would give.

    calls: how often each method was called. fail: method -> which call of it fails, the way TensorRT fails. words: what
    it says then, if not the name of the method. problems: what went wrong on a stream, where nobody can raise. live:
    contexts and engines that still exist. running: called with its name when a stage begins to run.
    """

    def __init__(self, emulator: Emulator, *, rtx: bool = True) -> None:
        self.emulator = emulator
        self.running: Callable[[str], None] = lambda _stage: None
        self.kernels: list[_Kernels] = []  # kept for good: a graph may run them at any time
        self.__name__, self.__version__ = ("tensorrt_rtx" if rtx else "tensorrt"), VERSION
        self.calls: Counter[str] = Counter()
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
        """A subclass that knows this object; without what TensorRT-RTX alone has, if that is not wanted."""
        hidden = () if rtx else _RTX_ONLY.get(cls.__name__, ())

        def lookup(this: Any, name: str) -> Any:
            if name in hidden:
                raise AttributeError(name)
            return object.__getattribute__(this, name)

        return type(cls.__name__, (cls,), {"_library": self, "__getattribute__": lookup})

    def counts(self, name: str) -> bool:
        """Count a call; False if it is the one that is to fail."""
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
            self._library.problems.append("a second logger, of which TensorRT sees nothing: it keeps the first")
        self._library.logger = logger

    def get_engine_validity(self, buffer: Any) -> tuple[EngineValidity, int]:
        if not self._library.counts("get_engine_validity") or bytes(buffer[:1]) != b"[":
            return EngineValidity.INVALID, int(EngineInvalidityDiagnostics.UNSUPPORTED_CC)
        return EngineValidity.VALID, 0

    def deserialize_cuda_engine(self, serialized_engine: Any) -> ICudaEngine | None:
        if not self._library.counts("deserialize_cuda_engine"):
            return None
        made: ICudaEngine = self._library.ICudaEngine()  # type: ignore[attr-defined]
        made.profiles = [_Profile(entry) for entry in json.loads(bytes(serialized_engine))]
        self._library.live.add(made)
        return made


class _Profile:
    """One optimization profile: its graph, loaded once per process."""

    def __init__(self, entry: Mapping[str, Any]) -> None:
        self.stage, self.arena = entry["stage"], int(entry["arena"])
        self.session = _session(entry["graph"])
        self.inputs = {t.name: _shape(t) for t in self.session.get_inputs()}
        self.outputs = {t.name: _shape(t) for t in self.session.get_outputs()}
        self.types = {t.name: t.type for t in (*self.session.get_inputs(), *self.session.get_outputs())}


@cache
def _session(graph: str) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return ort.InferenceSession(graph, options, providers=["CPUExecutionProvider"])


def _shape(tensor: Any) -> tuple[int, ...]:
    return tuple(side if isinstance(side, int) else -1 for side in tensor.shape)


class ICudaEngine(_Bound):
    profiles: list[_Profile]

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
        """Sides in which profiles differ are open."""
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
        made.arena = (0, 0)
        self._library.live.add(made)
        return made


class IExecutionContext(_Bound):
    engine: ICudaEngine
    profile: _Profile | None
    shapes: dict[str, tuple[int, ...]]
    addresses: dict[str, int]
    arena: tuple[int, int]
    warm: bool

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
        if _is_capturing(stream_handle) and not self.warm:
            library.logger.log(ILogger.Severity.ERROR, "captured before it was run once")
            return False
        if self.arena[1] < profile.arena:
            library.logger.log(ILogger.Severity.ERROR, f"the arena has {self.arena[1]} bytes, {profile.arena} needed")
            return False
        kernels = _Kernels(library, profile, dict(self.addresses), dict(self.shapes), self.arena[0])
        for function in kernels.functions:
            error = library.emulator.launch(stream_handle, function)
            if error:
                library.logger.log(ILogger.Severity.ERROR, f"CUDA error {error}")
                return False
            time.sleep(0)  # now another thread may enqueue: what must not come between needs a lock
        self.warm = True
        return True


def _is_capturing(stream: int) -> bool:
    from cuda.bindings import driver

    error, status = driver.cuStreamIsCapturing(stream)
    return not int(error) and int(status) != 0


class _Kernels:
    """One enqueued run, over the addresses that were bound then: a kernel that marks the arena, and one that computes.

    A real stage is many kernels. Between those of one stage nobody else's may run on its arena.
    """

    def __init__(
        self,
        library: FakeTensorRT,
        profile: _Profile,
        addresses: Mapping[str, int],
        shapes: Mapping[str, tuple[int, ...]],
        arena: int,
    ) -> None:
        self._library, self._profile, self._arena = library, profile, arena
        self._inputs = {n: (addresses[n], shapes[n], _NUMPY[profile.types[n]]) for n in profile.inputs}
        self._outputs = {n: (addresses[n], s, _NUMPY[profile.types[n]]) for n, s in profile.outputs.items()}
        self._token = np.frombuffer(os.urandom(64), np.uint8)
        self.functions = [HostFunction(partial(self._run, kernel)) for kernel in (self._begin, self._compute)]
        library.kernels.append(self)

    def _run(self, kernel: Callable[[], None], _data: Any) -> None:
        try:
            kernel()
        except Exception as error:  # noqa: BLE001 (there is nobody to raise it to)
            self._library.problems.append(f"{self._profile.stage}: {error}")

    def _places(self) -> tuple[NDArray[Any], NDArray[Any]]:
        """Where the token lies: at both ends of the arena."""
        arena: NDArray[Any] = self._library.emulator.array(self._arena, (self._profile.arena,), np.uint8, write=True)
        return arena[:64], arena[-64:]

    def _begin(self) -> None:
        self._library.running(self._profile.stage)
        for place in self._places():
            place[:] = self._token

    def _compute(self) -> None:
        emulator, session = self._library.emulator, self._profile.session
        places = self._places()
        binding = session.io_binding()
        keep = []
        for tensors, bind, write in (
            (self._inputs, binding.bind_input, False),
            (self._outputs, binding.bind_output, True),
        ):
            for name, (address, shape, dtype) in tensors.items():
                array: NDArray[Any] = emulator.array(address, shape, dtype, write=write)
                bind(name, "cpu", 0, array.dtype, array.shape, array.ctypes.data)
                keep.append(array)
        session.run_with_iobinding(binding)
        if not all(np.array_equal(place, self._token) for place in places):
            self._library.problems.append(f"{self._profile.stage}: another stage ran on the arena meanwhile")


_NUMPY = {"tensor(float)": np.float32, "tensor(uint8)": np.uint8}
