"""What passes between the threads of a live run."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ....errors import Cancelled
from ...budget import THREADS_S
from ...media.base import Picture
from ..picture_queue import StoppableQueue
from .backlog import Backlog, Fate
from .counts import LiveStatistics

POLL_S = THREADS_S / 8
"""The longest wait in one piece."""


@dataclass(frozen=True)
class LiveFrame:
    """A picture. arrived: when its packet came, by `time.monotonic`; None if it is repeated. bypassed: not restored.

    behind_s: seconds that its data waited before, more than at the beginning.
    """

    picture: Picture
    arrived: float | None
    bypassed: bool = False
    behind_s: float = 0.0

    def delay_s(self, now: float) -> float | None:
        """Seconds since it came; None if it is repeated."""
        return None if self.arrived is None else now - self.arrived + self.behind_s


@dataclass(frozen=True)
class LiveSound:
    """A packet of a stream of sound. stream: its number in the first connection."""

    stream: int
    packet: Any


@dataclass(frozen=True)
class LiveCut:
    """What follows has nothing to do with what came before: the network begins anew."""


LiveItem = LiveFrame | LiveSound | LiveCut

Outbox = StoppableQueue[LiveFrame | LiveSound | None]
"""What comes out of the network on its way to whoever takes it; None is the end."""


class Intake:
    """Where the reader leaves items, and the restorer takes them. Bounded; see `Backlog`. Counts what comes in."""

    def __init__(
        self, backlog: Backlog[LiveItem], statistics: LiveStatistics, now: Callable[[], float] = time.monotonic
    ) -> None:
        self._backlog, self._statistics, self._now = backlog, statistics, now
        self._heard, self._waiting = now(), False
        self._changed = threading.Condition()
        self._ended = self._stopped = False

    def put(self, item: LiveItem) -> None:
        """Add an item that arrives now. Waits only if late frames do. Raises `Cancelled` after `end` and `stop`."""
        with self._changed:
            while self._backlog.is_full and not (self._stopped or self._ended):
                self._waiting = True
                self._changed.wait()
            self._waiting = False
            if self._stopped or self._ended:
                raise Cancelled
            before = self._backlog.dropped, self._backlog.lost
            now, is_frame = self._now(), isinstance(item, LiveFrame)
            arrived = item.arrived if isinstance(item, LiveFrame) and item.arrived is not None else now
            if is_frame:
                self._heard = now
                self._statistics.add(frames_in=1)
            self._backlog.push(item, arrived, is_frame=is_frame, is_cut=isinstance(item, LiveCut))
            self._count(before)
            self._changed.notify_all()

    def take(self, patience_s: float) -> tuple[LiveItem, Fate] | None:
        """The next item; None if none came within the time."""
        with self._changed:
            if not self._backlog and not self._ended:
                self._changed.wait(patience_s)
            before = self._backlog.dropped, self._backlog.lost
            found = self._backlog.pop(self._now())
            self._count(before)
            self._changed.notify_all()
            return found

    def renew(self) -> None:
        """The stream of the network begins anew with the next frame."""
        with self._changed:
            self._backlog.renew()

    def quiet_s(self) -> float:
        """Seconds since the last frame came; none while some wait for their turn."""
        with self._changed:
            return 0.0 if self._backlog.frames or self._waiting else self._now() - self._heard

    @property
    def is_over(self) -> bool:
        """Whether nothing more comes."""
        with self._changed:
            return self._stopped or (self._ended and not self._backlog)

    def end(self) -> None:
        """No more items come."""
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    def stop(self) -> None:
        """Let nobody wait any more."""
        with self._changed:
            self._stopped = True
            self._changed.notify_all()

    def _count(self, before: tuple[int, int]) -> None:
        backlog = self._backlog
        dropped, lost = backlog.dropped - before[0], backlog.lost - before[1]
        if dropped or lost:
            self._statistics.add(dropped=dropped, packets_lost=lost)
        self._statistics.set(waiting=backlog.frames)
