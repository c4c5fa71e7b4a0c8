"""Sessions: how frames are fed makes no difference, and streams are independent of each other."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Generator, Iterator, Mapping
from typing import cast

import numpy as np
import pytest

from swiftvr_trt import (
    Cancelled,
    MediaError,
    MisuseError,
    Restorer,
    Session,
)
from swiftvr_trt.export.moving_picture import synthetic_frame
from swiftvr_trt.runtime.devices.cpu import CpuDevice
from swiftvr_trt.runtime.stream.buffers import BufferSpec
from swiftvr_trt.runtime.stream.device import Workspace
from swiftvr_trt.runtime.stream.session import Frame
from tests.conftest import BundleFactory
from tests.patience import PATIENCE_S
from tests.sweeps import everything

from .streams import LANDSCAPE, PORTRAIT, clip, feed_all


@pytest.mark.parametrize("clip_len", [4, 8, 24])
def test_every_count_comes_back_in_full_and_in_order(mini_bundle: BundleFactory, clip_len: int) -> None:
    """Every count around the borders of chunks, and every third one. All of them in a campaign."""
    frames = clip(64)
    borders = {count + by for count in range(4, 60, clip_len) for by in (-1, 0, 1)} if clip_len > 4 else {64}
    counts = range(1, 65) if everything() else sorted({1, 2, 3, *range(4, 65, 3), *borders})
    with Restorer.open(mini_bundle(clip_len=clip_len), threads=1) as restorer, restorer.session() as session:
        whole = list(restorer.restore(frames))
        for count in counts:
            restored = feed_all(session, frames[:count]) + session.flush()
            assert len(restored) == count
            assert all(frame.shape == (132, 100, 3) and frame.dtype == np.uint8 for frame in restored)
            # Causal: frames of chunks that are complete in both streams are identical to the last bit.
            settled = max(count - clip_len - 4, 0) // clip_len * clip_len
            assert np.array_equal(restored[:settled], whole[:settled])


def test_frames_of_any_size_are_accepted(restorer: Restorer) -> None:
    for size in (LANDSCAPE, PORTRAIT, (1, 1), (264, 200), (132, 100)):
        assert len(list(restorer.restore(clip(5, size)))) == 5


def test_output_does_not_depend_on_how_frames_are_fed(restorer: Restorer) -> None:
    frames = clip(30)
    at_once = list(restorer.restore(frames))
    with restorer.session() as session:
        one_by_one = [out for frame in frames for out in session.feed(frame)] + session.flush()
    assert np.array_equal(at_once, one_by_one)


def test_a_moving_picture_comes_out_moving(restorer: Restorer) -> None:
    restored = list(restorer.restore(clip(30)))
    assert all(not np.array_equal(a, b) for a, b in itertools.pairwise(restored))


def test_interleaved_streams_are_independent(restorer: Restorer) -> None:
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


def test_streams_in_two_threads_are_independent(restorer: Restorer) -> None:
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


def test_a_session_starts_over_after_flush_and_after_reset(restorer: Restorer) -> None:
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


def test_an_endless_source_is_read_one_chunk_at_a_time(restorer: Restorer) -> None:
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


def test_draining_returns_what_is_done_and_the_stream_goes_on(restorer: Restorer) -> None:
    frames = clip(30)
    with restorer.session() as session:
        assert session.drain() == []
        begun = feed_all(session, frames[:21]) + session.drain()
        assert session.drain() == []
        restored = begun + feed_all(session, frames[21:]) + session.flush()
    assert np.array_equal(restored, list(restorer.restore(frames)))


def test_no_frames_in_no_frames_out(restorer: Restorer) -> None:
    assert list(restorer.restore([])) == []


def test_non_contiguous_and_read_only_frames_are_accepted(restorer: Restorer) -> None:
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
def test_anything_but_a_frame_is_refused(restorer: Restorer, frame: Frame, message: str) -> None:
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


class ClosedWhileOpening:
    """A device whose first workspace is opened while another thread closes the session."""

    overlap = surfaces = False

    def __init__(self, device: CpuDevice) -> None:
        self.device, self.session, self.closed = device, cast(Session, None), 0

    def workspace(self, buffers: Mapping[str, BufferSpec]) -> Workspace:
        workspace = self.device.workspace(buffers)
        closing = threading.Thread(target=self.session.close)
        closing.start()
        closing.join()
        close = workspace.close

        def counted() -> None:
            self.closed += 1
            close()

        workspace.close = counted  # type: ignore[method-assign]
        return workspace

    def close(self) -> None: ...


def test_a_session_that_is_closed_while_it_opens_a_stream_releases_it(mini_bundle: BundleFactory) -> None:
    bundle = mini_bundle()
    opened = CpuDevice(bundle, threads=1)
    device = ClosedWhileOpening(opened)
    device.session = Session(device, bundle.manifest)
    with pytest.raises(MisuseError, match="this session is closed"):
        device.session.feed(clip(1)[0])
    assert device.closed == 1
    with pytest.raises(MisuseError, match="this session is closed"):
        device.session.feed(clip(1)[0])
    opened.close()


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
        thread.join(PATIENCE_S)
        assert outcome == [Cancelled]


def test_every_call_after_cancel_raises(restorer: Restorer) -> None:
    with restorer.session() as session:
        session.feed(clip(1)[0])
        session.cancel()
        for call in (session.flush, lambda: session.feed(clip(1)[0])):
            with pytest.raises(Cancelled):
                call()
