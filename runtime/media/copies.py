"""Copies streams without decoding: finds out which ones a container takes, and writes their packets."""

from __future__ import annotations

import io
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .base import CopiedPacket, CopiedStream, SourceInfo

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
    """A copied stream in the output. last: decoding time of its last packet. refused: packets that were dropped."""

    stream: Any
    source: CopiedStream
    last: int | None = None
    refused: int = 0


class StreamCopier:
    """Copies streams into one output container. Create it before the header is written."""

    def __init__(self, container: OutputContainer, info: SourceInfo, wanted: Iterable[CopiedStream]) -> None:
        self._container = container
        self._tracks: dict[int, _Track] = {}
        self._left_out: list[str] = []
        for source in wanted:
            if _is_written_by_muxer(source, info):
                continue
            refusal = self._add(source)
            if refusal is not None:
                self._left_out.append(f"{source} is left out: {refusal}")

    def _add(self, source: CopiedStream) -> str | None:
        """Add `source` to the container. Returns why that is not possible; None if it was added."""
        name = self._container.format.name
        if source.kind == "cover" and name in _WITH_ATTACHMENTS:
            return self._attach_cover(source)
        if source.kind == "cover" and name not in _WITH_COVER:
            return f"{name} files hold no cover pictures"
        if source.kind == "attachment" and name not in _WITH_ATTACHMENTS:
            return f"{name} files hold no attachments"
        refusal = _refusal(name, source)
        if refusal is not None:
            return refusal
        stream = _copy_stream(self._container, source)
        if source.kind != "attachment":
            self._tracks[source.index] = _Track(stream, source)
        return None

    def _attach_cover(self, source: CopiedStream) -> str | None:
        """Matroska stores covers as attached files."""
        if source.cover is None or source.codec not in _COVER_TYPES:
            return "it holds no picture that can be attached"
        name, mimetype = _COVER_TYPES[source.codec]
        self._container.add_attachment(name, mimetype, source.cover)
        return None

    def write(self, copied: CopiedPacket) -> None:
        """Write one packet; drop and count it if the container refuses it. Raises `OSError` if the disk fails."""
        import av

        track = self._tracks.get(copied.stream)
        if track is None:
            return
        _make_decoding_time_advance(copied.packet, track)
        copied.packet.stream = track.stream
        try:
            self._container.mux(copied.packet)
        except OSError:
            raise
        except av.FFmpegError:
            track.refused += 1

    @property
    def notes(self) -> tuple[str, ...]:
        """What is missing in the output. Complete after the last packet."""
        dropped = [
            f"{track.refused} packets of {track.source} do not fit and are left out"
            for track in self._tracks.values()
            if track.refused
        ]
        return (*self._left_out, *dropped)


def _make_decoding_time_advance(packet: Any, track: _Track) -> None:
    """Fill in missing time stamps, and move a decoding time that does not advance: muxers refuse both."""
    if packet.dts is None:
        packet.dts = packet.pts if packet.pts is not None else (track.last or 0) + 1
    if packet.pts is None:
        packet.pts = packet.dts
    if track.last is not None and packet.dts <= track.last:
        packet.dts = track.last + (track.source.kind in ("audio", "cover"))
        packet.pts = max(packet.pts, packet.dts)
    track.last = packet.dts


def _is_written_by_muxer(source: CopiedStream, info: SourceInfo) -> bool:
    """True for QuickTime's chapter and time code tracks: muxers write new ones from the chapters and the metadata."""
    chapters = source.codec == "bin_data" and bool(info.chapters)
    return chapters or (source.kind == "data" and "timecode" in source.template.metadata)


def _copy_stream(container: OutputContainer, source: CopiedStream) -> Any:
    """Add a stream to `container` for the unchanged packets of `source`."""
    stream = container.add_stream_from_template(source.template, opaque=True)
    stream.metadata.update(source.template.metadata)
    stream.disposition = source.template.disposition
    return stream


def _refusal(format_name: str, source: CopiedStream) -> str | None:
    """Why a container of this format does not take the stream; None if it does. Tries it, in memory."""
    import av

    memory = io.BytesIO()
    # An MP4 normally describes its streams at the end of the file. If the layout of PCM channels is missing, it fails
    # only there, so ask for the description first. Other codecs need packets for it, and do not fail there.
    early = source.codec.startswith("pcm_") and format_name in _WITH_COVER
    trial = av.open(memory, "w", format=format_name, container_options={"movflags": "empty_moov"} if early else {})
    try:
        _copy_stream(trial, source)
        trial.start_encoding()
    except (av.FFmpegError, ValueError):
        return f"{format_name} files do not hold {source.codec}; Matroska (.mkv) takes most"
    finally:
        memory.close()  # so that no trailer is written
        trial.close()
    return None
