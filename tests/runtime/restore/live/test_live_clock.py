"""The clock of a live stream: tables of what sources do, and what holds for all of them."""

from __future__ import annotations

from fractions import Fraction
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swiftvr_trt.runtime.restore.live.live_clock import AHEAD_S, BURST_AHEAD_S, WRAP_S, Break, LiveClock, held_moments

STEP = Fraction(1, 25)


def play(clock: LiveClock, first: Fraction | int, count: int, arrived: float, lane: str = "video") -> list[Fraction]:
    """Place packets from `first` on, each a step after the other and arriving in time. Returns where they went."""
    moments = [first + STEP * number for number in range(count)]
    return [
        time + clock.place(lane, time, STEP, arrived + float(STEP) * number).shift_s
        for number, time in enumerate(moments)
    ]


@pytest.mark.parametrize("first", [0, 5, -1, 1_000_000, Fraction(1, 3)])
def test_time_stamps_are_shifted_once_so_that_the_output_begins_at_zero(first: Fraction) -> None:
    assert play(LiveClock(), first, 50, 7.0) == [STEP * number for number in range(50)]


@pytest.mark.parametrize("to", [3600, 0, -50, Fraction(90_000), Fraction(1, 3), 110, 105])
def test_a_jump_while_packets_keep_coming_leaves_no_gap(to: Fraction) -> None:
    clock = LiveClock()
    play(clock, 100, 50, 0.0)
    placed = clock.place("video", Fraction(to), STEP, 2.0)
    assert to + placed.shift_s == 50 * STEP
    assert placed.broken == Break(False, 0.0, float(to - 102))
    assert play(clock, to + STEP, 9, 2.04) == [STEP * number for number in range(51, 60)]


def test_a_wrap_is_no_jump() -> None:
    clock, last = LiveClock(), WRAP_S - STEP
    play(clock, last - 49 * STEP, 50, 0.0)
    placed = clock.place("video", Fraction(0), STEP, 2.0)
    assert placed.broken is None
    assert placed.shift_s == 50 * STEP
    # The sound still arrives with time stamps from before the wrap, and then after it.
    sound = clock.place("audio", last, STEP, 2.0)
    assert (sound.broken, last + sound.shift_s) == (None, 49 * STEP)


def test_a_source_that_restarts_from_zero_goes_on_after_the_time_that_passed() -> None:
    clock = LiveClock()
    play(clock, 1000, 50, 0.0)
    clock.renew()
    placed = clock.place("video", Fraction(0), STEP, 1.96 + 7)
    assert placed.shift_s == 50 * STEP + 7
    assert placed.broken is not None
    assert (placed.broken.reconnected, placed.broken.gap_s) == (True, 7.0)
    assert placed.broken.jump_s == pytest.approx(-1009)


def test_a_source_that_ran_on_meanwhile_keeps_its_time_stamps() -> None:
    clock = LiveClock()
    play(clock, 1000, 50, 0.0)
    clock.renew()
    placed = clock.place("video", Fraction(1009), STEP, 1.96 + 7)
    assert (placed.shift_s, placed.broken) == (Fraction(-1000), Break(True, 7.0, 0.0))
    clock.renew()
    again = clock.place("video", Fraction(1009) + STEP, STEP, 1.96 + 7.04)
    assert (again.shift_s, again.broken) == (Fraction(-1000), Break(True, 0.0, 0.0))


def test_the_time_for_which_nobody_listened_is_no_gap() -> None:
    clock = LiveClock()
    play(clock, 100, 50, 0.0)
    placed = clock.place("video", Fraction(0), STEP, 9.0, busy_s=7.0)
    assert placed.broken == Break(False, 0.0, -102.0)
    waited = clock.place("video", Fraction(6), STEP, 15.0, busy_s=13.0)  # what was lost meanwhile is no jump
    assert waited.broken is None


@pytest.mark.parametrize(("ahead", "jumps"), [(AHEAD_S, True), (BURST_AHEAD_S, False)])
def test_how_far_ahead_is_a_jump_depends_on_how_packets_arrive(ahead: Fraction, jumps: bool) -> None:
    clock = LiveClock(ahead)
    play(clock, 100, 50, 0.0)
    assert (clock.place("video", Fraction(110), STEP, 2.0).broken is not None) == jumps


def test_a_pause_within_the_clock_of_the_source_is_kept() -> None:
    clock = LiveClock()
    play(clock, 0, 50, 0.0)
    placed = clock.place("video", Fraction(9), STEP, 8.96)
    assert placed.shift_s == 0
    assert placed.broken is None


@pytest.mark.parametrize("to", [Fraction(4000), Fraction(97), Fraction(106)])
def test_sound_that_is_late_stays_in_its_time_and_then_follows_the_picture(to: Fraction) -> None:
    clock = LiveClock()
    for number in range(50):
        time = 100 + STEP * number
        clock.place("video", time, STEP, float(number) / 25)
        clock.place("audio", time - 1, STEP, float(number) / 25)
    if abs(to - 102) < 10 and to > 102:  # as after a reconnection
        clock.renew()
    jumped = clock.place("video", to, STEP, 2.0)
    straggler = clock.place("audio", Fraction(101), STEP, 2.0)
    assert (straggler.shift_s, straggler.broken) == (Fraction(-100), None)
    follows = clock.place("audio", to, STEP, 2.04)
    assert (follows.shift_s, follows.broken) == (jumped.shift_s, None)
    assert clock.place("video", to + STEP, STEP, 2.04).broken is None


def test_sound_that_would_step_back_at_a_jump_moves_everything_after_it() -> None:
    clock = LiveClock()
    play(clock, 0, 50, 0.0)
    play(clock, 0, 60, 0.0, "audio")  # it has come further
    moved = clock.place("video", Fraction(500), STEP, 2.4)
    assert 500 + moved.shift_s == 60 * STEP  # after the sound
    sound = clock.place("audio", Fraction(4998, 10), STEP, 2.4)
    assert Fraction(4998, 10) + sound.shift_s == 60 * STEP
    assert clock.place("video", 500 + STEP, STEP, 2.44).shift_s == sound.shift_s


RECORDINGS = st.lists(
    st.tuples(
        st.fractions(min_value=0, max_value=100_000, max_denominator=90_000),
        st.integers(1, 60),
        st.floats(0, 30),
        st.booleans(),
    ),
    min_size=1,
    max_size=6,
)


@given(RECORDINGS)
def test_whatever_a_source_does_the_output_goes_on_and_every_restart_is_told(
    recordings: list[tuple[Fraction, int, float, bool]],
) -> None:
    """Each recording: where its clock begins, frames, seconds that it is away before, whether it is opened anew."""
    clock, now, out, breaks = LiveClock(), 0.0, [Fraction(-1)], 0
    for first, count, away, anew in recordings:
        now += away
        if anew:
            clock.renew()
        for number in range(count):
            time = first + STEP * number
            placed = clock.place("video", time, STEP, now)
            breaks += placed.broken is not None
            out.append(time + placed.shift_s)
            now += float(STEP)
    steps = [after - before for before, after in pairwise(out[1:])]
    assert all(step > -Fraction(1, 2) for step in steps)  # nothing jumps back by more than disorder
    assert out[-1] <= now + 12 * len(recordings)  # nor far ahead of the time that passes
    assert breaks >= sum(anew for *_, anew in recordings[1:])


@pytest.mark.parametrize(
    ("away", "sent", "due"), [(0.0, 0, 0), (0.5, 0, 0), (0.54, 0, 1), (1.5, 0, 25), (1.5, 25, 0), (1.0, 30, 0)]
)
def test_pictures_are_repeated_in_time_but_half_a_second_behind(away: float, sent: int, due: int) -> None:
    assert held_moments(sent, STEP, away) == due
