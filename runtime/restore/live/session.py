"""A live stream in a program with `asyncio`: the same engine, with an iterator in place of a receiver.

    async with LiveSession("rtsp://camera/1", bundle="bundle-1080p", latency="low") as live:
        async for frame in live.frames():
            show(frame.pixels, frame.seconds)
            print(live.report().counts.waiting)

Whoever takes frames too slowly is seen in the report: frames wait, then `dropped` grows, and nothing else does.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any

from ....engines.bundle.files import Bundle
from ....errors import Cancelled, MisuseError
from ...media.base import SourceInfo
from ...media.source_options import SourceOptions
from ...stream.frames import RGB, AnyFrame, FrameForm
from ..interruptible import close_result, start_task
from ..restorer import Restorer
from .addresses import LiveInputAddress
from .counts import LiveReport
from .engine import LiveEngine
from .framing import check_live_filters
from .items import POLL_S, LiveFrame, Outbox
from .options import LiveOptions, seconds_or_none

_READY = 8
"""Restored frames that may wait for the program."""


@dataclass(frozen=True)
class RestoredFrame:
    """A frame of a live stream.

    pixels      uint8 [H, W, 3] in RGB, or of the form that was asked for
    seconds     when it is shown, from the first one on
    delay_s     seconds since its packet came; None if it is repeated
    bypassed    it came too late, and is enlarged plainly
    """

    pixels: AnyFrame
    seconds: float
    delay_s: float | None
    bypassed: bool


class LiveSession:
    """Restores a live stream for a program. Use it with `async with`, and iterate over `frames()` once."""

    def __init__(  # many parameters: it takes the place of a bundle's, a run's and a stream's options
        self,
        source: str,
        *,
        bundle: str | Path | Bundle,
        form: FrameForm = RGB,
        device: str | None = None,
        threads: int | None = None,
        deinterlace: str = "auto",
        vf: str | None = None,
        tonemap: bool = False,
        assume_sdr: bool = False,
        latency: str | float = "normal",
        when_late: str = "drop",
        on_gap: str = "skip",
        reconnect: str | float | Fraction | None = None,
        in_options: Mapping[str, str | int] | None = None,
        say: Callable[[str], None] = lambda _line: None,
        **unknown: object,
    ) -> None:
        """source: a URL, a capture device, or a file that is played.

        form: of the frames. device, threads: as in `Restorer.open`. deinterlace, vf, tonemap, assume_sdr: as in
        `SourceOptions`. latency, when_late, on_gap, reconnect: as in `LiveOptions`, with latency and reconnect in
        seconds, too. in_options: of FFmpeg, for the source. say: gets a line about what happens to the source, and
        about what frames lose, in another thread. Raises `MisuseError` for a value out of range, `MediaError`
        for a file that is not there, or a protocol that this FFmpeg does not have.
        """
        if unknown:
            raise MisuseError(f"LiveSession got options that it does not have: {', '.join(map(repr, unknown))}")
        pairs = tuple((name, str(value)) for name, value in (in_options or {}).items())
        self._options = LiveOptions(str(latency), when_late, on_gap, seconds_or_none(reconnect), pairs)
        address = LiveInputAddress.parse(source)
        address.check_options("in_options", dict(pairs))
        check_live_filters(vf)
        reading = SourceOptions(deinterlace=deinterlace, vf=vf, tonemap=tonemap, assume_sdr=assume_sdr)
        self._engine = LiveEngine(address, self._options, reading, say, lambda _kind: False)
        self._open_restorer = partial(Restorer.open, bundle, device=device, threads=threads)
        self._form = form
        self._box = Outbox(_READY)
        self._stack, self._cancelled = ExitStack(), False
        self._entered = self._ended = False
        self._threads = ThreadPoolExecutor(1, "swiftvr-live-session")
        self.info: SourceInfo | None = None

    def report(self) -> LiveReport:
        """What has happened so far. The delays are those up to the moment when a frame was taken."""
        return self._engine.statistics.report()

    async def __aenter__(self) -> LiveSession:
        """Connect and load the bundle, in threads. Raises `MachineError` or `MediaError` if there is no source."""
        try:
            self.info = await self._in_thread(self._engine.open, lambda: self._cancelled)
            restorer = self._stack.enter_context(await self._load())
            plan = self._options.chosen.plan(self.info.rate, restorer.manifest.recipe.clip_len)
            self._engine.start(restorer, plan, self._form, self._box)
            self._entered = True
        except BaseException:
            await self._close()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._close()

    async def frames(self) -> AsyncIterator[RestoredFrame]:
        """The restored frames, until the source ends. Raises why it ended, if it was not a file that was played.

        Raises `MisuseError` before the session is entered.
        """
        if not self._entered:
            raise MisuseError("frames() was called before the session was entered: use `async with LiveSession(...)`")
        while not (self._ended or self._cancelled):
            try:
                item = await self._in_thread(self._box.get, POLL_S)
            except TimeoutError:
                continue
            except Cancelled:
                return
            if item is None:
                self._ended = True
                break
            if isinstance(item, LiveFrame):
                yield self._frame(item)
        if self._engine.error is not None:
            raise self._engine.error

    def drain(self) -> None:
        """Read no more; the frames that have come are still given."""
        self._engine.drain()

    def _frame(self, item: LiveFrame) -> RestoredFrame:
        delay = item.delay_s(time.monotonic())
        self._engine.statistics.leave()
        if delay is not None:
            self._engine.statistics.add(frames_out=1)
            self._engine.statistics.add_delay(delay)
        stamp = item.picture.stamp
        return RestoredFrame(item.picture.host_frame, float(stamp.pts * stamp.time_base), delay, item.bypassed)

    async def _load(self) -> Restorer:
        """The restorer. If nobody waits for it any more when it opens, it is closed at once."""
        loading: Future[Restorer] = Future()
        start_task(self._open_restorer, loading)
        try:
            return await asyncio.wrap_future(loading)
        except asyncio.CancelledError:
            loading.add_done_callback(close_result)
            raise

    async def _in_thread(self, call: Any, *arguments: Any) -> Any:
        return await asyncio.get_running_loop().run_in_executor(self._threads, call, *arguments)

    async def _close(self) -> None:
        """End at once. A cancelled task gets here, too, so nothing is awaited that takes long."""
        self._cancelled = True
        self._box.stop()
        self._engine.stop()
        with suppress(asyncio.CancelledError):
            await self._in_thread(self._release)
        self._threads.shutdown(wait=False)

    def _release(self) -> None:
        self._engine.close()
        self._stack.close()
