"""The form of a graph changes with what it computes, and with nothing else."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx import GraphProto, TensorProto, helper, numpy_helper

from benchmarks.graph_form import digest


def graph(
    operator: str = "Mul",
    *,
    value: str = "a",
    factor: float = 2.0,
    kind: Any = np.float32,
    sides: tuple[int, ...] = (4, 2),
    axis: int = 0,
) -> GraphProto:
    """y = softmax(reshape(x `operator` factor))."""
    nodes = [
        helper.make_node(operator, ["x", "factor"], [value], name=f"node_{value}"),
        helper.make_node("Reshape", [value, "sides"], ["b"]),
        helper.make_node("Softmax", ["b"], ["y"], axis=axis),
    ]
    constants = [
        numpy_helper.from_array(np.full(8, factor, kind), "factor"),
        numpy_helper.from_array(np.array(sides), "sides"),
    ]
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [8]) for name in ("x", "y"))
    return helper.make_graph(nodes, "g", [x], [y], constants)


@pytest.mark.parametrize("same", [{"value": "other"}, {"factor": 3.0}])
def test_names_and_weights_are_no_part_of_the_form(same: dict[str, Any]) -> None:
    assert digest(graph(**same)) == digest(graph())


@pytest.mark.parametrize("change", [{"operator": "Add"}, {"kind": np.float16}, {"sides": (2, 4)}, {"axis": 1}])
def test_operators_types_shapes_and_attributes_are(change: dict[str, Any]) -> None:
    assert digest(graph(**change)) != digest(graph())


def test_so_is_which_value_goes_where() -> None:
    swapped = graph()
    swapped.node[0].input[:] = ["factor", "x"]
    assert digest(swapped) != digest(graph())
