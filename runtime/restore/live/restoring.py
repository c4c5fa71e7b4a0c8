"""The thread that restores: frames in the order in which they came, and what stands in for those that do not come."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any

from ...media.base import Picture
from ...media.plainly import PlainScaler
from ...stream.frames import AnyFrame, FrameForm, form_of, size_of
from ..pipeline import RestoringStream
from .backlog import Fate
from .counts import LiveStatistics
from .items import POLL_S, Intake, LiveCut, LiveFrame, LiveItem, LiveSound
from .live_clock import held_moments


@dataclass(frozen=True)
class RestoringPlan:
    """How frames are restored.

    size        width and height of what comes out
    form        of what comes out, for frames that are not restored
    step        ticks from one picture to the next, and seconds per tick
    hold        repeat the last picture while the source is away
    keep        keep frames until they are restored, to bypass them
    quiet_s     seconds without a frame after which the source is away
    """

    size: tuple[int, int]
    form: FrameForm
    step: int
    clock: Fraction
    hold: bool
    keep: bool
    quiet_s: float


class LiveRestoring:
    """Takes items from an intake until it is over, and hands restored ones on. Not thread-safe."""

    def __init__(
        self,
        intake: Intake,
        session: RestoringStream,
        plan: RestoringPlan,
        statistics: LiveStatistics,
        put: Callable[[LiveFrame | LiveSound], None],
    ) -> None:
        self._intake, self._session, self._plan = intake, session, plan
        self._statistics, self._put = statistics, put
        self._scaler = PlainScaler(plan.form, plan.size)
        self._pending: deque[LiveFrame | LiveSound] = deque()
        self._kind: tuple[Any, Any] | None = None
        self._last: LiveFrame | None = None
        self._held = 0
        self._fed = False

    def run(self) -> None:
        """Work until nothing more comes; then everything that came is out."""
        while not self._intake.is_over:
            found = self._intake.take(POLL_S)
            self.take(found)
        self._flush()

    def take(self, found: tuple[LiveItem, Fate] | None) -> None:
        """Work on what the intake gave: an item and its fate, or nothing."""
        if found is not None:
            self._take(*found)
        if found is None or not isinstance(found[0], LiveFrame):
            self._hold(self._intake.quiet_s())

    def _take(self, item: LiveItem, fate: Fate) -> None:
        if isinstance(item, LiveCut):
            self._flush()
        elif isinstance(item, LiveSound):
            if self._pending:
                self._pending.append(item)
            else:
                self._put(item)
        else:
            self._held = 0
            if fate is Fate.BYPASS:
                self._bypass(item)
            else:
                self._restore(item)

    def _restore(self, item: LiveFrame) -> None:
        frame = self._session.fit(item.picture.frame)
        kind = (size_of(frame), form_of(frame))
        if kind != self._kind:
            self._flush()
            self._kind = kind
        kept = item if self._plan.keep else replace(item, picture=item.picture.without_pixels())
        self._pending.append(kept)
        self._fed = True
        self._emit(self._session.feed(frame))

    def _bypass(self, item: LiveFrame) -> None:
        """Enlarge a frame plainly, and those before it that are not out yet: they would take as long as it."""
        if self._fed:
            self._session.reset()
            self._fed = False
        self._pending.append(item)
        while self._pending:
            each = self._pending.popleft()
            if isinstance(each, LiveFrame):
                self._statistics.add(bypassed=1)
                self._send(replace(each, picture=self._scaler.scale(each.picture), bypassed=True))
            else:
                self._put(each)

    def _flush(self) -> None:
        """Restore what has come so far to its end."""
        if self._fed:
            self._emit(self._session.flush())
            self._fed = False
            self._intake.renew()
        while self._pending:
            each = self._pending.popleft()
            assert isinstance(each, LiveSound)
            self._put(each)

    def _emit(self, restored: list[AnyFrame]) -> None:
        for frame in restored:
            while isinstance(each := self._pending.popleft(), LiveSound):
                self._put(each)
            self._send(replace(each, picture=Picture(frame, each.picture.stamp)))

    def _send(self, item: LiveFrame) -> None:
        """Hand a picture on, unless its time has passed."""
        if self._last is not None and item.picture.stamp.pts <= self._last.picture.stamp.pts:
            self._statistics.add(disordered=1)
            return
        self._last = item
        self._put(item)

    def _hold(self, away: float) -> None:
        """The source sends no pictures, though maybe sound: let out what is owed, and repeat the last one in time.

        away: seconds since the last picture came.
        """
        if away <= self._plan.quiet_s:
            return
        self._flush()
        plan = self._plan
        if not plan.hold or self._last is None:
            return
        for _ in range(held_moments(self._held, plan.step * plan.clock, away)):
            self._held += 1
            before = self._last.picture.stamp
            stamp = replace(before, pts=before.pts + plan.step, duration=plan.step, captions=None)
            picture = replace(self._last.picture, stamp=stamp)
            self._statistics.add(held=1)
            self._last = LiveFrame(picture, None)
            self._put(self._last)
