"""The parts of the one-second promise add up to less than a second."""

from __future__ import annotations

from swiftvr_trt.runtime.budget import CLOSING_S, NOTICE_S, PROCESS_S, PROMISE_S, THREADS_S
from swiftvr_trt.runtime.restore import pipeline


def test_a_process_ends_before_it_is_killed_and_killing_it_still_keeps_the_promise() -> None:
    assert NOTICE_S + THREADS_S + CLOSING_S <= PROCESS_S < PROMISE_S == 1.0


def test_a_thread_looks_at_its_queue_several_times_before_it_is_left_behind() -> None:
    assert 4 * pipeline._POLL_S <= THREADS_S
