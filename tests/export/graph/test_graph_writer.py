"""Graphs that are written by hand: every declared shape is the one that results."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir
import onnxruntime as ort
import pytest

from swiftvr_trt.export.graph.graph_writer import GraphWriter


def run(graph: GraphWriter, **inputs: np.ndarray) -> np.ndarray:
    proto = onnx_ir.to_proto(graph.model(23))
    onnx.checker.check_model(proto, full_check=True)
    made: np.ndarray = ort.InferenceSession(proto.SerializeToString()).run(None, inputs)[0]
    return made


def test_operators_compute_and_declare_their_shapes() -> None:
    graph = GraphWriter("test")
    x = graph.input("x", "uint8", (2, 4))
    doubled = graph.sub(graph.mul(graph.cast(x, "float32"), 2.0), np.array([[1], [2]], np.float32))
    joined = graph.concatenated([doubled, graph.sliced(doubled, 1, 1, None, (2, 3))], 1)
    assert joined.shape == (2, 7)
    graph.output(graph.clipped(graph.transpose(joined, (1, 0)), 0.0, 9.0), "y")
    given = np.arange(8, dtype=np.uint8).reshape(2, 4)
    wide = given * 2.0 - [[1], [2]]
    assert np.array_equal(run(graph, x=given), np.clip(np.concatenate([wide, wide[:, 1:]], 1).T, 0, 9))


@pytest.mark.parametrize("operator", ["reshaped", "sliced", "cast"])
def test_what_changes_nothing_adds_no_node(operator: str) -> None:
    graph = GraphWriter("test")
    x = graph.input("x", "float32", (2, 4))
    same = {
        "reshaped": lambda: graph.reshaped(x, (2, 4), (2, 4)),
        "sliced": lambda: graph.sliced(x, 0, 0, 2, (2, 4)),
        "cast": lambda: graph.cast(x, "float32"),
    }
    assert same[operator]() is x


def test_a_constant_is_stored_once() -> None:
    graph = GraphWriter("test")
    x = graph.input("x", "float32", (2,))
    graph.output(graph.add(graph.add(x, 3.0), 3.0), "y")
    assert len(graph.model(23).graph.initializers) == 1
