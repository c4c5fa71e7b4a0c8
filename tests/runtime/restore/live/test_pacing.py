"""When pictures are due whose data comes in pieces: late data moves them, and what waits longer is made up for."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import pytest

from swiftvr_trt.runtime.restore.live.pacing import PieceClock

RATE, PIECE_S = 25, 4


def played(arrives: Callable[[float], float], seconds: int) -> tuple[PieceClock, list[float], list[float]]:
    """A source's pictures. arrives: when one does, by its time. Returns when they were due, and how far behind."""
    pace = PieceClock(100.0)
    dues, behind = list[float](), list[float]()
    for number in range(seconds * RATE):
        shown_s = number / RATE
        dues.append(pace.due(shown_s, arrives(shown_s)))
        assert dues[-1] >= arrives(shown_s)
        behind.append(pace.behind_s)
    return pace, dues, behind


def in_pieces(shown_s: float) -> float:
    """A picture comes with its piece, which comes when it is complete."""
    return 100.0 + (shown_s // PIECE_S + 1) * PIECE_S


def test_pictures_are_as_far_apart_as_they_are_shown() -> None:
    pace, dues, _ = played(in_pieces, 300)
    assert dues == pytest.approx([104.0 + number / RATE for number in range(300 * RATE)])
    assert pace.behind_s == pytest.approx(0, abs=0.001)


def test_data_that_was_late_is_made_up_for() -> None:
    """A server that stumbled for ten seconds delayed all that followed by ten seconds, for ever."""

    def stumbles(shown_s: float) -> float:
        came = in_pieces(shown_s)
        return max(came, 230.0) if 120 <= shown_s < 132 else came

    _, dues, behind = played(stumbles, 600)
    delays = [due - number / RATE - 104 for number, due in enumerate(dues)]
    assert max(delays) == pytest.approx(6.0)
    assert max(behind) == pytest.approx(6.0)
    assert delays[-1] == pytest.approx(0.0, abs=0.1)
    assert behind[-1] == pytest.approx(0, abs=0.001)
    assert min(after - before for before, after in pairwise(dues)) > 0.9 / RATE


def test_a_source_with_a_fast_clock_is_kept_up_with() -> None:
    _, dues, behind = played(lambda shown_s: 100.0 + (in_pieces(shown_s) - 100.0) * 0.99, 900)
    assert max(behind) < 3
    assert dues[-1] < 100 + 900 * 0.99 + PIECE_S + 3


def test_a_source_with_a_slow_clock_is_never_behind() -> None:
    _, _, behind = played(lambda shown_s: 100.0 + (in_pieces(shown_s) - 100.0) * 1.01, 300)
    assert max(behind) < 0.001
