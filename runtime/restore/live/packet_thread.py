"""The packets of an open source, read by a thread of its own, which is left behind where FFmpeg does not come back.

PyAV passes over the packets of streams that began after the source was opened, for ever, and its patience begins anew
with each of them. So it is only noticed from outside that a source goes on with other streams.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ....errors import Cancelled
from ..picture_queue import StoppableQueue

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.packet import Packet

_SOON_S = 0.5
"""For the thread to come back from FFmpeg, so that a port is free again."""


class SilentSourceError(Exception):
    """No packet came in time."""


@dataclass(frozen=True)
class ArrivedPacket:
    """A packet, and when it came, by `time.monotonic`."""

    packet: Packet[Any]
    arrived: float

    @property
    def queued_bytes(self) -> int:
        """For the queue."""
        return self.packet.size


class PacketThread:
    """Reads packets of some streams, a little ahead of whoever takes them."""

    def __init__(self, container: InputContainer, streams: Sequence[Any], ahead: int = 1) -> None:
        """From now on, nobody else uses the container until `leave`, which closes it. ahead: packets to read ahead."""
        self._container, self._streams = container, streams
        self._box: StoppableQueue[ArrivedPacket | Exception | None] = StoppableQueue(ahead)
        self._lock, self._over = threading.Lock(), False
        self._left: float | None = None
        self._thread = threading.Thread(target=self._run, name="swiftvr-live-packets", daemon=True)
        self._thread.start()

    def take(self, patience_s: float | None) -> ArrivedPacket | None:
        """The next packet; None at the end. Raises what PyAV raised, or `SilentSourceError`.

        patience_s: seconds to wait for it; None for no limit.
        """
        try:
            found = self._box.get(patience_s)
        except TimeoutError:
            raise SilentSourceError from None
        if isinstance(found, Exception):
            raise found
        return found

    def is_behind(self, patience_s: float) -> bool:
        """Whether FFmpeg has not come back for this many seconds since `leave`."""
        with self._lock:
            return self._left is not None and not self._over and time.monotonic() - self._left > patience_s

    def leave(self) -> None:
        """Close the container: soon, or when FFmpeg comes back."""
        self._box.stop()
        self._thread.join(_SOON_S)
        with self._lock:
            self._left = time.monotonic()
            if self._over:
                self._container.close()

    def _run(self) -> None:
        with suppress(Cancelled):
            try:
                self._read()
            except Cancelled:
                raise
            except Exception as error:  # noqa: BLE001 (whoever takes packets decides what follows)
                self._box.put(error)
        with self._lock:
            self._over = True
            if self._left is not None:
                self._container.close()

    def _read(self) -> None:
        packets: Any = self._container.demux(self._streams)
        packet: Packet[Any] | None = None
        try:
            while True:
                packet = next(packets, None)  # without FFmpeg's log, which would stay on in a thread left behind
                self._box.put(None if packet is None else ArrivedPacket(packet, time.monotonic()))
                if packet is None:
                    return
        finally:
            packets.close()
