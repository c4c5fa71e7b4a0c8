"""Loading graphs into ONNX Runtime: the package, its version, and graphs that are not what the manifest says."""

from __future__ import annotations

import sys
from dataclasses import replace

import pytest

from swiftvr_trt import BundleError, MachineError, MissingPackageError
from swiftvr_trt.runtime.devices.ort import import_onnxruntime, load_session
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


def test_a_file_that_is_not_a_graph_is_refused_in_one_line(
    mini_bundle: BundleFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise RuntimeError("[ONNXRuntimeError] : 7 : INVALID_PROTOBUF\nand a stack trace")

    bundle = mini_bundle()
    monkeypatch.setattr(onnxruntime, "InferenceSession", refuse)
    with pytest.raises(BundleError, match=r"ONNX Runtime \S+ cannot load this stage \(\S+ : 7 : INVALID_PROTOBUF\)$"):
        load_session(bundle, bundle.manifest.stage("dit"))
