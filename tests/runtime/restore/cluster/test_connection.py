"""What a connection makes of Ray's answers. With Ray itself: test_on_cluster.py."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from swiftvr_trt.runtime.restore.cluster.address import ClusterOptions
from swiftvr_trt.runtime.restore.cluster.connection import Connection
from swiftvr_trt.runtime.restore.cluster.messages import Connect, Connected
from swiftvr_trt.runtime.restore.restorer import OpenOptions


def node(name: str, alive: bool = True, **resources: float) -> dict[str, Any]:
    return {"NodeManagerHostname": name, "Alive": alive, "Resources": resources}


def connection(ray: Any, *, gpu: bool = False) -> Connection:
    ray.exceptions = SimpleNamespace(RayError=RuntimeError)
    return Connection(Connect(ClusterOptions("auto"), OpenOptions(), gpu), ray, None)


@pytest.mark.parametrize(
    ("gpu", "found"), [(False, Connected(("a", "b"), 3, unused_gpus=4)), (True, Connected(("b",), 4))]
)
def test_nodes_are_described_by_what_is_used_of_them(gpu: bool, found: Connected) -> None:
    nodes = [node("a", CPU=4.0), node("b", CPU=8.0, GPU=4.0), node("c", alive=False, CPU=8.0, GPU=8.0)]
    assert connection(SimpleNamespace(nodes=lambda: nodes), gpu=gpu).described == found


@pytest.mark.parametrize("there", [(), (3,), (3, 1, 0)])
def test_all_answers_that_are_there_come_at_once(there: tuple[int, ...]) -> None:
    def wait(references: list[int], num_returns: int, timeout: float, fetch_local: bool) -> tuple[list[int], list[int]]:
        assert not fetch_local
        assert timeout == (5.0 if num_returns == 1 and len(references) == 5 else 0)
        found = [reference for reference in there if reference in references][:num_returns]
        return found, [reference for reference in references if reference not in found]

    found = connection(SimpleNamespace(nodes=lambda: [], wait=wait)).ready([0, 1, 2, 3, 4], 5.0)
    assert found == list(there)
