"""How long to wait before the next try to connect. No clocks and no chance of its own."""

from __future__ import annotations

_FIRST_S = 0.25
_LONGEST_S = 10.0
_JITTER = 0.25


def backoff_s(attempt: int, chance: float) -> float:
    """Seconds before a try, the first of which is attempt 0: twice as long each time, up to ten seconds.

    chance: from 0 to 1, at random. It moves the wait by a quarter, so that not all who lost a server come back at once.
    """
    wait = min(_FIRST_S * 2.0 ** min(attempt, 30), _LONGEST_S)
    return wait * (1 - _JITTER + 2 * _JITTER * chance)


def gives_up(away_s: float, limit_s: float | None) -> bool:
    """Whether something has been away for too long. limit_s: None for never."""
    return limit_s is not None and away_s >= limit_s
