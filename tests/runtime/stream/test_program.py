"""Programs: each chunk reads what the previous one wrote, and touches nothing else."""

from __future__ import annotations

import pytest

from swiftvr_trt import MisuseError
from swiftvr_trt.engines.bundle.manifest import Manifest
from swiftvr_trt.runtime.stream.chunks import next_chunk
from swiftvr_trt.runtime.stream.program import (
    BufferKind,
    Clear,
    Copy,
    Download,
    Phase,
    Run,
    Step,
    Upload,
    View,
    chunk_program,
    clear_program,
    plan_buffers,
)
from tests.conftest import BundleFactory

CLIP_LEN = 8


@pytest.fixture(scope="module")
def manifest(mini_bundle: BundleFactory) -> Manifest:
    return mini_bundle(clip_len=CLIP_LEN).manifest


def programs(manifest: Manifest, frames: int) -> list[tuple[Step, ...]]:
    result: list[tuple[Step, ...]] = []
    phase, waiting, owed = Phase(), frames, frames
    while chunk := next_chunk(CLIP_LEN, first=not result, waiting=waiting, owed=owed, ended=True):
        steps, phase = chunk_program(manifest, chunk, phase, first=not result)
        result.append(steps)
        waiting, owed = waiting - chunk.frames, owed - chunk.emit
    return result


def reads(step: Step) -> tuple[View, ...]:
    if isinstance(step, Run):
        return step.inputs
    if isinstance(step, Copy):
        return (step.source,)
    return (step.view,) if isinstance(step, Download) else ()


def writes(step: Step) -> tuple[View, ...]:
    if isinstance(step, Run):
        return step.outputs
    if isinstance(step, Copy | Clear):
        return (step.target,)
    return (step.view,) if isinstance(step, Upload) else ()


def slots(view: View) -> list[tuple[str, int]]:
    return [(view.buffer, slot) for slot in range(view.start, view.start + view.count)]


@pytest.mark.parametrize("frames", [1, 9, 10, 11, 12, 13, 20, 21, 27, 28, 29, 45])
def test_every_slot_that_is_read_was_written_before(manifest: Manifest, frames: int) -> None:
    written = {slot for step in clear_program(manifest) for view in writes(step) for slot in slots(view)}
    for steps in programs(manifest, frames):
        for step in steps:
            for view in reads(step):
                assert set(slots(view)) <= written, f"{step} reads what nothing has written"
            written |= {slot for view in writes(step) for slot in slots(view)}


@pytest.mark.parametrize("frames", [1, 12, 28, 45])
def test_no_step_reads_and_writes_the_same_slot(manifest: Manifest, frames: int) -> None:
    for steps in programs(manifest, frames):
        for step in steps:
            touched = [slot for view in (*reads(step), *writes(step)) for slot in slots(view)]
            assert len(touched) == len(set(touched))


def test_every_view_lies_inside_its_buffer(manifest: Manifest) -> None:
    buffers = plan_buffers(manifest, 33, 57)
    for steps in programs(manifest, 45):
        for view in (view for step in steps for view in (*reads(step), *writes(step))):
            assert view.start >= 0
            assert view.count > 0
            assert view.start + view.count <= buffers[view.buffer].shape[0]


def test_last_finds_the_latest_inputs_of_the_chunk_before(manifest: Manifest) -> None:
    # 12 + 8 + 1 frames: LAST makes one latent and takes two from MIDDLE, whose two lie in slots 1 and 2.
    middle, last = programs(manifest, 21)[1:]
    encoded = [step.outputs[0] for step in middle if isinstance(step, Run) and step.stage == "encode"]
    assert [view.start for view in encoded] == [1, 2]
    (copy,) = [step for step in last if isinstance(step, Copy)]
    assert copy == Copy(View(encoded[0].buffer, 1, 2), View(f"latents_{1 - int(encoded[0].buffer[-1])}", 0, 2))


def test_buffers_are_those_of_the_manifest(manifest: Manifest) -> None:
    buffers = plan_buffers(manifest, 33, 57)
    assert buffers["frames_in_0"].shape == (12, 33, 57, 3)
    assert buffers["frames_out_1"].shape == (12, 132, 100, 3)
    assert buffers["latents_0"].shape == (3, 12, 10, 8)
    assert sum(spec.kind is BufferKind.STATE for spec in buffers.values()) == 2 * 9 + 2 * 9


def test_a_stream_beyond_all_memory_is_refused_before_anything_is_allocated(mini_bundle: BundleFactory) -> None:
    with pytest.raises(MisuseError, match=r"needs \d+ GB of buffers"):
        plan_buffers(mini_bundle(clip_len=24).manifest, 16384, 65536)
