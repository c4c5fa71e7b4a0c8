"""What a graph of a stranger may contain: no more than the exporter writes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from swiftvr_trt import Bundle, BundleError, Resolution
from swiftvr_trt.engines.bundle.graph import OPERATORS, vet_graph
from swiftvr_trt.export.build import BuildOptions, build_bundles
from swiftvr_trt.runtime.devices import ort
from tests.conftest import BundleFactory, NarrowBundle

SIZES = {"weights.bin": 4096}
Node = onnx.NodeProto
Change = Callable[[onnx.ModelProto], object]


def model(*nodes: Node, shapes: dict[str, list[int | str]] | None = None, **weights: object) -> onnx.ModelProto:
    """x [2, 3] -> y [2, 3]. shapes: of the tensors in between. weights: int64 constants."""
    graph = helper.make_graph(
        list(nodes),
        "graph",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [2, 3])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [2, 3])],
        [numpy_helper.from_array(np.array(value, np.int64), name) for name, value in weights.items()],
        value_info=[helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in (shapes or {}).items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 23)], ir_version=10)


def node(operator: str, inputs: str, outputs: str, **attributes: Any) -> Node:
    return helper.make_node(operator, inputs.split(), outputs.split(), **attributes)


def vet(made: onnx.ModelProto, path: Path) -> tuple[int, int]:
    path.write_bytes(made.SerializeToString())
    found = vet_graph(path, SIZES)
    return found.weight_bytes, found.working_bytes


def refusal(made: onnx.ModelProto, path: Path) -> str:
    with pytest.raises(BundleError) as caught:
        vet(made, path)
    line = str(caught.value)
    assert line.startswith(f"{path}: not a graph that this package runs (")
    assert line.endswith("); rebuild the bundle")
    assert line.isprintable()
    return line


RELU = node("Relu", "x", "y")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "decode.onnx"


def branch() -> onnx.GraphProto:
    return helper.make_graph([node("Relu", "x", "y")], "inner", [], [])


def external(location: str, offset: object = 0, length: object = 24, *more: tuple[str, str]) -> Change:
    def change(made: onnx.ModelProto) -> None:
        weight = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[2, 3], data_location=TensorProto.EXTERNAL)
        for key, value in (("location", location), ("offset", offset), ("length", length), *more):
            weight.external_data.add(key=key, value=str(value))
        made.graph.initializer.append(weight)

    return change


def function(made: onnx.ModelProto) -> None:
    made.functions.append(helper.make_function("own", "F", ["a"], ["b"], [node("F", "a", "b", domain="own")], []))


def test_memory_is_what_must_exist_at_one_time(path: Path) -> None:
    assert vet(model(RELU), path) == (0, 0)  # x and y are buffers of the stream
    chain = [node("Relu", "x", "a"), node("Relu", "a", "b"), node("Relu", "b", "y")]
    assert vet(model(*chain, shapes={"a": [2, 3], "b": [2, 3]}), path) == (0, 24)
    fork = [node("Relu", "x", "a"), node("Relu", "a", "b"), node("Add", "a b", "y")]
    assert vet(model(*fork, shapes={"a": [2, 3], "b": [2, 3]}), path) == (0, 48)
    views = [node("Relu", "x", "a"), node("Reshape", "a s", "b"), node("Reshape", "b t", "y")]
    assert vet(model(*views, shapes={"a": [2, 3], "b": [6]}, s=[6], t=[2, 3]), path) == (24, 24)


def test_weights_in_a_file_of_the_bundle_are_counted(path: Path) -> None:
    made = model(RELU)
    external("weights.bin", 4072, 24)(made)
    assert vet(made, path) == (24, 0)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda m: m.graph.node.add(op_type="Loop", input=["x"], output=["z"]), "the operator Loop"),
        (lambda m: m.graph.node.append(helper.make_node("If", ["x"], ["z"], then_branch=branch())), "operator If"),
        (lambda m: m.graph.node.append(helper.make_node("Scan", ["x"], ["z"], body=branch())), "operator Scan"),
        (lambda m: m.graph.node.append(helper.make_node("Relu", ["x"], ["z"], body=branch())), "a field 6 "),
        (lambda m: m.graph.node.append(node("ConstantOfShape", "x", "z")), "the operator ConstantOfShape"),
        (lambda m: m.graph.node.append(node("Expand", "x x", "z")), "the operator Expand"),
        (lambda m: m.graph.node.append(node("Tile", "x x", "z")), "the operator Tile"),
        (lambda m: m.graph.node.append(node("Relu", "x", "z", domain="com.microsoft")), "com.microsoft.Relu"),
        (lambda m: m.opset_import.append(helper.make_opsetid("com.microsoft", 1)), "the domain com.microsoft"),
        (function, "a field 25 "),
        (lambda m: m.training_info.add(), "a field 20 "),
        (lambda m: m.metadata_props.add(key="a", value="b"), "a field 14 "),
        (lambda m: m.graph.sparse_initializer.add(), "a field 15 "),
        (external("../weights.bin"), "lies outside the bundle's files"),
        (external("/etc/passwd"), "lies outside the bundle's files"),
        (external("*/_ORT_MEM_ADDR_/*"), "lies outside the bundle's files"),
        (external("weights.bin", 4073), "lies outside the bundle's files"),
        (external("weights.bin", -1), "lies outside the bundle's files"),
        (external("weights.bin", "1_0"), "lies outside the bundle's files"),
        (external("weights.bin", 0, 20), "lies outside the bundle's files"),
        (external("weights.bin", 0, 24, ("checksum", "x")), "lies outside the bundle's files"),
        (external("weights.bin", 0, 24, ("location", "/etc/passwd")), "lies outside the bundle's files"),
        (lambda m: m.graph.initializer.add(name="w", data_type=1, dims=[1 << 39, 1 << 39]), "another size than"),
        (lambda m: m.graph.initializer.add(name="w", data_type=1, dims=[-1]), "a shape out of range"),
        (lambda m: m.graph.initializer.add(name="w", data_type=8, string_data=[b"x"]), "a field 6 "),
        (lambda m: m.graph.initializer.add(name="x", data_type=1, dims=[0]), "declared in two ways"),
        (lambda m: m.graph.initializer.extend([TensorProto(name="w", data_type=1, dims=[0])] * 2), "a weight twice"),
        (lambda m: m.graph.node.append(node("Relu", "x", "z")), "without a shape"),
        (lambda m: m.graph.node.append(node("Relu", "x", "y")), "there already"),
        (lambda m: m.graph.node.append(node("Relu", "nothing", "z")), "reads a tensor that is not there yet"),
        (lambda m: m.graph.node.append(node("Reshape", "", "z")), "reads a tensor that is not there yet"),
        (lambda m: m.graph.node.append(node("Reshape", "x x", "z")), "computes the size of its output"),
        (lambda m: m.graph.node.add(op_type="Relu", name="a\x1b[2Jb", input=["x"], output=["z"]), "printable text"),
        (lambda m: m.graph.node.add(op_type="Re\x1b[2Jlu", input=["x"], output=["z"]), "printable text"),
    ],
)
def test_what_the_exporter_never_writes_is_refused(path: Path, change: Change, said: str) -> None:
    made = model(RELU)
    change(made)
    assert said in refusal(made, path)


@pytest.mark.parametrize(
    ("nodes", "shapes", "said"),
    [
        ([node("Cast", "x", "a", to=1)], {"a": ["height", "width", 12]}, "makes a tensor with free sides"),
        ([], {"a": ["height", "width", 25]}, "no batch of frames"),
        ([], {"a": ["half_height", "width", 49]}, "no batch of frames"),
        ([], {"a": ["half_height", "half_width", 97]}, "no batch of frames"),
        ([], {"a": ["third_height", "width", 1]}, "no batch of frames"),
        ([], {"a": ["height", 3]}, "no batch of frames"),
        ([], {"a": ["height", "height"]}, "no batch of frames"),
        ([node("Relu", "x", "a")], {"a": [1 << 36]}, "GiB of memory"),
    ],
)
def test_shapes_that_no_stage_has_are_refused(
    path: Path, nodes: list[Node], shapes: dict[str, list[int | str]], said: str
) -> None:
    assert said in refusal(model(RELU, *nodes, shapes=shapes), path)


@pytest.mark.parametrize(
    ("nodes", "said"),
    [
        ([node("Relu", "x", "a")], "a Relu works on frames of any size"),
        ([node("Cast", "x", "a", to=1)], "a Cast works on frames of any size"),
        ([helper.make_node("Resize", ["x", "", "s"], ["a"])], "a Resize works on frames of any size"),
    ],
)
def test_frames_of_any_size_are_only_converted_and_resized(path: Path, nodes: list[Node], said: str) -> None:
    made = model(*nodes, shapes={"a": [4, 3, 5, 5]}, s=[1, 1, 5, 5])
    made.graph.input[0].CopyFrom(helper.make_tensor_value_info("x", TensorProto.FLOAT, [4, 3, "height", "width"]))
    assert said in refusal(made, path)


@pytest.mark.parametrize(("states", "reach"), [([], 0), ([("unread", "y")], 1), ([("x", "y")], None)])
def test_a_graph_is_followed_from_state_to_state(path: Path, states: list[tuple[str, str]], reach: int | None) -> None:
    """a = relu(x), y = relu(a)."""
    made = model(node("Relu", "x", "a"), node("Relu", "a", "y"), shapes={"a": [2, 3]})
    path.write_bytes(made.SerializeToString())
    assert vet_graph(path, {}, states).reach == reach


def test_no_operator_hides_another_shape_from_onnx_runtime(path: Path, mini_bundle: BundleFactory) -> None:
    """The declared shapes are those that are taken: a graph that declares smaller ones is refused when it is loaded."""
    pytest.importorskip("onnxruntime")
    made = model(node("Concat", "x x", "a", axis=0), node("Slice", "a s e", "y"), shapes={"a": [2, 3]}, s=[0], e=[2])
    path.write_bytes(made.SerializeToString())
    assert vet_graph(path, {}).working_bytes == 24
    manifest = mini_bundle().manifest
    with pytest.raises(BundleError, match=r"cannot load this stage \(.*ShapeInferenceError"):
        ort.load_session(Bundle(path.parent, manifest), manifest.stage("decode"))


@pytest.fixture(scope="module")
def exported(
    tmp_path_factory: pytest.TempPathFactory,
    mini_checkpoint: Path,
    mini_bundle: BundleFactory,
    narrow_bundle: NarrowBundle,
) -> list[Path]:
    """Graphs in every precision that the exporter writes for ONNX Runtime, with and without rewrites."""
    out = tmp_path_factory.mktemp("exported")
    without = ("modulation", "prompt", "halves", "growth", "pooling", "owned", "order", "logits")
    for precision, names in (("bf16", ()), ("fp32", without)):
        options = BuildOptions(
            mini_checkpoint, (Resolution(100, 132),), "onnx", precision, 8, without=names, output=out / precision
        )
        list(build_bundles(options))
    bundles = (mini_bundle(parity=True), narrow_bundle("fp16"), narrow_bundle("fp8"))
    return sorted(path for place in (*out.iterdir(), *(b.path for b in bundles)) for path in place.glob("*.onnx"))


@pytest.mark.slow
def test_every_graph_that_the_exporter_writes_is_accepted_and_no_operator_is_allowed_in_vain(
    exported: list[Path],
) -> None:
    used: set[str] = set()
    for path in exported:
        assert vet_graph(path, {file.name: file.stat().st_size for file in path.parent.iterdir()}).working_bytes > 0
        used |= {entry.op_type for entry in onnx.load(path, load_external_data=False).graph.node}
    assert used == OPERATORS


def _inferred(path: Path) -> Iterator[tuple[str, bool]]:
    """(operator, whether all its outputs' shapes follow from inputs and constants) of each node of a graph."""
    made = onnx.load(path, load_external_data=False)
    del made.graph.value_info[:]
    graph = onnx.shape_inference.infer_shapes(made, strict_mode=True, data_prop=True).graph
    static = {
        value.name
        for value in (*graph.value_info, *graph.output)
        if all(side.HasField("dim_value") for side in value.type.tensor_type.shape.dim)
    }
    for entry in graph.node:
        yield entry.op_type, static.issuperset(filter(None, entry.output))


@pytest.mark.slow
def test_the_shape_of_every_output_follows_from_inputs_and_constants(exported: list[Path]) -> None:
    for path in exported:
        open_ones = [operator for operator, static in _inferred(path) if not static]
        assert (open_ones == []) is not path.stem.startswith("take")


@pytest.fixture(scope="module")
def decode(mini_bundle: BundleFactory) -> tuple[bytes, dict[str, int]]:
    bundle = mini_bundle()
    return bundle.stage_path("decode").read_bytes(), {file.name: file.size for file in bundle.manifest.files}


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.integers(0, 1 << 20), st.binary(max_size=4)), min_size=1, max_size=4))
def test_a_damaged_graph_is_accepted_or_refused_in_one_line(
    tmp_path: Path, decode: tuple[bytes, dict[str, int]], changes: list[tuple[int, bytes]]
) -> None:
    data, sizes = decode
    for place, bytes_ in changes:
        cut = place % len(data)
        data = data[:cut] + bytes_ + data[cut + len(bytes_) :]
    path = tmp_path / "decode.onnx"
    path.write_bytes(data)
    lines: list[str] = []
    try:
        vet_graph(path, sizes)
    except BundleError as error:
        lines.append(str(error))
    assert all(map(str.isprintable, lines))
