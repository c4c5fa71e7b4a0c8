"""Pieces that change hands: by hand, and with simulated devices of any speed."""

from __future__ import annotations

import heapq
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swiftvr_trt.runtime.restore.divided import divide
from swiftvr_trt.runtime.restore.job import Job, JobWithBundle
from swiftvr_trt.runtime.restore.segments.claims import Claims
from swiftvr_trt.runtime.restore.segments.grid import Span
from swiftvr_trt.runtime.restore.sharing import Sharing


class MemoryClaims(Claims):
    """Claims without a disk."""

    def __init__(self) -> None:
        self.pieces: set[int] = set()

    def take(self, piece: int) -> bool:
        if piece in self.pieces:
            return False
        self.pieces.add(piece)
        return True

    def taken(self, piece: int) -> bool:
        return piece in self.pieces


def order(first: int, stop: int | None) -> JobWithBundle:
    return JobWithBundle(Job(Path("in.mp4"), "out.mp4", span=(first, stop), shared=True), "bundle")


def span_of(taken: JobWithBundle | None) -> tuple[int, int | None] | None:
    return None if taken is None else taken.job.span


@pytest.mark.parametrize(
    ("spans", "begun", "taken"),
    [
        ([], [], None),
        ([(0, 1)], [], None),  # its only piece is begun
        ([(0, 2)], [], (1, 2)),
        ([(0, None)], [], (5, None)),
        ([(0, None)], [1, 2, 3], (7, None)),
        ([(0, None)], [1, 2, 3, 4, 5, 6, 7, 8, 9], None),
        ([(0, 4), (4, None)], [1, 5], (8, None)),  # of the longer rest
        ([(0, 4), (4, None)], [5, 6, 7, 8, 9], (2, 4)),
    ],
)
def test_the_later_half_of_the_longest_rest(
    spans: list[tuple[int, int | None]], begun: list[int], taken: tuple[int, int | None] | None
) -> None:
    claims = MemoryClaims()
    claims.pieces.update(begun)
    assert span_of(Sharing(claims, last=9).split([order(*span) for span in spans])) == taken


def test_a_span_of_which_a_part_was_taken_ends_there() -> None:
    sharing, whole = Sharing(MemoryClaims(), last=15), order(0, None)
    half = sharing.split([whole])
    assert span_of(half) == (8, None)
    assert span_of(sharing.split([whole])) == (4, 8)
    assert half is not None
    assert span_of(sharing.split([whole, half])) == (12, None)


def test_who_takes_over_does_the_same_job() -> None:
    whole = order(0, 4)
    taken = Sharing(MemoryClaims(), last=3).split([whole])
    assert taken is not None
    assert replace(taken.job, span=(0, 4), title="") == whole.job


def test_what_is_begun_meanwhile_stays_where_it_is() -> None:
    class Late(MemoryClaims):
        def taken(self, piece: int) -> bool:
            known = super().taken(piece)
            if piece == 1 and not known:
                self.pieces.update((1, 2))  # as soon as this has been looked at
            return known

    assert span_of(Sharing(Late(), last=3).split([order(0, None)])) == (3, None)


def test_a_claim_of_nobody_at_work_ends_a_span_for_this_round() -> None:
    claims, whole = MemoryClaims(), order(0, None)
    claims.pieces.add(5)  # of a process whose parent was killed
    sharing = Sharing(claims, last=9)
    assert span_of(sharing.split([whole])) == (3, 5)
    assert span_of(sharing.split([whole])) == (2, 3)


def test_a_disk_that_takes_no_claim_leaves_every_piece_where_it_is() -> None:
    class Full(MemoryClaims):
        def take(self, piece: int) -> bool:
            raise OSError(28, f"No space left on device for {piece}")

    assert Sharing(Full(), last=9).split([order(0, None)]) is None


def test_what_a_process_leaves_is_tried_again_from_the_piece_that_it_was_at() -> None:
    claims, whole = MemoryClaims(), order(0, None)
    sharing = Sharing(claims, last=9)
    claims.pieces.update((1, 2))
    assert span_of(sharing.split([whole])) == (6, None)
    rest = sharing.rest(whole)
    assert span_of(rest) == (2, 6)
    assert rest is not None
    assert span_of(sharing.rest(rest)) == (2, 6)
    assert sharing.rest(rest) is None  # after three tries
    claims.pieces.add(3)
    assert span_of(sharing.rest(rest)) == (3, 6)


@given(
    pieces=st.integers(1, 60),
    paces=st.lists(st.sampled_from([1.0, 1.1, 2.0, 7.0, 50.0]), min_size=1, max_size=5),
)
def test_devices_of_any_speed_restore_every_piece_once(pieces: int, paces: list[float]) -> None:
    """paces: seconds per piece. No device is idle while another has more than the piece that it works on."""
    claims = MemoryClaims()
    sharing, last = Sharing(claims, pieces - 1), pieces - 1
    waiting = [order(span.first, span.stop) for span in divide([Span(0, None)], last, len(paces))]
    at_work: dict[int, JobWithBundle] = {}
    restored: Counter[int] = Counter()
    events: list[tuple[float, int, int]] = []  # when a device is done with a piece

    def begin(device: int, now: float) -> None:
        taken = waiting.pop(0) if waiting else sharing.split(list(at_work.values()))
        if taken is not None:
            at_work[device] = taken
            first, _ = taken.job.span or (0, None)
            heapq.heappush(events, (now + paces[device], device, first))

    for device in range(len(paces)):
        begin(device, 0.0)
    ends: list[float] = []
    while events:
        now, device, piece = heapq.heappop(events)
        restored[piece] += 1
        ends.append(now)
        _, stop = at_work[device].job.span or (0, None)
        if piece + 1 < (pieces if stop is None else stop) and claims.take(piece + 1):
            heapq.heappush(events, (now + paces[device], device, piece + 1))
            continue
        del at_work[device]
        begin(device, now)
    assert restored == Counter(range(pieces))
    together = pieces / sum(1 / pace for pace in paces)
    assert max(ends) <= together + 2 * max(paces)
