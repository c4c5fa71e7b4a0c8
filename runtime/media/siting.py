"""Where chroma lies among luma: what a video says, or else what is usual for its codec.

PyAV does not tell what FFmpeg knows of it. But muxers write it into the headers of files: into that of Matroska, and
for raw video, which Matroska does not take, into that of YUV4MPEG2.
"""

from __future__ import annotations

import io
import re
from typing import TYPE_CHECKING, Any

from ..stream.frames import CENTRE, LEFT, TOP_LEFT
from .ffmpeg_log import ffmpeg_errors

if TYPE_CHECKING:
    from av.video.stream import VideoStream

Siting = tuple[float, float]
"""As `YuvColour.siting`."""

_CENTRED = frozenset({"mjpeg", "ljpeg", "mpeg1video", "jpeg2000", "theora", "vp8"})
_TOP_LEFT = frozenset({"dvvideo"})
"""Codecs by where their chroma lies if they do not say; between two luma pixels on the left for all others."""

_NAMES = {LEFT: "left", CENTRE: "center", TOP_LEFT: "topleft"}
"""FFmpeg's names."""
_IN_MATROSKA = re.compile(rb"\x55\xb7\x81([\x01\x02])\x55\xb8\x81([\x01\x02])")
"""ChromaSitingHorz and ChromaSitingVert: 1 where a chroma sample lies with the first luma pixel, 2 between two."""
_BUFFER = 4096
"""Bytes that FFmpeg collects: PyAV crashes if memory does not suffice for more."""
_IN_Y4M = {b"C420mpeg2": LEFT, b"C420jpeg": CENTRE, b"C420paldv": TOP_LEFT}


def usual_siting(codec: str) -> Siting:
    """Where the chroma of a codec, by FFmpeg's name of the format, lies if nobody says."""
    return CENTRE if codec in _CENTRED else TOP_LEFT if codec in _TOP_LEFT else LEFT


def siting_of(stream: VideoStream) -> Siting:
    """Where the chroma of an open video lies."""
    if stream.container.format.name == "yuv4mpegpipe":
        parts = _header(stream, "yuv4mpegpipe").split()
        said = next((place for name, place in _IN_Y4M.items() if name in parts), None)
    else:
        found = _IN_MATROSKA.search(_header(stream, "matroska"))
        said = None if found is None else ((found[1][0] - 1) / 2, (found[2][0] - 1) / 2)
    return usual_siting(str(stream.codec_context.codec.canonical_name)) if said is None else said


def options_of(siting: Siting) -> dict[str, str]:
    """The option of an encoder that says so, for those that can, and for the container."""
    return {"chroma_sample_location": _NAMES[siting]} if siting in _NAMES else {}


def _header(stream: VideoStream, format_name: str) -> bytes:
    """The header of a file with this stream alone; empty if the format does not hold it."""
    import av

    file: Any = io.BytesIO()
    try:
        with ffmpeg_errors(), av.open(file, "w", format=format_name, buffer_size=_BUFFER) as container:
            container.add_stream_from_template(stream, opaque=True)
            container.start_encoding()
    except (av.FFmpegError, OSError, ValueError, TypeError, MemoryError):
        return b""
    return bytes(file.getvalue())
