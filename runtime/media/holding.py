"""Finds out which streams a container holds, by asking FFmpeg, and adds them to it.

A codec that is on FFmpeg's list may still be refused when the header is written, and some muxers write anything and
note nowhere what it is. So a trial header with complete parameters is written in memory, and where that proves nothing,
the tables below decide.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import cache
from typing import TYPE_CHECKING, Any

from .base import CopiedStream
from .ffmpeg_log import mute
from .muxer import PASSED_ON, format_name_of, open_muxer
from .pyav import readable
from .quicktime import titled

if TYPE_CHECKING:
    from av.container import OutputContainer

NAMED_LAYOUTS = ("mono", "stereo", "2.1", "4.0", "5.0", "5.1", "6.1", "7.1")
"""What FFmpeg takes 1 to 8 channels for that come without names, as from AVI."""

WITH_COVER = frozenset({"mp4", "ipod"})
WITH_ATTACHMENTS = frozenset({"matroska"})

_TRANSPORT_CODECS = frozenset({
    "mp1", "mp2", "mp3", "aac", "aac_latm", "ac3", "eac3", "dts", "truehd", "opus", "s302m",
    "dvb_subtitle", "dvb_teletext", "klv", "timed_id3", "smpte_2038", "scte_35", "epg", "ac4",
})  # fmt: skip
_NAMED: Mapping[str, frozenset[str]] = {
    "mpegts": _TRANSPORT_CODECS,
    "m2ts": _TRANSPORT_CODECS | {"pcm_bluray", "hdmv_pgs_subtitle"},
}
"""What has a name in an MPEG transport stream. FFmpeg writes everything else, too, but nobody can read it."""

_UNPLAYABLE: Mapping[str, frozenset[str]] = {
    # FFmpeg does not know how long packets of the first four are, and fills up each sample with an empty chunk: one to
    # four megabytes per second, in which players find no FLAC. G.722 is played at twice its speed.
    "avi": frozenset({"flac", "vorbis", "dts", "eac3", "adpcm_g722"}),
    # Only "enhanced" FLV, which few players know, has names for them.
    "flv": frozenset({"eac3", "opus", "flac", "ac3"}),
    # Ten packets have the same time, a second too late.
    "asf": frozenset({"flac"}),
    "wtv": frozenset({"flac", "aac"}),
    # All packets have the time 0.
    "rm": frozenset({"aac", "ra_144"}),
    # The size of their blocks is not stored.
    "nut": frozenset({"wmav1", "wmav2", "wmapro", "wmavoice", "wmalossless", "adpcm_ima_wav", "adpcm_g726"}),
    # Its length is taken from that of the file, so the last second is refused.
    "matroska": frozenset({"tta"}),
}
"""What the muxers of these formats write, but in files that players do not know or read wrongly, or that are far too
large. Found by copying the sound of every encoder into every container, and comparing the times that are read."""

_NEEDS_VIDEO = frozenset({"mxf", "mxf_d10", "mxf_opatom", "gxf"})
"""Formats that refuse a header without video."""


_MACINTOSH_LANGUAGES = {
    "sqi": "alb", "hye": "arm", "eus": "baq", "mya": "bur", "zho": "chi", "cze": "ces", "nld": "dut", "fre": "fra",
    "kat": "geo", "deu": "ger", "ell": "gre", "isl": "ice", "mkd": "mac", "msa": "may", "fas": "per", "rum": "ron",
    "slo": "slk", "swe": "sve", "bod": "tib", "cym": "wel",
}  # fmt: skip
"""FFmpeg knows the languages of QuickTime by one of their two codes only, and drops the other."""


def refusal(format_name: str, source: CopiedStream) -> str | None:
    """Why a container of this format does not take the stream; None if it does."""
    if source.kind == "cover" and format_name not in WITH_COVER | WITH_ATTACHMENTS:
        return f"{format_name} files hold no cover pictures"
    if source.kind == "attachment" and format_name not in WITH_ATTACHMENTS:
        return f"{format_name} files hold no attachments"
    if holds_pictures_only(format_name, source.codec):
        return f"{format_name} files hold pictures only"
    if source.kind != "data" and not can_name(format_name, source.codec):
        return f"{format_name} files do not hold {source.codec}"
    # An MP4 normally describes its streams at the end of the file, and fails only there if something is missing. Other
    # codecs need packets for their description, and do not fail there.
    early = source.codec.startswith("pcm_") and format_name in ("mp4", "mov", "ipod")
    options = {"movflags": "empty_moov"} if early else {}
    if takes(format_name, lambda trial: add_copy(trial, source), options):
        return None
    return f"{format_name} files do not hold {source.codec}"


def is_taken_if_passed_on(format_name: str, source: CopiedStream) -> bool:
    """Whether the muxer takes a stream that is not on its list of codecs."""
    if format_name not in PASSED_ON or source.kind != "audio" or not can_name(format_name, source.codec):
        return False
    return takes(format_name, lambda trial: add_copy(trial, source), passed_on=True)


@cache
def holds_pictures_only(format_name: str, codec: str) -> bool:
    """True for streams of pictures without a container: their muxers write the bytes of any stream."""
    container = open_muxer(io.BytesIO(), format_name)
    return container.default_audio_codec == "none" and codec not in container.supported_codecs


def can_name(format_name: str, codec: str) -> bool:
    """False if the muxer writes streams of this codec, but such that players do not know what they are."""
    if codec in _UNPLAYABLE.get(format_name, ()):
        return False
    if format_name in _NAMED:
        return codec in _NAMED[format_name]
    return not holds_pictures_only(format_name, codec)


def takes(
    format_name: str,
    add: Callable[[OutputContainer], object],
    options: dict[str, str] | None = None,
    *,
    passed_on: bool = False,
) -> bool:
    """Whether a header can be written, in memory, for a container to which `add` adds a stream."""
    import av

    with _in_memory(format_name, options or {}, passed_on=passed_on) as trial, mute():
        try:
            if format_name in _NEEDS_VIDEO:
                _add_video(trial)
            add(trial)
            trial.start_encoding()
        except (av.FFmpegError, ValueError, TypeError):
            return False
    return True


@contextmanager
def _in_memory(format_name: str, options: dict[str, str], *, passed_on: bool) -> Iterator[OutputContainer]:
    import av

    memory = io.BytesIO()
    trial = open_muxer(memory, format_name, options, passed_on=passed_on)
    try:
        yield trial
    finally:
        memory.close()  # so that no trailer is written
        with mute(), suppress(av.FFmpegError, ValueError):  # it wanted to write one
            trial.close()


def _add_video(container: OutputContainer) -> None:
    stream: Any = container.add_stream("mpeg2video", rate=25)
    stream.width, stream.height, stream.pix_fmt = 720, 576, "yuv420p"


def add_copy(container: OutputContainer, source: CopiedStream) -> Any:
    """Add a stream to `container` for the unchanged packets of `source`, and name the layout of its channels."""
    stream = container.add_stream_from_template(source.template.stream, opaque=True)
    stream.metadata.update(tags_for(container, readable(source.template.stream.metadata)))
    stream.disposition = source.template.stream.disposition
    if source.kind == "audio" and stream.codec_context is not None:
        layout = named_layout(source.template.stream.codec_context)
        if layout is not None:
            stream.codec_context.layout = layout
    return stream


def tags_for(container: OutputContainer, tags: Mapping[str, str]) -> dict[str, str]:
    """The tags of a stream that was read, with its title and its language as the container calls them."""
    told = titled(tags)
    if format_name_of(container) == "mov" and "language" in told:
        told["language"] = _MACINTOSH_LANGUAGES.get(told["language"], told["language"])
    return told


def named_layout(context: Any) -> str | None:
    """The layout of the channels, guessed from their number if they have no names; None if that cannot be guessed."""
    name, count = str(context.layout.name), int(context.layout.nb_channels)
    if not re.fullmatch(r"\d+ channels", name):
        return name
    return NAMED_LAYOUTS[count - 1] if 0 < count <= len(NAMED_LAYOUTS) else None
