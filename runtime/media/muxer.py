"""Opens the container of an output, also where PyAV would refuse a stream that FFmpeg's muxer takes.

Matroska holds every codec that AVI and WMV files hold, but FFmpeg lists some as unusual, and PyAV asks that list.
Behind FFmpeg's `tee` muxer, which passes everything on to a second one, nobody asks. It does not pass on chapters.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from av.container import OutputContainer

PASSED_ON = frozenset({"matroska"})
"""Formats whose muxer takes more codecs than FFmpeg's list of their codecs says."""

GLOBAL_HEADER = 1 << 22
"""FFmpeg's AV_CODEC_FLAG_GLOBAL_HEADER: the container stores what is needed to decode in its own header."""


_BUFFER = 1 << 20
"""Bytes that FFmpeg hands over at once. Each time costs a call of Python."""


def open_muxer(
    file: Any, format_name: str, options: Mapping[str, str] | None = None, *, passed_on: bool = False
) -> OutputContainer:
    """A container of the format that is written to `file`. passed_on: do not ask which codecs it holds."""
    import av

    if not passed_on:
        return av.open(file, "w", format=format_name, container_options=dict(options or {}), buffer_size=_BUFFER)
    slave = ":".join((f"f={format_name}", *(f"{name}={value}" for name, value in (options or {}).items())))
    return av.open(f"[{slave}]output", "w", format="tee", io_open=lambda *_: file)


def is_passed_on(container: OutputContainer) -> bool:
    """Whether the container was opened with `passed_on`."""
    return container.format.name == "tee"


def format_name_of(container: OutputContainer) -> str:
    """FFmpeg's name of the format that is written."""
    found = re.match(r"\[f=(\w+)", container.name) if is_passed_on(container) else None
    return found[1] if found else container.format.name


def plain(container: OutputContainer) -> OutputContainer:
    """A container of the same format that says what the format can do. Nothing is written to it."""
    import io

    return open_muxer(io.BytesIO(), format_name_of(container)) if is_passed_on(container) else container
