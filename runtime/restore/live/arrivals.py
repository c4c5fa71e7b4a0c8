"""When the packets came whose frames have not come out of the decoder yet."""

from __future__ import annotations

_MOST = 512
"""Packets that are remembered: some never become a frame."""


class Arrivals:
    """Moments by the time stamps of packets."""

    def __init__(self) -> None:
        self._moments: dict[int, float] = {}

    def __len__(self) -> int:
        return len(self._moments)

    def note(self, pts: int, moment: float) -> None:
        self._moments[pts] = moment
        if len(self._moments) > _MOST:
            self._moments.pop(next(iter(self._moments)))

    def take(self, pts: int | None) -> float | None:
        """When the packet of a frame came, if that is known; it is forgotten."""
        return None if pts is None else self._moments.pop(pts, None)

    def forget(self) -> None:
        """What is on its way does not come out any more."""
        self._moments.clear()
