"""How far stages remember, from small graphs with known answers and from the exported ones."""

from __future__ import annotations

import pytest

from swiftvr_trt.engines.bundle.reach import state_dependencies, steps_to_forget
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
    nodes = [(["x"], ["y0"]), (["x", "s0"], ["y1"]), (["s1", "s1"], ["t"]), (["t"], ["y2"]), (["s2"], ["out"])]
    found = state_dependencies(nodes, [("s0", "y0"), ("s1", "y1"), ("s2", "y2")])
    assert found == {0: frozenset(), 1: {0}, 2: {1}}
    assert steps_to_forget(found) == 3


def test_exported_stages_say_how_far_they_remember(mini_bundle: BundleFactory) -> None:
    """Nine MemBlocks in a row, and each needs the one before it: at most nine steps."""
    reach = {stage.name: stage.reach for stage in mini_bundle().manifest.stages}
    assert {name: steps for name, steps in reach.items() if steps} == {"encode": 9, "decode": 9}
    assert {"take_rgb24", "take_p010", "give_rgb24", "dit", "dit_edge"} < reach.keys()
