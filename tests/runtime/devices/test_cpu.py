"""The CPU device: steps over NumPy buffers, cancelling, and what still works after closing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from swiftvr_trt import Cancelled, MachineError, MisuseError, Restorer, StageError
from swiftvr_trt.engines.bundle.manifest import NETWORK_STAGES
from swiftvr_trt.engines.bundle.pixel_formats import RGB48
from swiftvr_trt.export.moving_picture import synthetic_frame
from swiftvr_trt.runtime.devices import cpu
from swiftvr_trt.runtime.devices.cpu import CpuDevice
from swiftvr_trt.runtime.restore.tiled import tiled_bytes
from swiftvr_trt.runtime.stream.buffers import BufferKind, BufferSpec, Forms, View, paired, plan_buffers
from swiftvr_trt.runtime.stream.frames import FrameForm
from swiftvr_trt.runtime.stream.plan import describe_stream
from swiftvr_trt.runtime.stream.program import Clear, Copy, Download, Run, Upload
from swiftvr_trt.runtime.stream.tiles import Tiling
from tests.conftest import BundleFactory

BUFFERS = {name: BufferSpec(BufferKind.LATENTS, (3, 4), "float32") for name in ("a", "b")}


@pytest.fixture
def device(mini_bundle: BundleFactory) -> Iterator[CpuDevice]:
    opened = CpuDevice(mini_bundle(), threads=1)
    yield opened
    opened.close()


def test_buffers_begin_as_zeros(device: CpuDevice) -> None:
    workspace = device.workspace(BUFFERS)
    assert all(not workspace.host(name).any() for name in BUFFERS)
    assert workspace.host("a").shape == (3, 4)
    assert workspace.host("a").dtype == np.float32


def test_a_recording_copies_and_clears_the_slots_of_its_views_at_every_replay(device: CpuDevice) -> None:
    workspace = device.workspace(BUFFERS)
    a, b = workspace.host("a"), workspace.host("b")
    recording = workspace.record(
        [
            Upload(View("a", 0, 3)),
            Copy(View("a", 1, 2), View("b", 0, 2)),
            Clear(View("a", 0, 1)),
            Download(View("b", 0, 3)),
        ]
    )
    for value in (1, 2):
        a[:] = value + np.arange(12, dtype=np.float32).reshape(3, 4)
        expected = a[1:3].copy()
        recording.replay()
        assert np.array_equal(b[:2], expected)
        assert not b[2].any()
        assert not a[0].any()
        assert np.array_equal(a[1:3], expected)


def test_work_is_done_when_submit_returns(device: CpuDevice) -> None:
    workspace = device.workspace(BUFFERS)
    workspace.host("a")[:] = 5
    submission = workspace.record([Copy(View("a", 0, 3), View("b", 0, 3))]).submit()
    assert submission.done()
    assert (workspace.host("b") == 5).all()


def test_cancel_stops_every_recording(device: CpuDevice) -> None:
    workspace = device.workspace(BUFFERS)
    workspace.host("a")[:] = 5
    recording = workspace.record([Copy(View("a", 0, 3), View("b", 0, 3))])
    workspace.cancel()
    with pytest.raises(Cancelled):
        recording.replay()
    assert not workspace.host("b").any()


def test_a_failing_stage_is_named(device: CpuDevice) -> None:
    wrong = Run("dit", (View("a", 0, 1),), (View("b", 0, 1),))
    with pytest.raises(StageError, match=r"^stage dit failed in ONNX Runtime \(.+\)$"):
        device.workspace(BUFFERS).record([wrong]).replay()


def test_a_closed_device_opens_no_workspace(device: CpuDevice) -> None:
    open_before = device.workspace(BUFFERS)
    device.close()
    device.close()
    with pytest.raises(MisuseError, match=r"the bundle on the CPU is closed; open it again with Restorer.open\(\)"):
        device.workspace(BUFFERS)
    open_before.record([Clear(View("a", 0, 3))]).replay()


def test_too_little_memory_is_reported_with_a_remedy(device: CpuDevice, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise MemoryError("Unable to allocate 9 GiB")

    monkeypatch.setattr(np, "zeros", refuse)
    with pytest.raises(MachineError, match=r"not enough memory .*Unable to allocate 9 GiB.*; close other programs, or"):
        device.workspace(BUFFERS)


def test_recording_on_a_workspace_that_was_closed_meanwhile_is_cancelled(device: CpuDevice) -> None:
    workspace = device.workspace(BUFFERS)
    workspace.close()
    with pytest.raises(Cancelled):
        workspace.record([Clear(View("a", 0, 1))])
    with pytest.raises(Cancelled):
        workspace.host("a")


def test_buffers_that_do_not_fit_into_memory_are_refused(device: CpuDevice, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cpu, "available_memory", lambda: 95)
    with pytest.raises(MachineError, match=r"the buffers of a stream take 0.0 MB of memory, 0.0 MB are free; close"):
        device.workspace(BUFFERS)
    monkeypatch.setattr(cpu, "available_memory", lambda: 96)
    assert device.workspace(BUFFERS).host("a").shape == (3, 4)


def test_a_device_has_an_arena_and_lets_go_of_it_when_it_closes(
    mini_bundle: BundleFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []

    def noted(name: str) -> None:
        real = getattr(cpu, name)

        def call(*args: Any, **options: Any) -> Any:
            done.append(name)
            return real(*args, **options)

        monkeypatch.setattr(cpu, name, call)

    noted("renew_arena")
    noted("load_session")
    opened = CpuDevice(mini_bundle(), threads=1)
    assert done == ["renew_arena", *["load_session"] * len(NETWORK_STAGES)]
    opened.close()
    opened.close()
    assert done[1 + len(NETWORK_STAGES) :] == ["renew_arena"]


@pytest.mark.parametrize("forms", [Forms(), Forms(RGB48, RGB48)])
def test_a_stream_takes_the_memory_that_was_forecast(mini_bundle: BundleFactory, forms: Forms) -> None:
    bundle = mini_bundle()
    size, manifest = bundle.manifest.recipe.resolution, bundle.manifest
    buffers = plan_buffers(manifest, size.height, size.width, forms)
    with closing(CpuDevice(bundle, threads=1)) as opened:
        workspace = opened.workspace(buffers)
        taken = sum(array.nbytes for array in {id(a): a for a in map(workspace.host, buffers)}.values())
    form = FrameForm(forms.take)
    assert tiled_bytes(Tiling.whole(size), manifest, (size.height, size.width), form) == taken
    if forms == Forms():
        assert describe_stream(manifest, size.height, size.width).nbytes == taken


def test_the_frames_of_both_turns_are_in_one_place(device: CpuDevice, monkeypatch: pytest.MonkeyPatch) -> None:
    buffers = {
        paired(kind, side): BufferSpec(kind, (4, 6), "uint8")
        for kind in (BufferKind.FRAMES_IN, BufferKind.FRAMES_OUT, BufferKind.LATENTS)
        for side in (0, 1)
    }
    monkeypatch.setattr(cpu, "available_memory", lambda: 4 * 24)
    workspace = device.workspace(buffers)
    for kind, shared in ((BufferKind.FRAMES_IN, True), (BufferKind.FRAMES_OUT, True), (BufferKind.LATENTS, False)):
        first, second = (workspace.host(paired(kind, side)) for side in (0, 1))
        assert (first is second) == shared


def apart(buffers: Mapping[str, BufferSpec]) -> dict[str, BufferSpec]:
    """Every buffer in a place of its own."""
    return {name: replace(spec, over=None) for name, spec in buffers.items()}


@pytest.mark.parametrize("count", [10, 11])
def test_two_chunks_at_once_do_not_overwrite_each_other(
    mini_bundle: BundleFactory, monkeypatch: pytest.MonkeyPatch, count: int
) -> None:
    """With chunks of 8 frames, streams of these lengths end with two; the last repeats a frame of the first."""
    frames = [synthetic_frame(index, 33, 57) for index in range(count)]
    with Restorer.open(mini_bundle(clip_len=8), threads=1) as restorer:
        together = list(restorer.restore(frames))
        monkeypatch.setattr(cpu, "in_host_memory", apart)
        assert np.array_equal(together, list(restorer.restore(frames)))
