"""The memory plan: every buffer has its own bytes, except those that share a place on purpose."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest

from swiftvr_trt.engines.bundle.manifest import Manifest
from swiftvr_trt.runtime.stream.chunks import next_chunk
from swiftvr_trt.runtime.stream.plan import ALIGNMENT, MemoryPlan, aligned, aligned_steps, plan_memory
from swiftvr_trt.runtime.stream.program import BufferKind, Copy, Phase, Run, Step, View, chunk_program
from tests.engines.fakes import fake_manifest


def engine_manifest() -> Manifest:
    """Four stages in three files, as TensorRT builds make them: `dit` and `dit_edge` share one."""
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


def test_the_host_has_the_frames_of_both_sides(plan: MemoryPlan) -> None:
    assert set(plan.host.offsets) == {"frames_in_0", "frames_in_1", "frames_out_0", "frames_out_1"}


def test_weights_count_once_for_each_file_and_the_largest_arena_serves_all(plan: MemoryPlan) -> None:
    assert plan.weight_bytes == 300 + 900 + 50
    assert plan.arena_bytes == aligned(7001)


def test_owners_add_up(plan: MemoryPlan) -> None:
    owners = plan.owners()
    assert sum(owners.values()) == plan.gpu_bytes == plan.weight_bytes + plan.arena_bytes + plan.device.nbytes
    assert 0 <= owners["padding"] < ALIGNMENT * len(plan.buffers)
    latents = [spec.nbytes for spec in plan.buffers.values() if spec.kind in (BufferKind.LATENTS, BufferKind.RESTORED)]
    assert owners["latents"] == sum(latents) == 3 * latents[0]


def test_output_frames_share_the_place_of_input_frames() -> None:
    small, large = (plan_memory(engine_manifest(), side, side) for side in (1, 200))
    for plan in (small, large):
        for turn in (0, 1):
            assert plan.device.offsets[f"frames_out_{turn}"] == plan.device.offsets[f"frames_in_{turn}"]
    restored = small.buffers["frames_out_0"].nbytes
    assert small.buffers["frames_in_0"].nbytes < restored < large.buffers["frames_in_0"].nbytes
    # The place is as large as the larger of the two.
    assert span(small, "frames_out_0")[1] <= small.device.offsets["latents_0"]


def programs(manifest: Manifest) -> list[tuple[Step, ...]]:
    """FIRST, MIDDLE and LAST of a stream of 21 frames in clips of 8."""
    made: list[tuple[Step, ...]] = []
    phase, waiting, owed = Phase(), 21, 21
    while chunk := next_chunk(8, first=not made, waiting=waiting, owed=owed, ended=True):
        steps, phase = chunk_program(manifest, chunk, phase, first=not made)
        made.append(steps)
        waiting, owed = waiting - chunk.frames, owed - chunk.emit
    return made


def begin(plan: MemoryPlan, view: View) -> int:
    return plan.device.offsets[view.buffer] + view.start * plan.buffers[view.buffer].slot_bytes


def test_stages_touch_aligned_addresses_only(plan: MemoryPlan) -> None:
    unaligned = 0
    for steps in programs(engine_manifest()):
        for step in aligned_steps(steps, plan.buffers):
            if isinstance(step, Run):
                assert all(begin(plan, view) % ALIGNMENT == 0 for view in (*step.inputs, *step.outputs))
        for step in steps:
            unaligned += isinstance(step, Run) and any(
                begin(plan, v) % ALIGNMENT for v in (*step.inputs, *step.outputs)
            )
    assert unaligned  # 100x60 is a size whose slots are not aligned


def test_steps_with_staging_do_the_same_as_those_without(plan: MemoryPlan) -> None:
    for steps in programs(engine_manifest()):
        through = aligned_steps(steps, plan.buffers)
        origin: dict[View, View] = {}
        rebuilt: list[Step] = []
        for step in through:
            if isinstance(step, Copy) and plan.buffers[step.target.buffer].kind is BufferKind.STAGING_IN:
                origin[step.target] = step.source
            elif isinstance(step, Copy) and plan.buffers[step.source.buffer].kind is BufferKind.STAGING_OUT:
                run = rebuilt.pop()
                assert isinstance(run, Run)
                assert run.outputs[0] == step.source
                rebuilt.append(replace(run, outputs=(step.target, *run.outputs[1:])))
            elif isinstance(step, Run):
                rebuilt.append(replace(step, inputs=(origin.get(step.inputs[0], step.inputs[0]), *step.inputs[1:])))
            else:
                rebuilt.append(step)
        assert tuple(rebuilt) == steps


def test_sizes_whose_slots_are_aligned_need_no_staging() -> None:
    recipe = replace(fake_manifest().recipe, width=1920, height=1080)
    plan = plan_memory(fake_manifest(recipe), 540, 960)
    assert not {spec.kind for spec in plan.buffers.values()} & {BufferKind.STAGING_IN, BufferKind.STAGING_OUT}
    assert plan.owners()["staging"] == 0
