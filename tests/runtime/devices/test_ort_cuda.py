"""Graphs in ONNX Runtime on a GPU: buffers, copies and order of the CUDA device, on the emulated driver.

ONNX Runtime's CUDA provider needs a GPU (tests/gpu). Here a stand-in checks its arguments and runs each stage in the
CPU provider, as a kernel of the emulated device, in the order of the stream.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from swiftvr_trt import BundleError, MachineError, MissingPackageError, Restorer, StageError
from swiftvr_trt.export.moving_picture import synthetic_frame
from swiftvr_trt.runtime.devices import ort_cuda
from tests.conftest import BundleFactory
from tests.cuda_emulator import Emulator, emulated

onnxruntime = pytest.importorskip("onnxruntime")
pytest.importorskip("cuda.core")
driver = pytest.importorskip("cuda.bindings.driver")
CLIP = [synthetic_frame(index, 33, 57) for index in range(37)]


class Binding:
    """Remembers the addresses of tensors."""

    def __init__(self) -> None:
        self.inputs: list[tuple[Any, ...]] = []
        self.outputs: list[tuple[Any, ...]] = []

    def bind_input(self, name: str, memory: str, index: int, dtype: str, shape: tuple[int, ...], place: int) -> None:
        assert (memory, index) == ("cuda", 0)
        self.inputs.append((name, dtype, shape, place))

    def bind_output(self, name: str, memory: str, index: int, dtype: str, shape: tuple[int, ...], place: int) -> None:
        assert (memory, index) == ("cuda", 0)
        self.outputs.append((name, dtype, shape, place))


class CudaSession:
    """Stands in for `onnxruntime.InferenceSession` with the CUDA provider."""

    bindings = 0
    graphs = 0
    """The largest number that one session has captured."""
    on_cpu = 0
    """Nodes of each graph that are not on the GPU."""

    def __init__(self, emulator: Emulator, cpu: Any, options: dict[str, str]) -> None:
        self._emulator, self._cpu, self._stream = emulator, cpu, int(options["user_compute_stream"])
        self._captures = options["enable_cuda_graph"] == "1"
        self._graphs: dict[str, list[list[tuple[Any, ...]]]] = {}
        assert options["device_id"] == "0"
        assert options["prefer_nhwc"] == "1"

    def get_provider_graph_assignment_info(self) -> list[Any]:
        """The graph in one piece on the GPU, and the nodes that are said to be on the CPU."""
        places = {ort_cuda.CUDA_PROVIDER: 9, "CPUExecutionProvider": CudaSession.on_cpu}
        return [SimpleNamespace(ep_name=name, get_nodes=[0].__mul__(n).copy) for name, n in places.items()]

    def get_providers(self) -> list[str]:
        return [ort_cuda.CUDA_PROVIDER, "CPUExecutionProvider"]

    def get_inputs(self) -> Any:
        return self._cpu.get_inputs()

    def get_outputs(self) -> Any:
        return self._cpu.get_outputs()

    def io_binding(self) -> Binding:
        CudaSession.bindings += 1
        return Binding()

    def run_with_iobinding(self, binding: Binding, options: Any) -> None:
        """A graph reads and writes where it did when it was captured, wherever the binding now points."""
        array = self._emulator.array
        inputs, outputs = binding.inputs, binding.outputs
        number = options.get_run_config_entry("gpu_graph_id") if self._captures else "-1"
        if number != "-1":
            inputs, outputs = self._graphs.setdefault(number, [inputs, outputs])
            CudaSession.graphs = max(CudaSession.graphs, len(self._graphs))

        def kernel() -> None:
            feeds = {name: array(place, shape, dtype).copy() for name, dtype, shape, place in inputs}
            results = self._cpu.run([name for name, *_ in outputs], feeds)
            for (_, dtype, shape, place), result in zip(outputs, results, strict=True):
                array(place, shape, dtype, write=True)[...] = result

        assert self._emulator.kernel(self._stream, kernel) == 0
        try:
            options.get_run_config_entry(ort_cuda.DO_NOT_WAIT)
        except RuntimeError:  # the option was not given
            assert not int(driver.cuStreamSynchronize(self._stream)[0])


@pytest.fixture
def emulator(monkeypatch: pytest.MonkeyPatch) -> Iterator[Emulator]:
    """A GPU on which the stand-in takes the place of ONNX Runtime. Fails on leaks and violations."""
    real = onnxruntime.InferenceSession
    with emulated(seed=5) as running:

        def session(path: str, options: Any, providers: list[Any], enable_fallback: int) -> Any:
            assert not enable_fallback  # with it, ONNX Runtime would only print a warning and use the CPU
            if providers == ["CPUExecutionProvider"]:
                return real(path, options, providers=providers)
            ((name, details),) = providers
            assert name == ort_cuda.CUDA_PROVIDER
            return CudaSession(running, real(path, options, providers=["CPUExecutionProvider"]), details)

        monkeypatch.setattr(onnxruntime, "InferenceSession", session)
        monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: [ort_cuda.CUDA_PROVIDER])
        monkeypatch.setattr(onnxruntime, "preload_dlls", lambda: None)
        yield running


@pytest.mark.cuda_emulator
@pytest.mark.parametrize("size", [(100, 132), (57, 34)], ids=["aligned", "staged"])
def test_frames_equal_those_of_the_cpu(emulator: Emulator, mini_bundle: BundleFactory, size: tuple[int, int]) -> None:
    bundle = mini_bundle(*size)
    with Restorer.open(bundle, threads=1) as cpu:
        expected = list(cpu.restore(CLIP))
    with Restorer.open(bundle, device="cuda") as restorer:
        for _ in range(2):  # the second time, buffers are no longer zero
            assert np.array_equal(list(restorer.restore(CLIP)), expected)
    assert emulator.calls("cuGraphLaunch") == 0


@pytest.mark.cuda_emulator
@pytest.mark.parametrize("on_cpu", [0, 2])
def test_stages_wait_for_nothing_unless_a_node_is_on_the_cpu(
    emulator: Emulator, mini_bundle: BundleFactory, monkeypatch: pytest.MonkeyPatch, on_cpu: int
) -> None:
    monkeypatch.setattr(CudaSession, "on_cpu", on_cpu)
    bundle = mini_bundle()
    with Restorer.open(bundle, threads=1) as cpu:
        expected = list(cpu.restore(CLIP))
    with Restorer.open(bundle, device="cuda") as restorer, restorer.session() as session:
        session.feed(CLIP[0])
        session.reset()
        emulator.forget_calls()
        restored = [frame for given in CLIP for frame in session.feed(given)] + session.flush()
        waits = emulator.calls("cuStreamSynchronize")
        assert np.array_equal(restored, expected)
    assert bool(waits) == bool(on_cpu)


@pytest.mark.cuda_emulator
@pytest.mark.usefixtures("emulator")
@pytest.mark.parametrize("most", [ort_cuda.MAX_GRAPHS_PER_STAGE, 5])
def test_every_set_of_addresses_of_a_stage_has_its_own_graph_up_to_the_limit(
    mini_bundle: BundleFactory, monkeypatch: pytest.MonkeyPatch, most: int
) -> None:
    bundle = mini_bundle()
    monkeypatch.setattr(ort_cuda, "MAX_GRAPHS_PER_STAGE", most)
    monkeypatch.setattr(CudaSession, "graphs", 0)
    with Restorer.open(bundle, threads=1) as cpu:
        expected = list(cpu.restore(CLIP))
    with Restorer.open(bundle, device="cuda", ort_graphs=True) as restorer:
        for _ in range(3):  # three sessions, each with its own memory
            assert np.array_equal(list(restorer.restore(CLIP)), expected)
    assert 1 < CudaSession.graphs <= most


@pytest.mark.cuda_emulator
@pytest.mark.usefixtures("emulator")
def test_a_stage_that_cannot_be_captured_is_refused_with_the_option_to_leave_out(
    mini_bundle: BundleFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise RuntimeError("This session cannot use the graph capture feature as requested by the user")

    monkeypatch.setattr(onnxruntime, "InferenceSession", refuse)
    with pytest.raises(BundleError, match=r"take_rgb24.*cannot use the graph capture.*try without --ort-graphs$"):
        Restorer.open(mini_bundle(), device="cuda", ort_graphs=True)


@pytest.mark.cuda_emulator
@pytest.mark.usefixtures("emulator")
def test_a_chunk_binds_nothing_if_one_of_its_kind_came_before(mini_bundle: BundleFactory) -> None:
    with Restorer.open(mini_bundle(), device="cuda") as restorer, restorer.session() as session:
        counts = []
        for frame in CLIP * 3:
            session.feed(frame)
            counts.append(CudaSession.bindings)
    assert counts[40] == counts[-1]


@pytest.mark.cuda_emulator
def test_a_failing_stage_is_named(
    emulator: Emulator, mini_bundle: BundleFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_self: CudaSession, _binding: Binding, _options: Any) -> None:
        raise RuntimeError("CUDA failure 700\nand a long story")

    with Restorer.open(mini_bundle(), device="cuda") as restorer:
        session = restorer.session()
        for frame in CLIP[:11]:
            session.feed(frame)
        monkeypatch.setattr(CudaSession, "run_with_iobinding", fail)
        with pytest.raises(StageError, match=r"^stage take_rgb24 failed in ONNX Runtime \(CUDA failure 700\)$"):
            session.feed(CLIP[11])
        session.close()
    assert emulator.violations() == []


@pytest.mark.cuda_emulator
@pytest.mark.usefixtures("emulator")
@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (("get_available_providers", lambda: ["CPUExecutionProvider"]), "pip uninstall onnxruntime"),
        (("CudaSession", None), "could not load its CUDA provider"),
    ],
    ids=["the package for the CPU", "libraries that are missing"],
)
def test_a_missing_provider_is_reported_in_one_line(
    mini_bundle: BundleFactory, monkeypatch: pytest.MonkeyPatch, spoil: tuple[str, Callable[[], Any]], said: str
) -> None:
    """ONNX Runtime itself would print a warning and use the CPU."""
    if spoil[0] == "CudaSession":
        monkeypatch.setattr(CudaSession, "get_providers", lambda _self: ["CPUExecutionProvider"])
    else:
        monkeypatch.setattr(onnxruntime, *spoil)
    with pytest.raises(MachineError, match=said) as error:
        Restorer.open(mini_bundle(), device="cuda")
    assert "\n" not in str(error.value)


@pytest.mark.cuda_emulator
@pytest.mark.usefixtures("emulator")
def test_a_missing_onnxruntime_is_named_with_the_extra_for_gpus(
    mini_bundle: BundleFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = mini_bundle()
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(MissingPackageError, match=r'onnxruntime-gpu.*\[gpu\]"'):
        Restorer.open(bundle, device="cuda")


def test_options_keep_float32_products_exact() -> None:
    options = ort_cuda.provider_options(2, 0xABC, graphs=False)
    assert (options["device_id"], options["user_compute_stream"], options["use_tf32"]) == ("2", str(0xABC), "0")
    assert all(isinstance(value, str) for value in options.values())
