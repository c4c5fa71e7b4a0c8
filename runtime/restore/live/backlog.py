"""Frames that wait for their turn, and what becomes of those that wait too long. No clocks and no threads.

Frames are restored in units that the network takes together: as long as a clip, and a little longer where its stream
begins. When the first frame of a unit gets its turn too late, the whole unit is
dropped, or bypassed; then the next one is there in time again. So a machine that is too slow by half loses every second
unit, evenly, and the delay stays bounded. Packets of sound wait in their place, and are never dropped for being late.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from enum import Enum
from typing import Generic, TypeVar

T = TypeVar("T")

_MOST_OTHERS = 8192
"""Packets and other items that may wait beside the frames."""


class Fate(Enum):
    """What becomes of an item."""

    RESTORE = "restore"
    BYPASS = "bypass"
    PASS = "pass"
    """It is no frame."""


@dataclass
class _Waiting(Generic[T]):
    item: T
    arrived: float
    is_frame: bool
    is_cut: bool


class Backlog(Generic[T]):
    """A bounded queue of items; those that are frames get their turn in units.

    dropped: frames that were left out. lost: other items that did not fit. frames: those that wait.
    """

    def __init__(self, unit: int, capacity: int, late_s: float, when_late: str, lead: int = 0) -> None:
        """unit, capacity: as in `LatencyPlan`. when_late: drop, wait or bypass.

        late_s: seconds after which the first frame of a unit is late. lead: by how many frames the first unit of a
        stream is longer.
        """
        if capacity < 2 * unit + lead:
            raise ValueError(f"the capacity is {capacity}, expected at least two units of {unit} frames")
        self._size, self._capacity, self._late_s, self._when_late = unit, capacity, late_s, when_late
        self._items: deque[_Waiting[T]] = deque()
        self.frames = self.dropped = self.lost = self._others = 0
        self._lead, self._begins, self._left = lead, True, 0
        self._fate: Fate | None = Fate.RESTORE

    def __len__(self) -> int:
        return len(self._items)

    @property
    def is_full(self) -> bool:
        """Whether the source has to wait. Only with `wait`: otherwise something else makes room."""
        return self._when_late == "wait" and (self.frames >= self._capacity or self._others >= _MOST_OTHERS)

    def push(self, item: T, now: float, *, is_frame: bool, is_cut: bool = False) -> None:
        """Add an item that arrives now. If there is no room, the oldest unit that nobody has begun is dropped.

        is_cut: frames before and after it are never in one unit. Unlike other items that are no frames, it is kept.
        """
        self._items.append(_Waiting(item, now, is_frame, is_cut))
        if not is_frame:
            self._others += 1
            if self._others > _MOST_OTHERS and self._when_late != "wait":
                self._drop_other()
            return
        self.frames += 1
        if self.frames > self._capacity and self._when_late != "wait":
            self._drop_unit()

    def pop(self, now: float) -> tuple[T, Fate] | None:
        """The next item and its fate; None if none waits. Frames of a unit that is late are dropped on the way."""
        while self._items:
            waiting = self._items.popleft()
            if not waiting.is_frame:
                self._others -= 1
                if waiting.is_cut:
                    self.renew()
                return waiting.item, Fate.PASS
            self.frames -= 1
            if self._left == 0:
                self._begin(now - waiting.arrived)
            self._left -= 1
            if self._fate is not None:
                return waiting.item, self._fate
            self.dropped += 1
        return None

    def renew(self) -> None:
        """The stream of the network begins anew with the next frame."""
        self._begins, self._left = True, 0

    def _begin(self, age: float) -> None:
        """Begin a unit whose first frame has waited so long."""
        self._fate = self._fate_of(age)
        restores = self._fate is Fate.RESTORE
        self._left = self._size + (self._lead if self._begins and restores else 0)
        if self._fate is not None:  # what is bypassed ends the stream, and what is dropped changes nothing
            self._begins = not restores

    def _fate_of(self, age: float) -> Fate | None:
        """What becomes of a unit whose first frame has waited so long; None if it is dropped."""
        if self._when_late == "wait" or age <= self._late_s:
            return Fate.RESTORE
        return Fate.BYPASS if self._when_late == "bypass" else None

    def _drop_unit(self) -> None:
        kept: deque[_Waiting[T]] = deque()
        begun, count = self._left, 0
        for each in self._items:
            if each.is_cut:
                begun = 0
            if not each.is_frame or begun > 0 or count == self._size:
                begun -= each.is_frame
                kept.append(each)
            else:
                count += 1
        self._items = kept
        self.frames -= count
        self.dropped += count

    def _drop_other(self) -> None:
        others = (each for each in self._items if not each.is_frame)
        oldest = next((each for each in self._items if not (each.is_frame or each.is_cut)), None) or next(others)
        self._items.remove(oldest)
        self._others -= 1
        self.lost += 1
