"""What follows from a verdict: one table, checked against the sentences of the fleet's docstring."""

from __future__ import annotations

import pytest

from swiftvr_trt.runtime.restore.verdict import MAX_STRIKES, Verdict


@pytest.mark.parametrize(
    ("verdict", "fails", "leaves", "strikes", "replaces"),
    [
        (Verdict.DONE, False, None, False, False),
        (Verdict.FAILED, True, None, False, False),
        (Verdict.UNFIT, False, "bundle", False, True),
        (Verdict.UNBEGUN, False, "file", False, True),
        (Verdict.BROKEN, True, None, True, True),
        (Verdict.DIED, True, None, True, True),
    ],
)
def test_every_verdict_has_its_policy(
    verdict: Verdict, fails: bool, leaves: str | None, strikes: bool, replaces: bool
) -> None:
    policy = verdict.policy
    assert (policy.fails, policy.leaves, policy.strikes, policy.replaces) == (fails, leaves, strikes, replaces)


def test_there_are_six_verdicts_and_none_is_another_ones_alias() -> None:
    assert len(Verdict) == len(Verdict.__members__) == 6


def test_strikes_count_in_a_row_and_files_left_to_others_do_not_matter() -> None:
    history = (Verdict.BROKEN, Verdict.UNFIT, Verdict.DIED, Verdict.UNBEGUN, Verdict.FAILED, Verdict.DIED, Verdict.DONE)
    strikes, counts = 0, []
    for verdict in history:
        strikes = verdict.policy.strikes_after(strikes)
        counts.append(strikes)
    assert counts == [1, 1, 2, 2, 0, 1, 0]
    assert MAX_STRIKES == 2
