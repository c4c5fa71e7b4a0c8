"""The memory plan: every buffer has its own bytes, except those that share a place on purpose."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest

from swiftvr_trt.engines.bundle.manifest import Manifest
from swiftvr_trt.engines.bundle.pixel_formats import NV12, RGB24, YUV420P, YUV420P10, format_of_stage
from swiftvr_trt.runtime.stream.buffers import BufferKind, Forms, View
from swiftvr_trt.runtime.stream.chunks import next_chunk
from swiftvr_trt.runtime.stream.plan import ALIGNMENT, MemoryPlan, aligned, aligned_steps, is_decoding, plan_memory
from swiftvr_trt.runtime.stream.program import Beside, Copy, Phase, Run, Step, chunk_program
from tests.engines.fakes import fake_manifest

YUV = Forms(YUV420P, NV12)


def engine_manifest() -> Manifest:
    """Stages in files as TensorRT builds make them: `dit` and `dit_edge` share one."""
    manifest = fake_manifest()
    arenas = {"encode": 1000, "dit": 5000, "dit_edge": 7001, "decode": 3000}
    files = {stage.name: f"{stage.name}.engine" for stage in manifest.stages} | {"dit_edge": "dit.engine"}
    weights = {"encode": 300, "dit": 900, "dit_edge": 900, "decode": 50}
    stages = tuple(
        replace(s, file=files[s.name], arena_bytes=arenas.get(s.name, 0), weight_bytes=weights.get(s.name, 0))
        for s in manifest.stages
    )
    return replace(manifest, stages=stages)


@pytest.fixture(params=[(48, 64), (1, 1), (200, 300), (22, 34, YUV)], ids=str)
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
    frames = {"frames_in_0", "frames_in_1", "frames_out_0", "frames_out_1"}
    assert {name for name in plan.host.offsets if name.startswith("frames")} == frames
    assert all(plan.buffers[name].kind is BufferKind.COLOUR for name in plan.host.offsets.keys() - frames)


def test_planes_halve_what_crosses_the_bus() -> None:
    """1.5 bytes per pixel at 8 bits instead of 3, in and out, and 3 at 10 bits; device memory does not grow."""
    recipe = replace(fake_manifest().recipe, width=1920, height=1080, clip_len=24)
    manifest, size = fake_manifest(recipe), recipe.resolution
    rgb, planes, deep = (
        plan_memory(manifest, size.height, size.width, Forms(form, form)) for form in (RGB24, YUV420P, YUV420P10)
    )
    pixels = size.height * size.width
    for plan, per_pixel in ((rgb, 3), (planes, 1.5), (deep, 3)):
        for name in ("frames_in_0", "frames_out_0"):
            assert plan.buffers[name].slot_bytes == per_pixel * pixels
    assert 2 * planes.owners()["frames"] == rgb.owners()["frames"] == deep.owners()["frames"]
    before = rgb.device.nbytes - rgb.owners()["pixels"]  # frames were RGB, and pixels stayed in the arena
    assert planes.device.nbytes < before


def test_weights_count_once_for_each_file_and_the_largest_arena_serves_all(plan: MemoryPlan) -> None:
    assert plan.weight_bytes == 300 + 900 + 50
    assert plan.arena_bytes == aligned(7001)


@pytest.mark.parametrize(("height", "width"), [(33, 57), (100, 132)])
def test_overlap_adds_an_arena_and_what_both_sides_would_write(height: int, width: int) -> None:
    manifest = engine_manifest()
    plan, without = (plan_memory(manifest, height, width, overlap=overlap) for overlap in (True, False))
    added = set(plan.buffers) - set(without.buffers)
    assert added == {"decoded", "restored_0", "restored_1"}
    assert plan.arena_bytes == aligned(max(s.arena_bytes for s in manifest.stages if not is_decoding(s.name)))
    assert plan.decoder_arena_bytes == aligned(max(s.arena_bytes for s in manifest.stages if is_decoding(s.name)))
    assert sum(plan.owners().values()) == plan.gpu_bytes
    steps = [step for each in programs(plan, overlap=True) for step in aligned_steps(each, plan.buffers)]
    assert sum(isinstance(step, Beside) for step in steps) == 3
    sides: list[set[str]] = [set(), set()]
    for step in steps:  # of several chunks, so whatever both sides touch must be ordered between chunks
        if isinstance(step, Run):
            views = (*step.inputs, *step.outputs)
            sides[is_decoding(step.stage)] |= {_place(plan, view.buffer) for view in views}
    shared = {place for place in sides[0] & sides[1] if not place.startswith("frames_in")}
    assert shared == {"restored_0", "restored_1"}  # the decoder's input; frames have two turns, as well


def _place(plan: MemoryPlan, buffer: str) -> str:
    return plan.buffers[buffer].over or buffer


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


def programs(plan: MemoryPlan, *, overlap: bool = False) -> list[tuple[Step, ...]]:
    """FIRST, MIDDLE and LAST of a stream of 21 frames in clips of 8."""
    manifest = engine_manifest()
    take, give = (format_of_stage(plan.buffers[f"frames_{side}_0"].stage) for side in ("in", "out"))
    assert take is not None
    assert give is not None
    forms = Forms(take, give)
    made: list[tuple[Step, ...]] = []
    phase, waiting, owed = Phase(), 21, 21
    while chunk := next_chunk(8, first=not made, waiting=waiting, owed=owed, ended=True):
        steps, phase = chunk_program(manifest, chunk, phase, first=not made, forms=forms, overlap=overlap)
        made.append(steps)
        waiting, owed = waiting - chunk.frames, owed - chunk.emit
    return made


def begin(plan: MemoryPlan, view: View) -> int:
    return plan.device.offsets[view.buffer] + view.start * plan.buffers[view.buffer].slot_bytes


def test_stages_touch_aligned_addresses_only(plan: MemoryPlan) -> None:
    unaligned = 0
    for steps in programs(plan):
        for step in aligned_steps(steps, plan.buffers):
            if isinstance(step, Run):
                assert all(begin(plan, view) % ALIGNMENT == 0 for view in (*step.inputs, *step.outputs))
        for step in steps:
            unaligned += isinstance(step, Run) and any(
                begin(plan, v) % ALIGNMENT for v in (*step.inputs, *step.outputs)
            )
    assert unaligned  # 100x60 is a size whose slots are not aligned


def test_steps_with_staging_do_the_same_as_those_without(plan: MemoryPlan) -> None:
    for steps in programs(plan):
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
