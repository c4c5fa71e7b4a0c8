"""A bundle of graphs on an NVIDIA GPU, by ONNX Runtime's CUDA provider: for GPUs for which no engines were compiled.

Buffers, copies and streams are those of `cuda.py`; stages are bound to addresses in them and run on its stream, so
nothing is copied or allocated between them. ONNX Runtime waits for the GPU after each stage. Its own graph capture is
there to be tried and off by default (docs/decisions.md says why): engines are the fast way.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from swiftvr_trt.engines.bundle.files import Bundle
from swiftvr_trt.engines.bundle.manifest import STAGES, StageSpec
from swiftvr_trt.errors import BundleError, MachineError, StageError
from swiftvr_trt.runtime.stream.trace import Trace

from .cpu import check_signature, import_onnxruntime, line, load
from .cuda import CudaDevice, close_on_error
from .cuda_recording import handle
from .driver import GET_DRIVER
from .gpu import explain_cuda_errors

if TYPE_CHECKING:
    import onnxruntime as ort

PROVIDER = "CUDAExecutionProvider"
MEMORY = "cuda"
"""ONNX Runtime's name for a GPU's memory."""
MAX_GRAPHS_PER_STAGE = 256
"""Captured per stage. ONNX Runtime keeps them as long as the session, so streams that come and go must not add up."""
_NO_MEMORY = re.compile(r"out of memory|failed to allocate memory", re.IGNORECASE)
UNCAPTURED = -1
"""The number that tells ONNX Runtime to run a call as if nothing were captured."""


@dataclass(frozen=True)
class Stage:
    """A stage as it was loaded. numbers: of the graphs that it may yet capture; None if it captures nothing."""

    session: ort.InferenceSession
    numbers: Iterator[int] | None


class OrtCudaDevice(CudaDevice):
    """All stages of a bundle of graphs on one GPU. Safe to share between threads."""

    def __init__(self, bundle: Bundle, *, index: int = 0, graphs: bool = False, trace: Trace | None = None) -> None:
        """graphs: ONNX Runtime captures the stages; it refuses one of which a node runs on the CPU.

        Raises `MissingPackageError` or `MachineError` if the machine lacks something.
        """
        self._begin(bundle.manifest, index, graphs=False, trace=trace)
        ort = import_onnxruntime("gpu", "running a bundle on the GPU")
        if PROVIDER not in ort.get_available_providers():
            raise MachineError(
                "the onnxruntime that is installed is the one for the CPU, running graphs on a GPU needs the other: "
                'pip uninstall onnxruntime, then pip install "swiftvr-trt[gpu,cuda]"'
            )
        with close_on_error(self._stack), explain_cuda_errors(f"{self.gpu.name} cannot be used", MachineError):
            self._open_stream()
            # Should ONNX Runtime come with its own CUDA libraries, they are found before it looks for them.
            ort.preload_dlls()
            with self.timed("load graphs", nbytes=sum(entry.size for entry in bundle.manifest.files)):
                self._stages = {stage: self._load_stage(bundle, stage, graphs) for stage in STAGES}
        self._stack.callback(self._stages.clear)

    def context(self, stage: StageSpec, shapes: Mapping[str, tuple[int, ...]]) -> OrtCudaContext:
        return OrtCudaContext(self._stages[stage.name], stage, shapes, self.gpu.index)

    def _load_stage(self, bundle: Bundle, stage: str, graphs: bool) -> Stage:
        options = provider_options(self.gpu.index, handle(self.stream), graphs)
        try:
            session = load(bundle, stage, [(PROVIDER, options)])
        except BundleError as error:
            if _NO_MEMORY.search(str(error)):
                raise MachineError(
                    f"not enough GPU memory for the graphs of {bundle.manifest.recipe.describe()} ({error}); close "
                    "other programs on it, or take a smaller resolution or fp16"
                ) from error
            if not graphs:
                raise
            raise BundleError(f"{error}; it may without --ort-graphs") from error
        if PROVIDER not in session.get_providers():  # it only warns, and would go on with the CPU
            raise MachineError(
                "ONNX Runtime could not load its CUDA provider, expected CUDA and cuDNN beside it and a driver that is "
                f'new enough (here: CUDA {self.gpu.driver_cuda()}): pip install "onnxruntime-gpu[cuda,cudnn]", or '
                f"update the driver: {GET_DRIVER}"
            )
        check_signature(bundle, bundle.manifest.stage(stage), session)
        numbers = itertools.chain(range(MAX_GRAPHS_PER_STAGE), itertools.repeat(UNCAPTURED))
        return Stage(session, numbers if graphs else None)


def provider_options(index: int, stream: int, graphs: bool) -> dict[str, str]:
    """Options of the provider: this GPU, our stream, and float32 that is float32 (TF32 has 10 bits)."""
    return {
        "device_id": str(index),
        "user_compute_stream": str(stream),
        "use_tf32": "0",
        "arena_extend_strategy": "kSameAsRequested",
        "enable_cuda_graph": "1" if graphs else "0",
    }


@dataclass(frozen=True)
class Call:
    """A stage bound to addresses, and the graph that it is captured as."""

    binding: ort.IOBinding
    options: ort.RunOptions


class OrtCudaContext:
    """One stage of one stream. Bindings are kept, so that a chunk like one before allocates nothing of ours.

    A captured graph holds the addresses that it was captured with, so each set of them has a graph of its own.
    (onnxruntime.ai, CUDA execution provider, "Using CUDA Graphs": the run option `gpu_graph_id`. The first runs are
    direct; a stage may then run twice in one call, which is the same, since it never writes what it reads.)
    """

    def __init__(self, loaded: Stage, stage: StageSpec, shapes: Mapping[str, tuple[int, ...]], index: int) -> None:
        """shapes: of every tensor, by name. index: number of the GPU."""
        self.stage = stage
        self._loaded, self._shapes, self._index = loaded, shapes, index
        self._calls: dict[tuple[int, ...], Call] = {}

    def prepare(self, stream: int) -> None:
        """Nothing: shapes come with the bindings."""

    def check_capturable(self, stream: int) -> None:
        """Nothing: this device captures no graphs."""

    def enqueue(self, addresses: Sequence[int], stream: int) -> None:  # noqa: ARG002
        """Run the stage on the stream of its session; addresses are those of its inputs, then of its outputs."""
        key = tuple(addresses)
        try:
            if key not in self._calls:
                self._calls[key] = Call(self._bind(key), self._options())
            self._loaded.session.run_with_iobinding(self._calls[key].binding, self._calls[key].options)
        except Exception as error:
            raise StageError(f"stage {self.stage.name} failed in ONNX Runtime ({line(error)})") from error

    def close(self) -> None:
        self._calls.clear()

    def _bind(self, addresses: Sequence[int]) -> ort.IOBinding:
        binding: Any = self._loaded.session.io_binding()
        places = iter(addresses)
        for tensors, bind in ((self.stage.inputs, binding.bind_input), (self.stage.outputs, binding.bind_output)):
            for tensor in tensors:
                bind(tensor.name, MEMORY, self._index, tensor.dtype, self._shapes[tensor.name], next(places))
        return binding

    def _options(self) -> ort.RunOptions:
        options = import_onnxruntime().RunOptions()
        if self._loaded.numbers is not None:
            options.add_run_config_entry("gpu_graph_id", str(next(self._loaded.numbers)))
        return options
