"""How far stages remember, from small graphs with known answers and from the exported ones."""

from __future__ import annotations

import pytest
from onnx import TensorProto, helper
from onnx_ir import from_proto

from swiftvr_trt.export.graph.reach import state_dependencies, steps_to_forget
from tests.conftest import BundleFactory


@pytest.mark.parametrize(
    ("dependencies", "steps"),
    [
        ({}, 0),
        ({0: set()}, 1),  # a state that is made from the step's input alone
        ({0: set(), 1: {0}}, 2),
        ({0: set(), 1: {0}, 2: {0, 1}}, 3),
        ({0: {1}, 1: set()}, 2),
        ({0: set(), 1: {0}, 2: {0}}, 2),
        ({0: {0}}, None),  # an accumulator
        ({0: {1}, 1: {0}}, None),
        ({0: set(), 1: {2}, 2: {0, 1}}, None),
    ],
)
def test_steps_by_hand(dependencies: dict[int, set[int]], steps: int | None) -> None:
    assert steps_to_forget(dependencies) == steps


def test_dependencies_follow_the_nodes() -> None:
    """y0 = x, y1 = x + s0, y2 = -(s1 + s1) and out = s2: s2 is read, and no state depends on it."""
    nodes = [
        helper.make_node("Identity", ["x"], ["y0"]),
        helper.make_node("Add", ["x", "s0"], ["y1"]),
        helper.make_node("Add", ["s1", "s1"], ["t"]),
        helper.make_node("Neg", ["t"], ["y2"]),
        helper.make_node("Identity", ["s2"], ["out"]),
    ]
    names = ("x", "s0", "s1", "s2", "out", "y0", "y1", "y2")
    values = {name: helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in names}
    graph = helper.make_graph(
        nodes, "g", [values[n] for n in ("x", "s0", "s1", "s2")], [values[n] for n in ("out", "y0", "y1", "y2")]
    )
    model = from_proto(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 23)]))
    found = state_dependencies(model, [("s0", "y0"), ("s1", "y1"), ("s2", "y2")])
    assert found == {0: frozenset(), 1: {0}, 2: {1}}
    assert steps_to_forget(found) == 3


def test_exported_stages_say_how_far_they_remember(mini_bundle: BundleFactory) -> None:
    """Nine MemBlocks in a row, and each needs the one before it: at most nine steps."""
    reach = {stage.name: stage.reach for stage in mini_bundle().manifest.stages}
    assert {name: steps for name, steps in reach.items() if steps} == {"encode": 9, "decode": 9}
    assert {"take_rgb24", "take_p010", "give_rgb24", "dit", "dit_edge"} < reach.keys()


def test_values_without_a_name_or_with_the_same_one_are_told_apart() -> None:
    """y0 = -x, y1 = -s0, through values that all have the same name until the graph is saved."""
    inner = [helper.make_node("Neg", ["x"], ["a"]), helper.make_node("Neg", ["s0"], ["b"])]
    outer = [helper.make_node("Identity", ["a"], ["y0"]), helper.make_node("Identity", ["b"], ["y1"])]
    values = {
        name: helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in ("x", "s0", "s1", "y0", "y1")
    }
    graph = helper.make_graph(
        inner + outer, "g", [values[n] for n in ("x", "s0", "s1")], [values[n] for n in ("y0", "y1")]
    )
    for name in (None, "same"):
        model = from_proto(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 23)]))
        for node in list(model.graph)[:2]:
            node.outputs[0].name = name
        assert state_dependencies(model, [("s0", "y0"), ("s1", "y1")]) == {0: frozenset(), 1: {0}}
