"""The length of a video in containers that add it up from decoding times, such as MP4.

They take the duration of the packet that is decoded last for the end. With reordered frames another one may be shown
last, and for longer. So that packet waits, and in the end gets a duration that makes the sum long enough.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from av.packet import Packet

ADDING_UP = frozenset({"mp4", "mov", "ipod", "3gp", "3g2", "psp", "f4v", "ismv"})
"""Containers that do."""


class LastPacket:
    """Passes on the packets of a video, all but the last. They have the same time base."""

    def __init__(self, container: str) -> None:
        """container: FFmpeg's name of it. If it does not add up, no packet waits."""
        self._holds = container in ADDING_UP
        self._first: tuple[int, int] | None = None
        self._last: Packet[Any] | None = None
        self._latest, self._end = 0, 0

    def ready(self, packets: Iterable[Packet[Any]]) -> list[Packet[Any]]:
        """The packets that can be written, now that these came."""
        if not self._holds:
            return list(packets)
        done = []
        for packet in packets:
            done += [] if self._last is None else [self._last]
            self._last = packet
            if packet.pts is not None and packet.dts is not None:
                self._first = self._first or (packet.pts, packet.dts)
                if packet.pts >= self._latest:
                    self._latest, self._end = packet.pts, packet.pts + (packet.duration or 0)
        return done

    def rest(self) -> list[Packet[Any]]:
        """The packet that waits, if any."""
        last, self._last = self._last, None
        if last is not None and self._first is not None and last.dts is not None:
            shown, decoded = self._first
            last.duration = max(1, last.duration or 0, self._end - shown - (last.dts - decoded))
        return [] if last is None else [last]
