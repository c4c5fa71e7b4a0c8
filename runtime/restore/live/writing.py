"""The thread that writes: encodes pictures and hands packets to the process that sends them, again if that fails.

While the receiver is away, pictures are counted and forgotten, so that nothing before this thread has to wait.
"""

from __future__ import annotations

import random
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace

from ....errors import Cancelled, MediaError, OutputError, SwiftVRError, unexpected
from .addresses import LiveOutputAddress
from .backoff import backoff_s, gives_up
from .counts import LiveStatistics
from .items import POLL_S, LiveFrame, LiveSound, Outbox
from .options import LiveOptions
from .outlet import LiveEncoding, Outlet
from .packets import VIDEO_STREAM, PlainPacket

_BACK_S = 1.0
"""How long a receiver has to take packets to be back."""


class LiveWriter:
    """Writes what comes out of a box until it ends.

    opened: is set once the receiver is there, or is not; then there may be an `error`. finished: is set at the end.
    lost: as `LiveEncoding.lost_streams`, of all connections.
    """

    def __init__(
        self,
        address: LiveOutputAddress,
        options: LiveOptions,
        encode: Callable[[], LiveEncoding],
        statistics: LiveStatistics,
        say: Callable[[str], None],
    ) -> None:
        """encode: begins to encode for a new connection. say: gets a line about everything that happens."""
        self._address, self._options, self._encode = address, options, encode
        self._statistics, self._say = statistics, say
        self.box = Outbox(64)
        self.opened, self.finished = threading.Event(), threading.Event()
        self.error: SwiftVRError | None = None
        self.lost: tuple[str, ...] = ()
        self._encoding: LiveEncoding | None = None
        self._outlet: Outlet | None = None
        self._away_since: float | None = None
        self._attempt, self._next_try = 0, 0.0
        self._sending_since: float | None = None
        self._now: Callable[[], float] = time.monotonic
        self._was_open = self._stopped = False
        self._encoded: deque[LiveFrame] = deque()
        self._underway = 0
        self._thread = threading.Thread(target=self._guard, name="swiftvr-live-writing", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Write no more, and leave the output as it is."""
        self._stopped = True
        self.box.stop()

    def _guard(self) -> None:
        try:
            self._connect()
            self._run()
        except Cancelled:
            pass
        except SwiftVRError as error:
            self.error = error
        except Exception as error:  # noqa: BLE001 (it must end the run, whatever it is)
            self.error = unexpected(error, "writing")
        finally:
            self._close()
            self.box.stop()
            self.opened.set()
            self.finished.set()

    def _run(self) -> None:
        while True:
            self._keep_connected()
            try:
                item = self.box.get(POLL_S)
            except TimeoutError:
                continue
            if item is None:
                break
            try:
                self._write(item)
            except OutputError as error:
                self._lose(error)
        if self._outlet is not None and self._outlet.is_open and self._encoding is not None:
            try:
                for packet in self._encoding.finish():
                    self._send(self._outlet, packet)
                self._outlet.finish()
                self._note_back()
            except OutputError as error:
                self._forget_underway()
                raise OutputError(f"the end of the output is lost: {error}") from error
        elif self._away_since is not None:
            raise OutputError(f"{self._address.name} was away at the end: what came last is not there")
        elif not self._was_open:
            raise OutputError(f"{self._address.name} did not answer before the run was ended: nothing was written")

    def _connect(self) -> None:
        self._close()
        self._sending_since = None
        self._encoding = self._encode()
        self.lost = tuple(dict.fromkeys((*self.lost, *self._encoding.lost_streams)))
        self._outlet = Outlet(self._address, self._options.out_options, self._encoding.header)

    def _keep_connected(self) -> None:
        """Note what the process says; begin another one if it is time."""
        if self._stopped:
            raise Cancelled
        if self._outlet is None:
            if self._now() >= self._next_try:
                self._connect()
            return
        try:
            self._outlet.poll()
            while self._outlet.is_full:
                self._outlet.poll(POLL_S)
                if self._stopped:
                    raise Cancelled
        except OutputError as error:
            self._lose(error)
            return
        if self._outlet.is_open and not self.opened.is_set():
            self._was_open = True
            self.opened.set()
        if self._sending_since is not None and self._now() - self._sending_since >= _BACK_S:
            self._note_back()

    def _note_back(self) -> None:
        """A receiver takes packets, and did not hang up soon."""
        if self._away_since is not None:
            away, self._away_since, self._attempt = self._now() - self._away_since, None, 0
            self._statistics.add(reconnects_out=1)
            self._say(f"{self._address.name} is back after {away:.1f} s")

    def _lose(self, error: OutputError | MediaError) -> None:
        """The receiver is away. Raises the error if it is not worth another try."""
        self._forget_underway()
        if not self._was_open or not self._address.is_network:
            raise error
        now = self._now()
        if self._away_since is None:
            self._away_since = now
            self._say(f"{error}; connecting again")
        limit = None if self._options.reconnect is None else float(self._options.reconnect)
        if gives_up(now - self._away_since, limit):
            raise OutputError(f"{error}; it did not come back in time")
        self._close()
        self._next_try = now + backoff_s(self._attempt, random.random())
        self._attempt += 1

    def _forget_underway(self) -> None:
        """What was on its way is lost."""
        self._statistics.add(unsent=self._underway)
        self._underway = 0
        self._encoded.clear()

    def _write(self, item: LiveFrame | LiveSound) -> None:
        outlet, encoding = self._outlet, self._encoding
        if outlet is None or encoding is None or not outlet.is_open:
            if isinstance(item, LiveSound):
                self._statistics.add(packets_lost=1)
            else:
                self._statistics.add(unsent=int(item.arrived is not None))
            return
        if isinstance(item, LiveSound):
            before = encoding.lost
            for packet in encoding.sound(item.stream, item.packet):
                outlet.send(packet)
            self._statistics.add(packets_lost=encoding.lost - before)
            return
        self._underway += item.arrived is not None
        self._encoded.append(replace(item, picture=item.picture.without_pixels()))
        packets = encoding.encode(item.picture)
        for line in encoding.lost_streams:
            if line not in self.lost:
                self.lost += (line,)
                self._say(line)
        for packet in packets:
            self._send(outlet, packet)

    def _send(self, outlet: Outlet, packet: PlainPacket) -> None:
        """Send a packet; that of a picture belongs to the first one of which the encoder has given none."""
        if packet.stream == VIDEO_STREAM and self._encoded:
            item = self._encoded.popleft()
            outlet.send(packet, lambda: self._sent(item))
        else:
            outlet.send(packet)

    def _sent(self, item: LiveFrame) -> None:
        """A picture left."""
        self._statistics.leave()
        if self._sending_since is None:
            self._sending_since = self._now()
        delay = item.delay_s(self._now())
        if delay is not None:
            self._underway -= 1
            self._statistics.add(frames_out=1)
            self._statistics.add_delay(delay)

    def _close(self) -> None:
        outlet, encoding = self._outlet, self._encoding
        self._outlet = self._encoding = None
        if outlet is not None:
            with suppress(OSError):
                outlet.close()
        if encoding is not None:
            encoding.close()
