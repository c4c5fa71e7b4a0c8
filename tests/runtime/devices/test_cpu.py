"""The CPU device: steps over NumPy buffers, cancelling, and what still works after closing."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from swiftvr_trt import Cancelled, MachineError, MisuseError, StageError
from swiftvr_trt.runtime.devices.cpu import CpuDevice
from swiftvr_trt.runtime.stream.program import BufferKind, BufferSpec, Clear, Copy, Download, Run, Upload, View
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
