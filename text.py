"""Sizes, durations, versions and messages as people read them. Every room may use this module."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from fractions import Fraction

from .redaction import redacted

LineCallback = Callable[[str], None]
"""Receives one line of progress at a time, without a line break."""


def with_elapsed_time(report: LineCallback) -> LineCallback:
    """A callback that puts the seconds since this call in front of each line."""
    began = time.monotonic()
    return lambda line: report(f"{time.monotonic() - began:6.1f} s  {line}")


_TIME = re.compile(r"(?P<whole>([0-9]{1,9}:){0,2})(?P<last>[0-9]{1,18}(\.[0-9]{1,30})?)(?P<unit>s|ms|us)?")
_UNITS = {"s": Fraction(1), "ms": Fraction(1, 1000), "us": Fraction(1, 1_000_000)}


def parse_seconds(text: str) -> Fraction:
    """`90`, `90s`, `500ms`, `40us`, `1:30` or `0:01:30.5` as seconds, as in FFmpeg. Raises `ValueError`.

    What follows a colon is below 60.
    """
    match = _TIME.fullmatch(text.strip())
    if match is None or (match["whole"] and match["unit"] in ("ms", "us")):
        raise ValueError(text)
    if match["whole"] and any(float(part) >= 60 for part in (*match["whole"].split(":")[1:-1], match["last"])):
        raise ValueError(text)
    total = Fraction(0)
    for part in (*match["whole"].split(":")[:-1], match["last"]):
        total = total * 60 + Fraction(part)
    return total * _UNITS[match["unit"] or "s"]


def format_duration(seconds: float) -> str:
    """Seconds as 1:02:03 or 2:03."""
    whole = round(seconds)
    hours, minutes = whole // 3600, whole // 60 % 60
    return f"{hours}:{minutes:02d}:{whole % 60:02d}" if hours else f"{minutes}:{whole % 60:02d}"


def format_bytes(count: float) -> str:
    """Bytes as MB or GB in powers of ten, as engine tools print them."""
    return f"{count / 1e9:.2f} GB" if count >= 1e9 else f"{count / 1e6:.1f} MB"


def counted(count: int, thing: str, several: str = "") -> str:
    """`1 frame`, `2 frames`. several: the plural, if it is no `s` more."""
    return f"{count} {thing if count == 1 else several or thing + 's'}"


def with_article(words: str) -> str:
    """`an avi file`, `a wav file`, `an mp4 file`: as the first word is spoken, which may be by its letters."""
    first = words.split(maxsplit=1)[0].lower()
    spelled = first.startswith("mp") or not set(first) & set("aeiouy") or any(map(str.isdigit, first))
    return f"{'an' if first[0] in ('aefhilmnorsx' if spelled else 'aeio') else 'a'} {words}"


def printable(text: str) -> str:
    """One line that is safe to print: control characters and other invisible ones appear as escapes, e.g. `\\x1b`.

    Names of files and of what is in them may hold any character, and a terminal obeys some of them. Secrets in URLs are
    hidden.
    """
    text = redacted(text)
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


def first_line(message: object) -> str:
    """The first line of a foreign message or error, cut to 300 characters; of an error without a message, its type."""
    lines = str(message).strip().splitlines() or [type(message).__name__]
    return lines[0][:300]


def last_line(text: str) -> str:
    """The last line that is not blank; empty if there is none."""
    return next((line.strip() for line in reversed(text.splitlines()) if line.strip()), "")


def parse_version(text: str) -> tuple[int, ...]:
    """`12.8` -> (12, 8), for comparison."""
    return tuple(int(part) for part in text.split("."))
