"""The threads of a live run: reading, restoring, and what takes the pictures."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress

from ....engines.bundle.geometry import FRAMES_PER_LATENT
from ....errors import Cancelled, InternalError, MachineError, SwiftVRError, unexpected
from ...media.base import SourceInfo
from ...media.source_options import SourceOptions
from ...stream.frames import FrameForm
from ..restorer import Restorer
from .addresses import LiveInputAddress
from .backlog import Backlog
from .counts import LiveStatistics
from .items import POLL_S, Intake, LiveItem, Outbox
from .latency import LatencyPlan
from .live_input import CLOCK
from .options import LiveOptions, patience_with
from .reading import BURST_QUIET_S, QUIET_S, LiveReader
from .restoring import LiveRestoring, RestoringPlan

_OPEN_S = 30.0
_DRAIN_S = 1.0
"""For the reader to hand on what it has."""


class LiveEngine:
    """Reads and restores a live source until it ends or is stopped.

        engine = LiveEngine(address, options, reading, say)
        info = engine.open()
        with open_restorer(...) as restorer:
            engine.start(restorer, plan, form, box)     # another thread takes pictures and sound out of `box`
            ...

    statistics: what has happened so far. ended: is set once everything that came has been put.
    """

    def __init__(
        self,
        address: LiveInputAddress,
        options: LiveOptions,
        reading: SourceOptions,
        say: Callable[[str], None] = lambda _line: None,
        wants: Callable[[str], bool] = lambda _kind: True,
    ) -> None:
        """say, wants: as in `LiveReader`."""
        self._address, self._options = address, options
        self.statistics = LiveStatistics()
        self._reader = LiveReader(address, options, reading, self.statistics, say, wants)
        self._intake: Intake | None = None
        self._stack = ExitStack()
        self._session_cancel: Callable[[], None] = lambda: None
        self._error: SwiftVRError | None = None
        self._draining = False
        self.ended = threading.Event()

    def open(self, is_cancelled: Callable[[], bool] = lambda: False) -> SourceInfo:
        """Connect, and wait for the first picture. Raises `MachineError` or `MediaError` if there is none."""
        self._reader.start()
        deadline = time.monotonic() + _OPEN_S
        while not self._reader.opened.wait(POLL_S):
            if is_cancelled():
                self._reader.stop()
                raise Cancelled
            if time.monotonic() > deadline:
                self._reader.stop()
                raise MachineError(f"{self._address.name} does not answer within {_OPEN_S:.0f} s: check its address")
        if self._reader.info is None:
            raise self._reader.error or Cancelled()
        return self._reader.info

    def start(
        self,
        restorer: Restorer,
        plan: LatencyPlan,
        form: FrameForm | None,
        box: Outbox,
    ) -> None:
        """Begin. form: of the pictures; None for that of the source. box: gets all that comes out, and the end."""
        info, options = self._reader.info, self._options
        if info is None:
            raise InternalError("the engine is not open, expected open() before start()")
        backlog: Backlog[LiveItem] = Backlog(
            plan.unit, plan.capacity, plan.patience_s, options.when_late, FRAMES_PER_LATENT
        )
        self._intake = Intake(backlog, self.statistics)
        self.statistics.patience_s = max(self.statistics.patience_s, 2 * plan.fill_s)
        session = self._stack.enter_context(restorer.session(form))
        self._session_cancel = session.cancel
        recipe = restorer.manifest.recipe
        restoring = LiveRestoring(
            self._intake,
            session,
            RestoringPlan(
                (recipe.width, recipe.height),
                form or info.form,
                max(1, round(1 / (info.rate * CLOCK))),
                CLOCK,
                options.on_gap == "hold",
                options.when_late == "bypass",
                patience_with(info.rate, BURST_QUIET_S if self._address.bursts else QUIET_S),
            ),
            self.statistics,
            box.put,
        )
        threading.Thread(target=self._guard, args=(restoring, box), name="swiftvr-live-restoring", daemon=True).start()
        self._reader.go(self._intake)

    def drain(self) -> None:
        """Read no more; what has come is still restored."""
        self._reader.stop()
        if self._intake is not None and not self._draining:
            self._draining = True
            timer = threading.Timer(_DRAIN_S, self._intake.end)  # the reader may be in a call that takes its time
            timer.daemon = True
            timer.start()

    def stop(self) -> None:
        """End at once."""
        self._reader.stop()
        self._session_cancel()
        if self._intake is not None:
            self._intake.stop()

    def close(self) -> None:
        """Stop, and release the stream. A thread that is inside a library is left behind."""
        self.stop()
        if self._intake is None or self.ended.wait(2.0):
            self._stack.close()

    @property
    def error(self) -> SwiftVRError | None:
        """Why it ended, if it ended for a reason."""
        return self._error or self._reader.error

    @property
    def lost(self) -> tuple[str, ...]:
        """Lines about streams of the source that the output lacks."""
        return self._reader.losses.lines

    def _guard(self, restoring: LiveRestoring, box: Outbox) -> None:
        try:
            restoring.run()
        except Cancelled:
            pass
        except SwiftVRError as error:
            self._error = error
        except Exception as error:  # noqa: BLE001 (it must end the run, whatever it is)
            self._error = unexpected(error, "restoring")
        finally:
            self._reader.stop()
            if self._intake is not None and self._error is not None:
                self._intake.stop()
            with suppress(Cancelled):
                box.put(None)
            self.ended.set()
