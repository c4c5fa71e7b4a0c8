"""Opens an encoder: tries pixel formats and clocks until one is accepted, first on the GPU if that is requested."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import TYPE_CHECKING, Any, cast

from ...errors import MediaError
from .base import Colour, SinkOptions, SourceInfo
from .codecs import (
    BEST_QUANTISER,
    FULL_RANGE_ONLY,
    QUANTISER_ENCODERS,
    choose_encoder,
    encoder_settings,
    pixel_formats,
    suggested_encoders,
)
from .colour import FULL, LIMITED, output_colour
from .ffmpeg_log import ffmpeg_errors, first_error
from .nvcodec import nvenc
from .timeline import scaled_aspect

if TYPE_CHECKING:
    from av.codec import Codec
    from av.container import OutputContainer
    from av.format import ContainerFormat
    from av.packet import Packet
    from av.video.codeccontext import VideoCodecContext
    from av.video.stream import VideoStream

_TOO_SHORT_FOR_X265 = 2
"""x265 needs a third picture to learn how much earlier packets are decoded than shown. Without one it subtracts
uninitialised memory from the decoding times, and muxers may refuse the packets. So few pictures are never reordered."""

_APPLE_CONTAINERS = frozenset({"mp4", "mov", "ipod"})


@dataclass(frozen=True)
class EncodingRequest:
    """What to encode: pictures of `width` x `height` pixels from the source with this `info`, as `options` say."""

    info: SourceInfo
    width: int
    height: int
    options: SinkOptions


@dataclass(frozen=True)
class Encoding:
    """An open encoder, its stream in `container`, and the form in which it takes frames.

    time_base: seconds per tick of the encoder's clock. notes: one-line remarks for people.
    """

    container: OutputContainer
    stream: VideoStream
    pix_fmt: str
    time_base: Fraction
    colour: Colour
    notes: tuple[str, ...]

    def finish(self, pictures: int) -> list[Packet[Any]]:
        """The packets that the encoder still holds after the last picture. pictures: how many it was given in all."""
        packets = self.stream.encode(None)
        if pictures <= _TOO_SHORT_FOR_X265 and self.stream.codec_context.name == "libx265":
            for packet in packets:
                packet.dts = packet.pts
        return packets


@dataclass(frozen=True)
class _Setup:
    """One way to encode: an encoder with its own options, a pixel format, and seconds per tick of its clock."""

    codec: str
    settings: Mapping[str, str]
    pix_fmt: str
    time_base: Fraction


class _EncoderRefusedError(MediaError):
    """The encoder accepted no setup. The message is its answer to the first one."""


def open_encoder(new_container: Callable[[], OutputContainer], request: EncodingRequest) -> Encoding:
    """Open the first setup that the encoder accepts. Raises `MediaError` with the encoder's words if it accepts none.

    new_container: called for each attempt, because a container cannot be used again after its encoder failed to open.
    It must write nothing before the header.
    """
    options = request.options
    codec = choose_encoder(new_container(), options.codec)
    notes: tuple[str, ...] = ()
    gpu_codec = nvenc(codec.name) if options.gpu is not None else None
    if gpu_codec is not None:
        try:
            return _open_first(new_container, gpu_codec, request)
        except MediaError as error:
            notes = (f"encoding in software with {codec.name}, not on the GPU: {error}",)
    try:
        encoding = _open_first(new_container, codec, replace(request, options=replace(options, gpu=None)))
    except _EncoderRefusedError as refusal:
        raise MediaError(
            f"the encoder {codec.name} refuses {request.width}x{request.height} pictures with these options "
            f"({refusal}): choose another size, codec or option"
        ) from refusal
    return replace(encoding, notes=(*notes, *encoding.notes))


def _open_first(new_container: Callable[[], OutputContainer], codec: Codec, request: EncodingRequest) -> Encoding:
    """Open the first setup that this encoder accepts."""
    answers = []
    for setup in _setups(codec, new_container().format, request):
        encoding = _prepare(new_container(), request, setup)
        answer = _open(encoding.stream)
        if answer is None:
            return encoding
        answers.append(answer)
    raise _EncoderRefusedError(answers[0])  # about the preferred setup


def _setups(codec: Codec, container_format: ContainerFormat, request: EncodingRequest) -> Iterator[_Setup]:
    """Every pixel format with every clock. First the source's clock, if the container allows variable frame rates."""
    from av.format import Flags

    settings = encoder_settings(codec.name, request.options)
    per_frame = 1 / request.info.rate
    variable = bool(container_format.flags & cast(int, Flags.variable_fps.value))
    clocks = dict.fromkeys([request.info.time_base, per_frame] if variable else [per_frame])
    for pix_fmt in pixel_formats(codec, request.width, request.height, request.options.pix_fmt):
        for clock in clocks:
            yield _Setup(codec.name, settings, pix_fmt, clock)


def _prepare(container: OutputContainer, request: EncodingRequest, setup: _Setup) -> Encoding:
    """A stream whose encoder is set up but not open yet. Raises `MediaError` if that is impossible."""
    info, codec = request.info, setup.codec
    try:
        stream: Any = container.add_stream(
            codec, rate=info.rate, time_base=setup.time_base, options=dict(setup.settings)
        )
        stream.width, stream.height, stream.pix_fmt = request.width, request.height, setup.pix_fmt
    except ValueError as error:
        if "does not support" not in str(error):
            raise MediaError(f"the encoder {codec} cannot be set up for {setup.pix_fmt}: {error}") from error
        raise MediaError(
            f"a {container.format.name} file does not hold {codec} video: use one of "
            f"{suggested_encoders(container.supported_codecs)}, or another suffix, e.g. .mkv"
        ) from error
    colour = output_colour(info.colour, request.height, "yuvj" if codec in FULL_RANGE_ONLY else setup.pix_fmt)
    context = stream.codec_context
    context.thread_type = "AUTO"  # PyAV's default makes x264 cut pictures into slices
    context.thread_count = 0
    context.colorspace, context.color_range = colour.matrix, FULL if colour.full else LIMITED
    context.color_primaries, context.color_trc = colour.primaries, colour.transfer
    aspect = scaled_aspect(info.sample_aspect, (info.width, info.height), (request.width, request.height))
    if aspect is not None:
        context.sample_aspect_ratio = aspect
    _set_codec_quirks(context, setup, container.format.name)
    return Encoding(container, stream, setup.pix_fmt, setup.time_base, colour, _notes(request, setup))


def _set_codec_quirks(context: VideoCodecContext, setup: _Setup, format_name: str) -> None:
    if setup.codec in QUANTISER_ENCODERS and not {"b", "global_quality"} & setup.settings.keys():
        context.qscale, context.global_quality = True, BEST_QUANTISER
    if setup.codec in ("libx265", "hevc_nvenc") and format_name in _APPLE_CONTAINERS:
        context.codec_tag = "hvc1"  # Apple's players require it
    if format_name == "avi":
        context.max_b_frames = 0  # AVI cannot store the time stamps of reordered frames


def _notes(request: EncodingRequest, setup: _Setup) -> tuple[str, ...]:
    notes = []
    width, height = request.width, request.height
    if (width % 2 or height % 2) and "444" in setup.pix_fmt:
        notes.append(
            f"the odd size {width}x{height} is encoded as {setup.pix_fmt}, which some players cannot show: "
            "choose an even width and height for a video that plays everywhere"
        )
    if setup.time_base != request.info.time_base and request.info.image_suffix is None:
        notes.append(f"this output counts time in steps of {setup.time_base} s: time stamps are rounded to it")
    return tuple(notes)


def _open(stream: VideoStream) -> str | None:
    """Open the stream's encoder. Returns why that failed; None if it did not."""
    import av

    os.environ.setdefault("SVT_LOG", "1")  # errors only: SVT-AV1 writes to stderr, not to FFmpeg's log
    try:
        with ffmpeg_errors() as said:
            stream.codec_context.open()
    except (av.FFmpegError, ValueError) as error:
        return first_error(said, error)
    unknown = ", ".join(stream.codec_context.options)
    return f"it has no option {unknown}" if unknown else None
