"""Reads an output back before it gets its name: whether players will find every frame in it."""

from __future__ import annotations

from pathlib import Path

from ...errors import MediaError, OutputError
from .contents import open_container

_INDEXED = frozenset({"mov", "avi"})
"""Demuxers whose index lists every packet. The others read through the file."""

_COUNTED = _INDEXED | {"matroska", "webm", "nut", "flv", "asf", "ogg", "mpegts", "mxf"}
"""Demuxers that return one packet per picture that was written."""


def count_shown(path: Path) -> int | None:
    """How many pictures of the video in `path` a player shows; None if the container does not say it cheaply.

    Nothing is decoded. Raises `MediaError` if the file cannot be read.
    """
    with open_container(path) as container:
        names = frozenset(container.format.name.split(","))
        if not names & _COUNTED:
            return None
        if not container.streams.video:
            return 0
        stream = container.streams.video[0]
        if names & _INDEXED:
            return sum(entry.size > 0 and not entry.is_discard for entry in stream.index_entries)
        return sum(packet.size > 0 and not packet.is_discard for packet in container.demux(stream))


def check_output(written: Path, name: Path, pictures: int) -> None:
    """Raise `OutputError` unless the file `written`, which will be called `name`, shows so many pictures."""
    try:
        shown = count_shown(written)
    except MediaError as error:
        raise OutputError(
            f"{name} was written, but cannot be read back, so it was removed: try another container"
        ) from error
    if shown is not None and shown != pictures:
        raise OutputError(
            f"{name} shows only {shown} of the {pictures} frames that were written, so it was removed: try another "
            "container, e.g. .mkv"
        )
