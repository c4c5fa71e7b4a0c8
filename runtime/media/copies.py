"""Streams that are copied: which of them a container takes, and how their packets are written."""

from __future__ import annotations

import io
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .base import CopiedStream, Passenger, SourceInfo

if TYPE_CHECKING:
    from av.container import OutputContainer

_COVER_TYPES = {
    "mjpeg": ("cover.jpg", "image/jpeg"),
    "png": ("cover.png", "image/png"),
    "bmp": ("cover.bmp", "image/bmp"),
}
_WITH_COVER = frozenset({"mp4", "mov", "ipod"})
_WITH_ATTACHMENTS = frozenset({"matroska"})


@dataclass
class _Track:
    """A stream of the output. Decoding stamps must grow: `last` is that of the packet before."""

    stream: Any
    source: CopiedStream
    last: int | None = None
    lost: int = 0


class Copies:
    """The copied streams of one output container. Make it before the header is written."""

    def __init__(self, container: OutputContainer, info: SourceInfo, wanted: Iterable[CopiedStream]) -> None:
        self._container = container
        self._tracks: dict[int, _Track] = {}
        self._left_out: list[str] = []
        for source in wanted:
            if _is_remade(source, info):
                continue
            reason = self._add(source)
            if reason is not None:
                self._left_out.append(f"{source} is left out: {reason}")

    def _add(self, source: CopiedStream) -> str | None:
        """Give `source` a place in the container; None, or why it has none."""
        name = self._container.format.name
        if source.kind == "cover" and name in _WITH_ATTACHMENTS:
            return self._attach_cover(source)
        if source.kind == "cover" and name not in _WITH_COVER:
            return f"{name} files hold no cover pictures"
        if source.kind == "attachment" and name not in _WITH_ATTACHMENTS:
            return f"{name} files hold no attachments"
        reason = _refusal(name, source)
        if reason is not None:
            return reason
        stream = _copy_stream(self._container, source)
        if source.kind != "attachment":
            self._tracks[source.index] = _Track(stream, source)
        return None

    def _attach_cover(self, source: CopiedStream) -> str | None:
        """Matroska keeps covers as attached files."""
        if source.cover is None or source.codec not in _COVER_TYPES:
            return "it holds no picture that can be attached"
        name, mimetype = _COVER_TYPES[source.codec]
        self._container.add_attachment(name, mimetype, source.cover)
        return None

    def write(self, passenger: Passenger) -> None:
        """Write one packet. One that the container refuses is dropped and counted; `OSError` is the disk's."""
        import av

        track = self._tracks.get(passenger.stream)
        if track is None:
            return
        packet = passenger.packet
        if packet.dts is None:
            packet.dts = packet.pts if packet.pts is not None else (track.last or 0) + 1
        if packet.pts is None:
            packet.pts = packet.dts
        if track.last is not None and packet.dts <= track.last:
            packet.dts = track.last + (track.source.kind in ("audio", "cover"))
            packet.pts = max(packet.pts, packet.dts)
        track.last = packet.dts
        packet.stream = track.stream
        try:
            self._container.mux(packet)
        except OSError:
            raise
        except av.FFmpegError:
            track.lost += 1

    @property
    def notes(self) -> tuple[str, ...]:
        """What did not make it into the output."""
        lost = [f"{t.lost} packets of {t.source} do not fit and are left out" for t in self._tracks.values() if t.lost]
        return (*self._left_out, *lost)


def _is_remade(source: CopiedStream, info: SourceInfo) -> bool:
    """True for QuickTime's tracks of chapters and of time codes: muxers make new ones from chapters and metadata."""
    chapters = source.codec == "bin_data" and bool(info.chapters)
    return chapters or (source.kind == "data" and "timecode" in source.template.metadata)


def _copy_stream(container: OutputContainer, source: CopiedStream) -> Any:
    """A stream of `container` that takes the packets of `source` as they are."""
    stream = container.add_stream_from_template(source.template, opaque=True)
    stream.metadata.update(source.template.metadata)
    stream.disposition = source.template.disposition
    return stream


def _refusal(format_name: str, source: CopiedStream) -> str | None:
    """Why a container of this format does not take the stream, or None: found out by writing a header to memory."""
    import av

    memory = io.BytesIO()
    # An MP4 describes its streams at the end of the file, unless told otherwise: too late to learn that the layout
    # of PCM channels is missing. (For other codecs the header needs packets, and their description does not fail.)
    early = source.codec.startswith("pcm_") and format_name in _WITH_COVER
    trial = av.open(memory, "w", format=format_name, container_options={"movflags": "empty_moov"} if early else {})
    try:
        _copy_stream(trial, source)
        trial.start_encoding()
    except (av.FFmpegError, ValueError):
        return f"{format_name} files do not hold {source.codec}; Matroska (.mkv) takes most"
    finally:
        memory.close()  # and so no trailer is written
        trial.close()
    return None
