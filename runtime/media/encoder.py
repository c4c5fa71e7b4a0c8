"""Which encoder, pixel format and clock an output gets, and one line that says why where it gets none."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import TYPE_CHECKING, Any, cast

from swiftvr_trt.errors import MediaError

from .base import Colour, SinkOptions, SourceInfo
from .colour import output_colour
from .hardware import nvenc, overheard, reason
from .timeline import scaled_aspect

if TYPE_CHECKING:
    from av.codec import Codec
    from av.container import OutputContainer
    from av.packet import Packet
    from av.video.stream import VideoStream

_SHOWN = (
    "libx264", "libx265", "libsvtav1", "libvpx-vp9", "ffv1", "prores_ks", "h264_nvenc", "hevc_nvenc", "av1_nvenc"
)  # fmt: skip
"""Named in messages, in this order, as far as they are there."""

_PIX_FMTS = ("yuv420p", "yuvj420p", "yuv444p", "yuvj444p", "yuv422p10le", "gbrp", "rgb24", "bgr0", "bgr24", "bgr8")
"""Tried in this order. An encoder that refuses odd sizes in 4:2:0 thereby gets 4:4:4."""

_FULL_ONLY = frozenset({"mjpeg", "ljpeg"})

_EVEN_ONLY = frozenset({"libx264", "libx265"})
"""Known to refuse odd sizes in 4:2:0; asking x265 all the same would make it complain on stderr."""

_TOO_SHORT_FOR_X265 = 2
"""x265 needs a third picture to learn how much earlier packets are decoded than shown. Without one it subtracts
uninitialised memory from the decoding times, and muxers may refuse the packets. So few pictures are never reordered."""

_QUANTISED = frozenset({"mjpeg", "mpeg4", "mpeg2video", "mpeg1video", "msmpeg4", "msmpeg4v2", "h263p", "flv"})
"""Without a target these encode at 200 kbit/s. They get a constant quantiser instead."""

BEST_QUANTISER = 2 * 118  # the finest that these allow by default, in FFmpeg's unit (lambda)


@dataclass(frozen=True)
class Quality:
    """The option that sets constant quality: its name, our default, the worst that the encoder knows."""

    option: str
    default: int
    worst: int


_QUALITY = {
    "libx264": Quality("crf", 18, 51),
    "libx264rgb": Quality("crf", 18, 51),
    "libx265": Quality("crf", 20, 51),
    "libsvtav1": Quality("crf", 24, 63),
    "libaom-av1": Quality("crf", 24, 63),
    "libvpx": Quality("crf", 10, 63),
    "libvpx-vp9": Quality("crf", 24, 63),
    "h264_nvenc": Quality("cq", 19, 51),
    "hevc_nvenc": Quality("cq", 21, 51),
    "av1_nvenc": Quality("cq", 26, 63),
}

_PRESETS = (
    "ultrafast", "superfast", "veryfast", "faster", "fast", "medium", "slow", "slower", "veryslow", "placebo"
)  # fmt: skip
"""Of x264 and x265, which would say past FFmpeg's log that they know no other."""

_NO_VIDEO = ("none", "png")
"""What containers of sound have for their usual video: nothing, or a cover picture."""

_USUAL = {"h264": "libx264", "hevc": "libx265", "vp9": "libvpx-vp9", "vp8": "libvpx", "av1": "libsvtav1"}
"""The encoder meant by the name of a format."""


@dataclass(frozen=True)
class Encoding:
    """An encoder that is open: its stream in `container`, and what frames must look like for it."""

    container: OutputContainer
    stream: VideoStream
    pix_fmt: str
    time_base: Fraction
    colour: Colour
    notes: tuple[str, ...]

    def finish(self, pictures: int) -> list[Packet[Any]]:
        """The packets that the encoder still holds after its last picture. `pictures`: how many it was given in all."""
        packets = self.stream.encode(None)
        if pictures <= _TOO_SHORT_FOR_X265 and self.stream.codec_context.name == "libx265":
            for packet in packets:
                packet.dts = packet.pts
        return packets


def open_encoder(
    new_container: Callable[[], OutputContainer],
    info: SourceInfo,
    size: tuple[int, int],
    options: SinkOptions,
) -> Encoding:
    """Open the first combination of pixel format and clock that the encoder accepts.

    A container with an encoder that did not open cannot be used again, so each attempt asks for a new one, which
    must write nothing before its header. `MediaError` with the encoder's own words if none is accepted.
    """
    container = new_container()
    codec = _codec(container, options.codec)
    note, hardware = "", nvenc(codec.name) if options.gpu is not None else None
    if hardware is not None:
        encoding = _try_nvenc(new_container, hardware, info, size, options)
        if isinstance(encoding, Encoding):
            return encoding
        note = f"encoding in software with {codec.name}, not on the GPU: {encoding}"
        container = new_container()
    encoding = _first(new_container, container, codec, info, size, replace(options, gpu=None))
    if isinstance(encoding, Encoding):
        return replace(encoding, notes=(note, *encoding.notes)) if note else encoding
    raise MediaError(
        f"the encoder {codec.name} refuses {size[0]}x{size[1]} pictures with these options ({encoding}): "
        "choose another size, codec or option"
    )


def _try_nvenc(
    new_container: Callable[[], OutputContainer],
    codec: Codec,
    info: SourceInfo,
    size: tuple[int, int],
    options: SinkOptions,
) -> Encoding | str:
    """On the GPU, or the reason why not, whatever it is: software is there to fall back on."""
    try:
        return _first(new_container, new_container(), codec, info, size, options)
    except MediaError as error:
        return str(error)


def _first(
    new_container: Callable[[], OutputContainer],
    container: OutputContainer,
    codec: Codec,
    info: SourceInfo,
    size: tuple[int, int],
    options: SinkOptions,
) -> Encoding | str:
    """The first combination that this codec accepts, beginning with this container; or why it refused the first."""
    settings = _settings(codec.name, options)
    refused = ""
    for pix_fmt, time_base in _attempts(codec, container, info, size, options):
        encoding = _prepare(container, codec.name, info, size, pix_fmt, time_base, settings)
        failed = _open(encoding.stream)
        if failed is None:
            return encoding
        refused = refused or failed  # the first attempt is the one that was wanted
        container = new_container()
    return refused


def _codec(container: OutputContainer, wanted: str | None) -> Codec:
    """The encoder to use in this container."""
    from av.codec.codec import Codec, UnknownCodecError

    supported = container.supported_codecs
    usual = "libx264" in supported or container.format.name == "mpegts"  # which cannot say what it supports
    name = wanted or ("libx264" if usual else container.default_video_codec)
    if name in _NO_VIDEO and wanted is None:
        raise MediaError(f"{container.format.name} files hold no video, expected e.g. .mp4 or .mkv: rename the output")
    try:
        codec = Codec(_USUAL.get(name, name), "w")
    except UnknownCodecError:
        raise MediaError(f"there is no encoder {name!r} in this FFmpeg: use one of {_some(None)}") from None
    if codec.type != "video":
        raise MediaError(f"{name!r} is an encoder of {codec.type}, expected one of video: use one of {_some(None)}")
    return codec


def _some(supported: set[str] | None) -> str:
    """A few encoders that exist (and that a container takes), for a message."""
    from av.codec.codec import Codec, UnknownCodecError

    found = []
    for name in _SHOWN:
        try:
            codec = Codec(name, "w")
        except UnknownCodecError:
            continue
        if supported is None or codec.name in supported:
            found.append(name)
    if not found and supported:
        found = sorted(supported)[:6]
    return ", ".join(found)


def _settings(codec: str, options: SinkOptions) -> dict[str, str]:
    """The encoder's own options."""
    settings: dict[str, str] = {}
    quality = _QUALITY.get(codec)
    if quality is not None:
        crf = quality.default if options.crf is None else options.crf
        if crf > quality.worst:
            raise MediaError(
                f"crf is {crf}, expected 0 to {quality.worst} for {codec}: the default is {quality.default}"
            )
        settings[quality.option] = str(crf)
    elif options.crf is not None:
        raise MediaError(f"the encoder {codec} has no constant quality (crf {options.crf}): leave it out")
    if codec == "libx265":
        settings["x265-params"] = "log-level=error"  # it writes to stderr past FFmpeg's log
    if options.preset is not None:
        if codec in ("libx264", "libx264rgb", "libx265") and options.preset not in _PRESETS:
            raise MediaError(
                f"the preset is {options.preset!r}, expected for {codec} one of {', '.join(_PRESETS)}: "
                "the default is medium"
            )
        settings["preset"] = options.preset
    if options.gpu is not None:
        settings["gpu"] = str(options.gpu)
    return {**settings, **dict(options.extra)}


def _attempts(
    codec: Codec, container: OutputContainer, info: SourceInfo, size: tuple[int, int], options: SinkOptions
) -> Iterator[tuple[str, Fraction]]:
    """Pixel formats times clocks. The source's own clock comes first, where the container can hold it at all."""
    from av.format import Flags

    supported = [video_format.name for video_format in codec.video_formats or ()]
    if options.pix_fmt is not None:
        if supported and options.pix_fmt not in supported:
            raise MediaError(
                f"the encoder {codec.name} has no pixel format {options.pix_fmt!r}, "
                f"expected one of {', '.join(supported[:12])}"
            )
        formats = [options.pix_fmt]
    else:
        halved = codec.name in _EVEN_ONLY and (size[0] % 2 or size[1] % 2)
        usual = [name for name in _PIX_FMTS if name in supported and not (halved and "420" in name)]
        formats = usual or supported[:1] or ["yuv420p"]
    frame_clock = 1 / info.rate
    variable = bool(container.format.flags & cast(int, Flags.variable_fps.value))
    clocks = dict.fromkeys([info.time_base, frame_clock] if variable else [frame_clock])
    for pix_fmt in formats:
        for clock in clocks:
            yield pix_fmt, clock


def _prepare(
    container: OutputContainer,
    codec: str,
    info: SourceInfo,
    size: tuple[int, int],
    pix_fmt: str,
    time_base: Fraction,
    settings: dict[str, str],
) -> Encoding:
    """A stream with an encoder that is not open yet."""
    width, height = size
    try:
        stream: Any = container.add_stream(codec, rate=info.rate, time_base=time_base, options=dict(settings))
        stream.width, stream.height, stream.pix_fmt = width, height, pix_fmt
    except ValueError as error:
        if "does not support" not in str(error):
            raise MediaError(f"the encoder {codec} cannot be set up for {pix_fmt}: {error}") from error
        raise MediaError(
            f"a {container.format.name} file does not hold {codec} video: use one of "
            f"{_some(container.supported_codecs)}, or another suffix, e.g. .mkv"
        ) from error
    colour = output_colour(info.colour, height, "yuvj" if codec in _FULL_ONLY else pix_fmt)
    context = stream.codec_context
    context.thread_type = "AUTO"  # PyAV's default makes x264 cut pictures into slices
    context.thread_count = 0
    context.colorspace, context.color_range = colour.matrix, 2 if colour.full else 1
    context.color_primaries, context.color_trc = colour.primaries, colour.transfer
    aspect = scaled_aspect(info.sample_aspect, (info.width, info.height), size)
    if aspect is not None:
        context.sample_aspect_ratio = aspect
    if codec in _QUANTISED and not {"b", "global_quality"} & settings.keys():
        context.qscale, context.global_quality = True, BEST_QUANTISER
    if codec in ("libx265", "hevc_nvenc") and container.format.name in ("mp4", "mov", "ipod"):
        context.codec_tag = "hvc1"  # what Apple's players ask for
    if container.format.name == "avi":
        context.max_b_frames = 0  # it has no place for the stamps of reordered frames
    return Encoding(container, stream, pix_fmt, time_base, colour, _notes(info, size, pix_fmt, time_base))


def _notes(info: SourceInfo, size: tuple[int, int], pix_fmt: str, time_base: Fraction) -> tuple[str, ...]:
    notes = []
    if (size[0] % 2 or size[1] % 2) and "444" in pix_fmt:
        notes.append(
            f"the odd size {size[0]}x{size[1]} is encoded as {pix_fmt}, which some players cannot show: "
            "choose even numbers for one that all can"
        )
    if time_base != info.time_base and not info.images:
        notes.append(f"this output counts time in steps of {time_base} s: time stamps are rounded to it")
    return tuple(notes)


def _open(stream: VideoStream) -> str | None:
    """Open the stream's encoder; None, or the reason why it did not open."""
    import av

    os.environ.setdefault("SVT_LOG", "1")  # errors only: SVT-AV1 writes to stderr past FFmpeg's log
    try:
        with overheard() as said:
            stream.codec_context.open()
    except (av.FFmpegError, ValueError) as error:
        return reason(error, said)
    left = ", ".join(stream.codec_context.options)
    return f"it has no option {left}" if left else None
