"""Carries other streams over: copies their packets, or converts them where the container does not hold their format."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Any, cast

from ...errors import MediaError
from ...text import counted
from .base import CopiedPacket, CopiedStream, SourceInfo
from .holding import WITH_ATTACHMENTS, add_copy, is_taken_if_passed_on, refusal
from .muxer import PASSED_ON, format_name_of
from .pyav import fraction
from .reencode import Converter, SoundConverter, TextConverter, sound_encoder, text_encoder, unmixable
from .timeline import rescale

if TYPE_CHECKING:
    from av.container import OutputContainer

_COVER_TYPES = {
    "mjpeg": ("cover.jpg", "image/jpeg"),
    "png": ("cover.png", "image/png"),
    "bmp": ("cover.bmp", "image/bmp"),
}
_WITH_EDIT_LISTS = frozenset({"mp4", "mov", "ipod", "3gp", "3g2", "psp", "f4v"})
"""Containers that tell players to skip what a packet holds before time 0."""
_CUT_SOUND = frozenset({"mxf"})
"""Containers whose sound ends with the last picture."""
_NOTICED_S = Fraction(1, 10)
"""Of sound that is cut off."""
_WITH_CODEC_DELAY = frozenset({"matroska", "webm"})
"""Containers that say how much decoded sound players skip. FFmpeg 9 writes what an edit list hides there."""


@dataclass(frozen=True)
class Carriage:
    """How a stream gets into the output. encoder: of its new format; None copies it. why: copying is not possible.

    A stream with a reason and without an encoder is left out.
    """

    source: CopiedStream
    encoder: str | None = None
    why: str | None = None
    passed_on: bool = False

    @property
    def is_lost(self) -> bool:
        """Whether the output lacks the stream."""
        return self.why is not None and self.encoder is None


@dataclass
class _Track:
    """A stream in the output.

    last        decoding time of its last packet
    refused     packets that were dropped
    hidden      the packet that came last, if the edit list of the input hides it
    skips       whether players are told to skip what an edit list hides
    end_s       when the last of its packets ends, in seconds
    cut_s       how much of its end the output lacks
    step        ticks from one decoding time to the next, at least
    """

    stream: Any
    source: CopiedStream
    last: int | None = None
    refused: int = 0
    hidden: Any = None
    skips: bool = False
    end_s: Fraction = Fraction(0)
    cut_s: Fraction = Fraction(0)
    step: int = 1
    converter: Converter | None = None


def plan_carriage(
    format_name: str, info: SourceInfo, wanted: Iterable[CopiedStream], audio_fallback: str = "auto"
) -> list[Carriage]:
    """How each of the wanted streams gets into a container of this format.

    audio_fallback: what sound becomes that the container does not hold: "auto", the name of an encoder or a format, or
    "fail". Raises `MediaError` if that is "fail" and there is such sound, `MisuseError` for an unknown name.
    """
    return [
        _carriage(format_name, info, source, audio_fallback) for source in wanted if not _is_written_by_muxer(source)
    ]


def _carriage(format_name: str, info: SourceInfo, source: CopiedStream, audio_fallback: str) -> Carriage:
    why = refusal(format_name, source)
    if why is None:
        return Carriage(source)
    if not info.chapters and is_taken_if_passed_on(format_name, source):
        return Carriage(source, passed_on=True)
    if source.kind == "audio" and audio_fallback == "fail":
        raise MediaError(
            f"{source} cannot be copied, since {why}, and --audio-fallback is fail: choose another container, e.g. "
            ".mkv, or leave the option out"
        )
    encoder = None
    if source.kind == "audio":
        encoder = sound_encoder(format_name, source, audio_fallback)
        why += unmixable(source) if encoder is None else ""
    elif source.kind == "subtitle":
        encoder = text_encoder(format_name, source)
    return Carriage(source, encoder, why)


class StreamCopier:
    """Carries streams into one output container, as planned. Create it before the header is written.

    copied, left_out: the streams that the output gets, and those that it does not, with the reason.
    converted: those of the copied ones that change their format, with the name of the new one and the reason.
    """

    def __init__(self, container: OutputContainer, plan: Sequence[Carriage]) -> None:
        self._container, self._format = container, format_name_of(container)
        self._tracks: dict[int, _Track] = {}
        self.copied: list[CopiedStream] = []
        self.converted: list[tuple[CopiedStream, str, str]] = []
        self.left_out: list[tuple[CopiedStream, str]] = []
        for carriage in plan:
            self._add(carriage)

    def _add(self, carriage: Carriage) -> None:
        source, why = carriage.source, carriage.why
        if source.kind == "cover" and why is None and self._format in WITH_ATTACHMENTS:
            why = self._attach_cover(source)
        elif carriage.encoder is not None and why is not None:
            new = SoundConverter if source.kind == "audio" else TextConverter
            converter = new(self._container, source, carriage.encoder)
            self._tracks[source.index] = _Track(converter.stream, source, converter=converter)
            self.converted.append((source, converter.name, why))
            why = None
        elif why is None:
            stream = add_copy(self._container, source)
            if source.kind != "attachment":
                skips = self._format in _WITH_CODEC_DELAY and _padding(stream) > 0
                self._tracks[source.index] = _Track(stream, source, skips=skips, step=self._step(source))
        if why is None:
            self.copied.append(source)
        else:
            self.left_out.append((source, why))

    def _step(self, source: CopiedStream) -> int:
        """0 if packets may be decoded at the same time. In a Matroska's milliseconds, several of TrueHD are."""
        from av.format import Flags

        strict = not self._container.format.flags & cast(int, Flags.ts_nonstrict.value)
        return int(strict and source.kind in ("audio", "cover"))

    def _attach_cover(self, source: CopiedStream) -> str | None:
        """Matroska stores covers as attached files."""
        if source.cover is None or source.codec not in _COVER_TYPES:
            return "it holds no picture that can be attached"
        name, mimetype = _COVER_TYPES[source.codec]
        self._container.add_attachment(name, mimetype, source.cover)
        return None

    def write(self, copied: CopiedPacket) -> None:
        """Write one packet; drop and count it if the container refuses it. Raises `OSError` if the disk fails."""
        track = self._tracks.get(copied.stream)
        if track is None:
            return
        if track.converter is not None:
            for packet in track.converter.convert(copied.packet):
                self._mux(track, packet)
        elif not copied.early or self._format in _WITH_EDIT_LISTS:
            for packet in self._shown(track, copied.packet):
                self._mux(track, packet)

    def _shown(self, track: _Track, packet: Any) -> Iterator[Any]:
        """The packets to write now. Sound that an edit list hides would be heard where there are no edit lists.

        The last packet before the first that is heard is kept: decoders need it.
        """
        if track.source.kind != "audio" or self._format in _WITH_EDIT_LISTS or track.skips:
            yield packet
        elif packet.is_discard:
            track.hidden = packet
        else:
            if track.hidden is not None and track.last is None:
                yield track.hidden
            track.hidden = None
            yield packet

    def finish(self, video_s: Fraction) -> None:
        """Write what converters still hold. video_s: how long the video of the output is shown, in seconds."""
        for track in self._tracks.values():
            if track.converter is not None:
                for packet in track.converter.finish():
                    self._mux(track, packet)
            if self._format in _CUT_SOUND and track.source.kind == "audio":
                track.cut_s = max(Fraction(0), track.end_s - video_s)

    def _mux(self, track: _Track, packet: Any) -> None:
        import av

        _convert(packet, fraction(track.stream.time_base))
        _make_decoding_time_advance(packet, track)
        packet.stream = track.stream
        track.end_s = max(track.end_s, (packet.pts + (packet.duration or 0)) * (fraction(packet.time_base) or 0))
        try:
            self._container.mux(packet)
        except OSError:
            raise
        except av.FFmpegError:
            track.refused += 1

    @property
    def notes(self) -> tuple[str, ...]:
        """What the output holds in another format, or not at all. Complete after `finish`."""
        changed = (f"{source} becomes {name}: {why}" for source, name, why in self.converted)
        converted = ((track.source, track.converter) for track in self._tracks.values() if track.converter is not None)
        levelled = (f"{source}: {converter.change}" for source, converter in converted if converter.change)
        return (*changed, *levelled, *self.lost)

    @property
    def lost(self) -> tuple[str, ...]:
        """What the output lacks, one line each. Complete after `finish`."""
        remedy = "" if self._format in PASSED_ON else "; Matroska (.mkv) takes most"
        left_out = (f"{source} is left out: {why}{remedy}" for source, why in self.left_out)
        return (*left_out, *self._dropped())

    def _dropped(self) -> Iterator[str]:
        for track in self._tracks.values():
            if track.refused:
                yield f"{counted(track.refused, 'packet')} of {track.source} did not fit: left out"
            if track.cut_s > _NOTICED_S:
                lost = f"the last {float(track.cut_s):.2f} s of {track.source} are cut off"
                yield f"{lost}: {self._format} files end with the last picture"
            if track.converter is not None and track.converter.failed:
                yield f"{counted(track.converter.failed, 'packet')} of {track.source} could not be converted: left out"


def _convert(packet: Any, clock: Fraction | None) -> None:
    """Convert the time stamps of a packet to the clock of the output, on which two moments may become one."""
    before = fraction(packet.time_base)
    if before is not None and clock is not None:
        packet.pts, packet.dts, packet.duration = (
            None if ticks is None else rescale(ticks, before, clock)
            for ticks in (packet.pts, packet.dts, packet.duration)
        )
        packet.time_base = clock


def _make_decoding_time_advance(packet: Any, track: _Track) -> None:
    """Fill in missing time stamps, and move a decoding time that does not advance: muxers refuse both."""
    if packet.dts is None:
        packet.dts = packet.pts if packet.pts is not None else (track.last or 0) + 1
    if packet.pts is None:
        packet.pts = packet.dts
    if track.last is not None and packet.dts <= track.last:
        packet.dts = track.last + track.step
        packet.pts = max(packet.pts, packet.dts)
    track.last = packet.dts


def _is_written_by_muxer(source: CopiedStream) -> bool:
    """True for QuickTime's time code tracks: muxers write new ones from the metadata."""
    return source.kind == "data" and "timecode" in source.template.stream.metadata


def _padding(stream: Any) -> int:
    """How many samples players skip at the beginning of a copy; 0 for other streams, and before PyAV 19."""
    return int(getattr(stream.codec_context, "initial_padding", 0))
