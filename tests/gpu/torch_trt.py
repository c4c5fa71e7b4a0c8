"""A stand-in for TensorRT on a real GPU: each stage is a `torch.cuda.CUDAGraph`, run on the device's stream.

With it the real loop, its graphs, copies, events and memory run on a real driver where torch has CUDA and no compiler
is installed. The encoder, the transformer and the decoder are those of the network, in torch. The stages for pixels are
mixtures of their inputs, so their frames are no pictures, but any wrong order or address changes them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from swiftvr_trt import Bundle
from swiftvr_trt.engines.bundle.manifest import NETWORK_STAGES, StageSpec
from swiftvr_trt.export.graph.stages import stages_of
from swiftvr_trt.export.network.checkpoint import Checkpoint
from swiftvr_trt.runtime.devices.gpu import Gpu
from swiftvr_trt.runtime.devices.stage_provider import Arena, Shapes
from swiftvr_trt.runtime.stream.plan import is_decoding

Function = Callable[[Sequence[Tensor]], Sequence[Tensor]]
"""A stage: its inputs to its outputs, as the manifest orders them."""
_TYPES = {"uint8": torch.uint8, "uint16": torch.uint16, "float32": torch.float32, "float16": torch.float16}
_LARGEST_PRIME = 251
"""Below 256, so that a byte holds it."""


def stage_functions(bundle: Bundle, checkpoint: Checkpoint, device: torch.device) -> dict[str, Callable[..., Any]]:
    """The stages of the network, by name."""
    found = stages_of(checkpoint, bundle.manifest.recipe)
    return {stage.name: stage.module.to(device).eval() for stage in found if stage.name in NETWORK_STAGES}


def mixture(inputs: Sequence[Tensor], shape: Sequence[int], dtype: str) -> Tensor:
    """A tensor in which every element of every input counts: whole numbers up to a prime, or fractions of it."""
    total = sum(
        torch.round(each.to(torch.float32) * 97).to(torch.int64).flatten().cumsum(0) for each in map(_evenly, inputs)
    )
    assert isinstance(total, Tensor)
    count = math.prod(shape)
    whole = total.repeat(-(-count // total.numel()))[:count].remainder(_LARGEST_PRIME).reshape(tuple(shape))
    return whole.to(_TYPES[dtype]) if dtype.startswith("uint") else (whole / _LARGEST_PRIME).to(_TYPES[dtype])


def _evenly(tensor: Tensor, pieces: int = 1024) -> Tensor:
    """So many sums over equal parts of a tensor, so that tensors of all sizes can be added."""
    flat = tensor.to(torch.float32).flatten()
    return torch.nn.functional.pad(flat, (0, -flat.numel() % pieces)).reshape(pieces, -1).sum(1)


class TorchProvider:
    """Loads the stages of a bundle into torch. A `StageProvider`."""

    capturable = True

    def __init__(self, checkpoint: Checkpoint, device: torch.device, stages: type[TorchStages] | None = None) -> None:
        self._checkpoint, self._device = checkpoint, device
        self.stages = stages or TorchStages

    def check(self, bundle: Bundle, gpu: Gpu) -> None:
        """Any bundle runs: only its manifest counts."""

    def load(self, bundle: Bundle, gpu: Gpu, stream: Any) -> TorchStages:  # noqa: ARG002 (torch has its own)
        return self.stages(stage_functions(bundle, self._checkpoint, self._device), self._device)


class TorchStages:
    """`LoadedStages`. CUDA graphs that run one after another share a pool of memory: the decoder's, and all others."""

    compiles_kernels = False

    def __init__(self, functions: Mapping[str, Callable[..., Any]], device: torch.device) -> None:
        self._functions, self._device = dict(functions), device
        self._pools = [torch.cuda.graph_pool_handle() if device.type == "cuda" else None for _ in range(2)]
        self.contexts = 0

    def arena_bytes(self, stages: Iterable[StageSpec]) -> int:  # noqa: ARG002 (torch allocates)
        return 0

    def function(self, stage: StageSpec, shapes: Shapes) -> Function:
        """What a stage computes."""
        module = self._functions.get(stage.name)
        if module is not None:

            def run(inputs: Sequence[Tensor]) -> Sequence[Tensor]:
                made = module(*inputs)
                return (made,) if isinstance(made, Tensor) else tuple(made)

            return run
        return lambda inputs: tuple(mixture(inputs, shapes[out.name], out.dtype) for out in stage.outputs)

    def context(self, stage: StageSpec, shapes: Shapes, arena: Arena, stream: int) -> TorchContext:  # noqa: ARG002
        self.contexts += 1
        inputs = [self.zeros(shapes[tensor.name], tensor.dtype) for tensor in stage.inputs]
        return TorchContext(*self.graph(stage, shapes, inputs), inputs)

    def zeros(self, shape: Sequence[int], dtype: str) -> Any:
        """A tensor on the GPU."""
        return torch.zeros(tuple(shape), dtype=_TYPES[dtype], device=self._device)

    def graph(self, stage: StageSpec, shapes: Shapes, inputs: Sequence[Any]) -> tuple[Any, Sequence[Any]]:
        """A stage as a CUDA graph over fixed tensors, and its outputs."""
        return _graph(self.function(stage, shapes), inputs, self._pools[is_decoding(stage.name)])

    def close(self) -> None:
        self._functions.clear()


def _graph(function: Function, inputs: Sequence[Tensor], pool: Any) -> tuple[torch.cuda.CUDAGraph, Sequence[Tensor]]:
    """A stage captured over fixed tensors, and its outputs."""
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.inference_mode(), torch.cuda.stream(side):
        function(inputs)
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph(keep_graph=True)  # `embed_graph` needs it as it was captured
    with torch.inference_mode(), torch.cuda.graph(graph, pool=pool, capture_error_mode="thread_local"):
        outputs = [each.contiguous() for each in function(inputs)]  # a copy made later would not be replayed
    graph.instantiate()
    torch.cuda.synchronize()
    return graph, outputs


@dataclass(frozen=True)
class TorchContext:
    """One stage of one session: a CUDA graph over tensors of its own, between copies from and to given addresses.

    Whatever has captured it holds addresses in the private pool of `graph`. That memory is free for others as soon as
    `graph` is gone, so a context must outlive what has captured it; `own_contexts` in cuda_graph.py sees to that.
    """

    graph: Any
    outputs: Sequence[Any]
    inputs: Sequence[Any]

    def check_capturable(self, stream: int) -> None:
        """Always: `enqueue` adds the graph to the one that is being captured."""

    def enqueue(self, addresses: Sequence[int], stream: int) -> None:
        given, taken = addresses[: len(self.inputs)], addresses[len(self.inputs) :]
        for tensor, address in zip(self.inputs, given, strict=True):
            _copy(tensor.data_ptr(), address, tensor.nbytes, stream)
        if not embed_graph(self.graph.raw_cuda_graph(), stream):
            replay_on(self.graph, stream)
        for tensor, address in zip(self.outputs, taken, strict=True):
            _copy(address, tensor.data_ptr(), tensor.nbytes, stream)


def embed_graph(graph: int, stream: int) -> bool:
    """Add a copy of a graph to the one that is being captured on a stream, as its next node. False: none is.

    CUDA refuses to launch a graph on such a stream (error 900), and ends the capture. Both are the driver's handles.
    """
    from cuda.bindings import driver

    # cuda-bindings 13 have data about edges after the dependencies, 12.9 have none.
    status, _, capturing, *found, count = _checked(driver.cuStreamGetCaptureInfo(stream), "asking for a capture")
    if status != driver.CUstreamCaptureStatus.CU_STREAM_CAPTURE_STATUS_ACTIVE:
        return False
    added = driver.cuGraphAddChildGraphNode(capturing, found[0][:count], count, graph)
    nodes, *edges = [_checked(added, "adding a graph"), *(None for _ in found[1:])]
    replace = driver.CUstreamUpdateCaptureDependencies_flags.CU_STREAM_SET_CAPTURE_DEPENDENCIES
    _checked(driver.cuStreamUpdateCaptureDependencies(stream, nodes, *edges, 1, replace), "going on after a graph")
    return True


def replay_on(graph: Any, stream: int) -> None:
    """Launch a graph of torch. stream: the driver's handle."""
    with torch.cuda.stream(torch.cuda.ExternalStream(stream)):
        graph.replay()


def _copy(target: int, source: int, nbytes: int, stream: int) -> None:
    from cuda.bindings import driver

    _checked(driver.cuMemcpyAsync(target, source, nbytes, stream), f"copying {nbytes} bytes")


def _checked(answer: Sequence[Any], what: str) -> list[Any]:
    """What a call of the driver gave, without its status. Raises RuntimeError if that is an error."""
    if int(answer[0]):
        raise RuntimeError(f"CUDA_ERROR: {what} failed ({answer[0]!r})")
    return list(answer[1:])
