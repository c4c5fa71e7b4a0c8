"""Programs: each chunk reads what the previous one wrote, and touches nothing else."""

from __future__ import annotations

import pytest

from swiftvr_trt.engines.bundle.manifest import Manifest
from swiftvr_trt.engines.bundle.pixel_formats import NV12
from swiftvr_trt.runtime.stream.buffers import LAST_FRAME, RGB_FORMS, Forms, View, plan_buffers
from swiftvr_trt.runtime.stream.chunks import next_chunk
from swiftvr_trt.runtime.stream.program import (
    Clear,
    Copy,
    Download,
    Phase,
    Run,
    Step,
    Upload,
    chunk_program,
    clear_program,
)
from tests.conftest import BundleFactory

CLIP_LEN = 8


@pytest.fixture(scope="module")
def manifest(mini_bundle: BundleFactory) -> Manifest:
    return mini_bundle(clip_len=CLIP_LEN).manifest


def programs(manifest: Manifest, frames: int, forms: Forms = RGB_FORMS) -> list[tuple[Step, ...]]:
    result: list[tuple[Step, ...]] = []
    phase, waiting, owed = Phase(), frames, frames
    while chunk := next_chunk(CLIP_LEN, first=not result, waiting=waiting, owed=owed, ended=True):
        steps, phase = chunk_program(manifest, chunk, phase, first=not result, forms=forms)
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


@pytest.mark.parametrize("frames", [1, 9, 11, 12, 13, 20, 21])
def test_the_end_of_a_stream_repeats_a_copy_of_the_last_surface(manifest: Manifest, frames: int) -> None:
    forms = Forms(NV12, NV12, takes_surfaces=True)
    buffers = plan_buffers(manifest, 34, 58, forms)
    last = buffers[LAST_FRAME.buffer]
    assert (last.nbytes, last.over, last.host) == (buffers["frames_in_0"].slot_bytes, None, False)
    fed = 0
    for with_arrays, steps in zip(programs(manifest, frames), programs(manifest, frames, forms), strict=True):
        (upload,) = [step.view for step in with_arrays if isinstance(step, Upload)]
        copied = [step.target for step in steps if isinstance(step, Copy) and step.source == LAST_FRAME]
        begin = min(upload.count, frames - fed)
        assert copied == [View(upload.buffer, place, 1) for place in range(begin, upload.count)]
        assert not any(isinstance(step, Upload) for step in steps)
        fed += begin


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
