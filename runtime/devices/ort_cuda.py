"""Graphs on an NVIDIA GPU in ONNX Runtime's CUDA provider, for GPUs without a compiled bundle.

The CUDA device provides buffers, copies and streams. Stages are bound to addresses in its buffers and run on its
stream, so nothing is copied, allocated or waited for between them; only a stage with a node that runs on the CPU waits.
ONNX Runtime can capture single stages, which is off by default (docs/decisions.md gives the reason). Engines are
faster.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from ...engines.bundle.drivers import GET_DRIVER
from ...engines.bundle.files import Bundle
from ...engines.bundle.manifest import StageSpec, stage_names
from ...errors import BundleError, MachineError
from ...installing import install_command
from .cuda_recording import stream_handle
from .gpu import Gpu
from .notes import NOTES
from .ort import import_onnxruntime, load_session, nodes_off, stage_error
from .stage_provider import Arena, Shapes

if TYPE_CHECKING:
    import onnxruntime as ort

CUDA_PROVIDER = "CUDAExecutionProvider"
GPU_MEMORY = "cuda"
"""ONNX Runtime's name for the memory of an NVIDIA GPU."""
MAX_GRAPHS_PER_STAGE = 256
"""ONNX Runtime keeps captured graphs as long as the session, so a process that opens many streams needs a limit."""
DO_NOT_WAIT = "disable_synchronize_execution_providers"
"""The option of a run that leaves out the wait for the GPU at its end."""
NO_GRAPH = -1
"""The graph id with which ONNX Runtime runs a call directly."""


@dataclass(frozen=True)
class OrtCudaProvider:
    """Loads graphs with ONNX Runtime. A `StageProvider`.

    stage_graphs: ONNX Runtime captures each stage as a CUDA graph; it refuses stages with a node that runs on the CPU.
    """

    stage_graphs: bool = False
    capturable: ClassVar[bool] = False

    def check(self, bundle: Bundle, gpu: Gpu) -> None:  # noqa: ARG002 (graphs run on any GPU)
        ort = import_onnxruntime("gpu", "running a bundle on the GPU")
        if CUDA_PROVIDER not in ort.get_available_providers():
            raise MachineError(
                "the installed onnxruntime is the one for the CPU, running graphs on a GPU needs onnxruntime-gpu: "
                f"pip uninstall onnxruntime, then {install_command('gpu', 'cuda')}"
            )

    def load(self, bundle: Bundle, gpu: Gpu, stream: Any) -> OrtCudaStages:
        # Makes ONNX Runtime use the CUDA libraries that come with it, if any, before it searches the system.
        import_onnxruntime().preload_dlls()
        options = provider_options(gpu.index, stream_handle(stream), graphs=self.stage_graphs)
        stages = stage_names(bundle.manifest.recipe)
        return OrtCudaStages({stage: self._load_stage(bundle, stage, gpu, options) for stage in stages}, gpu.index)

    def _load_stage(self, bundle: Bundle, name: str, gpu: Gpu, options: dict[str, str]) -> LoadedGraph:
        try:
            session = load_session(bundle, bundle.manifest.stage(name), [(CUDA_PROVIDER, options)])
        except BundleError as error:
            if not self.stage_graphs:
                raise
            raise BundleError(f"{error}; try without --ort-graphs") from error
        if CUDA_PROVIDER not in session.get_providers():  # ONNX Runtime only warns, and would use the CPU
            raise MachineError(
                "ONNX Runtime could not load its CUDA provider, expected CUDA, cuDNN and a driver that is new enough "
                f'(this one is for CUDA {gpu.driver_cuda()}): pip install "onnxruntime-gpu[cuda,cudnn]", or update the '
                f"driver: {GET_DRIVER}"
            )
        ids = itertools.chain(range(MAX_GRAPHS_PER_STAGE), itertools.repeat(NO_GRAPH))
        elsewhere = nodes_off(session, CUDA_PROVIDER)
        if elsewhere:
            NOTES.info("stage %s: %d nodes run on the CPU, the GPU waits for them", name, elsewhere)
        return LoadedGraph(session, ids if self.stage_graphs else None, waits=elsewhere != 0)


def provider_options(index: int, stream: int, *, graphs: bool) -> dict[str, str]:
    """Options of the provider: this GPU, the device's stream, and full float32 products (TF32 keeps 10 bits).

    Convolutions keep channels last, the layout in which tensor cores multiply.
    """
    return {
        "device_id": str(index),
        "user_compute_stream": str(stream),
        "use_tf32": "0",
        "prefer_nhwc": "1",
        "arena_extend_strategy": "kSameAsRequested",
        "enable_cuda_graph": "1" if graphs else "0",
    }


@dataclass(frozen=True)
class LoadedGraph:
    """The graph of a stage.

    graph_ids: for the CUDA graphs that it may still capture; None if it captures none. waits: the host waits for each
    run, since memory of the host that it used is free afterwards.
    """

    session: ort.InferenceSession
    graph_ids: Iterator[int] | None
    waits: bool


class OrtCudaStages:
    """All graphs of a bundle. `LoadedStages`. ONNX Runtime allocates activations itself."""

    compiles_kernels = False

    def __init__(self, graphs: dict[str, LoadedGraph], index: int) -> None:
        """graphs: by stage. index: number of the GPU."""
        self._graphs, self._index = graphs, index

    def arena_bytes(self, stages: Iterable[StageSpec]) -> int:  # noqa: ARG002 (none of its stages)
        return 0

    def context(
        self,
        stage: StageSpec,
        shapes: Shapes,
        arena: Arena,  # noqa: ARG002 (ONNX Runtime has one of its own)
        stream: int,  # noqa: ARG002 (the session has its stream)
    ) -> OrtCudaContext:
        return OrtCudaContext(self._graphs[stage.name], stage, shapes, self._index)

    def close(self) -> None:
        self._graphs.clear()


@dataclass(frozen=True)
class _BoundRun:
    """A stage bound to addresses, and the options that name the CUDA graph for them."""

    binding: ort.IOBinding
    options: ort.RunOptions


class OrtCudaContext:
    """One stage of one session. Bindings are kept, so that a repeated chunk allocates nothing of ours.

    A captured graph holds the addresses that it was captured with, so each set of addresses has a graph of its own,
    named by the run option `gpu_graph_id` (onnxruntime.ai, CUDA execution provider, "Using CUDA Graphs"). ONNX Runtime
    may run a stage twice in its first call, which gives the same result: no stage writes what it reads.
    """

    def __init__(self, graph: LoadedGraph, stage: StageSpec, shapes: Shapes, index: int) -> None:
        self._graph, self._stage, self._shapes, self._index = graph, stage, shapes, index
        self._runs: dict[tuple[int, ...], _BoundRun] = {}

    def check_capturable(self, stream: int) -> None:
        """Never asked: `OrtCudaProvider.capturable` is False."""

    def enqueue(self, addresses: Sequence[int], stream: int) -> None:  # noqa: ARG002 (the session has its stream)
        """Raises `StageError` if ONNX Runtime fails."""
        key = tuple(addresses)
        try:
            if key not in self._runs:
                self._runs[key] = _BoundRun(self._bind(key), self._options())
            self._graph.session.run_with_iobinding(self._runs[key].binding, self._runs[key].options)
        except Exception as error:
            raise stage_error(self._stage.name, error) from error

    def _bind(self, addresses: Sequence[int]) -> ort.IOBinding:
        binding: Any = self._graph.session.io_binding()
        places = iter(addresses)
        for tensors, bind in ((self._stage.inputs, binding.bind_input), (self._stage.outputs, binding.bind_output)):
            for tensor in tensors:
                bind(tensor.name, GPU_MEMORY, self._index, tensor.dtype, self._shapes[tensor.name], next(places))
        return binding

    def _options(self) -> ort.RunOptions:
        options = import_onnxruntime().RunOptions()
        if not self._graph.waits:
            options.add_run_config_entry(DO_NOT_WAIT, "1")
        if self._graph.graph_ids is not None:
            options.add_run_config_entry("gpu_graph_id", str(next(self._graph.graph_ids)))
        return options
