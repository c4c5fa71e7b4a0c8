"""Sound that a container does not hold, decoded and encoded again; text subtitles, in another text format."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from fractions import Fraction
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

from ...errors import MisuseError
from .base import CopiedStream
from .ffmpeg_log import mute
from .holding import NAMED_LAYOUTS, can_name, named_layout, tags_for, takes
from .pyav import fraction, readable
from .sound_filters import ContinuousSound, SoundKind, UniformSound, uniform_graph

if TYPE_CHECKING:
    from av.container import OutputContainer
    from av.packet import Packet

AUDIO_FALLBACKS = ("aac", "opus", "flac", "alac", "mp3", "ac3", "mp2")
"""What `--audio-fallback` suggests; it takes the name of any audio encoder."""

_ENCODERS = {"opus": "libopus", "mp3": "libmp3lame", "pcm": "pcm_s16le"}
"""The encoder for the name of a format, where it has another one."""

_AUTO: Mapping[str, tuple[str, ...]] = {
    "avi": ("libmp3lame", "ac3"),
    "asf": ("wmav2", "ac3"),
    "mpeg": ("mp2", "ac3"),
    "webm": ("libopus",),
    "ogg": ("libopus", "flac"),
    "ogv": ("libopus", "flac"),
    "mxf": ("pcm_s16le",),
}
"""Encoders to try for a container, best first."""

_AUTO_ELSE = ("aac", "libopus", "libmp3lame", "ac3", "mp2", "wmav2", "pcm_s16le")

_STEREO = frozenset({"libmp3lame", "mp2", "wmav2"})
"""Encoders of two channels at most."""

_LOSSLESS_IN: Mapping[str, tuple[str, ...]] = {
    "matroska": ("flac",),
    "nut": ("flac",),
    "mov": ("alac",),
    "mp4": ("alac",),
    "ipod": ("alac",),
    "ogg": ("flac",),
    "ogv": ("flac",),
}
"""Encoders that lose nothing, tried first for sound that has lost nothing either."""

_WITH_PCM = frozenset({"avi", "mxf"})
"""Containers in which uncompressed sound is the one that loses nothing."""

_PCM = {"u8": "pcm_u8", "s16": "pcm_s16le", "s32": "pcm_s24le", "flt": "pcm_f32le", "dbl": "pcm_f64le"}
"""The encoder of uncompressed sound for what a decoder gives. Lossless codecs of 24 bits are decoded to 32."""

_LOSSLESS = ("pcm_", "flac", "alac", "tta", "wavpack", "truehd", "mlp", "s302m", "ape", "shorten", "wmalossless")

_BITS_PER_SECOND = {
    "aac": 96_000,
    "libopus": 80_000,
    "libmp3lame": 112_000,
    "mp2": 128_000,
    "ac3": 112_000,
    "wmav2": 96_000,
}
"""Per channel; other encoders choose for themselves."""

_LAYOUTS = (*NAMED_LAYOUTS, "3.0", "quad", "5.0(side)", "5.1(side)", "6.1(back)", "7.1(wide)")
"""What encoders may take for sound whose loudspeakers stand elsewhere."""

TEXT_SUBTITLES = ("subrip", "ass", "webvtt", "mov_text", "text")
"""Formats of text subtitles that FFmpeg writes, in the order in which they are tried."""

_TEXT_DECODERS = frozenset({*TEXT_SUBTITLES, "ssa", "srt", "ttml", "sami", "microdvd", "subviewer", "eia_608", "stl"})


class Converter(Protocol):
    """Turns the packets of a stream into those of another format. name: of that format. failed: lost packets.

    change: in words, what changes in the middle of the stream and is not kept; empty if nothing does.
    """

    stream: Any
    name: str
    failed: int

    @property
    def change(self) -> str: ...

    def convert(self, packet: Packet[Any]) -> Iterator[Packet[Any]]: ...

    def finish(self) -> Iterator[Packet[Any]]: ...


class SoundConverter:
    """Encodes the sound of a stream anew. Time stamps are kept; gaps become silence; what lies before 0 is cut off."""

    def __init__(
        self, container: OutputContainer, source: CopiedStream, encoder: str, silence_s: Fraction | None = None
    ) -> None:
        """silence_s: a longer gap stays one, so that no silence is made for an hour at once; None for any length."""
        self.failed = 0
        self._decoder: Any = source.template.stream.codec_context
        self.stream = _add_encoder(container, self._decoder, encoder)
        self.stream.metadata.update(tags_for(container, _portable(readable(source.template.stream.metadata))))
        self.stream.disposition = source.template.stream.disposition
        self._uniform = UniformSound(self.stream.codec_context)
        self._continuous = ContinuousSound(self.stream.codec_context, silence_s)
        self.name = str(self.stream.codec_context.codec.canonical_name)

    def convert(self, packet: Packet[Any]) -> Iterator[Packet[Any]]:
        """The packets that are complete with this one."""
        import av

        try:
            frames = self._decoder.decode(packet)
            uniform = [each for frame in frames if frame.pts is not None for each in self._uniform.feed(frame)]
        except (av.FFmpegError, ValueError):
            self.failed += 1
            return
        for frame in uniform:
            yield from self._encoded(frame)

    def finish(self) -> Iterator[Packet[Any]]:
        """The packets that the encoder still holds."""
        if self._uniform.layouts:
            for frame in self._uniform.feed(None):
                yield from self._encoded(frame)
            yield from self._encoded(None)
            yield from self.stream.encode(None)

    @property
    def change(self) -> str:
        layouts, kept = tuple(self._uniform.layouts), self.stream.codec_context.layout.name
        return f"its channels change from {' to '.join(layouts)}, all are written as {kept}" if layouts[1:] else ""

    def _encoded(self, frame: Any) -> Iterator[Packet[Any]]:
        for each in self._continuous.feed(frame):
            yield from self.stream.encode(each)


class TextConverter:
    """Turns text subtitles into another text format, one by one, with their times."""

    def __init__(self, container: OutputContainer, source: CopiedStream, encoder: str) -> None:
        self.failed, self.name = 0, encoder
        self._decoder: Any = source.template.stream.codec_context
        self.stream = _add_text_encoder(container, source, encoder)
        self.stream.metadata.update(tags_for(container, _portable(readable(source.template.stream.metadata))))
        self.stream.disposition = source.template.stream.disposition

    def convert(self, packet: Packet[Any]) -> Iterator[Packet[Any]]:
        """The subtitle in the other format; nothing for an empty one, which only fills a gap."""
        import av

        try:
            found = self._decoder.decode2(packet)
            if found is None or not len(found):
                return
            encoded = self.stream.codec_context.encode_subtitle(found)
        except (av.FFmpegError, ValueError):
            self.failed += 1
            return
        encoded.stream, encoded.time_base = self.stream, fraction(packet.time_base) or Fraction(1, 1000)
        encoded.pts = encoded.dts = packet.pts if packet.pts is not None else packet.dts
        encoded.duration = packet.duration or 0
        yield encoded

    @property
    def change(self) -> str:
        return ""

    def finish(self) -> Iterator[Packet[Any]]:
        """Nothing: every subtitle is complete at once."""
        return iter(())


def _add_encoder(container: OutputContainer, decoder: Any, encoder: str) -> Any:
    """Add a stream with an open audio encoder that suits what `decoder` gives."""
    from av.codec.codec import Codec

    codec = Codec(encoder, "w")
    rate = _nearest(decoder.sample_rate, codec.audio_rates)
    stream: Any = container.add_stream(encoder, rate=rate)
    layout = named_layout(decoder) or NAMED_LAYOUTS[1]
    names = [known.name for known in codec.audio_formats or ()]
    context = stream.codec_context
    context.format = _sample_format(decoder.format.name if decoder.format else "s16", names)
    context.layout = _layout_for(encoder, layout, rate, context.format.name)
    context.time_base = Fraction(1, rate)
    if encoder in _BITS_PER_SECOND:
        context.bit_rate = _BITS_PER_SECOND[encoder] * context.layout.nb_channels
    context.open()
    return stream


def _layout_for(encoder: str, layout: str, rate: int, sample_format: str) -> str:
    """The layout that the encoder takes and that is most like `layout`: with as many channels, else with two."""
    import av
    from av.audio.layout import AudioLayout

    count = AudioLayout(layout).nb_channels
    same = (name for name in _LAYOUTS if AudioLayout(name).nb_channels == count)
    for name in (layout, *same, "stereo", "mono"):
        context: Any = av.CodecContext.create(encoder, "w")
        context.layout, context.format, context.sample_rate = name, sample_format, rate
        context.time_base = Fraction(1, rate)
        try:
            with mute():
                context.open()
        except (av.FFmpegError, ValueError):
            continue
        return name
    return layout


def _sample_format(given: str, known: Sequence[str]) -> str:
    """The sample format of an encoder that loses least: as deep as the sound, else the deepest."""
    deep = not given.startswith(("s16", "u8"))
    wanted = ("s32", "s32p", "fltp", "flt", "s16", "s16p") if deep else ("s16", "s16p", "fltp", "flt", "s32", "s32p")
    return next((name for name in wanted if name in known), known[0] if known else "s16")


def _nearest(rate: int, known: Sequence[int] | None) -> int:
    """The rate itself if the encoder has it, else the next one above, or the highest."""
    if not known or rate in known:
        return rate
    return min((each for each in known if each > rate), default=max(known))


def _add_text_encoder(container: OutputContainer, source: CopiedStream, encoder: str) -> Any:
    decoder: Any = source.template.stream.codec_context
    decoder.open(strict=False)
    stream: Any = container.add_stream(encoder)
    stream.time_base = Fraction(1, 1000)
    stream.codec_context.time_base = Fraction(1, 1000)
    stream.codec_context.subtitle_header = decoder.subtitle_header or b""
    return stream


def _portable(tags: Mapping[str, str]) -> dict[str, str]:
    """The tags of a stream that do not describe its old encoding."""
    old = {"encoder", "bps", "duration", "number_of_frames", "number_of_bytes", "vendor_id"}
    return {
        name: text
        for name, text in tags.items()
        if name.lower().split("-")[0] not in old and not name.startswith("_STATISTICS")
    }


def sound_encoder(format_name: str, source: CopiedStream, wanted: str) -> str | None:
    """The encoder for sound that a container of this format does not take as it is; None if there is none.

    wanted: "auto", or the name of an encoder or a format. Raises `MisuseError` if there is no such audio encoder.
    """
    from av.codec.codec import Codec, UnknownCodecError

    context = source.template.stream.codec_context
    if context is None or not context.sample_rate or named_layout(context) is None:
        return None
    if wanted != "auto":
        name = _ENCODERS.get(wanted, wanted)
        try:
            found = Codec(name, "w").type == "audio"
        except UnknownCodecError:
            found = False
        if not found:
            raise MisuseError(
                f"--audio-fallback is {wanted!r}, expected auto, fail, or an audio encoder such as "
                f"{', '.join(AUDIO_FALLBACKS[:3])}"
            )
        return name if encodes(format_name, context, name) else None
    usual: Iterable[str] = _AUTO.get(format_name, _AUTO_ELSE)
    if context.layout.nb_channels > 2:  # rather all loudspeakers than two of them
        usual = sorted(usual, key=_STEREO.__contains__)
    names = (*_lossless_encoders(format_name, source), *usual)
    return next((name for name in names if encodes(format_name, context, name)), None)


def _lossless_encoders(format_name: str, source: CopiedStream) -> tuple[str, ...]:
    """Encoders that lose nothing of the sound, if it has lost nothing yet."""
    if not source.codec.startswith(_LOSSLESS):
        return ()
    if format_name not in _WITH_PCM:
        return _LOSSLESS_IN.get(format_name, ())
    name = source.template.stream.codec_context.format.packed.name
    deepest = ("pcm_s32le",) if source.codec.startswith("pcm_s32") else ()
    return (*deepest, *((_PCM[name],) if name in _PCM else ()), "pcm_s16le")


def unmixable(source: CopiedStream) -> str:
    """Words to append to the reason why sound is left out, if its channels are what is in the way; else none."""
    context = source.template.stream.codec_context
    if context is None or not context.layout.nb_channels or named_layout(context) is not None:
        return ""
    return f", and nothing says to which loudspeakers its {context.layout.nb_channels} channels belong"


def encodes(format_name: str, context: Any, encoder: str) -> bool:
    """Whether a container of this format takes what this encoder makes of the sound that a decoder gives."""
    from av.codec.codec import Codec

    def try_it(trial: OutputContainer) -> None:
        opened = _add_encoder(trial, context, encoder).codec_context
        uniform_graph(SoundKind.of(context, Fraction(1, context.sample_rate)), opened)

    return can_name(format_name, str(Codec(encoder, "w").canonical_name)) and takes(format_name, try_it)


def text_encoder(format_name: str, source: CopiedStream) -> str | None:
    """The text format that a container of this format takes for a text subtitle in another one; None if none."""
    if source.kind != "subtitle" or source.codec not in _TEXT_DECODERS or source.template.stream.codec_context is None:
        return None
    for name in TEXT_SUBTITLES:
        if can_name(format_name, name) and takes(format_name, partial(_add_text_encoder, source=source, encoder=name)):
            return name
    return None
