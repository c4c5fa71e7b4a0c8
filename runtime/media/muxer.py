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


_VARIANTS: Mapping[str, tuple[str, Mapping[str, str]]] = {"m2ts": ("mpegts", {"mpegts_m2ts_mode": "1"})}
"""Formats without a name of their own in FFmpeg: the name of the muxer that writes them, and its options for it.

FFmpeg would go by the name of the file, which it does not see here.
"""

_BUFFER = 1 << 20
"""Bytes that FFmpeg hands over at once. Each time costs a call of Python."""


def open_muxer(
    file: Any, format_name: str, options: Mapping[str, str] | None = None, *, passed_on: bool = False
) -> OutputContainer:
    """A container of the format that is written to `file`: an open one, or a path.

    format_name: FFmpeg's, or one of `_VARIANTS`. passed_on: do not ask which codecs it holds.
    """
    import av

    format_name, always = _VARIANTS.get(format_name, (format_name, {}))
    options = {**always, **(options or {})}
    if not passed_on:
        return av.open(file, "w", format=format_name, container_options=options, buffer_size=_BUFFER)
    slave = ":".join((f"f={format_name}", *(f"{name}={_escaped(value, ':]')}" for name, value in options.items())))
    both = {name: value for name, value in options.items() if name in _OF_BOTH}
    if isinstance(file, str):
        return av.open(f"[{slave}]{_escaped(file)}", "w", format="tee", container_options=both)
    return av.open(f"[{slave}]output", "w", format="tee", container_options=both, io_open=lambda *_: file)


_OF_BOTH = frozenset({"max_interleave_delta"})
"""Options of every muxer that `tee` needs, too: there, packets wait for each other a first time."""


def muxer_of(format_name: str) -> str:
    """FFmpeg's name of the muxer that writes the format."""
    return _VARIANTS[format_name][0] if format_name in _VARIANTS else format_name


def _escaped(text: str, ends: str = "") -> str:
    """A text as `tee` takes it, which unpacks a name once and the values of options twice. ends: what ends a value."""
    for marks in ([f"\\'{ends}"] if ends else []) + ["\\'|"]:
        text = "".join(f"\\{mark}" if mark in marks else mark for mark in text)
    return text


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
