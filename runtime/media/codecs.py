"""Knowledge about encoders: which one to use, its pixel formats, and its options for quality and speed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ...errors import MediaError
from ...machine import cpu_limit
from .base import SinkOptions

if TYPE_CHECKING:
    from av.codec import Codec
    from av.container import OutputContainer

POPULAR = (
    "libx264", "libx265", "libsvtav1", "libvpx-vp9", "ffv1", "prores_ks", "h264_nvenc", "hevc_nvenc", "av1_nvenc"
)  # fmt: skip
"""Encoders that messages suggest, in this order, leaving out those that this FFmpeg lacks."""

_FORMAT_ENCODERS = {"h264": "libx264", "hevc": "libx265", "vp9": "libvpx-vp9", "vp8": "libvpx", "av1": "libsvtav1"}
"""The encoder to use when the user names a format."""

_NO_VIDEO = ("none", "png")
"""The default video codec of containers for sound: none, or that of a cover picture."""

_PIX_FMTS = ("yuv420p", "yuvj420p", "yuv444p", "yuvj444p", "yuv422p10le", "gbrp", "rgb24", "bgr0", "bgr24", "bgr8")
"""Tried in this order. An encoder that refuses odd sizes in 4:2:0 gets 4:4:4 in this way."""

_DEEP_PIX_FMTS = ("yuv420p10le", "p010le", "yuv422p10le", "yuv444p10le", "gbrp10le", "rgb48le")
"""Tried before those if the input has more than 8 bits."""

_ALPHA, _DEEP_ALPHA = ("yuva420p", "yuva444p", "rgba", "bgra"), ("yuva444p10le", "rgba64le", "gbrap10le")
"""Tried for pictures with transparency."""

_NO_ALPHA = frozenset({"libx265"})
"""Encoders whose transparency players do not show."""

_EVEN_ONLY = frozenset({"libx264", "libx265"})
"""Encoders that refuse odd sizes in 4:2:0. Not even tried, because x265 would complain on stderr."""

FULL_RANGE_ONLY = frozenset({"mjpeg", "ljpeg"})
"""Encoders of JPEG, which is always full range."""

QUANTISER_ENCODERS = frozenset({"mjpeg", "mpeg4", "mpeg2video", "mpeg1video", "msmpeg4", "msmpeg4v2", "h263p", "flv"})
"""Encoders that default to 200 kbit/s. They get a constant quantiser instead."""

BEST_QUANTISER = 2 * 118
"""The best quality that `QUANTISER_ENCODERS` allow by default: quantiser 2, in FFmpeg's unit of 1/118."""


@dataclass(frozen=True)
class Quality:
    """An encoder's option for constant quality: its name, our default, the largest (worst) value, and fractions."""

    option: str
    default: int
    worst: int
    fractions: bool = False


_QUALITY = {
    "libx264": Quality("crf", 18, 51, fractions=True),
    "libx264rgb": Quality("crf", 18, 51, fractions=True),
    "libx265": Quality("crf", 20, 51, fractions=True),
    "libsvtav1": Quality("crf", 24, 63),
    "libaom-av1": Quality("crf", 24, 63),
    "libvpx": Quality("crf", 10, 63),
    "libvpx-vp9": Quality("crf", 24, 63),
    "h264_nvenc": Quality("cq", 19, 51, fractions=True),
    "hevc_nvenc": Quality("cq", 21, 51, fractions=True),
    "av1_nvenc": Quality("cq", 26, 63, fractions=True),
}

_X265_QUIET = "log-level=error"
"""x265 writes to stderr, not to FFmpeg's log."""

_X264_QUIET = "log=1"
"""Warnings and errors only: its threads log every frame, which may hang a process (see `ffmpeg_log`)."""

_X26X = frozenset({"libx264", "libx264rgb", "libx265"})
_X26X_PRESETS = (
    "ultrafast", "superfast", "veryfast", "faster", "fast", "medium", "slow", "slower", "veryslow", "placebo"
)  # fmt: skip
"""Checked here, because x264 and x265 complain about an unknown preset on stderr, not to FFmpeg."""


class NoEncoderError(MediaError):
    """This FFmpeg lacks an encoder, which that of another machine may have."""


def choose_encoder(container: OutputContainer, wanted: str | None) -> Codec:
    """The encoder for `wanted`, an encoder or a format; None for the container's usual one.

    Raises `NoEncoderError` if this FFmpeg has none, `MediaError` if the container holds no video.
    """
    from av.codec.codec import Codec, UnknownCodecError

    # mpegts cannot say which codecs it supports. ASF stores one time per frame, which FFmpeg misreads for H.264.
    takes_x264 = "libx264" in container.supported_codecs or container.format.name == "mpegts"
    takes_x264 = takes_x264 and container.format.name != "asf"
    name = wanted or ("libx264" if takes_x264 else container.default_video_codec)
    if name == "wrapped_avframe":  # of yuv4mpeg: frames that stay within FFmpeg
        name = "rawvideo"
    if name in _NO_VIDEO and wanted is None:
        raise MediaError(f"{container.format.name} files hold no video, expected e.g. .mp4 or .mkv: rename the output")
    try:
        codec = Codec(_FORMAT_ENCODERS.get(name, name), "w")
    except UnknownCodecError:
        raise NoEncoderError(f"this FFmpeg has no encoder {name!r}: use one of {suggested_encoders(None)}") from None
    if codec.type != "video":
        raise MediaError(
            f"{name!r} is an encoder of {codec.type}, expected one of video: use one of {suggested_encoders(None)}"
        )
    return codec


def suggested_encoders(supported: set[str] | None) -> str:
    """A few encoders of this FFmpeg, for a message. supported: codecs that the container takes; None for any."""
    from av.codec.codec import Codec, UnknownCodecError

    found = []
    for name in POPULAR:
        try:
            codec = Codec(name, "w")
        except UnknownCodecError:
            continue
        if supported is None or codec.name in supported:
            found.append(name)
    if not found and supported:
        found = sorted(supported)[:6]
    return ", ".join(found)


def pixel_formats(  # one parameter for each thing that decides
    codec: Codec, width: int, height: int, wanted: str | None, bits: int = 8, *, alpha: bool = False
) -> list[str]:
    """The pixel formats to try, best first: `wanted`, or the usual ones for pictures of so many bits.

    alpha: with transparency. Raises `MediaError` if the encoder does not have `wanted`, or no transparency.
    """
    supported = [video_format.name for video_format in codec.video_formats or ()]
    if wanted is not None:
        if supported and wanted not in supported:
            raise MediaError(
                f"the encoder {codec.name} has no pixel format {wanted!r}, expected one of {', '.join(supported[:12])}"
            )
        return [wanted]
    if alpha:
        return _with_alpha(codec.name, supported, bits)
    skip_halved = codec.name in _EVEN_ONLY and (width % 2 or height % 2)
    best = (*_DEEP_PIX_FMTS, *_PIX_FMTS) if bits > 8 else _PIX_FMTS
    usual = [name for name in best if name in supported and not (skip_halved and "420" in name)]
    return list(dict.fromkeys(usual)) or supported[:1] or ["yuv420p10le" if bits > 8 else "yuv420p"]


def _with_alpha(codec: str, supported: list[str], bits: int) -> list[str]:
    """The pixel formats with transparency, best first."""
    best = (*_DEEP_ALPHA, *_ALPHA) if bits > 8 else (*_ALPHA, *_DEEP_ALPHA)
    found = [name for name in best if name in supported and codec not in _NO_ALPHA]
    if not found:
        raise MediaError(
            f"the encoder {codec} holds no transparency: use ffv1 in .mkv, prores_ks in .mov or libvpx-vp9 in .webm, "
            "or leave it out with --alpha drop"
        )
    return found


_SVT = "svtav1-params"


def encoder_settings(codec: str, options: SinkOptions) -> dict[str, str]:
    """`options` as FFmpeg options of the encoder, with the limit of CPUs for encoders that ignore FFmpeg's.

    Raises `MediaError` if it has no such quality or preset.
    """
    settings, limit = _quality_setting(codec, options.crf), cpu_limit()
    if codec == "libx265":
        settings["x265-params"] = _X265_QUIET + (f":pools={limit}" if limit else "")
    if codec == "libsvtav1" and limit:
        settings[_SVT] = f"lp={limit}"
    if options.preset is not None:
        if codec in _X26X and options.preset not in _X26X_PRESETS:
            raise MediaError(
                f"the preset is {options.preset!r}, expected for {codec} one of {', '.join(_X26X_PRESETS)}: "
                "the default is medium"
            )
        settings["preset"] = options.preset
    if options.gpu is not None:
        settings["gpu"] = str(options.gpu)
    extra = dict(options.extra)
    if codec == "libsvtav1" and limit and _SVT in extra:
        extra[_SVT] = f"lp={limit}:{extra[_SVT]}"
    settings |= extra
    if codec in ("libx264", "libx264rgb"):
        settings["x264-params"] = ":".join(filter(None, (_X264_QUIET, settings.get("x264-params"))))
    return settings


def quality_of(codec: str, crf: float | None) -> float | None:
    """The constant quality that an encoder is given on its own scale; None if it has none. crf: as asked for."""
    quality = _QUALITY.get(codec)
    return None if quality is None else quality.default if crf is None else crf


def _quality_setting(codec: str, crf: float | None) -> dict[str, str]:
    quality = _QUALITY.get(codec)
    if quality is None:
        if crf is not None:
            raise MediaError(f"the encoder {codec} has no constant quality, but crf {crf} was given: leave it out")
        return {}
    value = quality.default if crf is None else crf
    if value > quality.worst:
        raise MediaError(f"crf is {value}, expected 0 to {quality.worst} for {codec}: the default is {quality.default}")
    if value % 1 and not quality.fractions:
        raise MediaError(
            f"crf is {value}, expected a whole number for {codec}: choose {int(value)} or {int(value) + 1}"
        )
    return {quality.option: f"{value:g}"}
