"""The real loop on a real driver, with stages in torch. Needs a GPU and torch with CUDA, but no compiler."""

from __future__ import annotations

import ast
import gc
import inspect
import json
import math
import operator
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from swiftvr_trt import Bundle, Restorer
from swiftvr_trt.engines.bundle.manifest import StageSpec
from swiftvr_trt.export.moving_picture import synthetic_frame
from swiftvr_trt.export.network.checkpoint import Checkpoint, load_checkpoint
from swiftvr_trt.runtime.devices.cuda import CudaDevice
from swiftvr_trt.runtime.devices.stage_provider import Shapes
from swiftvr_trt.runtime.stream.buffers import plan_buffers, stage_shape, used_stages
from swiftvr_trt.runtime.stream.session import Frame
from swiftvr_trt.runtime.stream.trace import Trace
from tests.conftest import BundleFactory
from tests.cuda_emulator import Emulator, emulated

from . import torch_trt
from .machine import MOST_GROWTH_PER_CHUNK, gpu_bytes_taken, growth_per_chunk
from .torch_trt import TorchProvider, TorchStages, mixture, stage_functions

CPU = torch.device("cpu")
CLIP_LEN, FRAME = 8, (66, 50)
CALLED = ("cuda.graph", "cuda.stream", "cuda.CUDAGraph", "cuda.ExternalStream")
on_a_gpu = [
    pytest.mark.gpu,
    pytest.mark.alone,
    pytest.mark.skipif(not torch.cuda.is_available(), reason=f"torch {torch.__version__} finds no NVIDIA GPU"),
]


@pytest.fixture(scope="session")
def graphs(mini_bundle: BundleFactory) -> Bundle:
    return mini_bundle(100, 132, CLIP_LEN)


@pytest.fixture(scope="session")
def checkpoint(mini_checkpoint: Path) -> Checkpoint:
    return load_checkpoint(mini_checkpoint)


def test_every_stage_gives_what_the_manifest_says(graphs: Bundle, checkpoint: Checkpoint) -> None:
    stages = TorchStages(stage_functions(graphs, checkpoint, CPU), CPU)
    buffers = plan_buffers(graphs.manifest, *FRAME)
    used = used_stages(buffers)
    assert len(used) == 6
    for stage in (each for each in graphs.manifest.stages if each.name in used):
        shapes = {tensor.name: stage_shape(tensor, buffers) for tensor in (*stage.inputs, *stage.outputs)}
        types = {"uint8": torch.uint8, "float32": torch.float32}
        inputs = [torch.zeros(shapes[tensor.name], dtype=types[tensor.dtype]) for tensor in stage.inputs]
        with torch.inference_mode():
            outputs = stages.function(stage, shapes)(inputs)
        assert [tuple(each.shape) for each in outputs] == [shapes[tensor.name] for tensor in stage.outputs]
        assert [each.dtype for each in outputs] == [types[tensor.dtype] for tensor in stage.outputs]


def test_every_element_of_every_input_changes_a_mixture() -> None:
    inputs = [torch.arange(5000) % 200, torch.linspace(-1, 1, 700)]
    before = mixture(inputs, (60, 50), "uint8")
    for index, place in ((0, 0), (0, 4999), (1, 0), (1, 699)):
        changed = [each.clone() for each in inputs]
        changed[index][place] += 1
        assert not torch.equal(mixture(changed, (60, 50), "uint8"), before)
    assert mixture(inputs, (2, 3), "float32").dtype == torch.float32


def test_every_name_of_torch_cuda_exists_with_its_arguments() -> None:
    """No GPU has run this: at least the installed torch has what it calls."""
    bound = 0
    for node in ast.walk(ast.parse(Path(torch_trt.__file__).read_text(encoding="utf-8"))):
        name = ast.unparse(node).removeprefix("torch.") if isinstance(node, ast.Attribute) else ""
        if name.startswith("cuda.") and "(" not in name:
            assert operator.attrgetter(name)(torch) is not None
        called = ast.unparse(node.func).removeprefix("torch.") if isinstance(node, ast.Call) else ""
        if isinstance(node, ast.Call) and called in CALLED:
            function = operator.attrgetter(called)(torch)
            inspect.signature(function).bind(*node.args, **{str(each.arg): None for each in node.keywords})
            bound += 1
    assert bound >= 5
    for method in ("instantiate", "raw_cuda_graph", "replay"):
        assert callable(getattr(torch.cuda.CUDAGraph, method))
    assert callable(torch.cuda.Stream.wait_stream)


@dataclass(frozen=True)
class DeviceTensor:
    """What a context needs of a tensor, in the memory of the emulated GPU."""

    memory: Any
    shape: tuple[int, ...]
    dtype: str

    @property
    def nbytes(self) -> int:
        return math.prod(self.shape) * np.dtype(self.dtype).itemsize

    def data_ptr(self) -> int:
        return int(self.memory.handle)


class EmulatedGraph:
    """What a `torch.cuda.CUDAGraph` is here: one captured kernel, which runs the stage in torch on the CPU."""

    def __init__(self, emulator: Emulator, stream: int, run: Callable[[], None]) -> None:
        from cuda.bindings import driver
        from cuda.core._utils.cuda_utils import handle_return

        mode = driver.CUstreamCaptureMode.CU_STREAM_CAPTURE_MODE_THREAD_LOCAL
        handle_return(driver.cuStreamBeginCapture(stream, mode))
        assert emulator.kernel(stream, run) == 0
        self._graph = handle_return(driver.cuStreamEndCapture(stream))
        self._ready = handle_return(driver.cuGraphInstantiate(self._graph, 0))

    def raw_cuda_graph(self) -> int:
        return int(self._graph)

    def replay_on(self, stream: int) -> None:
        from cuda.bindings import driver

        (error,) = driver.cuGraphLaunch(self._ready, stream)
        assert int(error) == 0

    def close(self) -> None:
        from cuda.bindings import driver

        driver.cuGraphExecDestroy(self._ready)
        driver.cuGraphDestroy(self._graph)


def emulated_stages(emulator: Emulator) -> type[TorchStages]:
    """`TorchStages` on the emulated GPU: only what torch itself does on a GPU is replaced."""

    class Stages(TorchStages):
        def __init__(self, *arguments: Any) -> None:
            super().__init__(*arguments)
            self._memories: list[Any] = []
            self._graphs: list[EmulatedGraph] = []
            self._stream: Any = None

        def zeros(self, shape: Sequence[int], dtype: str) -> DeviceTensor:
            from cuda.core import Device

            self._stream = self._stream or Device(0).create_stream()
            memory = Device(0).allocate(math.prod(shape) * np.dtype(dtype).itemsize, stream=self._stream)
            memory.fill(0, stream=self._stream)
            self._stream.sync()
            self._memories.append(memory)
            return DeviceTensor(memory, tuple(shape), dtype)

        def graph(
            self, stage: StageSpec, shapes: Shapes, inputs: Sequence[DeviceTensor]
        ) -> tuple[EmulatedGraph, list[DeviceTensor]]:
            function = self.function(stage, shapes)
            outputs = [self.zeros(shapes[tensor.name], tensor.dtype) for tensor in stage.outputs]

            def run() -> None:
                given = [torch.from_numpy(emulator.array(t.data_ptr(), t.shape, t.dtype).copy()) for t in inputs]
                with torch.inference_mode():
                    for target, made in zip(outputs, function(given), strict=True):
                        emulator.array(target.data_ptr(), target.shape, target.dtype, write=True)[...] = made.numpy()

            self._graphs.append(EmulatedGraph(emulator, int(self._stream.handle), run))
            return self._graphs[-1], outputs

        def close(self) -> None:
            super().close()
            for graph in self._graphs:
                graph.close()
            self._graphs.clear()
            for memory in self._memories:
                memory.close(self._stream)
            self._memories.clear()
            self._stream.sync()
            self._stream.close()

    return Stages


@pytest.mark.cuda_emulator
@pytest.mark.parametrize("overlap", [False, True])
def test_the_stand_in_runs_in_the_loop_on_the_emulated_gpu(
    graphs: Bundle, checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch, overlap: bool
) -> None:
    """Its stages, copies and contexts, as `TestOnGpu` uses them: graphs and direct runs give the same frames.

    As NVIDIA's driver, the emulated one launches no graph on a stream that is being captured.
    """
    monkeypatch.setattr(torch_trt, "replay_on", EmulatedGraph.replay_on)
    frames, restored = clip(4 + 3 * CLIP_LEN + 1), list[list[Frame]]()

    def twice(device: CudaDevice) -> None:
        with Restorer(device, graphs.manifest) as restorer, restorer.session() as session:
            for _ in range(2):
                restored.append([out for given in frames for out in session.feed(given)] + session.flush())

    with emulated(delay_us=0, clean=False) as emulator:
        provider = TorchProvider(checkpoint, CPU, emulated_stages(emulator))
        twice(CudaDevice(graphs, provider, graphs=False))
        assert emulator.calls("cuGraphAddChildGraphNode") == 0
        capturing = CudaDevice(graphs, provider, overlap=overlap)
        twice(capturing)
        assert capturing.compute.graphs.launched > 0
        assert emulator.calls("cuGraphAddChildGraphNode") > 0
        assert (emulator.violations(), emulator.errors) == ([], [])
        gc.collect()
        assert emulator.counts().leaks() == {}, emulator.counts()
    assert all(np.array_equal(each, restored[0]) for each in restored)
    assert len(restored[0]) == len(frames)
    assert not np.array_equal(restored[0][0], restored[0][-1])


def clip(count: int = 6 * CLIP_LEN + 5, start: int = 0) -> list[Frame]:
    return [synthetic_frame(start + index, *FRAME) for index in range(count)]


@contextmanager
def opened(bundle: Bundle, checkpoint: Checkpoint, *, launching: bool = True, **options: Any) -> Iterator[Restorer]:
    """launching: whether CUDA graphs must have been launched at the end, or must not."""
    device = CudaDevice(bundle, TorchProvider(checkpoint, torch.device("cuda")), **options)
    with Restorer(device, bundle.manifest) as restorer:
        yield restorer
        launched = device.compute.graphs.launched
        assert (launched > 0) == launching, f"{launched} CUDA graphs were launched"


class TestOnGpu:
    """Each needs a GPU."""

    pytestmark = on_a_gpu

    def test_graphs_give_the_frames_of_direct_runs(
        self, graphs: Bundle, checkpoint: Checkpoint, caplog: pytest.LogCaptureFixture
    ) -> None:
        with opened(graphs, checkpoint, launching=False, graphs=False) as direct:
            expected = list(direct.restore(clip()))
        with opened(graphs, checkpoint) as capturing, capturing.session() as session:
            for _ in range(3):
                restored = [frame for given in clip() for frame in session.feed(given)] + session.flush()
                assert np.array_equal(restored, expected)
        assert not [line for line in caplog.messages if line.startswith("no CUDA graphs")]

    def test_two_streams_do_not_touch_each_other(self, graphs: Bundle, checkpoint: Checkpoint) -> None:
        clips = [clip(), clip(start=500)]
        with opened(graphs, checkpoint) as restorer:
            alone = [list(restorer.restore(frames)) for frames in clips]
            with restorer.session() as one, restorer.session() as other:
                together: list[list[Frame]] = [[], []]
                for frames in zip(*clips, strict=True):
                    for session, frame, out in zip((one, other), frames, together, strict=True):
                        out += session.feed(frame)
                for session, out in zip((one, other), together, strict=True):
                    out += session.flush()
        assert np.array_equal(together, alone)

    def test_a_thousand_chunks_take_no_more_memory(self, graphs: Bundle, checkpoint: Checkpoint) -> None:
        frames = clip()
        with opened(graphs, checkpoint) as restorer, restorer.session() as session:
            taken = []
            for chunk in range(1020):
                for index in range(CLIP_LEN):
                    session.feed(frames[(chunk + index) % len(frames)])
                if chunk >= 20 and chunk % 100 == 20:
                    gc.collect()
                    taken.append(gpu_bytes_taken("cuda"))
        assert growth_per_chunk(taken, 100) <= MOST_GROWTH_PER_CHUNK, taken

    def test_a_context_that_does_not_fit_costs_the_graphs_only(
        self, graphs: Bundle, checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with opened(graphs, checkpoint, launching=False, graphs=False) as direct:
            expected = list(direct.restore(clip()))
        real = TorchStages.context

        def limited(self: TorchStages, *arguments: Any) -> Any:
            if self.contexts >= 10:
                raise torch.OutOfMemoryError("CUDA_ERROR_OUT_OF_MEMORY")
            return real(self, *arguments)

        monkeypatch.setattr(TorchStages, "context", limited)
        with opened(graphs, checkpoint, launching=False) as restorer:
            assert np.array_equal(list(restorer.restore(clip())), expected)

    def test_copies_run_beside_stages(self, graphs: Bundle, checkpoint: Checkpoint, tmp_path: Path) -> None:
        path = tmp_path / "trace.json"
        with Trace(path) as trace, opened(graphs, checkpoint, trace=trace) as restorer:
            list(restorer.restore(clip(20 * CLIP_LEN)))
        events = json.loads(path.read_text())
        lanes = {event["tid"]: event["args"]["name"] for event in events if event["ph"] == "M"}
        spans = [(lanes[e["tid"]], e["ts"], e["ts"] + e["dur"]) for e in events if e["ph"] == "X"]
        computing = [(began, ended) for lane, began, ended in spans if lane == "compute"]
        copying = [(began, ended) for lane, began, ended in spans if lane in ("upload", "download")]
        assert any(a < d and c < b for a, b in copying for c, d in computing)
