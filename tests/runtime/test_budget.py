"""The parts of the one-second promise add up to less than a second."""

from __future__ import annotations

from swiftvr_trt.runtime.budget import CLOSING_S, NOTICE_S, PROCESS_S, PROMISE_S, THREADS_S


def test_a_process_ends_before_it_is_killed_and_killing_it_still_keeps_the_promise() -> None:
    assert NOTICE_S + THREADS_S + CLOSING_S <= PROCESS_S < PROMISE_S == 1.0
