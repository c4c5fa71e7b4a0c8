"""How far a stage with state remembers, from its graph: the proof that a stream can be continued anywhere.

An output state depends on the input states that its nodes are computed from. If no state depends on itself, directly or
through others, whatever the states held at first is gone after finitely many steps. docs/rewrites.md, "Finite memory",
has the same derivation by hand.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from typing import Any


def state_dependencies(model: Any, states: Sequence[tuple[str, str]]) -> dict[int, frozenset[int]]:
    """For each state, the states of the step before that it may depend on. states: names of input and output tensors.

    model: an `onnx_ir.Model`. Every output of a node is taken to depend on all of the node's inputs, so the answer may
    name too many states and never too few.
    """
    ins, outs = ({value.name: value for value in values} for values in (model.graph.inputs, model.graph.outputs))
    # By the values themselves: inner ones may have no name, or share one, until the graph is saved.
    sources = {ins[before]: frozenset((k,)) for k, (before, _) in enumerate(states)}
    for node in model.graph:  # in topological order
        reached = frozenset().union(*(sources.get(value, frozenset()) for value in node.inputs if value is not None))
        sources.update((value, reached) for value in node.outputs)
    return {k: sources.get(outs[after], frozenset()) for k, (_, after) in enumerate(states)}


def steps_to_forget(dependencies: Mapping[int, Set[int]]) -> int | None:
    """After how many steps no state depends on the states before them. None: never, since a state feeds itself."""
    dirty = set(dependencies)
    for step in range(len(dependencies) + 1):
        if not dirty:
            return step
        dirty = {k for k, sources in dependencies.items() if sources & dirty}
    return None
