"""The pipeline alone: when one thread fails, all stop, the first error is raised, and nothing is left behind."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from types import TracebackType

import numpy as np
import pytest

from swiftvr_trt import MediaError, OutputError, Restorer, StageError
from swiftvr_trt.errors import Cancelled, InternalError, MachineError, UnreadableInputError
from swiftvr_trt.export.moving_picture import synthetic_frame
from swiftvr_trt.runtime.media import Colour, CopiedPacket, Item, Picture, SourceInfo, Stamp
from swiftvr_trt.runtime.restore import pipeline
from swiftvr_trt.runtime.restore.pipeline import Progress, restore_media
from swiftvr_trt.runtime.stream.chunks import Chunk
from swiftvr_trt.runtime.stream.open_stream import OpenStream
from tests.conftest import BundleFactory
from tests.patience import PATIENCE_S, wait_until
from tests.shortage import refuse_threads

SECOND = 1.0
STALL_S = 30.0
"""How long a source stalls."""


class ListSource:
    """Pictures and copied packets from a list; `fail_at` raises there, `stall_at` waits there until released."""

    notes: tuple[str, ...] = ()
    shortfall: str | None = None
    damage: tuple[str, ...] = ()

    def __init__(self, frames: int, *, fail_at: int = -1, error: Exception | None = None, stall_at: int = -1) -> None:
        self.info = SourceInfo(
            Path("list"), 57, 33, frames, Fraction(25), Fraction(1, 25), Colour(), None, "a list of pictures"
        )
        self.frames, self.fail_at, self.error, self.stall_at = frames, fail_at, error, stall_at
        self.released = threading.Event()

    def __iter__(self) -> Iterator[Item]:
        for index in range(self.frames):
            if index == self.fail_at and self.error:
                raise self.error
            if index == self.stall_at:
                self.released.wait(STALL_S)
            yield CopiedPacket(1, f"sound {index}")
            yield Picture(synthetic_frame(index, 33, 57), Stamp(index, index * 40, 40, Fraction(1, 1000)))

    def close(self) -> None: ...

    def __enter__(self) -> ListSource:
        return self

    def __exit__(self, *_: object) -> None: ...


class ListSink:
    """Keeps what is written. `fail_at` raises at that picture, or at commit for -2."""

    notes: tuple[str, ...] = ()
    description = "a list"

    def __init__(self, *, fail_at: int = -1, error: Exception | None = None, delay: float = 0.0) -> None:
        self.items: list[Item] = []
        self.committed = self.left = False
        self.fail_at, self.error, self.delay = fail_at, error, delay

    def write(self, item: Item) -> None:
        if isinstance(item, Picture):
            if item.stamp.index == self.fail_at and self.error:
                raise self.error
            time.sleep(self.delay)
        self.items.append(item)

    def commit(self) -> None:
        if self.fail_at == -2 and self.error:
            raise self.error
        self.committed = True

    def __enter__(self) -> ListSink:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.left = True


@pytest.fixture(scope="module")
def restorer(mini_bundle: BundleFactory) -> Iterator[Restorer]:
    with Restorer.open(mini_bundle(), threads=1) as opened:
        yield opened


@contextmanager
def noting_stops() -> Iterator[list[float]]:
    """The times at which runs in the block began to end, by an error in a thread or by an interrupt."""
    stopped: list[float] = []
    with pytest.MonkeyPatch.context() as patch:
        for method in ("_fail", "stop"):
            _note(patch, method, stopped)
        yield stopped


def _note(patch: pytest.MonkeyPatch, method: str, times: list[float]) -> None:
    original = getattr(pipeline._Run, method)

    def noting(run: pipeline._Run, *arguments: object) -> None:
        times.append(time.monotonic())
        original(run, *arguments)

    patch.setattr(pipeline._Run, method, noting)


def no_threads_left() -> bool:
    return not [thread for thread in threading.enumerate() if thread.name.startswith("swiftvr-")]


def test_pictures_keep_their_stamps_and_copied_packets_their_place(restorer: Restorer) -> None:
    sink, seen = ListSink(), list[Progress]()
    with restorer.session() as session:
        done = restore_media(session, ListSource(31), sink, seen.append)
    expected = list(restorer.restore([synthetic_frame(index, 33, 57) for index in range(31)]))
    pictures = [item for item in sink.items if isinstance(item, Picture)]
    assert [item.stamp.pts for item in pictures] == [index * 40 for index in range(31)]
    assert all(np.array_equal(item.pixels, frame) for item, frame in zip(pictures, expected, strict=True))
    assert [type(item) for item in sink.items] == [CopiedPacket, Picture] * 31
    assert sink.committed
    assert (done.read, done.written) == (31, 31)
    assert seen[-1] == done


class SceneList(ListSource):
    """A source in which scenes begin at these pictures."""

    def __init__(self, frames: int, begins: tuple[int, ...]) -> None:
        super().__init__(frames)
        self._begins = begins

    def __iter__(self) -> Iterator[Item]:
        for item in super().__iter__():
            if isinstance(item, Picture) and item.stamp.index in self._begins:
                item = replace(item, stamp=replace(item.stamp, new_scene=True))
            yield item


@pytest.mark.parametrize("begins", [(), (1,), (7,), (12, 13, 21), (29,), tuple(range(1, 30))])
def test_a_scene_is_restored_as_a_video_of_its_own(restorer: Restorer, begins: tuple[int, ...]) -> None:
    sink = ListSink()
    with restorer.session() as session:
        restore_media(session, SceneList(30, begins), sink)
    pictures = [item for item in sink.items if isinstance(item, Picture)]
    assert [picture.stamp.index for picture in pictures] == list(range(30))
    assert [type(item) for item in sink.items] == [CopiedPacket, Picture] * 30
    bounds = (0, *begins, 30)
    expected = [
        frame
        for first, stop in pairwise(bounds)
        for frame in restorer.restore(synthetic_frame(index, 33, 57) for index in range(first, stop))
    ]
    assert all((picture.pixels == frame).all() for picture, frame in zip(pictures, expected, strict=True))


def test_a_session_may_restore_one_file_after_another(restorer: Restorer) -> None:
    sinks = [ListSink(), ListSink()]
    with restorer.session() as session:
        for sink in sinks:
            restore_media(session, ListSource(13), sink)
    first, second = ([item.pixels for item in sink.items if isinstance(item, Picture)] for sink in sinks)
    assert np.array_equal(first, second)


@pytest.mark.parametrize("readable", [0, 1, 12, 29])
def test_what_was_read_before_a_break_is_written(restorer: Restorer, readable: int) -> None:
    """However slow the writer is: the frames that need nothing from behind the break."""
    broken = ListSource(99, fail_at=readable, error=UnreadableInputError("the disk is broken"))
    sink = ListSink(delay=0.01)
    with restorer.session() as session, pytest.raises(UnreadableInputError, match="the disk is broken"):
        restore_media(session, broken, sink)
    with restorer.session() as session:
        expected = [frame for index in range(readable) for frame in session.feed(synthetic_frame(index, 33, 57))]
    pictures = [item.pixels for item in sink.items if isinstance(item, Picture)]
    assert len(pictures) == len(expected)
    assert all(map(np.array_equal, pictures, expected))
    assert not sink.committed
    wait_until(no_threads_left)


@pytest.mark.alone
@pytest.mark.parametrize(
    ("source", "sink", "expected", "message"),
    [
        (ListSource(99, fail_at=14, error=MediaError("frame 14 is rotten")), ListSink(), MediaError, "14 is rotten"),
        (
            ListSource(99, fail_at=14, error=ValueError("odd")),
            ListSink(),
            InternalError,
            "reading failed: ValueError: odd",
        ),
        (ListSource(99), ListSink(fail_at=3, error=OutputError("disk full")), OutputError, "disk full"),
        (ListSource(99), ListSink(fail_at=3, error=KeyError("x")), InternalError, "writing failed: KeyError"),
        (ListSource(20), ListSink(fail_at=-2, error=OutputError("no trailer")), OutputError, "no trailer"),
        (ListSource(10**9), ListSink(fail_at=9, error=OutputError("full"), delay=0.01), OutputError, "full"),
    ],
    ids=["reader", "reader-bug", "writer", "writer-bug", "commit", "endless-source"],
)
def test_a_failing_part_stops_all_within_a_second(
    restorer: Restorer,
    source: ListSource,
    sink: ListSink,
    expected: type[Exception],
    message: str,
) -> None:
    with noting_stops() as stopped, restorer.session() as session, pytest.raises(expected, match=message):
        restore_media(session, source, sink)
    assert time.monotonic() - stopped[0] < SECOND
    assert not sink.committed
    wait_until(no_threads_left)


@pytest.mark.parametrize("name", ["reading", "restoring", "writing"])
@pytest.mark.parametrize(
    ("error", "raised", "message"),
    [(None, MachineError, "not enough memory or processes"), (KeyboardInterrupt("now"), KeyboardInterrupt, "now")],
)
def test_a_thread_that_cannot_be_started_ends_all_with_the_reason(
    restorer: Restorer,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    error: BaseException | None,
    raised: type[BaseException],
    message: str,
) -> None:
    sink = ListSink()
    refuse_threads(monkeypatch, f"swiftvr-{name}", error)
    with restorer.session() as session, pytest.raises(raised, match=message):
        restore_media(session, ListSource(99), sink)
    assert not sink.committed
    wait_until(no_threads_left)


def test_a_stage_that_fails_in_the_third_chunk_ends_all(restorer: Restorer, monkeypatch: pytest.MonkeyPatch) -> None:
    sink = ListSink()
    submit, calls = OpenStream._submit, 0

    def failing(stream: OpenStream, chunk: Chunk) -> None:
        nonlocal calls
        calls += 1
        if calls == 3:
            raise StageError("stage dit failed")
        submit(stream, chunk)

    monkeypatch.setattr(OpenStream, "_submit", failing)
    with restorer.session() as session, pytest.raises(StageError, match="stage dit failed"):
        restore_media(session, ListSource(99), sink)
    assert not sink.committed
    wait_until(no_threads_left)


def test_who_cancels_the_session_ends_the_run(restorer: Restorer) -> None:
    sink = ListSink()

    def cancel(_progress: Progress) -> None:
        session.cancel()

    with restorer.session() as session, pytest.raises(Cancelled):
        restore_media(session, ListSource(10**9), sink, cancel)
    assert not sink.committed
    wait_until(no_threads_left)


@pytest.mark.alone
def test_an_interrupt_ends_the_run_even_when_the_source_stalls(restorer: Restorer) -> None:
    source, sink = ListSource(99, stall_at=5), ListSink()

    def interrupt(_progress: Progress) -> None:
        raise KeyboardInterrupt

    began = time.monotonic()
    with restorer.session() as session, pytest.raises(KeyboardInterrupt):
        restore_media(session, source, sink, interrupt)
    assert time.monotonic() - began < SECOND
    assert not sink.committed
    source.released.set()
    wait_until(no_threads_left)  # the stalled reader ends once it is released


def test_a_slow_writer_holds_the_reader_back(restorer: Restorer) -> None:
    source, sink, lead = ListSource(60), ListSink(delay=0.02), list[int]()
    with restorer.session() as session:
        restore_media(session, source, sink, lambda p: lead.append(p.read - p.written))
    # two queues, one chunk in the session, one coming out of it
    assert max(lead) <= 2 * pipeline._DEPTH + 2 * 12 + 3
    assert sink.committed


def test_an_interrupt_after_the_last_frame_does_not_commit(restorer: Restorer) -> None:
    reached = threading.Event()

    class Waiting(ListSink):
        """Goes on when the interrupt comes, which is soon after the tenth picture."""

        def write(self, item: Item) -> None:
            if isinstance(item, Picture) and item.stamp.index == 12:
                reached.wait(PATIENCE_S)
            super().write(item)

    sink = Waiting(delay=0.05)

    def interrupt(progress: Progress) -> None:
        if progress.written >= 10:
            reached.set()
            raise KeyboardInterrupt

    with restorer.session() as session, pytest.raises(KeyboardInterrupt):
        restore_media(session, ListSource(20), sink, interrupt)
    assert reached.is_set()
    assert not sink.committed


def test_sound_before_the_first_picture_is_written_at_once(restorer: Restorer) -> None:
    class SoundFirst(ListSource):
        def __iter__(self) -> Iterator[Item]:
            yield from (CopiedPacket(1, number) for number in range(500))
            yield from super().__iter__()

    sink = ListSink()
    with restorer.session() as session:
        restore_media(session, SoundFirst(3), sink)
    assert [type(item) for item in sink.items] == [CopiedPacket] * 500 + [CopiedPacket, Picture] * 3


def test_progress_has_a_rate_and_the_time_to_go(restorer: Restorer) -> None:
    assert Progress(read=60, written=50, total=150, elapsed=10.0).rate == 5.0
    assert Progress(5, 0, 150, 0.0).rate == 0.0
    seen: list[Progress] = []
    with restorer.session() as session:
        last = restore_media(session, ListSource(20), ListSink(), seen.append)
    assert (last.written, last.total, last.remaining) == (20, 20, 0.0)
