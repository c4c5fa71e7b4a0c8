"""Whether packets of an MPEG transport stream are missing between two places in a file.

Each packet of a stream (a PID) has a counter. Where it skips, FFmpeg marks the picture that is cut by the gap; if a gap
takes whole pictures, it says nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

_PACKET = 188
_SYNC = 0x47
_LAYOUTS = ((188, 0), (192, 4), (204, 16))
"""Bytes from one packet to the next, and where FFmpeg's position of a packet lies before it, in files."""
_LARGEST = max(stride for stride, _ in _LAYOUTS)
_MOST = 1 << 24
"""Bytes between two pictures that are looked at."""


def tear_finder(path: Path, format_name: str) -> Callable[[int, int], bool] | None:
    """`is_torn_between` for a file of this format of FFmpeg's; None for one that is no transport stream."""
    return partial(is_torn_between, path) if format_name == "mpegts" else None


def is_torn_between(path: Path, begin: int, end: int) -> bool:
    """Whether packets are missing from the one at `begin` to that at `end`, positions of two pictures of one stream.

    False if that cannot be told.
    """
    if not 0 <= begin < end <= begin + _MOST:
        return False
    try:
        with path.open("rb") as file:
            file.seek(begin)
            return is_torn(file.read(end - begin + _LARGEST), end - begin)
    except OSError:
        return False


def is_torn(data: bytes, last: int) -> bool:
    """Whether packets of the stream to which the first packet belongs are missing, up to the packet at `last`.

    Packets without their mark (`_SYNC`) are damaged, and count as missing.
    """
    fitting = [(stride, lead) for stride, lead in _LAYOUTS if _is_of_one(data, lead, last + lead)]
    if not fitting:
        return False
    found = [range(lead, last + lead + 1, stride) for stride, lead in fitting]
    starts = max(found, key=lambda each: sum(data[at] == _SYNC for at in each) / len(each))
    own = _pid(data, starts[0])
    damaged = any(data[at] != _SYNC for at in starts)
    return damaged or _skips(data, [at for at in starts if _pid(data, at) == own])


def _is_of_one(data: bytes, first: int, last: int) -> bool:
    """Whether packets of one stream begin at both places."""
    whole = len(data) >= last + _PACKET
    return whole and data[first] == data[last] == _SYNC and _pid(data, first) == _pid(data, last)


def _pid(data: bytes, at: int) -> int:
    return (data[at + 1] & 0x1F) << 8 | data[at + 2]


def _skips(data: bytes, starts: Sequence[int]) -> bool:
    """Whether the counter of packets skips. It stays in a packet without payload, and in one that is sent again."""
    before = data[starts[0] + 3] & 15
    for at in starts[1:]:
        counter, has_payload, adapted = data[at + 3] & 15, data[at + 3] & 0x10, data[at + 3] & 0x20
        announced = adapted and data[at + 4] and data[at + 5] & 0x80
        if not announced and counter != before and not (has_payload and counter == (before + 1) & 15):
            return True
        before = counter
    return False
