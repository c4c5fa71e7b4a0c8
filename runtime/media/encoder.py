"""Opens an encoder: tries pixel formats and clocks until one is accepted, first on the GPU if that is requested."""

from __future__ import annotations

import hashlib
import logging
import os
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import TYPE_CHECKING, Any

from ...errors import MediaError
from ...machine import cpu_limit, has_avx512
from ..stream.frames import FrameForm
from .base import Colour, SinkOptions, SourceInfo
from .codecs import (
    BEST_QUANTISER,
    FULL_RANGE_ONLY,
    QUANTISER_ENCODERS,
    choose_encoder,
    encoder_settings,
    pixel_formats,
)
from .colour import FULL, LIMITED, output_colour
from .container_trial import check_holds, not_held
from .even_steps import FINEST, holds_any_time
from .ffmpeg_log import ffmpeg_errors, first_error
from .muxer import GLOBAL_HEADER, format_name_of, is_passed_on, plain
from .nvcodec import nvenc, surface_encoder
from .planes import depth_of, form_of_output
from .siting import options_of
from .surfaces import surface_formats
from .timeline import scaled_aspect

if TYPE_CHECKING:
    from av.codec import Codec
    from av.container import OutputContainer
    from av.format import ContainerFormat
    from av.packet import Packet
    from av.video.codeccontext import VideoCodecContext
    from av.video.stream import VideoStream

_log = logging.getLogger(__name__)

_TOO_SHORT_FOR_X265 = 2
"""x265 needs a third picture to learn how much earlier packets are decoded than shown. Without one it subtracts
uninitialised memory from the decoding times, and muxers may refuse the packets. So few pictures are never reordered."""

_X264_AVX2 = "asm=AVX2,FMA3,BMI2,LZCNT"

_FINE_S = Fraction(1, 500)
"""Seconds per tick that nobody needs to know of."""

_MPEG4_FINEST = 65535
"""Ticks per second that MPEG-4 can count."""

_APPLE_CONTAINERS = frozenset({"mp4", "mov", "ipod"})


@dataclass(frozen=True)
class EncodingRequest:
    """What to encode: pictures of `width` x `height` pixels from the source with this `info`, as `options` say."""

    info: SourceInfo
    width: int
    height: int
    options: SinkOptions

    @property
    def aspect(self) -> Fraction | None:
        """Of a pixel, its width by its height; None if nobody knows."""
        info = self.info
        return scaled_aspect(info.sample_aspect, (info.width, info.height), (self.width, self.height))


@dataclass(frozen=True)
class Encoding:
    """An open encoder, its stream in `container`, and the form in which it takes frames.

    time_base: seconds per tick of the encoder's clock. notes: one-line remarks for people. surfaces: it takes frames on
    its GPU; those on the host, too, which PyAV copies there.
    """

    container: OutputContainer
    stream: VideoStream
    pix_fmt: str
    time_base: Fraction
    colour: Colour
    notes: tuple[str, ...]
    surfaces: bool = False

    @property
    def form(self) -> FrameForm:
        """The form in which pictures need no conversion to be encoded."""
        context = self.stream.codec_context
        codec = str(context.codec.canonical_name)
        return form_of_output(self.pix_fmt, self.colour, codec, (context.width, context.height))

    @property
    def header(self) -> str:
        """Digest of what the container stores once to decode all packets; empty if the packets hold it themselves."""
        context = self.stream.codec_context
        needed = _parameters(context.codec.canonical_name, context.extradata or b"")
        return hashlib.sha256(needed).hexdigest()[:16] if needed else ""

    def finish(self, pictures: int) -> list[Packet[Any]]:
        """The packets that the encoder still holds after the last picture. pictures: how many it was given in all."""
        packets = self.stream.encode(None)
        if pictures <= _TOO_SHORT_FOR_X265 and self.stream.codec_context.name == "libx265":
            for packet in packets:
                packet.dts = packet.pts
        return packets


@dataclass(frozen=True)
class _Setup:
    """One way to encode: an encoder with its own options, a pixel format, and seconds per tick of its clock.

    gpu: number of the GPU in whose memory it takes frames; None if it takes them on the host.
    """

    codec: str
    settings: Mapping[str, str]
    pix_fmt: str
    time_base: Fraction
    gpu: int | None = None


_NO_SURFACES = "surfaces are nv12 or p010 with even sides, which is not what it would get"


class _EncoderRefusedError(MediaError):
    """The encoder accepted no setup. The message is its answer to the first one."""


def open_encoder(new_container: Callable[[], OutputContainer], request: EncodingRequest) -> Encoding:
    """Open the first setup that the encoder accepts. Raises `MediaError` with the encoder's words if it accepts none.

    new_container: called for each attempt, because a container cannot be used again after its encoder failed to open.
    It must write nothing before the header.
    """
    options = request.options
    codec = choose_encoder(plain(new_container()), options.codec)
    if not is_passed_on(new_container()):
        check_holds(new_container(), codec)
    notes: tuple[str, ...] = ()
    gpu_codec = nvenc(codec.name) if options.gpu is not None else None
    on_host = replace(request, options=replace(options, surfaces=False))
    if gpu_codec is not None and options.surfaces:
        try:
            return _open_first(new_container, gpu_codec, request)
        except MediaError as error:
            notes = (f"{gpu_codec.name} gets its frames through the host: {error}",)
    elif options.surfaces:
        notes = (f"restored frames come to the host, where {codec.name} encodes them",)
    if gpu_codec is not None:
        try:
            encoding = _open_first(new_container, gpu_codec, on_host)
            return replace(encoding, notes=(*notes, *encoding.notes))
        except MediaError as error:
            notes = (f"encoding in software with {codec.name}, not on the GPU: {error}",)
    try:
        encoding = _open_first(new_container, codec, replace(on_host, options=replace(on_host.options, gpu=None)))
    except _EncoderRefusedError as refusal:
        raise MediaError(
            f"the encoder {codec.name} refuses {request.width}x{request.height} pictures with these options "
            f"({refusal}): choose another size, codec or option{_other_rate(refusal, request)}"
        ) from refusal
    return replace(encoding, notes=(*notes, *encoding.notes))


def _other_rate(refusal: _EncoderRefusedError, request: EncodingRequest) -> str:
    """How to change the rate, if the encoder says that it is why."""
    if not re.search(r"\bfps\b|frame ?rate", str(refusal), re.IGNORECASE):
        return ""
    return ", or another rate, e.g. " + ("--rate 25" if request.info.image_suffix else "--vf fps=25")


def _open_first(new_container: Callable[[], OutputContainer], codec: Codec, request: EncodingRequest) -> Encoding:
    """Open the first setup that this encoder accepts."""
    answers = []
    for setup in _setups(codec, plain(new_container()).format, request):
        encoding = _prepare(new_container(), request, setup)
        answer = _open(encoding.stream)
        if answer is None:
            return encoding
        _log.debug("%s refuses %s at %s s per tick: %s", setup.codec, setup.pix_fmt, setup.time_base, answer)
        answers.append(answer)
    raise _EncoderRefusedError(answers[0] if answers else _NO_SURFACES)  # about the preferred setup


def _setups(codec: Codec, container_format: ContainerFormat, request: EncodingRequest) -> Iterator[_Setup]:
    """Every pixel format with every clock."""
    options = request.options
    settings = encoder_settings(codec.name, options)
    formats = pixel_formats(
        codec, request.width, request.height, options.pix_fmt, request.info.bits, alpha=request.info.alpha
    )
    gpu = options.gpu if options.surfaces else None
    for pix_fmt in formats if gpu is None else surface_formats(formats, request.width, request.height):
        for clock in _clocks(container_format, request):
            yield _Setup(codec.name, settings, pix_fmt, clock, gpu)


def _clocks(container_format: ContainerFormat, request: EncodingRequest) -> list[Fraction]:
    """Seconds per tick to try: first the source's clock if the container holds any time, at last one frame.

    MPEG-4 refuses a clock as fine as that of broadcasts. It gets the finest that it takes in which a frame is whole.
    """
    info, per_frame = request.info, 1 / request.info.rate
    if not holds_any_time(container_format):
        return [*([request.options.clock] if request.options.clock else []), per_frame]
    if container_format.name in FINEST:  # its muxer refuses moments that become one in its steps
        return [max(info.time_base, FINEST[container_format.name])]
    finer = per_frame / max(1, _MPEG4_FINEST // info.rate.numerator)
    return list(dict.fromkeys([info.time_base, finer, per_frame]))


_START_CODE = re.compile(b"\0\0\0?\1")
_REMARKS: Mapping[str, Callable[[int], bool]] = {
    "h264": lambda first: first & 31 == 6,
    "hevc": lambda first: first >> 1 in (39, 40),
}
"""Codec -> whether a unit that begins with this byte is a remark. In one, x265 tells its number of threads."""


def _parameters(codec: str, extradata: bytes) -> bytes:
    """What a decoder needs of an encoder's extradata."""
    if codec not in _REMARKS or not _START_CODE.match(extradata):
        return extradata
    units = (unit for unit in _START_CODE.split(extradata) if unit)
    return b"\0\0\1".join(unit for unit in units if not _REMARKS[codec](unit[0]))


def _prepare(container: OutputContainer, request: EncodingRequest, setup: _Setup) -> Encoding:
    """A stream whose encoder is set up but not open yet. Raises `MediaError` if that is impossible."""
    import av

    info, codec, size = request.info, setup.codec, (request.width, request.height)
    colour = output_colour(info.colour, size, "yuvj" if codec in FULL_RANGE_ONLY else setup.pix_fmt)
    form = form_of_output(setup.pix_fmt, colour, av.codec.Codec(codec, "w").canonical_name, size)
    try:
        stream: Any = container.add_stream(
            codec,
            rate=info.rate,
            time_base=setup.time_base,
            options={**_about_siting(form), **_reproducible(codec, setup.settings)},
            hwaccel=None if setup.gpu is None else surface_encoder(setup.gpu),
        )
        stream.width, stream.height, stream.pix_fmt = request.width, request.height, setup.pix_fmt
    except (ValueError, av.FFmpegError) as error:
        if "does not support" not in str(error):
            raise MediaError(f"the encoder {codec} cannot be set up for {setup.pix_fmt}: {error}") from error
        raise not_held(container, codec) from error
    context = stream.codec_context
    context.thread_type = "AUTO"  # PyAV's default makes x264 cut pictures into slices
    # 0: as many as there are CPUs. Threads of VP8's encoder may wait for each other for ever (seen once, under load).
    context.thread_count = 1 if context.codec.name == "libvpx" else cpu_limit() or 0
    context.colorspace, context.color_range = colour.matrix, FULL if colour.full else LIMITED
    context.color_primaries, context.color_trc = colour.primaries, colour.transfer
    if request.aspect is not None:
        context.sample_aspect_ratio = request.aspect
    _set_codec_quirks(context, setup, format_name_of(container))
    if is_passed_on(container):
        context.flags |= GLOBAL_HEADER  # as PyAV does for a container that it knows to want it
    surfaces = setup.gpu is not None
    return Encoding(container, stream, setup.pix_fmt, setup.time_base, colour, _notes(request, setup), surfaces)


def _about_siting(form: FrameForm) -> dict[str, str]:
    """The options that say where chroma lies, if pictures come in planes."""
    return options_of(form.colour.siting) if form.format.yuv else {}


def _reproducible(codec: str, settings: Mapping[str, str]) -> dict[str, str]:
    """The settings, and what makes the encoder give the same bytes each time.

    With AVX-512, x264's look-ahead reads memory that nobody has written (its macroblock tree, x264 164): the same
    pictures gave up to four different videos, at 192x128 as well as at 320x180. It is as fast with AVX2.
    """
    if codec not in ("libx264", "libx264rgb") or not has_avx512():
        return dict(settings)
    return {**settings, "x264-params": ":".join(filter(None, (_X264_AVX2, settings.get("x264-params"))))}


def _set_codec_quirks(context: VideoCodecContext, setup: _Setup, format_name: str) -> None:
    if setup.codec in QUANTISER_ENCODERS and not {"b", "global_quality"} & setup.settings.keys():
        context.qscale, context.global_quality = True, BEST_QUANTISER
    if setup.codec in ("libx265", "hevc_nvenc") and format_name in _APPLE_CONTAINERS:
        context.codec_tag = "hvc1"  # Apple's players require it
    if format_name in ("avi", "asf"):
        context.max_b_frames = 0  # they store one time stamp per frame, and reordered frames have two


def _notes(request: EncodingRequest, setup: _Setup) -> tuple[str, ...]:
    notes = []
    width, height = request.width, request.height
    if (width % 2 or height % 2) and "444" in setup.pix_fmt:
        notes.append(
            f"the odd size {width}x{height} is encoded as {setup.pix_fmt}, which some players cannot show: "
            "choose an even width and height for a video that plays everywhere"
        )
    kept, bits = max(depth_of(setup.pix_fmt), 8), request.info.bits
    if kept < bits and request.options.pix_fmt is None:
        notes.append(
            f"the input has {bits} bits per component, the output {kept} ({setup.codec}, {setup.pix_fmt}): "
            f"{_how_to_keep(bits, setup)}"
        )
    measured = setup.time_base == request.options.clock
    fine = setup.time_base < _FINE_S or setup.time_base in FINEST.values()
    if setup.time_base != request.info.time_base and request.info.image_suffix is None and not (measured or fine):
        notes.append(f"this output counts time in steps of {setup.time_base} s: time stamps are rounded to it")
    return tuple(notes)


def _how_to_keep(bits: int, setup: _Setup) -> str:
    """What to type to keep more bits: a deeper pixel format of the same encoder, or another encoder."""
    from av.codec.codec import Codec

    def kind(pix_fmt: str) -> str:
        return re.sub(r"\d+[lb]e$", "", pix_fmt)

    names = [each.name for each in Codec(setup.codec, "w").video_formats or ()]
    depths = {name: depth_of(name) for name in names if kind(name) == kind(setup.pix_fmt)}
    best = max(depths, key=lambda name: (min(depths[name], bits), -depths[name]), default=setup.pix_fmt)
    if depth_of(best) > depth_of(setup.pix_fmt):
        return f"--pix-fmt {best} keeps more"
    return "--pix-fmt or another --codec may keep more" + ", e.g. ffv1" * (setup.codec != "ffv1")


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
