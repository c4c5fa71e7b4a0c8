"""When pictures are due whose data comes in pieces of several seconds. No clocks.

They are shown as far apart as their times are. Data that comes too late moves all that follows. What the server has
sent by then waits, and would wait for ever; so would what a source with a fast clock sends. So the least time that data
waits is watched: where it grows, pictures are due a little closer to each other until it is what it was.
"""

from __future__ import annotations

_WATCHED_S = 60.0
"""How long to watch for the least time that data waits: several pieces."""
_SPARE_S = 1.0
"""By how much it may grow."""
_HURRY = 0.05
"""The share by which pictures are due earlier to make up for it."""
_LONGEST_STEP_S = 1.0
"""A longer step between two pictures counts as one of this length: it may be a gap."""


class PieceClock:
    """When the pictures of a source are due.

    began: when the picture at 0 is due. behind_s: by how many seconds more than at the beginning its data waits.
    """

    def __init__(self, began: float) -> None:
        """began: as it seems at first, in seconds on a clock that never jumps."""
        self.began, self.behind_s = began, 0.0
        self._usual_s: float | None = None
        self._least_s, self._since, self._last = float("inf"), 0.0, 0.0
        self._hurries = False

    def due(self, shown_s: float, arrived: float) -> float:
        """When a picture is due. shown_s: its time, from the first one on. arrived: when its data did."""
        step, self._last = shown_s - self._last, shown_s
        if self._hurries and step > 0:
            self._make_up(min(_HURRY * min(step, _LONGEST_STEP_S), self.behind_s), shown_s)
        due = self.began + shown_s
        if due < arrived:
            self._usual_s = self._least_or(0.0) if self._usual_s is None else self._usual_s
            self.began += arrived - due
            due = arrived
        self._watch(due - arrived, shown_s)
        return due

    def _least_or(self, otherwise: float) -> float:
        return otherwise if self._least_s == float("inf") else self._least_s

    def _make_up(self, seconds: float, shown_s: float) -> None:
        self.began -= seconds
        self.behind_s -= seconds
        if self.behind_s <= 0:
            self.behind_s, self._hurries = 0.0, False
        self._least_s, self._since = float("inf"), shown_s  # what was seen before has changed

    def _watch(self, waited_s: float, shown_s: float) -> None:
        self._least_s = min(self._least_s, waited_s)
        if self._hurries or 0 <= shown_s - self._since < _WATCHED_S:
            return
        least_s, self._least_s, self._since = self._least_s, float("inf"), shown_s
        if self._usual_s is None:
            self._usual_s = least_s
        self.behind_s = max(least_s - self._usual_s, 0.0)
        self._hurries = self.behind_s > _SPARE_S
