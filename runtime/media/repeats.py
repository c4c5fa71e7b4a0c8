"""Animations: GIF and APNG. How often they are shown, which FFmpeg does not read, but writes."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path, PurePath
from typing import TYPE_CHECKING

from .pipes import is_input_pipe

if TYPE_CHECKING:
    from .base import SourceInfo

ENDLESS = 0
_ANIMATIONS = frozenset({"gif", "apng"})
_SUFFIXES = frozenset({".gif", ".apng"})
_LOOKED_AT = 1 << 20
"""Bytes: the number stands before the first picture."""
_PNG = b"\x89PNG\r\n\x1a\n"
_MOST = 65535
_NEVER_AGAIN = -1
"""How FFmpeg's muxer of GIF calls it; 0 is without end."""


def is_animation(output: str) -> bool:
    """True if an output is an animation: its encoder writes one header, so pieces of it cannot be joined."""
    return PurePath(output).suffix.lower() in _SUFFIXES


def repeat_options(format_name: str, info: SourceInfo) -> dict[str, str]:
    """The muxer's options that keep how often an animation is shown; none for another input or output.

    What cannot be read a second time is shown without end, as nearly all animations are.
    """
    if format_name not in _ANIMATIONS or info.container not in _ANIMATIONS:
        return {}
    plays = ENDLESS if is_input_pipe(info.path) else plays_of(info.path)
    if format_name == "apng":
        return {"plays": str(min(plays, _MOST))}
    again = {ENDLESS: 0, 1: _NEVER_AGAIN}.get(plays, min(plays - 1, _MOST))
    return {"loop": str(again)}


def plays_of(path: Path) -> int:
    """How often an animation is shown; `ENDLESS` if its file says so, or cannot be read."""
    try:
        with path.open("rb") as file:
            head = file.read(_LOOKED_AT)
    except OSError:
        return ENDLESS
    try:
        return _plays_of_png(head) if head.startswith(_PNG) else _plays_of_gif(head)
    except (struct.error, IndexError):
        return ENDLESS


def _plays_of_png(head: bytes) -> int:
    at = len(_PNG)
    while True:
        size, kind = struct.unpack_from(">I4s", head, at)
        if kind == b"acTL":
            return int(struct.unpack_from(">II", head, at + 8)[1])
        at += 12 + size


def _plays_of_gif(head: bytes) -> int:
    """Without the extension of Netscape, a GIF is shown once; the number in it does not count the first time."""
    for block in _extensions_of_gif(head):
        name, *data = block
        if name in (b"NETSCAPE2.0", b"ANIMEXTS1.0") and data and data[0][:1] == b"\1":
            (again,) = struct.unpack_from("<H", data[0], 1)
            return int(again) + 1 if again else ENDLESS
    return 1


def _extensions_of_gif(head: bytes) -> Iterator[list[bytes]]:
    """The parts of each extension before the first picture."""
    flags = head[10]
    at = 13 + (3 << ((flags & 7) + 1) if flags & 0x80 else 0)
    while head[at] == 0x21:
        at += 2
        parts = []
        while size := head[at]:
            parts.append(head[at + 1 : at + 1 + size])
            at += 1 + size
        at += 1
        if parts:
            yield parts
