"""Graphs on a GPU by ONNX Runtime: the CUDA device's buffers, copies and order, on the emulated driver.

ONNX Runtime's CUDA provider itself needs a GPU (tests/gpu). Here a stand-in takes its place: it checks what it is given
and runs each stage on the CPU provider, as a kernel of the emulated device, in the order of the stream.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from swiftvr_trt import BundleError, MachineError, MissingPackageError, MisuseError, Restorer, StageError
from swiftvr_trt.export.verify import synthetic_frame
from swiftvr_trt.runtime.devices import gpu, ort_cuda
from tests.conftest import BundleFactory
from tests.cuda_emulator import Emulator, emulated

onnxruntime = pytest.importorskip("onnxruntime")
pytest.importorskip("cuda.core")
CLIP = [synthetic_frame(index, 33, 57) for index in range(37)]


class Binding:
    """Remembers where tensors are."""

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
    """What `onnxruntime.InferenceSession` is with the CUDA provider, as far as the device uses it."""

    bindings = 0
    graphs = 0
    """The most that one session has captured."""

    def __init__(self, emulator: Emulator, cpu: Any, options: dict[str, str]) -> None:
        self._emulator, self._cpu, self._stream = emulator, cpu, int(options["user_compute_stream"])
        self._captures = options["enable_cuda_graph"] == "1"
        self._graphs: dict[str, list[list[tuple[Any, ...]]]] = {}
        assert options["device_id"] == "0"

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


@pytest.fixture
def emulator(monkeypatch: pytest.MonkeyPatch) -> Iterator[Emulator]:
    """A GPU whose ONNX Runtime is the stand-in. Afterwards nothing is left on it, and nothing was done wrong."""
    real = onnxruntime.InferenceSession
    with emulated(seed=5) as running:

        def session(path: str, options: Any, providers: list[Any], enable_fallback: int) -> Any:
            assert not enable_fallback  # it prints, and goes on with the CPU
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
def test_frames_are_those_of_the_cpu(emulator: Emulator, mini_bundle: BundleFactory, size: tuple[int, int]) -> None:
    bundle = mini_bundle(*size)
    with Restorer.open(bundle, threads=1) as cpu:
        expected = list(cpu.restore(CLIP))
    with Restorer.open(bundle, device="cuda") as restorer:
        for _ in range(2):  # the second time on buffers that are no longer zero
            assert np.array_equal(list(restorer.restore(CLIP)), expected)
    assert emulator.calls("cuGraphLaunch") == 0


@pytest.mark.cuda_emulator
@pytest.mark.usefixtures("emulator")
@pytest.mark.parametrize("most", [ort_cuda.MAX_GRAPHS_PER_STAGE, 5])
def test_every_place_of_a_stage_has_a_graph_of_its_own(
    mini_bundle: BundleFactory, monkeypatch: pytest.MonkeyPatch, most: int
) -> None:
    bundle = mini_bundle()
    monkeypatch.setattr(ort_cuda, "MAX_GRAPHS_PER_STAGE", most)
    monkeypatch.setattr(CudaSession, "graphs", 0)
    with Restorer.open(bundle, threads=1) as cpu:
        expected = list(cpu.restore(CLIP))
    with Restorer.open(bundle, device="cuda", ort_graphs=True) as restorer:
        for _ in range(3):  # each a stream with memory of its own
            assert np.array_equal(list(restorer.restore(CLIP)), expected)
    assert 1 < CudaSession.graphs <= most


@pytest.mark.cuda_emulator
@pytest.mark.usefixtures("emulator")
def test_a_stage_that_cannot_be_captured_says_what_to_leave_out(
    mini_bundle: BundleFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise RuntimeError("This session cannot use the graph capture feature as requested by the user")

    monkeypatch.setattr(onnxruntime, "InferenceSession", refuse)
    with pytest.raises(BundleError, match=r"encode.*cannot use the graph capture.*try without --ort-graphs$"):
        Restorer.open(mini_bundle(), device="cuda", ort_graphs=True)


def test_graphs_are_for_the_gpu(mini_bundle: BundleFactory) -> None:
    with pytest.raises(MisuseError, match=r"--ort-graphs was given for a bundle for onnx on cpu, expected"):
        Restorer.open(mini_bundle(), ort_graphs=True)


@pytest.mark.cuda_emulator
@pytest.mark.usefixtures("emulator")
def test_chunks_after_the_first_of_their_kind_bind_nothing(mini_bundle: BundleFactory) -> None:
    with Restorer.open(mini_bundle(), device="cuda") as restorer, restorer.session() as session:
        counts = []
        for frame in CLIP * 3:
            session.feed(frame)
            counts.append(CudaSession.bindings)
    assert counts[40] == counts[-1]


@pytest.mark.cuda_emulator
def test_a_stage_that_fails_is_named(
    emulator: Emulator, mini_bundle: BundleFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_self: CudaSession, _binding: Binding, _options: Any) -> None:
        raise RuntimeError("CUDA failure 700\nand a long story")

    with Restorer.open(mini_bundle(), device="cuda") as restorer:
        session = restorer.session()
        for frame in CLIP[:11]:
            session.feed(frame)
        monkeypatch.setattr(CudaSession, "run_with_iobinding", fail)
        with pytest.raises(StageError, match=r"^stage encode failed in ONNX Runtime \(CUDA failure 700\)$"):
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
def test_a_provider_that_is_not_there_is_told_in_one_line(
    mini_bundle: BundleFactory, monkeypatch: pytest.MonkeyPatch, spoil: tuple[str, Callable[[], Any]], said: str
) -> None:
    """ONNX Runtime itself would warn and go on with the CPU."""
    if spoil[0] == "CudaSession":
        monkeypatch.setattr(CudaSession, "get_providers", lambda _self: ["CPUExecutionProvider"])
    else:
        monkeypatch.setattr(onnxruntime, *spoil)
    with pytest.raises(MachineError, match=said) as error:
        Restorer.open(mini_bundle(), device="cuda")
    assert "\n" not in str(error.value)


def test_without_a_driver_one_line_says_so(mini_bundle: BundleFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu, "has_driver", lambda: False)
    with pytest.raises(MachineError, match="no NVIDIA driver was found"):
        Restorer.open(mini_bundle(), device="cuda:1")


@pytest.mark.cuda_emulator
@pytest.mark.usefixtures("emulator")
def test_without_onnxruntime_the_extra_for_gpus_is_named(
    mini_bundle: BundleFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = mini_bundle()
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(MissingPackageError, match=r'onnxruntime-gpu.*"swiftvr-trt\[gpu\]"'):
        Restorer.open(bundle, device="cuda")


def test_options_keep_float32_what_it_is() -> None:
    options = ort_cuda.provider_options(2, 0xABC, graphs=False)
    assert (options["device_id"], options["user_compute_stream"], options["use_tf32"]) == ("2", str(0xABC), "0")
    assert all(isinstance(value, str) for value in options.values())
