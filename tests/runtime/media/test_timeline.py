"""Time stamps and pixel shapes: known answers, no files."""

from __future__ import annotations

from fractions import Fraction

import pytest

from swiftvr_trt.runtime.media.timeline import ClockConverter, Timeline, rescale, scaled_aspect

TICK = Fraction(1, 1000)


def placed(stamps: list[int | None], durations: list[int] | None = None) -> tuple[list[int], Timeline]:
    line = Timeline(TICK, Fraction(25))
    return [
        line.place(pts, length)[0] for pts, length in zip(stamps, durations or [0] * len(stamps), strict=True)
    ], line


def test_uneven_stamps_are_kept() -> None:
    stamps = [-40, 0, 33, 100, 101, 5000]
    result, line = placed([*stamps])
    assert result == stamps
    assert line.repaired == 0


def test_missing_stamps_follow_at_the_rate() -> None:
    assert placed([None, None, 100, None])[0] == [0, 40, 100, 140]


def test_a_missing_stamp_follows_the_duration_before_it() -> None:
    assert placed([0, None], [70, 0])[0] == [0, 70]


def test_missing_durations_become_one_frame() -> None:
    line = Timeline(TICK, Fraction(25))
    assert [line.place(0, 0), line.place(100, None), line.place(200, 7)] == [(0, 40), (100, 40), (200, 7)]


def test_a_repeated_stamp_moves_by_one_tick_and_is_counted() -> None:
    result, line = placed([0, 40, 40, 39, 80])
    assert result == [0, 40, 41, 42, 80]
    assert line.repaired == 2


def test_a_restarted_clock_goes_on_where_it_stopped() -> None:
    result, _ = placed([10_000, 10_040, 0, 40, 80])
    assert result == [10_000, 10_040, 10_080, 10_120, 10_160]


def test_a_step_is_at_least_one_tick() -> None:
    assert Timeline(Fraction(1, 10), Fraction(100)).step == 1


def test_converting_to_a_coarser_clock_keeps_frames_apart() -> None:
    convert = ClockConverter(Fraction(1, 25))
    assert [convert(pts, 40, TICK) for pts in (0, 10, 80, 120)] == [(0, 1), (1, 1), (2, 1), (3, 1)]


def test_converting_to_the_same_clock_changes_nothing() -> None:
    convert = ClockConverter(TICK)
    assert [convert(pts, 33, TICK) for pts in (-7, 0, 33)] == [(-7, 33), (0, 33), (33, 33)]


@pytest.mark.parametrize(("ticks", "expected"), [(0, 0), (1, 0), (2, 1), (3, 1), (-1, 0), (-2, 0), (-3, -1), (-6, -1)])
def test_rescaling_rounds_halves_up(ticks: int, expected: int) -> None:
    assert rescale(ticks, Fraction(1, 4), Fraction(1)) == expected


def test_pixels_stay_square_when_both_sides_grow_alike() -> None:
    assert scaled_aspect(Fraction(1), (320, 240), (1280, 960)) == 1


def test_the_display_aspect_survives_another_shape() -> None:
    aspect = scaled_aspect(Fraction(64, 45), (720, 576), (1920, 1080))
    assert aspect is not None
    assert aspect * 1920 / 1080 == Fraction(64, 45) * 720 / 576


def test_an_unknown_aspect_counts_as_square_pixels() -> None:
    assert scaled_aspect(None, (720, 576), (1440, 1152)) is None
    assert scaled_aspect(Fraction(0), (853, 480), (1280, 720)) is None
    assert scaled_aspect(None, (720, 576), (1920, 1080)) == Fraction(45, 64)


@pytest.mark.parametrize("aspect", [Fraction(99991, 99989), Fraction(99989, 99991)])
def test_an_unwieldy_aspect_fits_into_sixteen_bits(aspect: Fraction) -> None:
    result = scaled_aspect(aspect, (7919, 7907), (7901, 7883))
    exact = aspect * Fraction(7919, 7907) * Fraction(7883, 7901)
    assert result is not None
    assert max(result.numerator, result.denominator) <= 65535
    assert abs(result / exact - 1) < Fraction(1, 10_000)
