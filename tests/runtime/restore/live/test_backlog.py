"""Frames that come late: dropped in whole units, evenly, with a bounded delay; or not at all."""

from __future__ import annotations

from fractions import Fraction
from itertools import groupby, pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swiftvr_trt.runtime.restore.live.backlog import Backlog, Fate
from swiftvr_trt.runtime.restore.live.latency import Latency

UNIT, RATE = 8, 25.0


def simulate(
    cost: float, when_late: str, seconds: float = 60.0, late_s: float = 0.5, lead: int = 0
) -> tuple[list[tuple[int, Fate]], Backlog[int], float]:
    """A source of 25 frames a second, and a machine that takes `cost` times as long for a unit.

    Returns the frames that got their turn, the backlog, and the longest wait.
    """
    backlog: Backlog[int] = Backlog(UNIT, 40, late_s, when_late, lead)
    now, arriving, got, longest = 0.0, 0, [], 0.0
    while arriving < seconds * RATE or len(backlog):
        while arriving < seconds * RATE and arriving / RATE <= now and not backlog.is_full:
            backlog.push(arriving, max(arriving / RATE, now if when_late == "wait" else 0), is_frame=True)
            arriving += 1
        popped = backlog.pop(now)
        if popped is None:
            now = max(now, arriving / RATE)
            continue
        got.append(popped)
        if popped[1] is Fate.RESTORE:
            longest = max(longest, now - popped[0] / RATE)
            if sum(fate is Fate.RESTORE for _, fate in got) % UNIT == 0:
                now += cost * UNIT / RATE
    return got, backlog, longest


@pytest.mark.parametrize("cost", [0.5, 0.99])
@pytest.mark.parametrize("when_late", ["drop", "wait", "bypass"])
def test_a_machine_that_is_fast_enough_restores_everything(cost: float, when_late: str) -> None:
    got, backlog, _ = simulate(cost, when_late)
    assert got == [(number, Fate.RESTORE) for number in range(1500)]
    assert backlog.dropped == 0


@pytest.mark.parametrize("cost", [0.5, 0.9])
def test_the_time_that_a_unit_takes_to_arrive_is_not_late(cost: float) -> None:
    plan = Latency.parse("0.5").plan(Fraction(25), UNIT)
    assert plan.late_s < UNIT / RATE
    _, backlog, _ = simulate(cost, "drop", late_s=plan.patience_s)
    assert backlog.dropped == 0


@pytest.mark.parametrize("cost", [1.2, 1.7, 3.3])
def test_what_is_dropped_together_would_be_restored_together(cost: float) -> None:
    got, backlog, _ = simulate(cost, "drop", lead=4)
    numbers = [number for number, _ in got]
    assert backlog.dropped > 0
    holes = [place for place in range(1, len(numbers)) if numbers[place] != numbers[place - 1] + 1]
    assert all((place - 4) % UNIT == 0 for place in holes)  # a chunk ends there


def test_a_unit_ends_at_a_cut_and_the_next_one_is_a_first_one() -> None:
    backlog: Backlog[object] = Backlog(4, 30, 0.5, "drop", 2)
    for number in range(9):
        backlog.push(number, 0.0 if number < 7 else 1.0, is_frame=True)
    backlog.push("cut", 1.0, is_frame=False, is_cut=True)
    for number in range(9, 20):
        backlog.push(number, 1.0 if number < 15 else 0.0, is_frame=True)
    got = [backlog.pop(0.0) for _ in range(6)]  # the first unit, of 6
    assert [each and each[0] for each in got] == [0, 1, 2, 3, 4, 5]
    rest = []
    while (found := backlog.pop(1.5)) is not None:
        rest.append(found[0])
    # 6 is late, and with it all up to the cut; the unit after it is 9 to 14, and then 15 is late with the next three.
    assert rest == ["cut", *range(9, 15)]
    assert backlog.dropped == 3 + 5


@pytest.mark.parametrize("when_late", ["drop", "bypass"])
def test_a_cut_is_never_lost(when_late: str) -> None:
    backlog: Backlog[str] = Backlog(4, 8, 0.5, when_late)
    backlog.push("cut", 0.0, is_frame=False, is_cut=True)
    for _ in range(9000):
        backlog.push("sound", 0.0, is_frame=False)
    found = backlog.pop(0.0)
    assert found is not None
    assert (found[0], backlog.lost) == ("cut", 9001 - 8192)


@pytest.mark.parametrize("cost", [1.2, 1.7, 2.0, 3.3, 8.0])
def test_drop_keeps_the_delay_bounded_and_drops_whole_units_evenly(cost: float) -> None:
    got, backlog, longest = simulate(cost, "drop")
    assert len(got) + backlog.dropped == 1500
    assert longest <= 0.5 + UNIT / RATE  # a unit's last frames come after its first
    units = [number // UNIT for number, _ in got]
    assert all(sum(1 for _ in frames) == UNIT for unit, frames in groupby(units) if unit < 1500 // UNIT)
    assert len(got) == pytest.approx(1500 / cost, rel=0.15)
    kept = [unit for unit, _ in groupby(units)][3:]
    steps = [after - before for before, after in pairwise(kept)]
    assert max(steps) - min(steps) <= 1


@pytest.mark.parametrize("cost", [1.5, 4.0])
def test_wait_loses_nothing(cost: float) -> None:
    got, backlog, _ = simulate(cost, "wait", 10.0)
    assert [number for number, _ in got] == list(range(250))
    assert (backlog.dropped, backlog.lost) == (0, 0)


@pytest.mark.parametrize("cost", [1.5, 4.0])
def test_bypass_keeps_every_frame_that_the_queue_holds(cost: float) -> None:
    got, backlog, longest = simulate(cost, "bypass")
    assert len(got) + backlog.dropped == 1500
    assert {fate for _, fate in got} == {Fate.RESTORE, Fate.BYPASS}
    assert longest <= 0.5 + UNIT / RATE


@given(
    st.lists(st.tuples(st.booleans(), st.booleans(), st.floats(0, 1)), max_size=200),
    st.sampled_from(["drop", "bypass"]),
)
def test_nothing_grows_and_nothing_disappears_untold(events: list[tuple[bool, bool, float]], when_late: str) -> None:
    """Each event: whether something is pushed or popped, whether it is a frame, and the seconds that pass."""
    backlog: Backlog[int] = Backlog(4, 12, 0.5, when_late)
    now, pushed, popped = 0.0, 0, []
    for pushes, is_frame, passes in events:
        now += passes
        if pushes:
            backlog.push(pushed, now, is_frame=is_frame)
            pushed += 1
        elif (found := backlog.pop(now)) is not None:
            popped.append(found[0])
        assert backlog.frames <= 12
    while (found := backlog.pop(now)) is not None:
        popped.append(found[0])
    assert popped == sorted(set(popped))
    assert len(popped) + backlog.dropped + backlog.lost == pushed


def test_packets_of_sound_are_never_late() -> None:
    backlog: Backlog[str] = Backlog(4, 8, 0.5, "drop")
    for number in range(4):
        backlog.push(f"frame {number}", 0.0, is_frame=True)
        backlog.push(f"sound {number}", 0.0, is_frame=False)
    assert [backlog.pop(9.0) for _ in range(5)] == [*((f"sound {n}", Fate.PASS) for n in range(4)), None]
    assert backlog.dropped == 4


def test_a_queue_too_short_for_units_is_refused() -> None:
    with pytest.raises(ValueError, match="expected at least two units of 8 frames"):
        Backlog(8, 15, 1.0, "drop")
