"""Sweeps over many cases: a fixed part of them by default, all with `pytest --hypothesis-profile=campaign`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

from hypothesis import settings

Case = TypeVar("Case")


def everything() -> bool:
    """Whether this run tries all cases."""
    return settings.get_current_profile_name() == "campaign"


def every(step: int, cases: Sequence[Case]) -> Sequence[Case]:
    """The first case, the last one, and every so many between them; all in a campaign."""
    return cases if everything() else [*cases[:-1:step], *cases[-1:]]


def calls_to_fail(calls: Sequence[tuple[str, int]], step: int) -> list[tuple[str, int]]:
    """(function, number of the call): of each function the first call, the last one, and every so many between them."""
    return [call for name in dict.fromkeys(name for name, _ in calls) for call in every(step, _of(name, calls))]


def _of(name: str, calls: Sequence[tuple[str, int]]) -> list[tuple[str, int]]:
    return [call for call in calls if call[0] == name]
