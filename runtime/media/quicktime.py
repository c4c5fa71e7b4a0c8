"""Tags in MP4 and MOV, which have two places for them, of which FFmpeg writes one."""

from __future__ import annotations

import io
from collections.abc import Mapping

from .ffmpeg_log import mute
from .muxer import open_muxer
from .pyav import open_input

_ANY_KEY = "use_metadata_tags"


def titled(tags: Mapping[str, str]) -> dict[str, str]:
    """The tags of a stream that was read, with the name of its track as muxers take it: as `title`."""
    named = {key: text for key, text in tags.items() if key != "name"}
    return {"title": tags["name"], **named} if "name" in tags else named


def tag_options(format_name: str, tags: Mapping[str, str], *, has_cover: bool) -> dict[str, str]:
    """Options of the muxer that keep the most tags.

    By default, FFmpeg writes the tags that iTunes knows. With keys as phones write them, it keeps any tag, but in MP4
    neither covers nor what iTunes reads. So keys are used only if a tag needs them, and no cover is lost.
    """
    if format_name not in ("mp4", "mov") or not tags or (format_name == "mp4" and has_cover):
        return {}
    return {} if set(tags) <= _kept(format_name, tags) else {"movflags": _ANY_KEY}


def _kept(format_name: str, tags: Mapping[str, str]) -> set[str]:
    """The names of the tags that are found in a file to which all were written, by trying it in memory."""
    import av

    memory = io.BytesIO()
    with mute():
        try:
            trial = open_muxer(memory, format_name, {"movflags": "empty_moov"})
            trial.add_stream("pcm_s16le", rate=48000, layout="mono")
            trial.metadata.update(tags)
            trial.start_encoding()
            trial.close()
            with open_input(io.BytesIO(memory.getvalue())) as found:
                return set(found.metadata)
        except (av.FFmpegError, ValueError):
            return set(tags)
