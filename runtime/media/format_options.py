"""Which options FFmpeg's formats and protocols take.

FFmpeg ignores options that nobody knows, and PyAV does not say which these were. But FFmpeg lists those that it knows:
the functions for that are called in the libraries that PyAV has loaded.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

_Pointer = ctypes.c_void_p
_OF_URLS = frozenset({"rw_timeout"})
"""Options of every URL that FFmpeg opens for a demuxer, beyond those of all formats. No function lists them."""
_NO_FILE = 1
"""FFmpeg's `AVFMT_NOFILE`."""


class _Option(ctypes.Structure):
    """The beginning of FFmpeg's `AVOption`. offset: 0 for the name of a value of another option."""

    _fields_ = (("name", ctypes.c_char_p), ("help", ctypes.c_char_p), ("offset", ctypes.c_int))


class _Demuxer(ctypes.Structure):
    """The beginning of FFmpeg's `AVInputFormat`."""

    _fields_ = (
        ("name", ctypes.c_char_p),
        ("long_name", ctypes.c_char_p),
        ("flags", ctypes.c_int),
        ("extensions", ctypes.c_char_p),
        ("codec_tag", _Pointer),
        ("options", _Pointer),
    )


class _Muxer(ctypes.Structure):
    """The beginning of FFmpeg's `AVOutputFormat`."""

    _fields_ = (
        ("name", ctypes.c_char_p),
        ("long_name", ctypes.c_char_p),
        ("mime_type", ctypes.c_char_p),
        ("extensions", ctypes.c_char_p),
        ("codecs", ctypes.c_int * 3),
        ("flags", ctypes.c_int),
        ("codec_tag", _Pointer),
        ("options", _Pointer),
    )


def options_to_read(demuxers: Iterable[str], protocols: Iterable[str]) -> frozenset[str] | None:
    """The options that one of these demuxers and protocols takes; None if this FFmpeg cannot be asked.

    The first demuxer decides whether FFmpeg opens the URL for it, or it connects itself as that of RTSP does.
    """
    demuxers = tuple(demuxers)
    known = _options("av_find_input_format", _Demuxer, demuxers, tuple(protocols))
    if known is None or not demuxers or _connects_itself(demuxers[0]):
        return known
    return known | _OF_URLS


def has_protocol(scheme: str) -> bool:
    """Whether this FFmpeg has a protocol; true if it cannot be asked."""
    try:
        return _call("avio_find_protocol_name", ctypes.c_char_p, f"{scheme}://".encode()) is not None
    except (OSError, AttributeError):
        return True


def options_to_write(muxer: str, protocols: Iterable[str]) -> frozenset[str] | None:
    """The same for a muxer."""
    return _options("av_guess_format", _Muxer, (muxer,), tuple(protocols))


def _connects_itself(demuxer: str) -> bool:
    found = _call("av_find_input_format", ctypes.POINTER(_Demuxer), demuxer.encode())
    return bool(found and found.contents.flags & _NO_FILE)


def _options(
    find: str, kind: type[_Demuxer | _Muxer], formats: tuple[str, ...], protocols: tuple[str, ...]
) -> frozenset[str] | None:
    try:
        described = [_call("avformat_get_class", _Pointer)]
        for name in formats:
            found = _call(find, ctypes.POINTER(kind), name.encode(), *[None, None] * (kind is _Muxer))
            described += [found.contents.options] if found else []
        described += [_call("avio_protocol_get_class", _Pointer, name.encode()) for name in protocols]
        return frozenset(name for each in described if each for name in _names(each))
    except (OSError, AttributeError):
        return None


def _names(description: int) -> Iterator[str]:
    """The options of an `AVClass` at this address."""
    holder, option = _Pointer(description), None
    while option := _call("av_opt_next", ctypes.POINTER(_Option), ctypes.byref(holder), option):
        if option.contents.offset:
            yield option.contents.name.decode()


def _call(name: str, gives: Any, *arguments: Any) -> Any:
    """Call a function of FFmpeg. Raises `AttributeError` if no library has it. arguments: texts and addresses."""
    function = next((getattr(library, name) for library in _libraries() if hasattr(library, name)), None)
    if function is None:
        raise AttributeError(name)
    function.restype = gives
    return function(*arguments)


@cache
def _libraries() -> tuple[ctypes.CDLL, ...]:
    """What has FFmpeg's functions: a module of PyAV together with what it was linked to, or, on Windows, the DLLs."""
    import av.container.core

    module = Path(av.container.core.__file__)
    paths = [module, *sorted((module.parents[2] / "av.libs").glob("av*.dll"))]
    return tuple(ctypes.CDLL(str(path)) for path in paths)
