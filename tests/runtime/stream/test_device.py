"""The `Device` protocol: any device runs a session, and a session copes with a device that fails."""

from __future__ import annotations

import copy
import gc
import weakref
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import onnxruntime
import pytest

from swiftvr_trt import (
    Bundle,
    Cancelled,
    MachineError,
    MediaError,
    MisuseError,
    OutputError,
    Restorer,
    Session,
    StageError,
)
from swiftvr_trt.engines.bundle.manifest import stage_names
from swiftvr_trt.errors import DeviceError, Moment, message_of
from swiftvr_trt.export.moving_picture import synthetic_frame
from swiftvr_trt.runtime.devices.cpu import CpuDevice
from swiftvr_trt.runtime.stream.buffers import BufferKind, BufferSpec, View, plan_buffers
from swiftvr_trt.runtime.stream.chunks import next_chunk
from swiftvr_trt.runtime.stream.device import Device, Done, Recording, Workspace
from swiftvr_trt.runtime.stream.program import Clear, Copy, Phase, Run, Step, chunk_program
from tests.conftest import BundleFactory

from .streams import LANDSCAPE, PORTRAIT, clip, feed_all


class Direct:
    """A device, its workspace and its recordings in one. It prepares nothing: every stage gets new arrays."""

    overlap = surfaces = False

    def __init__(self, bundle: Bundle) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self._stages = {
            name: onnxruntime.InferenceSession(str(bundle.stage_path(name)), options, ["CPUExecutionProvider"])
            for name in stage_names(bundle.manifest.recipe)
        }
        self._arrays: dict[str, np.ndarray] = {}
        self._steps: Sequence[Step] = ()

    def workspace(self, buffers: Mapping[str, BufferSpec]) -> Direct:
        made = copy.copy(self)
        made._arrays = {name: np.zeros(spec.shape, spec.dtype) for name, spec in buffers.items()}
        return made

    def host(self, buffer: str) -> np.ndarray:
        return self._arrays[buffer]

    def record(self, steps: Sequence[Step], *, once: bool = False) -> Direct:  # noqa: ARG002
        made = copy.copy(self)
        made._steps = steps
        return made

    def submit(self) -> Done:
        for step in self._steps:
            if isinstance(step, Run):
                stage = self._stages[step.stage]
                given = {spec.name: self._at(v).copy() for spec, v in zip(stage.get_inputs(), step.inputs, strict=True)}
                for view, result in zip(step.outputs, stage.run(None, given), strict=True):
                    self._at(view)[:] = result
            elif isinstance(step, Copy):
                self._at(step.target)[:] = self._at(step.source).copy()
            elif isinstance(step, Clear):
                self._at(step.target)[:] = 0
        return Done()

    def replay(self) -> None:
        self.submit()

    def cancel(self) -> None: ...

    def close(self) -> None: ...

    def _at(self, view: View) -> np.ndarray:
        return self._arrays[view.buffer][view.start : view.start + view.count]


@pytest.mark.parametrize("clip_len", [4, 8])
def test_replayed_chunks_equal_those_of_a_direct_run_to_the_byte(mini_bundle: BundleFactory, clip_len: int) -> None:
    """FIRST, MIDDLE and LAST chunks of every length, in one stream after another, and after resets."""
    bundle = mini_bundle(clip_len=clip_len)
    direct: Device = Direct(bundle)
    with (
        Restorer.open(bundle, threads=1) as restorer,
        restorer.session() as replayed,
        Session(direct, bundle.manifest) as plain,
    ):
        for count in range(1, 3 * clip_len + 7):
            frames = clip(count, begin=count)
            ours, theirs = (feed_all(session, frames) + session.flush() for session in (replayed, plain))
            assert len(ours) == count
            assert np.array_equal(ours, theirs), count
            for session in (replayed, plain):
                feed_all(session, frames[: count // 2])
                session.reset()


class FailingAt:
    """A device that fails halfway through the given replay; or when it allocates, if `fail_allocation`."""

    overlap = surfaces = False

    def __init__(self, device: Device, replay: int) -> None:
        self.device, self.left, self.fail_allocation = device, replay, False

    def workspace(self, buffers: Mapping[str, BufferSpec]) -> Workspace:
        if self.fail_allocation:
            raise MachineError("no memory")
        workspace = self.device.workspace(buffers)
        record = workspace.record

        def failing(steps: Sequence[Step], *, once: bool = False) -> Recording:
            recording = record(steps[: len(steps) // 2] if self.left == 1 else steps, once=once)
            self.left -= 1
            if self.left == 0:
                recording.replay()  # runs half of the chunk
                raise StageError("stage dit failed")
            return recording

        workspace.record = failing  # type: ignore[method-assign]
        return workspace

    def close(self) -> None: ...


@pytest.fixture
def device(mini_bundle: BundleFactory) -> Iterator[CpuDevice]:
    opened = CpuDevice(mini_bundle(), threads=1)
    yield opened
    opened.close()


@pytest.mark.parametrize("chunk", [1, 2])
def test_a_stream_whose_stage_failed_is_refused_until_reset(
    device: CpuDevice, mini_bundle: BundleFactory, restorer: Restorer, chunk: int
) -> None:
    frames = clip(30)
    with Session(FailingAt(device, chunk), mini_bundle().manifest) as session:
        with pytest.raises(StageError, match="stage dit failed"):
            feed_all(session, frames)
        for call in (session.flush, lambda: session.feed(frames[0])):
            with pytest.raises(MisuseError, match=r"reset\(\)"):
                call()
        session.reset()
        assert np.array_equal(feed_all(session, frames) + session.flush(), list(restorer.restore(frames)))


def test_no_memory_for_another_size_leaves_a_usable_session(
    device: CpuDevice, mini_bundle: BundleFactory, restorer: Restorer
) -> None:
    failing = FailingAt(device, 0)
    with Session(failing, mini_bundle().manifest) as session:
        assert len(feed_all(session, clip(13)) + session.flush()) == 13
        failing.fail_allocation = True
        with pytest.raises(MachineError, match="no memory"):
            session.feed(synthetic_frame(0, *PORTRAIT))
        failing.fail_allocation = False
        assert np.array_equal(feed_all(session, clip(13)) + session.flush(), list(restorer.restore(clip(13))))


class Failing:
    """A device that raises `error` when it makes a workspace (BEGIN) or records steps (MIDDLE)."""

    overlap = surfaces = False

    def __init__(self, device: Device, moment: Moment, error: Exception) -> None:
        self.device, self.moment, self.error = device, moment, error

    def workspace(self, buffers: Mapping[str, BufferSpec]) -> Workspace:
        if self.moment is Moment.BEGIN:
            raise self.error
        workspace = self.device.workspace(buffers)
        workspace.record = self._record  # type: ignore[method-assign]
        return workspace

    def _record(self, steps: Sequence[Step], *, once: bool = False) -> Recording:  # noqa: ARG002
        raise self.error

    def close(self) -> None: ...


@pytest.mark.parametrize("moment", Moment)
@pytest.mark.parametrize(
    ("error", "said"),
    [
        (MachineError("no memory"), "no memory"),
        (StageError("stage dit failed"), "stage dit failed"),
        (MemoryError(), message_of(MemoryError())),
        (KeyError("x"), "internal error: KeyError: 'x'"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_device_errors_say_when_they_happened(
    device: CpuDevice, mini_bundle: BundleFactory, moment: Moment, error: Exception, said: str
) -> None:
    with Session(Failing(device, moment, error), mini_bundle().manifest) as session:
        with pytest.raises(DeviceError) as caught:
            feed_all(session, clip(12))
        assert (str(caught.value), caught.value.moment) == (said, moment)
        assert caught.value is error or caught.value.__cause__ is error
        assert isinstance(caught.value, StageError) is (isinstance(error, StageError) or moment is Moment.MIDDLE)


@pytest.mark.parametrize("moment", Moment)
@pytest.mark.parametrize("error", [Cancelled(), MediaError("too large"), OutputError("the trace cannot be written")])
def test_errors_that_are_not_the_devices_pass_through(
    device: CpuDevice, mini_bundle: BundleFactory, moment: Moment, error: Exception
) -> None:
    with Session(Failing(device, moment, error), mini_bundle().manifest) as session:
        with pytest.raises(type(error)) as caught:
            feed_all(session, clip(12))
        assert caught.value is error


def test_a_running_stage_keeps_its_buffers_when_the_session_is_closed(
    device: CpuDevice, mini_bundle: BundleFactory
) -> None:
    manifest = mini_bundle().manifest
    workspace = device.workspace(plan_buffers(manifest, *LANDSCAPE))
    chunk = next_chunk(8, first=True, waiting=12, owed=12, ended=False)
    assert chunk
    recording = workspace.record(chunk_program(manifest, chunk, Phase(), first=True)[0])
    frames_out = weakref.ref(workspace.host("frames_out_0"))
    workspace.close()
    gc.collect()
    assert frames_out() is not None
    recording.replay()


def test_a_failing_stage_names_itself(device: CpuDevice) -> None:
    buffers = {name: BufferSpec(BufferKind.LATENTS, (1, 4), "float32") for name in ("in", "out")}
    wrong = Run("dit", (View("in", 0, 1),), (View("out", 0, 1),))
    with pytest.raises(StageError, match="stage dit failed in ONNX Runtime"):
        device.workspace(buffers).record([wrong]).replay()
