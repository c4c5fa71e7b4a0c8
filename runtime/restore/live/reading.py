"""The thread that reads a live source: opens it, opens it again when it fails, and puts its pictures on one clock.

A call that FFmpeg does not interrupt, such as the look-up of a name, stays behind in this thread: nobody waits for it.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from fractions import Fraction
from typing import TYPE_CHECKING, Any

from ....errors import Cancelled, MachineError, MediaError, SwiftVRError, unexpected
from ...media.base import CopiedStream, Picture, SourceInfo, Stamp
from ...media.file_clock import moved
from ...media.pyav import fraction
from ...media.scenes import SceneDetector
from ...media.source_options import SourceOptions
from .addresses import LiveInputAddress
from .arrivals import Arrivals
from .backoff import backoff_s, gives_up
from .counts import LiveStatistics
from .framing import Framed, Framer, live_info
from .items import POLL_S, Intake, LiveCut, LiveFrame, LiveItem, LiveSound
from .live_clock import AHEAD_S, BURST_AHEAD_S, Break, LiveClock
from .live_input import CLOCK, VIDEO, LiveInput, PlaceTakenError, SourceEndedError, open_source_of_any_rate
from .losses import StreamLosses
from .options import STALL_S, LiveOptions, patience_with
from .pacing import PieceClock

if TYPE_CHECKING:
    from av.packet import Packet
    from av.video.frame import VideoFrame

QUIET_S = 1.0
"""Seconds without a picture that are a gap."""
BURST_QUIET_S = 20.0
"""The same where data arrives in pieces of several seconds."""

_NOTHING_S = Fraction(1, 20)
"""What is left of a playlist at its end."""
_ROUNDED_S = 1
"""The same where the lengths of the segments are rounded, so that nothing more comes."""


class LiveReader:
    """Reads a source until it is stopped, or has been away too long.

    opened: is set once the source is there, or cannot be opened; then there is an `info` or an `error`. losses: the
    streams that go no further.
    """

    def __init__(
        self,
        address: LiveInputAddress,
        options: LiveOptions,
        reading: SourceOptions,
        statistics: LiveStatistics,
        say: Callable[[str], None],
        wants: Callable[[str], bool] = lambda _kind: True,
    ) -> None:
        """say: gets a line about everything that happens to the source. wants: see `StreamLosses`."""
        self._address, self._options, self._reading = address, options, reading
        self._played = address.is_played
        self._statistics, self._say = statistics, say
        self._stopped, self._ready = threading.Event(), threading.Event()
        self._lock, self._over = threading.Lock(), False
        self._now: Callable[[], float] = time.monotonic
        self._busy_s = 0.0
        self._away_since: float | None = None
        self._attempt = 0
        self.opened = threading.Event()
        self.info: SourceInfo | None = None
        self.error: SwiftVRError | None = None
        self._before: LiveInput | None = None
        self._intake: Intake | None = None
        self._clock = LiveClock(BURST_AHEAD_S if address.bursts or address.is_played else AHEAD_S)
        self._sounds: tuple[CopiedStream, ...] | None = None
        self._framer = Framer(reading, self._say_of_source)
        self.losses = StreamLosses(wants, self._say_of_source)
        self._scenes: SceneDetector | None = None
        self._arrivals = Arrivals()
        self._index, self._resized = 0, 0
        self._shift, self._step = Fraction(0), Fraction(1, 25)
        self._last_frame = 0.0
        self._pace = PieceClock(0.0)
        self._jumped = False
        self._reached: Fraction | None = None
        self._resumed: Fraction | None = None
        self._keeps = self._played or options.when_late == "wait"
        self._early: list[LiveItem] = []
        self._joined = False
        self._thread = threading.Thread(target=self._guard, name="swiftvr-live-reading", daemon=True)

    def _say_of_source(self, line: str) -> None:
        self._say(f"{self._address.name}: {line}")

    def start(self) -> None:
        self._thread.start()

    def go(self, intake: Intake) -> None:
        """From now on, leave what arrives in `intake`. Before, it is read and forgotten, so that it does not age."""
        with self._lock:
            self._intake = intake
            if self._over:
                intake.end()
        self._pace = PieceClock(self._now())
        self._ready.set()

    def stop(self) -> None:
        """Read no more, and hand on what was read. Does not wait: the thread may be in a call that takes its time."""
        self._stopped.set()
        self._ready.set()

    def _guard(self) -> None:
        try:
            self._run()
        except Cancelled:
            pass
        except SwiftVRError as error:
            self.error = error
        except Exception as error:  # noqa: BLE001 (it must end the run, whatever it is)
            self.error = unexpected(error, "reading")
        finally:
            self.opened.set()
            with self._lock:
                self._over = True
                if self._intake is not None:
                    self._intake.end()

    def _run(self) -> None:
        source: LiveInput | None = self._connect()
        while source is not None:
            try:
                ended = self._read(source)
            finally:
                source.close()
            if self._stopped.is_set():
                return
            if self.info is None:
                raise MachineError(f"no picture came from {self._address.name}: {ended}; check that it sends video")
            if self._played:
                if ended.at_end:
                    return
                raise MediaError(f"{self._address.name} cannot be read to its end: {ended}")
            self._reached, self._before = source.reached or self._reached, source
            source = self._reconnect(ended)

    def _connect(self) -> LiveInput:
        source = open_source_of_any_rate(self._address, self._options.in_options, self._sounds, 1 / self._step)
        if self._sounds is None and source.has_end:
            self._played = self._keeps = True
        self._sounds = source.copies
        self.losses.add(source.left_out)
        return source

    def _reconnect(self, ended: SourceEndedError) -> LiveInput | None:
        """The source again. None if it is no longer wanted, or has come to its end.

        Raises `MachineError` if it has been away too long or only another process can open it, `MediaError` if its rest
        cannot be read.

        It is away until a picture comes: a source that is opened and gives none is tried less and less often, too.
        """
        reason = str(ended)
        limit = None if self._options.reconnect is None else float(self._options.reconnect)
        if self._away_since is None:
            self._say(f"{self._address.name} is gone: {reason}; connecting again")
            if self._intake is not None:
                self._put(LiveCut())  # what has come does not wait for what comes after it
            self._away_since, self._attempt = self._now(), 0  # only now: a full intake is not the fault of the source
        while True:
            if gives_up(self._now() - self._away_since, limit):
                raise MachineError(f"{self._address.name} is gone: {reason}; it did not come back in time")
            if self._stopped.wait(backoff_s(self._attempt, random.random())):
                return None
            self._attempt += 1
            try:
                source = self._connect()
            except (SwiftVRError, OSError) as error:
                reason = str(error)
                if isinstance(error, PlaceTakenError):
                    self._check_released()
                continue
            if source.has_end and not self._go_on(source, ended):
                source.close()
                return None
            self._clock.renew()
            self._arrivals.forget()
            return source

    def _check_released(self) -> None:
        """Raise `MachineError` if it is the connection before that has the place of the next one, and keeps it."""
        if self._before is not None and self._before.holds_source:
            raise MachineError(
                f"{self._address.name} goes on with other streams, which only a new process can read: start again"
            )

    def _go_on(self, source: LiveInput, ended: SourceEndedError) -> bool:
        """Go on with the rest of a playlist that grew before, and has got its last segment. False if there is none.

        How the connection ended does not tell: for FFmpeg, a playlist that it cannot get any more has ended.
        """
        try:
            left = None if self._reached is None or self._jumped else source.left_after(self._reached)
            if left is None and not ended.at_end:
                raise MediaError("its times do not continue those before")
            if left is None or left <= _NOTHING_S or (self._resumed == self._reached and left <= _ROUNDED_S):
                how = "; whether some of it is missing cannot be told, as its times have jumped" if left is None else ""
                self._say(f"{self._address.name} has come to its end{how}")
                return False
            if self._resumed == self._reached:
                raise MediaError(str(ended))
            source.seek(self._reached or Fraction(0))
        except MediaError as error:
            source.close()
            raise MediaError(f"{self._address.name} has ended, but cannot be read to its end: {error}") from None
        self._resumed = self._reached
        return True

    def _read(self, source: LiveInput) -> SourceEndedError:
        """Read until the source ends, or nobody wants more of it. Returns why it ended."""
        self._step = 1 / source.rate
        try:
            self._read_packets(source)
        except SourceEndedError as ended:
            self._take_rest(source)
            return ended
        self._take_rest(source)
        return SourceEndedError("nobody wants more of it")

    def _read_packets(self, source: LiveInput) -> None:
        """Read until the source ends, for which it raises `SourceEndedError`, or until `stop`."""
        heard = self._heard_at()
        stall_s = patience_with(source.rate, STALL_S)
        patience_s = float("inf") if self._played else 2 * stall_s + self._quiet_s
        for lane, packet in source.packets():
            if self._stopped.is_set():
                return
            silent = self._heard_at() - heard > patience_s
            if lane != VIDEO:
                self._take_sound(lane, packet, self._now())
                if silent:
                    raise SourceEndedError("its video has stopped")
            elif self._take_video(source, packet, self._now()):
                heard = self._heard_at()
            elif silent:
                raise SourceEndedError("its video cannot be decoded any more")

    def _take_rest(self, source: LiveInput) -> None:
        """Take the pictures that the decoder and the filters still hold."""
        for frame in source.rest():
            self._take_frame(source, frame, self._now())
        for framed in self._framer.rest():
            self._take_picture(source, framed, damaged=False)

    def _heard_at(self) -> float:
        """The time, less that for which the source could not be heard because this thread waited for others."""
        return self._now() - self._busy_s

    @contextmanager
    def _waiting(self) -> Iterator[None]:
        """The thread waits for others in this block: whatever the source does meanwhile, it is not silent."""
        began = self._now()
        try:
            yield
        finally:
            self._busy_s += self._now() - began

    def _take_sound(self, lane: str, packet: Packet[Any], now: float) -> None:
        if self._clock.reached is None:  # the picture begins
            return
        shift = self._place(lane, packet, now)
        if shift is None:
            self._statistics.add(packets_lost=int(self._intake is not None))
        else:
            self._put(LiveSound(int(lane.split()[1]), moved(packet, shift)))

    def _take_video(self, source: LiveInput, packet: Packet[Any], now: float) -> bool:
        """Whether a picture came out."""
        shift = self._place(VIDEO, packet, now)
        moved(packet, self._shift if shift is None else shift)
        if packet.pts is not None and shift is not None:  # `go` may come between any two lines
            self._arrivals.note(packet.pts, source.arrived if self._address.bursts else now)
        frames, damaged = source.decode(packet)
        if self._intake is not None and (damaged or packet.is_corrupt):
            self._statistics.add(packets_damaged=1)
        for frame in frames:
            self._take_frame(source, frame, now)
        return bool(frames)

    def _take_frame(self, source: LiveInput, frame: VideoFrame, now: float) -> None:
        self._note_back()
        arrived = self._arrivals.take(frame.pts)
        if arrived is not None and not self._joined:
            self._joined = True
            self._framer.forget()
        if self.info is not None and not self._joined:
            return  # its packet came before anyone wanted it, so it is not on the clock
        for framed in self._framer.pictures(frame, source.video, now if arrived is None else arrived):
            if self._joined and self._framer.resized != max(self._resized, 0):
                self._say(f"{self._address.name} now sends {frame.width}x{frame.height} {frame.format.name}")
            self._take_picture(source, framed, damaged=frame.is_corrupt)

    def _take_picture(self, source: LiveInput, framed: Framed, *, damaged: bool) -> None:
        if self.info is None:
            self.info = live_info(source, self._framer, self._reading)
            self.opened.set()
        if self._keeps and not self._ready.is_set():
            with self._waiting():
                self._ready.wait()  # nothing of it is to be lost
        if self._stopped.is_set() and self._intake is None:
            raise Cancelled
        if not self._joined:
            return
        self._note_gap()
        self._note_cut(framed)
        length = round(1 / self._framer.rate / CLOCK)
        stamp = Stamp(self._index, framed.pts, length, CLOCK, captions=framed.captions)
        self._index += 1
        self._statistics.add(damaged=int(damaged))
        arrived = self._paced(framed)
        self._put(LiveFrame(Picture(framed.pixels, stamp), arrived, behind_s=self._pace.behind_s))

    def _note_cut(self, framed: Framed) -> None:
        """The network begins anew where the size changes, and with each scene if that is asked for."""
        if self._framer.resized != self._resized:
            self._resized, self._scenes = self._framer.resized, None
            self._statistics.add(resized=1)
            self._put(LiveCut())
        if self._options.scene_cut == "reset":
            self._scenes = self._scenes or SceneDetector()
            if self._scenes.begins(framed.pixels):
                self._statistics.add(scenes=1)
                self._put(LiveCut())

    def _paced(self, framed: Framed) -> float:
        """When a picture arrived. What is there before its time arrives when it is shown; this waits until then."""
        arrived = self._now() if framed.arrived is None else framed.arrived
        if not self._played and not self._address.bursts:
            return arrived
        shown_s = float(framed.pts * CLOCK)
        due = self._pace.began + shown_s if self._played else self._pace.due(shown_s, arrived)
        self._statistics.set(behind_s=self._pace.behind_s)
        with self._waiting():
            while (left := due - self._now()) > 0 and not self._stopped.wait(min(left, POLL_S)):
                pass
        return self._now() if self._played else due

    def _place(self, lane: str, packet: Packet[Any], now: float) -> Fraction | None:
        """The shift of a packet; None if it has no time, or if nobody wants it yet."""
        ticks, tick = packet.dts if packet.dts is not None else packet.pts, fraction(packet.time_base)
        if ticks is None or tick is None or (self._intake is None and not self._keeps):
            return None
        length = (packet.duration or 0) * tick
        if lane == VIDEO:
            length = length or self._step
        placement = self._clock.place(lane, ticks * tick, length, now, self._busy_s)
        if lane == VIDEO:
            self._shift = placement.shift_s
        if placement.broken is not None:
            self._note_break(placement.broken)
        return placement.shift_s

    def _note_break(self, broken: Break) -> None:
        if broken.jump_s:
            self._jumped = True
            self._statistics.add(jumps=1)
        self._say_of_source(broken.text)
        self._put(LiveCut())

    def _note_back(self) -> None:
        """A picture came."""
        if self._away_since is not None:
            self._away_since = None
            self._statistics.add(reconnects_in=1)

    @property
    def _quiet_s(self) -> float:
        """Seconds without a picture that are a gap."""
        return patience_with(self._framer.rate, BURST_QUIET_S if self._address.bursts else QUIET_S)

    def _note_gap(self) -> None:
        now = self._heard_at()
        gap, self._last_frame = now - self._last_frame if self._last_frame else 0.0, now
        if gap > self._quiet_s:
            self._statistics.add(gaps=1, gap_s=gap)
            self._say(f"{self._address.name} sent no picture for {gap:.1f} s")

    def _put(self, item: LiveItem) -> None:
        if self._intake is None:
            self._early.append(item)
            return
        early, self._early = self._early, []
        with self._waiting():
            for each in (*early, item):
                self._intake.put(each)
