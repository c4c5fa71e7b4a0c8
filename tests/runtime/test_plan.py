"""The memory plan: every buffer has its own bytes, but for those that share a place on purpose."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest

from swiftvr_trt.engines.manifest import Manifest
from swiftvr_trt.runtime.plan import ALIGNMENT, MemoryPlan, aligned, plan_memory

from ..engines.fakes import fake_manifest


def engine_manifest() -> Manifest:
    """Four stages in three files, as a TensorRT build makes them: both kinds of `dit` share one."""
    manifest = fake_manifest()
    arenas = {"encode": 1000, "dit": 5000, "dit_edge": 7001, "decode": 3000}
    files = {"encode": "encode.engine", "dit": "dit.engine", "dit_edge": "dit.engine", "decode": "decode.engine"}
    weights = {"encode": 300, "dit": 900, "dit_edge": 900, "decode": 50}
    stages = tuple(
        replace(s, file=files[s.name], arena_bytes=arenas[s.name], weight_bytes=weights[s.name])
        for s in manifest.stages
    )
    return replace(manifest, stages=stages)


@pytest.fixture(params=[(48, 64), (1, 1), (200, 300)], ids=str)
def plan(request: pytest.FixtureRequest) -> MemoryPlan:
    return plan_memory(engine_manifest(), *request.param)


def span(plan: MemoryPlan, name: str) -> tuple[int, int]:
    begin = plan.device.offsets[name]
    return begin, begin + plan.buffers[name].nbytes


def test_buffers_overlap_only_where_the_program_allows_it(plan: MemoryPlan) -> None:
    for a, b in itertools.combinations(plan.buffers, 2):
        (a_begin, a_end), (b_begin, b_end) = span(plan, a), span(plan, b)
        overlap = a_begin < b_end and b_begin < a_end
        assert overlap == (plan.buffers[a].over == b or plan.buffers[b].over == a), (a, b)


def test_every_buffer_is_aligned_and_inside(plan: MemoryPlan) -> None:
    for layout in (plan.device, plan.host):
        for name, offset in layout.offsets.items():
            assert offset % ALIGNMENT == 0
            assert offset + plan.buffers[name].nbytes <= layout.nbytes
    assert plan.device.offsets.keys() == plan.buffers.keys()


def test_the_host_has_the_frames_of_both_turns(plan: MemoryPlan) -> None:
    assert set(plan.host.offsets) == {"frames_in_0", "frames_in_1", "frames_out_0", "frames_out_1"}


def test_weights_count_once_for_each_file_and_the_largest_arena_serves_all(plan: MemoryPlan) -> None:
    assert plan.weight_bytes == 300 + 900 + 50
    assert plan.arena_bytes == aligned(7001)


def test_owners_add_up(plan: MemoryPlan) -> None:
    owners = plan.owners()
    assert sum(owners.values()) == plan.gpu_bytes == plan.weight_bytes + plan.arena_bytes + plan.device.nbytes
    assert 0 <= owners["padding"] < ALIGNMENT * len(plan.buffers)


def test_restored_latents_lie_in_the_frames_that_are_encoded_by_then() -> None:
    small, large = (plan_memory(engine_manifest(), side, side) for side in (1, 200))
    for turn in (0, 1):
        assert large.device.offsets[f"restored_{turn}"] == large.device.offsets[f"frames_in_{turn}"]
    restored = large.buffers["restored_0"].nbytes
    assert small.buffers["frames_in_0"].nbytes < restored  # the place is as large as the larger of the two
    assert span(small, "restored_0")[1] <= small.device.offsets["latents_0"]
