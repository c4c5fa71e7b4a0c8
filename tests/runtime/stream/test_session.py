"""Streams: the same frames come out however they are fed, and streams do not touch each other."""

from __future__ import annotations

import copy
import gc
import itertools
import threading
import weakref
from collections.abc import Generator, Iterator, Mapping, Sequence

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
from swiftvr_trt.engines.bundle.manifest import STAGES
from swiftvr_trt.errors import DeviceError, Moment
from swiftvr_trt.export.verify import synthetic_frame
from swiftvr_trt.runtime.devices.cpu import CpuDevice
from swiftvr_trt.runtime.stream.chunks import next_chunk
from swiftvr_trt.runtime.stream.device import Device, Done, Recording, Workspace
from swiftvr_trt.runtime.stream.program import (
    BufferKind,
    BufferSpec,
    Clear,
    Copy,
    Phase,
    Run,
    Step,
    View,
    chunk_program,
    plan_buffers,
)
from swiftvr_trt.runtime.stream.session import Frame
from tests.conftest import BundleFactory

LANDSCAPE = (33, 57)
PORTRAIT = (57, 33)


def clip(frames: int, size: tuple[int, int] = LANDSCAPE, begin: int = 0) -> list[Frame]:
    return [synthetic_frame(begin + index, *size) for index in range(frames)]


def feed_all(session: Session, frames: list[Frame]) -> list[Frame]:
    return [restored for frame in frames for restored in session.feed(frame)]


@pytest.fixture(scope="module")
def restorer(mini_bundle: BundleFactory) -> Iterator[Restorer]:
    with Restorer.open(mini_bundle(), threads=1) as opened:
        yield opened


@pytest.mark.parametrize("clip_len", [4, 8, 24])
def test_every_count_comes_back_in_full_and_in_order(mini_bundle: BundleFactory, clip_len: int) -> None:
    frames = clip(64)
    with Restorer.open(mini_bundle(clip_len=clip_len), threads=1) as restorer, restorer.session() as session:
        whole = list(restorer.restore(frames))
        for count in range(1, 65):
            restored = feed_all(session, frames[:count]) + session.flush()
            assert len(restored) == count
            assert all(frame.shape == (132, 100, 3) and frame.dtype == np.uint8 for frame in restored)
            # Causal: frames of chunks that are complete in both streams are the same to the last bit.
            settled = max(count - clip_len - 4, 0) // clip_len * clip_len
            assert np.array_equal(restored[:settled], whole[:settled])


class Direct:
    """A device, its workspace and its recordings in one. Prepares nothing: every stage is called with new arrays."""

    def __init__(self, bundle: Bundle) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self._stages = {
            name: onnxruntime.InferenceSession(str(bundle.stage_path(name)), options, ["CPUExecutionProvider"])
            for name in STAGES
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
def test_replayed_chunks_are_those_of_a_direct_run_to_the_byte(mini_bundle: BundleFactory, clip_len: int) -> None:
    """FIRST, MIDDLE and LAST of every length, one stream after another, and across resets."""
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


def test_frames_of_any_size_and_shape_are_taken(restorer: Restorer) -> None:
    for size in (LANDSCAPE, PORTRAIT, (1, 1), (264, 200), (132, 100)):
        assert len(list(restorer.restore(clip(5, size)))) == 5


def test_output_does_not_depend_on_how_frames_are_pushed(restorer: Restorer) -> None:
    frames = clip(30)
    at_once = list(restorer.restore(frames))
    with restorer.session() as session:
        one_by_one = [out for frame in frames for out in session.feed(frame)] + session.flush()
    assert np.array_equal(at_once, one_by_one)


def test_a_moving_picture_comes_out_moving(restorer: Restorer) -> None:
    restored = list(restorer.restore(clip(30)))
    assert all(not np.array_equal(a, b) for a, b in itertools.pairwise(restored))


def test_interleaved_streams_do_not_touch_each_other(restorer: Restorer) -> None:
    first, second = clip(29), clip(29, PORTRAIT, begin=500)
    alone = list(restorer.restore(first)), list(restorer.restore(second))
    together: tuple[list[Frame], list[Frame]] = ([], [])
    with restorer.session() as a, restorer.session() as b:
        for one, other in zip(first, second, strict=True):
            together[0].extend(a.feed(one))
            together[1].extend(b.feed(other))
        together[0].extend(a.flush())
        together[1].extend(b.flush())
    assert np.array_equal(alone[0], together[0])
    assert np.array_equal(alone[1], together[1])


def test_streams_in_two_threads_do_not_touch_each_other(restorer: Restorer) -> None:
    clips = [clip(25), clip(25, begin=300)]
    alone = [list(restorer.restore(frames)) for frames in clips]
    together: list[list[Frame]] = [[], []]

    def run(number: int) -> None:
        together[number] = list(restorer.restore(clips[number]))

    threads = [threading.Thread(target=run, args=(number,)) for number in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert np.array_equal(alone, together)


def test_a_session_begins_anew_after_flush_and_after_reset(restorer: Restorer) -> None:
    frames = clip(21)
    expected = list(restorer.restore(frames))
    with restorer.session() as session:
        for interrupted in (clip(13, begin=50), clip(28, begin=90)):
            for frame in interrupted:
                session.feed(frame)
            session.reset()
            assert np.array_equal([out for frame in frames for out in session.feed(frame)] + session.flush(), expected)
        other_size = [out for frame in clip(3, PORTRAIT) for out in session.feed(frame)] + session.flush()
        assert np.array_equal(other_size, list(restorer.restore(clip(3, PORTRAIT))))


def test_restored_frames_belong_to_the_caller(restorer: Restorer) -> None:
    stream = restorer.restore(clip(40))
    kept = [next(stream) for _ in range(9)]
    copies = [frame.copy() for frame in kept]
    assert len(list(stream)) == 31
    assert np.array_equal(kept, copies)


def test_an_endless_source_is_taken_one_chunk_at_a_time(restorer: Restorer) -> None:
    taken = 0

    def endless() -> Iterator[Frame]:
        nonlocal taken
        for index in itertools.count():
            taken += 1
            yield synthetic_frame(index, *LANDSCAPE)

    stream = restorer.restore(endless())
    next(stream)
    assert taken == 12
    assert isinstance(stream, Generator)
    stream.close()


def test_no_frames_make_no_frames(restorer: Restorer) -> None:
    assert list(restorer.restore([])) == []


def test_non_contiguous_and_read_only_frames_are_taken(restorer: Restorer) -> None:
    frames = clip(4)
    flipped = [np.ascontiguousarray(frame[:, ::-1])[:, ::-1] for frame in frames]
    for frame in flipped:
        frame.flags.writeable = False
    assert np.array_equal(list(restorer.restore(flipped)), list(restorer.restore(frames)))


@pytest.mark.parametrize(
    ("frame", "message"),
    [
        (np.zeros((8, 8, 3), np.float32), "float32 array, expected a NumPy uint8"),
        (np.zeros((8, 8), np.uint8), r"\[8, 8\], expected \[height, width, 3\]"),
        (np.zeros((8, 8, 4), np.uint8), r"\[8, 8, 4\]"),
        (np.zeros((0, 8, 3), np.uint8), r"\[0, 8, 3\]"),
        (np.broadcast_to(np.zeros((1, 1, 3), np.uint8), (1, 20000, 3)), "16384"),
        ("frame", "str, expected"),
    ],
)
def test_what_is_no_frame_is_refused(restorer: Restorer, frame: Frame, message: str) -> None:
    with restorer.session() as session, pytest.raises(MediaError, match=message):
        session.feed(frame)


def test_a_frame_of_another_size_is_refused_and_the_stream_goes_on(restorer: Restorer) -> None:
    frames = clip(6)
    with restorer.session() as session:
        out = [o for frame in frames[:3] for o in session.feed(frame)]
        with pytest.raises(MediaError, match="frame 3 is 33x57, the stream began with 57x33"):
            session.feed(synthetic_frame(0, *PORTRAIT))
        out += [o for frame in frames[3:] for o in session.feed(frame)] + session.flush()
    assert np.array_equal(out, list(restorer.restore(frames)))


def test_use_after_close_is_refused(mini_bundle: BundleFactory) -> None:
    restorer = Restorer.open(mini_bundle(), threads=1)
    session = restorer.session()
    session.close()
    session.close()
    with pytest.raises(MisuseError, match="closed"):
        session.feed(clip(1)[0])
    restorer.close()
    restorer.close()
    with pytest.raises(MisuseError, match="closed"):
        restorer.session()


def test_cancel_from_another_thread_ends_a_running_feed(restorer: Restorer) -> None:
    with restorer.session() as session:
        outcome: list[type[BaseException]] = []

        def run() -> None:
            try:
                for index in itertools.count():
                    session.feed(synthetic_frame(index % 40, *LANDSCAPE))
            except Cancelled as error:
                outcome.append(type(error))

        thread = threading.Thread(target=run)
        thread.start()
        session.cancel()
        thread.join(timeout=5)
        assert outcome == [Cancelled]


class FailingAt:
    """A device whose recordings fail at one replay."""

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
                recording.replay()  # half of the chunk is done by then
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
    """A device that raises `error` at the given moment: when a workspace is made, or when steps are recorded."""

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
        (MemoryError(), "internal error: MemoryError: "),
        (KeyError("x"), "internal error: KeyError: 'x'"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_a_device_raises_says_when_it_failed(
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
def test_what_is_not_the_devices_fault_passes_through(
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


def test_every_call_after_cancel_says_so(restorer: Restorer) -> None:
    with restorer.session() as session:
        session.feed(clip(1)[0])
        session.cancel()
        for call in (session.flush, lambda: session.feed(clip(1)[0])):
            with pytest.raises(Cancelled):
                call()


def test_a_stream_beyond_all_memory_is_refused_before_anything_is_allocated(mini_bundle: BundleFactory) -> None:
    with pytest.raises(MisuseError, match=r"needs \d+ GB of buffers"):
        plan_buffers(mini_bundle(clip_len=24).manifest, 16384, 65536)


def test_a_failing_stage_names_itself(device: CpuDevice) -> None:
    buffers = {name: BufferSpec(BufferKind.LATENTS, (1, 4), "float32") for name in ("in", "out")}
    wrong = Run("dit", (View("in", 0, 1),), (View("out", 0, 1),))
    with pytest.raises(StageError, match="stage dit failed in ONNX Runtime"):
        device.workspace(buffers).record([wrong]).replay()
