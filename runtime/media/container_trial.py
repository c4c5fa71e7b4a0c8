"""Finds out what a container holds, before hours of work: a few small pictures are written to memory, and read back.

FFmpeg's lists do not say it. Its muxer of MPEG-TS takes any codec, and nobody can play what it does not know.
"""

from __future__ import annotations

import io
import os
import random
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from ...errors import MediaError
from ...text import with_article
from .base import SinkOptions
from .codecs import FULL_RANGE_ONLY, POPULAR, choose_encoder, encoder_settings, pixel_formats, suggested_encoders
from .colour import FULL, LIMITED, converted
from .ffmpeg_log import mute
from .muxer import open_muxer
from .nvcodec import in_software
from .pixel_shape import shaped
from .pyav import fraction

if TYPE_CHECKING:
    from av.codec import Codec
    from av.container import OutputContainer

MUXING: Mapping[str, Mapping[str, str]] = {
    "yuv4mpegpipe": {"strict": "-1"},  # more than 8 bits are not official
    "avi": {"avoid_negative_ts": "disabled"},  # else all but the first picture move with sound that begins before 0
}
"""Options of muxers."""

_SIDE, _PICTURES, _RATE = 64, 8, 25
"""Of a trial: AV1's encoder takes no smaller pictures, x265 needs three, and readers some data to recognise."""


@dataclass(frozen=True)
class TriedOut:
    """What became of pictures in a container.

    held: whether a reader finds them; None if the encoder does not take such pictures. aspect: of a pixel, as found.
    """

    held: bool | None
    aspect: Fraction | None = None


def check_holds(container: OutputContainer, codec: Codec) -> None:
    """Raise `MediaError` if this kind of container does not hold the encoder's video so that readers find it.

    Where they would not find the container's usual video either, a trial says nothing.
    """
    name = container.format.name
    try:
        usual = choose_encoder(container, None).name
    except MediaError:  # this FFmpeg lacks it
        return
    if usual == codec.name or try_out(name, codec.name).held is not False:
        return
    if try_out(name, usual).held:
        raise not_held(container, codec.name)


def not_held(container: OutputContainer, encoder: str) -> MediaError:
    """The error for an encoder whose video the container does not hold."""
    name = container.format.name
    held = {each for each in POPULAR if try_out(name, each).held} or container.supported_codecs
    return MediaError(
        f"{with_article(name)} file does not hold {encoder} video: use one of {suggested_encoders(held)}, or another "
        "container, e.g. .mkv"
    )


@lru_cache(maxsize=256)
def try_out(
    format_name: str, encoder: str, aspect: Fraction | None = None, size: tuple[int, int] = (_SIDE, _SIDE)
) -> TriedOut:
    """Write a few pictures of an encoder's format with this shape of pixels, and read them back.

    Takes tens of milliseconds. For an encoder of the GPU, one in software stands in.
    """
    file = io.BytesIO()
    with mute():
        written = _write(file, format_name, in_software(encoder), aspect, size)
        return _read(file) if written else TriedOut(written)


def _write(
    file: io.BytesIO, format_name: str, encoder: str, aspect: Fraction | None, size: tuple[int, int]
) -> bool | None:
    """Whether the muxer takes the video; None if the encoder does not take the pictures."""
    import av

    os.environ.setdefault("SVT_LOG", "1")
    try:
        pix_fmt = pixel_formats(av.codec.Codec(encoder, "w"), *size, None)[0]
        settings = encoder_settings(encoder, SinkOptions())
    except ValueError:  # UnknownCodecError is one
        return None
    try:
        with open_muxer(shaped(file, format_name, aspect), format_name, MUXING.get(format_name)) as container:
            stream: Any = container.add_stream(encoder, rate=_RATE, options=settings)
            (stream.width, stream.height), stream.pix_fmt = size, pix_fmt
            context = stream.codec_context
            context.thread_count = 1
            context.color_range = FULL if encoder in FULL_RANGE_ONLY else LIMITED
            if aspect is not None:
                context.sample_aspect_ratio = aspect
            packets = _encode(stream)
            if packets is None:
                return None
            container.mux(packets)
    except (av.FFmpegError, OSError, ValueError):
        return False
    file.seek(0)
    return True


def _encode(stream: Any) -> list[Any] | None:
    """Packets of pictures full of noise; None if the encoder refuses them."""
    import av

    noise = random.Random(0)
    try:
        stream.codec_context.open()
        packets = []
        for number in range(_PICTURES):
            grey = av.VideoFrame(stream.width, stream.height, "gray")
            grey.planes[0].update(noise.randbytes(grey.planes[0].buffer_size))
            picture = converted(grey, format=stream.pix_fmt)
            picture.pts, picture.time_base = number, Fraction(1, _RATE)
            packets += stream.encode(picture)
        return [*packets, *stream.encode(None)]
    except (av.FFmpegError, OSError, ValueError):
        return None


def _read(file: io.BytesIO) -> TriedOut:
    import av

    try:
        with av.open(file, "r") as container:
            stream = container.streams.video[0]
            aspect = fraction(stream.sample_aspect_ratio or stream.codec_context.sample_aspect_ratio)
            return TriedOut(any(packet.size for packet in container.demux(stream)), aspect or None)
    except (
        av.FFmpegError,
        OSError,
        ValueError,
        IndexError,
        AttributeError,
    ):  # no video, or of no codec that FFmpeg knows
        return TriedOut(held=False)
