"""Loading graphs into ONNX Runtime: the package, its version, and graphs that are not what the manifest says."""

from __future__ import annotations

import subprocess
import sys
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import pytest

from swiftvr_trt import BundleError, MachineError, MissingPackageError
from swiftvr_trt.runtime.devices import ort
from swiftvr_trt.runtime.devices.ort import (
    import_onnxruntime,
    load_session,
    nodes_off,
    stage_error,
)
from tests.conftest import BundleFactory

onnxruntime = pytest.importorskip("onnxruntime")


@pytest.mark.parametrize(
    ("extra", "words"),
    [("cpu", r"'onnxruntime'.*\[cpu\]"), ("gpu", r"'onnxruntime-gpu'.*\[gpu\]")],
)
def test_a_missing_package_is_named_with_its_extra(monkeypatch: pytest.MonkeyPatch, extra: str, words: str) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(MissingPackageError, match=f"^this needs the package {words}"):
        import_onnxruntime(extra, "this")


@pytest.mark.parametrize(("version", "fits"), [("1.24.9", False), ("1.25.0", True), ("1.100.0", True), ("2.0", True)])
def test_versions_before_1_25_are_refused(monkeypatch: pytest.MonkeyPatch, version: str, fits: bool) -> None:
    monkeypatch.setattr(onnxruntime, "__version__", version)
    if fits:
        assert import_onnxruntime() is onnxruntime
    else:
        with pytest.raises(MachineError, match=r"onnxruntime 1.24.9 is too old, expected 1.25 or newer; pip install -"):
            import_onnxruntime()


def test_a_session_has_the_tensors_of_the_manifest(mini_bundle: BundleFactory) -> None:
    bundle = mini_bundle()
    stage = bundle.manifest.stage("encode")
    session = load_session(bundle, stage, threads=1)
    assert [tensor.name for tensor in session.get_inputs()] == [tensor.name for tensor in stage.inputs]
    assert session.get_providers() == ["CPUExecutionProvider"]
    assert session.get_session_options().intra_op_num_threads == 1


@pytest.mark.parametrize(("limit", "asked", "threads"), [(3, None, 3), (3, 5, 5), (None, None, 0)])
def test_stages_keep_within_the_limit_of_a_container(
    mini_bundle: BundleFactory, monkeypatch: pytest.MonkeyPatch, limit: int | None, asked: int | None, threads: int
) -> None:
    monkeypatch.setattr(ort, "core_limit", lambda: limit)
    bundle = mini_bundle()
    session = load_session(bundle, bundle.manifest.stage("encode"), threads=asked)
    assert session.get_session_options().intra_op_num_threads == threads


@pytest.mark.parametrize("change", ["name", "dtype", "shape", "order"])
def test_a_graph_with_other_tensors_than_the_manifest_says_is_refused(mini_bundle: BundleFactory, change: str) -> None:
    bundle = mini_bundle()
    stage = bundle.manifest.stage("decode")
    first, *others = stage.outputs
    sides = (*first.shape[:-1], (first.shape[-1] or 1) + 1)
    outputs = {
        "name": (replace(first, name="other"), *others),
        "dtype": (replace(first, dtype="float16"), *others),
        "shape": (replace(first, shape=sides), *others),
        "order": (*others, first),
    }[change]
    with pytest.raises(
        BundleError, match=r"decode\S*: its inputs and outputs differ from those in the manifest; rebuild"
    ):
        load_session(bundle, replace(stage, outputs=outputs))


@pytest.mark.parametrize(("says", "refused"), [(8, True), (0, True), (9, False), (40, False), (None, False)])
def test_a_graph_that_remembers_more_than_the_manifest_says_is_refused(
    mini_bundle: BundleFactory, says: int | None, refused: bool
) -> None:
    """A stream that goes on in the middle would begin too late."""
    bundle = mini_bundle()
    stage = replace(bundle.manifest.stage("encode"), reach=says)
    said = rf"encode\S*: remembers 9 steps, the manifest says {says}; rebuild the bundle"
    with pytest.raises(BundleError, match=said) if refused else nullcontext():
        load_session(bundle, stage)


def test_a_file_that_is_not_a_graph_is_refused_in_one_line(
    mini_bundle: BundleFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise RuntimeError("[ONNXRuntimeError] : 7 : INVALID_PROTOBUF\nand a stack trace")

    bundle = mini_bundle()
    monkeypatch.setattr(onnxruntime, "InferenceSession", refuse)
    with pytest.raises(BundleError, match=r"ONNX Runtime \S+ cannot load this stage \(\S+ : 7 : INVALID_PROTOBUF\)$"):
        load_session(bundle, bundle.manifest.stage("dit"))


@pytest.mark.parametrize(
    "error", [MemoryError(), RuntimeError("std::bad_alloc"), RuntimeError("Failed to allocate memory for 8")]
)
def test_short_memory_is_called_so(
    mini_bundle: BundleFactory, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise error

    bundle = mini_bundle()
    monkeypatch.setattr(onnxruntime, "InferenceSession", refuse)
    with pytest.raises(MachineError, match=r"^not enough memory for the graphs of 100x132.*; close other programs"):
        load_session(bundle, bundle.manifest.stage("dit"))
    assert str(stage_error("dit", error)).startswith("stage dit ran out of memory (")


def test_a_graph_that_cannot_fit_is_refused_before_it_is_loaded(
    mini_bundle: BundleFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = mini_bundle()
    monkeypatch.setattr(ort, "available_memory", lambda: 1_000_000)
    with pytest.raises(MachineError, match=r"decode.onnx: needs at least 1\.\d MB of memory, 1.0 MB are free; close"):
        load_session(bundle, bundle.manifest.stage("decode"))


def test_nodes_outside_of_a_provider_are_counted(mini_bundle: BundleFactory) -> None:
    bundle = mini_bundle()
    session = load_session(bundle, bundle.manifest.stage("encode"), [("CPUExecutionProvider", {})])
    everything = nodes_off(session, "CUDAExecutionProvider")
    assert everything
    assert nodes_off(session, "CPUExecutionProvider") == 0
    assert nodes_off(object(), "CPUExecutionProvider") is None


_SHARING = """
import os
import numpy as np
from onnx import TensorProto, helper
from pathlib import Path
from swiftvr_trt.runtime.devices.ort import import_onnxruntime, renew_arena, use_shared_arena

ort = import_onnxruntime()

def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE")

def run_with(inside):
    '''A session that has run, with a tensor of so many bytes inside.'''
    nodes = [helper.make_node("Expand", ["one", "shape"], ["many"]), helper.make_node("ReduceMax", ["many"], ["most"])]
    shape = helper.make_tensor("shape", TensorProto.INT64, [1], [inside // 4])
    one = helper.make_tensor_value_info("one", TensorProto.FLOAT, [1])
    most = helper.make_tensor_value_info("most", TensorProto.FLOAT, [1])
    graph = helper.make_graph(nodes, "large", [one], [most], [shape])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    options = ort.SessionOptions()
    use_shared_arena(options)
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    for _ in range(2):
        session.run(None, {"one": np.ones(1, np.float32)})
    return session

large = 64 << 20
renew_arena()
run_with(4)  # whatever ONNX Runtime itself takes is loaded
before = resident()
sessions = [run_with(large)]
print(resident() - before)
sessions.append(run_with(large))
print(resident() - before)
renew_arena()
sessions.append(run_with(large))  # the arena before is still in use
print(resident() - before)
sessions.clear()
renew_arena()
print(resident() - before)
"""


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="reads the memory from Linux's /proc")
def test_stages_share_an_arena_until_it_is_renewed() -> None:
    """In a process of its own: what else this one frees and takes meanwhile would be counted too."""
    done = subprocess.run([sys.executable, "-c", _SHARING], capture_output=True, text=True, check=True)
    one, two, renewed, freed = map(int, done.stdout.split())
    large, little = 64 << 20, 16 << 20
    assert one >= large
    assert two <= one + little
    assert renewed >= one + large
    assert freed <= little
