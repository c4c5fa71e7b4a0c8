"""The thread that reads: what it says, and when it ends."""

from __future__ import annotations

import time
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from swiftvr_trt.errors import Cancelled, MachineError, MediaError, SwiftVRError
from swiftvr_trt.runtime.media.source_options import SourceOptions
from swiftvr_trt.runtime.restore.live.addresses import LiveInputAddress
from swiftvr_trt.runtime.restore.live.backlog import Backlog
from swiftvr_trt.runtime.restore.live.counts import LiveStatistics
from swiftvr_trt.runtime.restore.live.items import Intake, LiveCut, LiveFrame, LiveItem
from swiftvr_trt.runtime.restore.live.live_input import VIDEO, LiveInput, PlaceTakenError, SourceEndedError
from swiftvr_trt.runtime.restore.live.options import LiveOptions
from swiftvr_trt.runtime.restore.live.reading import LiveReader
from tests.patience import PATIENCE_S, wait_until

from .lab import Feed, transport


def test_a_file_is_read_as_fast_as_it_is_played(tmp_path: Path) -> None:
    (tmp_path / "a.ts").write_bytes(transport(15))
    statistics, now, began = LiveStatistics(), [7.0], 7.0
    reader = LiveReader(
        LiveInputAddress.parse(str(tmp_path / "a.ts")), LiveOptions(), SourceOptions(), statistics, print
    )

    def wait(seconds: float) -> bool:
        now[0] += seconds
        return False

    reader._now = lambda: now[0]
    reader._stopped.wait = wait  # type: ignore[method-assign,assignment]
    reader.start()
    assert reader.opened.wait(PATIENCE_S)
    intake = Intake(Backlog[LiveItem](8, 256, 60.0, "drop"), statistics, lambda: now[0])
    reader.go(intake)
    frames = [item for item in taken(intake) if isinstance(item, LiveFrame)]
    assert [round(25 * shown_s(frame)) for frame in frames] == [*range(15)]
    assert all((frame.arrived or 0) - began >= shown_s(frame) - 0.001 for frame in frames)  # never early
    assert statistics.report().counts.gaps == 0


def test_a_packet_that_came_before_anyone_wanted_it_has_no_time_on_the_clock(tmp_path: Path) -> None:
    """`go` between two lines made all later frames come out of order."""
    (tmp_path / "a.ts").write_bytes(transport(5))
    address = LiveInputAddress.parse(str(tmp_path / "a.ts"))
    reader = LiveReader(address, LiveOptions(), SourceOptions(), LiveStatistics(), print)
    reader._keeps, place = False, reader._place

    def wanted_right_after(lane: str, packet: Any, now: float) -> Fraction | None:
        shift = place(lane, packet, now)
        reader._intake = Intake(Backlog[LiveItem](8, 256, 60.0, "drop"), LiveStatistics())
        return shift

    reader._place = wanted_right_after  # type: ignore[method-assign]
    source = LiveInput(address, (), None)
    reader._take_video(source, next(packet for lane, packet in source.packets() if lane == VIDEO), 0.0)
    assert len(reader._arrivals) == 0
    source.close()


@pytest.mark.parametrize(("rate", "gaps"), [(Fraction(25), 3), (Fraction(1), 0)])
def test_a_source_of_one_frame_a_second_is_not_away_between_them(rate: Fraction, gaps: int) -> None:
    statistics, now = LiveStatistics(), [10.0]
    reader = LiveReader(
        LiveInputAddress.parse("tcp://127.0.0.1:9"), LiveOptions(), SourceOptions(), statistics, lambda _line: None
    )
    reader._now, reader._framer.rate = lambda: now[0], rate
    for _ in range(4):
        now[0] += 1.01
        reader._note_gap()
    assert statistics.report().counts.gaps == gaps


def test_a_reader_that_is_stopped_before_anyone_wants_its_frames_ends(tmp_path: Path) -> None:
    (tmp_path / "a.ts").write_bytes(transport(15))
    options = LiveOptions(when_late="wait")
    reader = LiveReader(
        LiveInputAddress.parse(str(tmp_path / "a.ts")), options, SourceOptions(), LiveStatistics(), print
    )
    reader.start()
    assert reader.opened.wait(PATIENCE_S)
    reader.stop()
    reader._thread.join(PATIENCE_S)
    assert not reader._thread.is_alive()
    assert reader.error is None


class SlowIntake(Intake):
    """One in which each item waits for twenty seconds, on a clock that only this moves."""

    def __init__(self, statistics: LiveStatistics) -> None:
        super().__init__(Backlog[LiveItem](8, 1024, 60.0, "wait"), statistics)
        self.now = 0.0

    def put(self, item: LiveItem) -> None:
        self.now += 20.0
        super().put(item)


def shown_s(frame: LiveFrame) -> float:
    return float(frame.picture.stamp.pts * frame.picture.stamp.time_base)


def taken(intake: Intake) -> list[LiveItem]:
    """Everything that is in an intake that has ended."""
    items = []
    deadline = time.monotonic() + PATIENCE_S
    while not intake.is_over:
        assert time.monotonic() < deadline
        found = intake.take(0.1)
        items += [found[0]] if found else []
    return items


@pytest.mark.parametrize("live", [False, True])
def test_a_source_is_not_silent_while_the_reader_waits_for_others(tmp_path: Path, live: bool) -> None:
    (tmp_path / "a.ts").write_bytes(transport(15))
    statistics, lines = LiveStatistics(), list[str]()
    source = Feed([transport(15)]).url if live else str(tmp_path / "a.ts")
    options = LiveOptions(when_late="wait", reconnect=Fraction(0))
    reader = LiveReader(LiveInputAddress.parse(source), options, SourceOptions(), statistics, lines.append)
    intake = SlowIntake(statistics)
    reader._now = lambda: intake.now
    reader.start()
    assert reader.opened.wait(PATIENCE_S)
    intake.now += 20.0  # the bundle loads
    reader.go(intake)
    frames = [item for item in taken(intake) if isinstance(item, LiveFrame)]
    counts = statistics.report().counts
    assert (len(frames), counts.gaps, counts.jumps) == (15, 0, 0)
    assert lines == ([f"{source} is gone: it has ended; connecting again"] if live else [])
    assert (reader.error is None) == (not live)


def test_a_source_is_not_away_while_the_reader_waits_for_others() -> None:
    """A chunk that took longer than `--reconnect` to restore left the source no time to come back."""
    statistics, feed = LiveStatistics(), Feed([transport(15), transport(15)])
    options = LiveOptions(when_late="wait", reconnect=Fraction(10))
    reader = LiveReader(LiveInputAddress.parse(feed.url), options, SourceOptions(), statistics, lambda _line: None)
    intake = SlowIntake(statistics)
    reader._now = lambda: intake.now
    reader.start()
    assert reader.opened.wait(PATIENCE_S)
    reader.go(intake)
    wait_until(lambda: statistics.report().counts.frames_in == 30 or reader.error)
    reader.stop()
    assert reader.error is None
    feed.close()


def test_a_source_that_is_lost_before_its_frames_are_wanted_ends_what_wants_them() -> None:
    statistics = LiveStatistics()
    feed = Feed([transport(20)])
    options = LiveOptions(reconnect=Fraction(0))
    reader = LiveReader(LiveInputAddress.parse(feed.url), options, SourceOptions(), statistics, print)
    reader.start()
    reader._thread.join(PATIENCE_S)
    assert not reader._thread.is_alive()
    intake = Intake(Backlog[LiveItem](8, 64, 60.0, "drop"), statistics)
    reader.go(intake)
    assert intake.is_over
    assert "did not come back in time" in str(reader.error)


def test_a_file_that_breaks_off_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "a.ts").write_bytes(transport(5))
    statistics = LiveStatistics()
    options = LiveOptions(when_late="wait")
    reader = LiveReader(
        LiveInputAddress.parse(str(tmp_path / "a.ts")), options, SourceOptions(), statistics, lambda _line: None
    )
    take = reader._read_packets

    def break_off(source: LiveInput) -> None:
        with pytest.raises(SourceEndedError):
            take(source)
        raise SourceEndedError("it breaks off: Input/output error")

    reader._read_packets = break_off  # type: ignore[method-assign]
    intake = Intake(Backlog[LiveItem](8, 64, 60.0, "wait"), statistics)
    reader.start()
    assert reader.opened.wait(PATIENCE_S)
    reader.go(intake)
    assert sum(isinstance(item, LiveFrame) for item in taken(intake)) == 5
    assert str(reader.error) == "a.ts cannot be read to its end: it breaks off: Input/output error"


class Mute:
    """A source that can be opened, but ends before it has sent anything."""

    rate, has_end, reached = Fraction(25), False, None
    holds_source = False

    def packets(self) -> Any:
        raise SourceEndedError("it has ended", at_end=True)

    def rest(self) -> list[Any]:
        return []

    def close(self) -> None: ...


def test_a_source_that_can_be_opened_but_sends_no_picture_is_still_away() -> None:
    lines, now, waits = list[str](), [0.0], list[float]()
    options = LiveOptions(reconnect=Fraction(30))
    reader = LiveReader(
        LiveInputAddress.parse("tcp://127.0.0.1:9"), options, SourceOptions(), LiveStatistics(), lines.append
    )
    mute: Any = Mute()

    def wait(seconds: float) -> bool:
        waits.append(seconds)
        now[0] += seconds
        return False

    reader.info, reader._now = mute, lambda: now[0]
    reader._connect, reader._stopped.wait = lambda: mute, wait  # type: ignore[method-assign,assignment]
    with pytest.raises(MachineError, match="it has ended; it did not come back in time"):
        reader._run()
    assert len(lines) == 1
    assert 4 <= len(waits) <= 10
    assert waits[3] > 1


@pytest.mark.parametrize(
    ("error", "held", "ends"),
    [
        (PlaceTakenError("another program has this port"), True, True),
        (PlaceTakenError("another program has this port"), False, False),
        (MediaError("it has no video that this FFmpeg decodes"), True, False),
        (MachineError("nobody is there"), True, False),
    ],
)
def test_a_source_whose_connection_cannot_be_ended_is_not_tried_for_ever(
    error: SwiftVRError, held: bool, ends: bool
) -> None:
    """Where the connection before is in nobody's way, the next one may yet come."""
    options, before = LiveOptions(reconnect=Fraction(30)), Mute()
    reader = LiveReader(LiveInputAddress.parse("udp://:5000"), options, SourceOptions(), LiveStatistics(), print)
    tries, now = list[float](), [0.0]

    def wait(seconds: float) -> bool:
        now[0] += seconds
        return False

    def connect() -> Any:
        tries.append(now[0])
        before.holds_source = held and now[0] > 6
        raise error

    mute: Any = before
    reader._before, reader._now = mute, lambda: now[0]
    reader._connect, reader._stopped.wait = connect, wait  # type: ignore[method-assign,assignment]
    said = "udp://:5000 goes on with other streams, which only a new process can read: start again"
    with pytest.raises(MachineError, match=said if ends else "did not come back in time"):
        reader._reconnect(SourceEndedError("why"))
    assert (tries[-1] > 20) == (not ends)


def test_scenes_begin_anew_if_that_is_asked_for(tmp_path: Path) -> None:
    with av.open(str(tmp_path / "a.ts"), "w") as container:
        video: Any = container.add_stream("libx264", rate=25, options={"preset": "ultrafast"})
        video.width, video.height, video.pix_fmt = 48, 32, "yuv420p"
        for light in [30] * 12 + [220] * 12:
            container.mux(video.encode(av.VideoFrame.from_ndarray(np.full((32, 48, 3), light, np.uint8), "rgb24")))
        container.mux(video.encode(None))
    for scene_cut, cuts in (("keep", 0), ("reset", 1)):
        statistics = LiveStatistics()
        options = LiveOptions(when_late="wait", scene_cut=scene_cut)
        reader = LiveReader(
            LiveInputAddress.parse(str(tmp_path / "a.ts")), options, SourceOptions(), statistics, lambda _line: None
        )
        intake = Intake(Backlog[LiveItem](8, 64, 60.0, "wait"), statistics)
        reader.start()
        assert reader.opened.wait(PATIENCE_S)
        reader.go(intake)
        items = taken(intake)
        assert sum(isinstance(item, LiveFrame) for item in items) == 24
        assert sum(isinstance(item, LiveCut) for item in items) == cuts
        assert statistics.report().counts.scenes == cuts


def test_a_cut_is_put_and_not_counted_as_a_frame() -> None:
    statistics = LiveStatistics()
    intake = Intake(Backlog[LiveItem](8, 64, 60.0, "drop"), statistics)
    intake.put(LiveCut())
    intake.end()
    with pytest.raises(Cancelled):
        intake.put(LiveCut())
    assert (len(taken(intake)), statistics.report().counts.frames_in) == (1, 0)
