"""The order in which frames leave, with a stand-in for the network whose delay is known."""

from __future__ import annotations

import time
from dataclasses import replace
from fractions import Fraction
from itertools import pairwise
from typing import Any

import numpy as np

from swiftvr_trt.runtime.media import Picture, Stamp
from swiftvr_trt.runtime.restore.live.backlog import Backlog
from swiftvr_trt.runtime.restore.live.counts import LiveStatistics
from swiftvr_trt.runtime.restore.live.items import Intake, LiveCut, LiveFrame, LiveItem, LiveSound
from swiftvr_trt.runtime.restore.live.restoring import LiveRestoring, RestoringPlan
from swiftvr_trt.runtime.stream.frames import RGB

from .lab import CLOCK, STEP


class ThreeBehind:
    """Gives each frame back three frames later, one brighter; larger ones are refused until `flush`."""

    def __init__(self) -> None:
        self.inside: list[Any] = []
        self.resets = self.flushes = 0

    def fit(self, frame: Any) -> Any:
        return frame

    def feed(self, frame: Any) -> list[Any]:
        assert all(each.shape == frame.shape for each in self.inside)
        self.inside.append(frame)
        return [self.inside.pop(0) + 1] if len(self.inside) > 3 else []

    def flush(self) -> list[Any]:
        self.flushes += 1
        inside, self.inside = self.inside, []
        return [each + 1 for each in inside]

    def reset(self) -> None:
        self.resets += 1
        self.inside = []


def frame(number: int, age: float = 0.0, size: int = 4) -> LiveFrame:
    pixels = np.full((size, size, 3), number, np.uint8)
    return LiveFrame(Picture(pixels, Stamp(number, number * STEP, STEP, CLOCK)), time.monotonic() - age)


def run(
    items: list[LiveItem], when_late: str = "drop", quiet_s: float = 60.0, then: list[LiveItem | None] | None = None
) -> tuple[list[Any], ThreeBehind, LiveStatistics]:
    """Restore items. then: what comes every eighth of a second after them; None for nothing."""
    statistics, session, out = LiveStatistics(), ThreeBehind(), list[Any]()
    now = [time.monotonic()]
    intake = Intake(Backlog(4, 64, 10.0, when_late), statistics, lambda: now[0])
    plan = RestoringPlan((4, 4), RGB, STEP, CLOCK, True, when_late == "bypass", quiet_s)
    work: Any = session
    restoring = LiveRestoring(intake, work, plan, statistics, out.append)
    for item in items:
        intake.put(item)
    for late in then or ():
        now[0] += 0.125
        if late is not None:
            intake.put(late)
        while (found := intake.take(0.0)) is not None:
            restoring.take(found)
        restoring.take(None)
    intake.end()
    restoring.run()
    return out, session, statistics


def numbers(out: list[Any]) -> list[Any]:
    return [each.stream if isinstance(each, LiveSound) else int(each.picture.pixels[0, 0, 0]) for each in out]


def test_sound_stays_between_its_pictures() -> None:
    items: list[LiveItem] = [LiveSound(900, None), frame(10), LiveSound(901, None), frame(11), frame(12)]
    out, _, _ = run([*items, LiveSound(902, None), *map(frame, range(13, 18))])
    assert numbers(out) == [900, 11, 901, 12, 13, 902, 14, 15, 16, 17, 18]


def test_a_cut_and_another_size_begin_the_network_anew() -> None:
    out, session, _ = run([*map(frame, range(5)), LiveCut(), frame(5), frame(6, size=8), frame(7, size=8)])
    assert numbers(out) == list(range(1, 9))
    assert session.flushes == 3


def test_what_is_late_is_bypassed_together_with_what_waits_for_it() -> None:
    items = [*map(frame, range(8)), *(frame(number, 11.0) for number in range(8, 12)), *map(frame, range(12, 20))]
    out, session, statistics = run([*items[:8], LiveSound(900, None), *items[8:]], "bypass")
    bypassed = [each.picture.stamp.index for each in out if isinstance(each, LiveFrame) and each.bypassed]
    assert bypassed == [5, 6, 7, 8, 9, 10, 11]
    assert [each.picture.stamp.index for each in out if isinstance(each, LiveFrame)] == list(range(20))
    assert [type(each) for each in out][8] is LiveSound
    assert (statistics.report().counts.bypassed, session.resets) == (7, 1)


def test_a_picture_whose_time_has_passed_is_left_out_and_counted() -> None:
    out, _, statistics = run([frame(1), frame(2), frame(2), frame(1), frame(3)])
    assert numbers(out) == [2, 3, 4]
    assert statistics.report().counts.disordered == 2


def test_while_the_source_is_silent_what_is_owed_leaves_and_the_last_picture_is_repeated() -> None:
    out, session, statistics = run([frame(1), frame(2)], quiet_s=0.05, then=[None] * 8)
    assert session.flushes == 1
    assert statistics.report().counts.held == 12  # the first half second is left to a source that comes back
    assert numbers(out) == [2, 3, *[3] * 12]
    stamps = [each.picture.stamp.pts * Fraction(each.picture.stamp.time_base) for each in out]
    assert all(after - before == Fraction(1, 25) for before, after in pairwise(stamps))


def test_captions_are_not_repeated_with_the_last_picture() -> None:
    last = frame(2)
    last = replace(last, picture=replace(last.picture, stamp=replace(last.picture.stamp, captions=b"abc")))
    out, _, _ = run([frame(1), last], quiet_s=0.05, then=[None] * 8)
    assert [each.picture.stamp.captions for each in out] == [None, b"abc", *[None] * 12]


def test_while_only_sound_comes_what_is_owed_leaves_and_the_last_picture_is_repeated() -> None:
    sounds: list[LiveItem | None] = [LiveSound(number, None) for number in range(900, 908)]
    out, _, statistics = run([frame(1), frame(2)], quiet_s=0.05, then=sounds)
    assert statistics.report().counts.held == 12
    assert sorted(numbers(out)) == [2, 3, *[3] * 12, *range(900, 908)]
    assert [each for each in numbers(out) if each >= 900] == list(range(900, 908))
    assert numbers(out)[:4] == [2, 3, 900, 901]


def test_a_source_whose_frames_are_dropped_is_not_silent() -> None:
    now, out, statistics = [0.0], list[Any](), LiveStatistics()
    intake = Intake(Backlog(4, 8, 0.5, "drop"), statistics, lambda: now[0])
    work: Any = ThreeBehind()
    restoring = LiveRestoring(
        intake, work, RestoringPlan((4, 4), RGB, STEP, CLOCK, True, False, 1.0), statistics, out.append
    )
    for number in range(200):  # a frame every 0.04 s, which waits for five seconds before it gets its turn
        now[0] += 0.04
        intake.put(replace(frame(number), arrived=now[0]))
        if number % 125 == 124:
            while (found := intake.take(0.0)) is not None:
                restoring.take(found)
            restoring.take(None)
    assert statistics.report().counts.held == 0
    assert statistics.report().counts.dropped > 100
