"""How far a stage with state remembers, from its graph: the proof that a stream can be continued anywhere.

An output state depends on the input states that its nodes are computed from. If no state depends on itself, directly or
through others, whatever the states held at first is gone after finitely many steps. docs/rewrites.md, "Finite memory",
has the same derivation by hand.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence, Set
from typing import TypeVar

from .manifest import Role, StageSpec

Value = TypeVar("Value", bound=Hashable)
"""A tensor of a graph: its name, or what else tells it from the others."""


def state_names(stage: StageSpec) -> tuple[tuple[str, str], ...]:
    """Names of each state as an input and as an output of a stage."""
    before = (tensor.name for tensor in stage.inputs if tensor.role is Role.STATE_IN)
    after = (tensor.name for tensor in stage.outputs if tensor.role is Role.STATE_OUT)
    return tuple(zip(before, after, strict=True))


def state_dependencies(
    nodes: Iterable[tuple[Iterable[Value], Iterable[Value]]], states: Sequence[tuple[Value, Value]]
) -> dict[int, frozenset[int]]:
    """For each state, the states of the step before that it may depend on.

    nodes: what each one reads and writes, in topological order. states: each as an input and as an output.
    Every output of a node is taken to depend on all of the node's inputs, so the answer may name too many states and
    never too few.
    """
    sources = {before: frozenset((k,)) for k, (before, _) in enumerate(states)}
    for inputs, outputs in nodes if states else ():
        reached = frozenset[int]().union(*(sources.get(value, frozenset()) for value in inputs))
        sources.update((value, reached) for value in outputs)
    return {k: sources.get(after, frozenset()) for k, (_, after) in enumerate(states)}


def steps_to_forget(dependencies: Mapping[int, Set[int]]) -> int | None:
    """After how many steps no state depends on the states before them. None: never, since a state feeds itself."""
    dirty = set(dependencies)
    for step in range(len(dependencies) + 1):
        if not dirty:
            return step
        dirty = {k for k, sources in dependencies.items() if sources & dirty}
    return None
