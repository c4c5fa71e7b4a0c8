"""What a container says about a video before it is read: how many packets, and when its streams end."""

from __future__ import annotations

import re
from fractions import Fraction
from typing import TYPE_CHECKING, Any

from .damage import Promise
from .pyav import fraction

if TYPE_CHECKING:
    from av.audio.stream import AudioStream
    from av.container import InputContainer
    from av.video.stream import VideoStream

CONTAINER_CLOCK = 1_000_000
"""Ticks per second of the start and the duration that FFmpeg gives for a container."""

_INDEXED = frozenset({"mov", "avi"})
"""Demuxers that list every packet in an index when they open a complete file."""

_HEADED = frozenset({"mov", "avi", "matroska", "webm", "flv", "asf", "ivf", "nut", "mxf"})
"""Demuxers whose durations come from a header. Others compute them from the data that is there, or guess."""

_FROM_ZERO = frozenset({"matroska", "webm", "nut", "asf"})
"""Containers whose durations are ends on their own clock, and so include what lies before the first packet."""


def promise_of(container: InputContainer, stream: VideoStream) -> Promise:
    """What the container says about its streams."""
    names = frozenset(container.format.name.split(","))
    if not names & _HEADED:
        return Promise()
    before = Fraction(max(container.start_time or 0, 0) if names & _FROM_ZERO else 0, CONTAINER_CLOCK)
    file_end = Fraction(container.duration, CONTAINER_CLOCK) - before if container.duration else None
    sound = {other.index: _stream_end(other, file_end, before) for other in container.streams.audio}
    sound_ends = {index: end for index, end in sound.items() if end is not None}
    listed = sum(entry.size > 0 for entry in stream.index_entries) if names & _INDEXED else 0
    if listed > 1:  # else the index was lost with the end of the file, or will be read with the data
        return Promise(packets=listed, sound_ends=sound_ends)
    end = _stream_end(stream, file_end, before)
    return Promise(None, end, file_end if _all_are_read(container) else None, sound_ends)


def shown_seconds(container: InputContainer, stream: VideoStream) -> Fraction | None:
    """How long a video is shown, where a header counts its frames and says so apart. None elsewhere."""
    names, tick = frozenset(container.format.name.split(",")), fraction(stream.time_base)
    length = stream.duration or 0
    return length * tick if names & _INDEXED and length > 0 and tick is not None else None


def _stream_end(stream: VideoStream | AudioStream, file_end: Fraction | None, before: Fraction) -> Fraction | None:
    """When the stream ends, in seconds after the start of the file, as its header says; None if it does not.

    before: the start of the file, if the container counts from 0.
    """
    tick = fraction(stream.time_base)
    if stream.duration and tick is not None:
        return stream.duration * tick - before
    for name, text in stream.metadata.items():  # Matroska
        match = re.fullmatch(r"(\d+):(\d\d):(\d\d(?:\.\d+)?)", text.strip("\0 "))
        if name.upper().split("-")[0] == "DURATION" and match is not None:
            end = int(match[1]) * 3600 + int(match[2]) * 60 + Fraction(match[3]) - before
            return end if file_end is None else min(end, file_end)  # the tag may be of the file that this was cut from
    return None


def _all_are_read(container: InputContainer) -> bool:
    """True unless there is a further video, whose packets are skipped."""
    return sum(stream.type == "video" and not is_cover(stream) for stream in container.streams) == 1


def is_cover(stream: Any) -> bool:
    """True if the stream is an attached picture, not video."""
    from av.stream import Disposition

    return bool(stream.disposition & (Disposition.attached_pic | Disposition.timed_thumbnails))
