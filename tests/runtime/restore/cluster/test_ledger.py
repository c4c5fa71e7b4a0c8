"""Who gets which span. Small cases by hand; everything else by simulated clusters."""

from __future__ import annotations

import heapq
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from swiftvr_trt.runtime.restore.cluster.ledger import MAX_TRIES, Ledger, Portion
from swiftvr_trt.runtime.restore.segments.grid import Span


def film(pieces: int) -> tuple[list[Span], int]:
    return [Span(0, None)], pieces - 1


def test_spans_get_shorter_towards_the_end() -> None:
    ledger = Ledger()
    ledger.add(0, "b", *film(12))
    taken = []
    while portion := ledger.take(0, 2):
        taken.append(portion.span)
    assert taken == [Span(0, 3), Span(3, 6), Span(6, 8), Span(8, 9), Span(9, 10), Span(10, 11), Span(11, None)]


def test_only_what_is_missing_is_handed_out() -> None:
    ledger = Ledger()
    ledger.add(0, "b", [Span(1, 2), Span(5, 6), Span(8, 10)], 9)
    spans = [portion.span for _ in range(4) if (portion := ledger.take(0, 9))]
    assert spans == [Span(1, 2), Span(5, 6), Span(8, 9), Span(9, None)]
    assert ledger.take(0, 9) is None


def test_a_file_of_unknown_length_goes_to_one_device() -> None:
    ledger = Ledger()
    ledger.add(0, "b", [Span(3, None)], None)
    assert ledger.take(0, 3) == Portion(0, Span(3, None))
    assert ledger.take(1, 3) is None
    assert ledger.settle(Portion(0, Span(3, None)), [3, 4, 5])
    assert ledger.complete() == [0]


def test_a_device_prefers_the_bundle_that_it_has_open() -> None:
    ledger = Ledger()
    ledger.add(0, "small", *film(1))
    ledger.add(1, "large", *film(1))
    assert ledger.take(0, 2, "large") == Portion(1, Span(0, None))
    assert ledger.take(0, 2, "large") == Portion(0, Span(0, None))


def test_what_a_lost_device_did_not_finish_waits_again() -> None:
    ledger = Ledger()
    ledger.add(0, "b", [Span(0, None)], 3)
    portion = ledger.take(0, 1)
    assert portion == Portion(0, Span(0, 2))
    assert ledger.settle(portion, [0])
    assert ledger.complete() == []
    assert [p.span for _ in range(3) if (p := ledger.take(1, 9))] == [Span(1, 2), Span(2, 3), Span(3, None)]


def test_a_span_that_brings_nothing_back_is_given_up() -> None:
    ledger = Ledger()
    ledger.add(0, "b", *film(1))
    answers = []
    for device in range(MAX_TRIES):
        portion = ledger.take(device, 1)
        assert portion is not None
        answers.append(ledger.settle(portion, []))
    assert answers == [True] * (MAX_TRIES - 1) + [False]


@pytest.mark.parametrize("whole_bundle", [False, True])
def test_a_file_that_every_device_leaves_is_stuck_with_the_first_reason(whole_bundle: bool) -> None:
    ledger = Ledger()
    ledger.add(0, "b", *film(2))
    ledger.add(1, "b", *film(2))
    for device in (0, 1):
        portion = ledger.take(device, 2)
        assert portion is not None
        assert portion.file == 0
        ledger.leave(device, 0, f"reason {device}", bundle=whole_bundle)
        ledger.settle(portion, [])
    expected = [(0, "reason 0"), (1, "reason 0")] if whole_bundle else [(0, "reason 0")]
    assert list(ledger.stuck([0, 1])) == expected
    assert list(ledger.stuck([0, 1, 2])) == []
    assert list(ledger.stuck([])) == [(0, "reason 0"), (1, "reason 0" if whole_bundle else None)]


@settings(deadline=None)
@given(st.lists(st.integers(1, 60), min_size=1, max_size=12), st.integers(1, 8), st.randoms(use_true_random=False))
def test_every_piece_is_finished_once_whatever_fails(lengths: list[int], devices: int, chance: random.Random) -> None:
    ledger = Ledger()
    for number, pieces in enumerate(lengths):
        ledger.add(number, "b", *film(pieces))
    finished: dict[int, list[int]] = {number: [] for number in range(len(lengths))}
    hands: list[Portion] = []
    while True:
        while len(hands) < devices and (portion := ledger.take(len(hands), devices)):
            hands.append(portion)
        if not hands:
            break
        portion = hands.pop(chance.randrange(len(hands)))
        stop = lengths[portion.file] if portion.span.stop is None else portion.span.stop
        span = range(portion.span.first, stop)
        done = span if chance.random() < 0.7 else span[: 1 + chance.randrange(len(span))]
        finished[portion.file] += done
        assert ledger.settle(portion, done)
    assert sorted(ledger.complete()) == list(range(len(lengths)))
    assert all(sorted(finished[number]) == list(range(pieces)) for number, pieces in enumerate(lengths))


@settings(deadline=None)
@given(st.lists(st.integers(1, 200), min_size=12, max_size=12), st.integers(2, 9))
def test_a_batch_ends_on_all_devices_within_one_piece(lengths: list[int], devices: int) -> None:
    ledger = Ledger()
    for number, pieces in enumerate(lengths):
        ledger.add(number, "b", *film(pieces))
    free = [(0, device) for device in range(devices)]
    ends = []
    while free:
        now, device = heapq.heappop(free)
        if portion := ledger.take(device, devices):
            stop = lengths[portion.file] if portion.span.stop is None else portion.span.stop
            heapq.heappush(free, (now + stop - portion.span.first, device))
        else:
            ends.append(now)
    assert max(ends) - min(ends) <= 1
