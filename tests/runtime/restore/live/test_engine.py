"""What sources do, from one connection to the pictures that come out."""

from __future__ import annotations

import threading
import time
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import pytest

from swiftvr_trt import Restorer
from swiftvr_trt.errors import MachineError
from swiftvr_trt.runtime.media.source_options import SourceOptions
from swiftvr_trt.runtime.restore.live.addresses import LiveInputAddress
from swiftvr_trt.runtime.restore.live.engine import LiveEngine
from swiftvr_trt.runtime.restore.live.items import LiveFrame, LiveSound
from swiftvr_trt.runtime.restore.live.latency import LatencyPlan
from swiftvr_trt.runtime.restore.live.live_clock import WRAP_S
from swiftvr_trt.runtime.restore.live.options import LiveOptions
from tests.patience import PATIENCE_S

from .lab import Feed, moments, play, run_to_its_end, transport

SOON = Fraction(1, 5)
FRAME = Fraction(1, 25)


def waiting(**options: object) -> LiveOptions:
    """Nothing is lost, and nothing is repeated."""
    return LiveOptions(when_late="wait", on_gap="skip", reconnect=SOON, **options)  # type: ignore[arg-type]


def test_pictures_that_the_decoder_still_holds_come_out_at_the_end_of_each_connection(restorer: Restorer) -> None:
    feed = Feed([transport(30, sound=False, held=2), transport(20, first_s=9, sound=False, held=2)])
    engine, items, _ = play(restorer, feed, waiting())
    times = moments(items)
    assert len(times) == engine.statistics.report().counts.frames_in == 50
    assert all(after > before for before, after in pairwise(times))


def test_every_frame_comes_out_once_with_its_time_and_its_sound(restorer: Restorer) -> None:
    feed = Feed([transport(40, first_s=100)])
    engine = LiveEngine(LiveInputAddress.parse(feed.url), waiting(), SourceOptions())
    reader = engine._reader
    reader._now = lambda: 1.0 if reader._away_since is None else 1e9  # no time passes until the source is gone
    items = run_to_its_end(engine, restorer, feed, waiting())
    assert moments(items) == [FRAME * number for number in range(40)]
    sounds = [each.packet for each in items if isinstance(each, LiveSound)]
    assert len(sounds) > 60
    times = [packet.pts * packet.time_base for packet in sounds]
    assert all(0 < after - before < Fraction(1, 40) for before, after in pairwise(times))
    # Sound travels with its picture: between two pictures lies sound of about their time.
    now = Fraction(0)
    for each in items:
        if isinstance(each, LiveFrame):
            now = each.picture.stamp.pts * each.picture.stamp.time_base
        else:
            assert abs(each.packet.pts * each.packet.time_base - now) < Fraction(3, 10)
    counts = engine.statistics.report().counts
    assert (counts.frames_in, counts.dropped, counts.jumps, counts.gaps) == (40, 0, 0, 0)
    assert engine.statistics.patience_s == 10
    assert str(engine.error).startswith(f"{feed.url} is gone: ")


@pytest.mark.parametrize(
    ("recordings", "jumps"),
    [
        ([(20, (48, 32), 100), (20, (48, 32), 0)], 1),  # it restarts from zero
        ([(20, (48, 32), 100), (20, (48, 32), 3700)], 1),  # it jumps by an hour
        ([(20, (48, 32), WRAP_S - Fraction(1, 2))], 0),  # it wraps around
        ([(20, (48, 32), 5), (16, (96, 64), 0), (20, (48, 32), 0)], 2),  # its size changes, and back
        ([(20, (48, 32), 5), (20, (64, 64), 0)], 1),  # its shape changes
        ([(3, (48, 32), 5), (1, (48, 32), 0), (2, (48, 32), 9)], None),  # it hardly begins
    ],
)
def test_whatever_a_source_does_all_its_frames_come_out_in_order(
    restorer: Restorer, recordings: list[tuple[int, tuple[int, int], Fraction]], jumps: int | None
) -> None:
    feed = Feed([transport(count, size, first, sound=False) for count, size, first in recordings])
    engine, items, lines = play(restorer, feed, waiting())
    times, counts = moments(items), engine.statistics.report().counts
    assert len(times) == sum(count for count, *_ in recordings) == counts.frames_in
    assert all(after > before for before, after in pairwise(times))
    assert {each.picture.pixels.shape for each in items if isinstance(each, LiveFrame)} == {(3, 66, 100)}
    assert counts.reconnects_in == len(recordings) - 1
    assert sum("the source is back" in line for line in lines) == len(recordings) - 1
    assert jumps is None or counts.jumps == jumps


def test_a_jump_within_a_connection_is_told_and_goes_on(restorer: Restorer) -> None:
    joined = transport(24, first_s=50, sound=False) + transport(24, first_s=5000, sound=False)
    engine, items, lines = play(restorer, Feed([joined]), waiting())
    times = moments(items)
    assert len(times) == 48
    assert all(0 < after - before < 1 for before, after in pairwise(times))
    assert engine.statistics.report().counts.jumps == 1
    assert any("the clock of the source jumps" in line for line in lines)


def test_what_is_damaged_on_the_way_is_counted_and_the_rest_comes_out(restorer: Restorer) -> None:
    data = bytearray(transport(60, sound=False, noise=90))
    for place in range(len(data) // 3, len(data) // 2, 188 * 3):
        data[place + 20 : place + 60] = bytes(40)
    engine, items, _ = play(restorer, Feed([bytes(data)]), waiting())
    times, counts = moments(items), engine.statistics.report().counts
    assert counts.packets_damaged + counts.damaged > 0
    assert len(times) == counts.frames_in > 30
    assert all(after > before for before, after in pairwise(times))


@pytest.mark.parametrize("when_late", ["drop", "bypass"])
def test_frames_that_are_late_are_counted_and_the_others_come_out(
    restorer: Restorer, tmp_path: Path, when_late: str
) -> None:
    plan = LatencyPlan(8, 0.0, 0.0, 20)  # every frame is late
    options = LiveOptions(when_late=when_late, on_gap="skip", reconnect=SOON)
    feed = Feed([])
    (tmp_path / "a.ts").write_bytes(transport(30, sound=False))
    feed.url = str(tmp_path / "a.ts")  # of a file that is played, no frame is forgotten before anybody wants it
    engine, items, _ = play(restorer, feed, options, plan)
    counts = engine.statistics.report().counts
    assert len(moments(items)) + counts.dropped == counts.frames_in
    assert counts.bypassed == sum(isinstance(each, LiveFrame) and each.bypassed for each in items)
    if when_late == "bypass":
        assert counts.bypassed > 0
        assert {each.picture.pixels.shape for each in items if isinstance(each, LiveFrame)} == {(3, 66, 100)}
    else:
        assert counts.dropped > 0


def test_the_last_picture_is_repeated_while_the_source_is_away(restorer: Restorer) -> None:
    goes_on = threading.Event()
    feed = Feed([transport(24, sound=False), transport(24, sound=False)], wait=lambda: goes_on.wait(PATIENCE_S))
    options = LiveOptions(when_late="wait", on_gap="hold", reconnect=Fraction(1, 5))

    def come_back() -> None:
        deadline = time.monotonic() + PATIENCE_S
        while engine.statistics.report().counts.held <= 3 and time.monotonic() < deadline:
            time.sleep(0.02)
        goes_on.set()

    engine = LiveEngine(LiveInputAddress.parse(feed.url), options, SourceOptions())
    watching = threading.Thread(target=come_back, daemon=True)
    watching.start()
    items = run_to_its_end(engine, restorer, feed, options)
    watching.join()
    counts = engine.statistics.report().counts
    held = [each for each in items if isinstance(each, LiveFrame) and each.arrived is None]
    assert counts.held == len(held) > 3
    assert all(after > before for before, after in pairwise(moments(items)))
    assert len(items) == counts.frames_in + len(held) - counts.disordered


def test_a_source_without_video_or_without_anybody_is_one_line() -> None:
    feed = Feed([])
    feed.close()
    for url in (feed.url, "tcp://127.0.0.1:1"):
        engine = LiveEngine(LiveInputAddress.parse(url), LiveOptions(), SourceOptions())
        with pytest.raises(MachineError, match=r"cannot open tcp://127\.0\.0\.1:\d+: .*Connection refused; check"):
            engine.open()
        engine.close()
