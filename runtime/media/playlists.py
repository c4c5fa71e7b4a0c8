"""Playlists: which files they name, and whether these may be opened.

A playlist is read only if the user allows it (`SourceOptions.allow_playlist`), and then opens nothing but videos in its
own folder and the folders in there. It is not searched for what could be harmful; it may only contain what is known to
be harmless:

    HLS (.m3u8)     comments, `#EXT...` lines without files or keys, `#EXT-X-MAP`, and names of files. It must end.
    ffconcat        `file`, `duration`, `inpoint` and `outpoint`
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import NoReturn

from ...errors import MediaError
from ...outside import Door, read_file

_DOOR = Door("playlist", MediaError, "check the file", max_bytes=1 << 22)
_MARKS = {b"#EXTM3U": "hls", b"ffconcat": "concat"}
_BEGINS_MPD = b"<MPD"
_HEAD = 4096
"""Bytes at the beginning of a file that show what it is."""

_CONCAT_LINE = re.compile(r"file +('(?P<quoted>[^'\\]+)'|(?P<plain>[^'\\\s]+))")
_CONCAT_NO_FILE = re.compile(r"|#.*|ffconcat version 1\.0|(duration|inpoint|outpoint) +[0-9:.]+")
_HLS_MAP = re.compile(r'#EXT-X-MAP:URI="(?P<name>[^"]+)"(,BYTERANGE="[0-9@]+")?')
_HLS_NO_FILE = re.compile(
    r"#(EXTM3U|EXTINF|EXT-X-(VERSION|TARGETDURATION|MEDIA-SEQUENCE|DISCONTINUITY-SEQUENCE|PLAYLIST-TYPE|BYTERANGE|"
    r"DISCONTINUITY|PROGRAM-DATE-TIME|INDEPENDENT-SEGMENTS|START|ALLOW-CACHE|ENDLIST|KEY:METHOD=NONE))\b[^\n]*"
)
_LONGEST = 1000
"""Characters in a line. FFmpeg cuts longer ones, and takes a zero byte for the end of one."""
_FOREIGN = frozenset(':?#%\\"<>|*')
"""Characters that make a URL, a pattern or a path of Windows of a name."""


@dataclass(frozen=True)
class Playlist:
    """A playlist whose files may be opened. demuxer: FFmpeg's name of it. files: in the order of the list."""

    demuxer: str
    files: tuple[Path, ...]

    @property
    def demuxer_options(self) -> dict[str, str]:
        """What the demuxer needs to open files of any name; they have been checked."""
        return {"safe": "0"} if self.demuxer == "concat" else {"allowed_extensions": "ALL", "extension_picky": "0"}


def files_of_playlist(path: Path, allowed: bool) -> tuple[Path, ...]:
    """The files that `path` names if it is a playlist and playlists are allowed."""
    playlist = read_playlist(path) if allowed and path.is_file() else None
    return playlist.files if playlist else ()


def kind_of_playlist(head: bytes) -> str | None:
    """What sort of playlist begins like this: "hls", "concat", "dash" or None."""
    text = head.lstrip(b"\xef\xbb\xbf \r\n")
    kind = next((kind for mark, kind in _MARKS.items() if text.startswith(mark)), None)
    return kind or ("dash" if _BEGINS_MPD in head else None)


def read_playlist(path: Path) -> Playlist | None:
    """The playlist in a file; None if it holds something else.

    Raises `MediaError` if it contains what is not known to be harmless, names a file outside its folder, or names
    something that is not a file.
    """
    with path.open("rb") as file:
        kind = kind_of_playlist(file.read(_HEAD))
    if kind is None:
        return None
    if kind == "dash":
        _refuse(path, "it is a DASH manifest, expected an HLS playlist (.m3u8) or an ffconcat list")
    try:
        lines = read_file(path, _DOOR).decode("utf-8-sig").splitlines()
    except UnicodeDecodeError:
        _refuse(path, "it is not a text in UTF-8")
    if not all(line.isprintable() and len(line) <= _LONGEST for line in lines):
        _refuse(path, "it holds control characters or very long lines")
    names = _hls_names(path, lines) if kind == "hls" else _concat_names(path, lines)
    files = tuple(_allowed(path, name) for name in names)
    if not files:
        _refuse(path, "it names no file")
    return Playlist(kind, files)


def _hls_names(path: Path, lines: list[str]) -> Iterator[str]:
    if "#EXT-X-ENDLIST" not in lines:
        _refuse(path, "it is live or cut off, expected one that ends with #EXT-X-ENDLIST")
    for line in lines:
        if match := _HLS_MAP.fullmatch(line):
            yield match["name"]
        elif line.startswith("#EXT") and not _HLS_NO_FILE.fullmatch(line):
            _refuse(path, f"it holds {line[:60]!r}, expected a list of the segments of one video, without encryption")
        elif line and not line.startswith("#"):
            yield line


def _concat_names(path: Path, lines: list[str]) -> Iterator[str]:
    for line in map(str.strip, lines):
        if match := _CONCAT_LINE.fullmatch(line):
            yield match["quoted"] or match["plain"]
        elif not _CONCAT_NO_FILE.fullmatch(line):
            _refuse(path, f"it holds {line[:60]!r}, expected lines such as file 'part1.mp4'")


def _allowed(path: Path, name: str) -> Path:
    """The file that a playlist names. Raises `MediaError` unless it is one in its folder."""
    parts = PurePosixPath(name).parts
    if name != name.strip() or not name.isprintable() or _FOREIGN & set(name) or name.startswith("/") or ".." in parts:
        _refuse(path, f"it names {name[:120]!r}, expected names of files in its own folder")
    file = path.parent / name
    if not file.resolve().is_relative_to(path.parent.resolve()):
        _refuse(path, f"it names {name[:120]!r}, a link that leads out of its folder")
    if not file.is_file():
        _refuse(path, f"it names {name[:120]!r}, which does not exist or is not a file")
    with file.open("rb") as entry:
        if kind_of_playlist(entry.read(_HEAD)):
            _refuse(path, f"it names {name[:120]!r}, which is a playlist, too: give that one by itself")
    return file


def _refuse(path: Path, problem: str) -> NoReturn:
    raise MediaError(f"the playlist {path} was not opened: {problem}")
