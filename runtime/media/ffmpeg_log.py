"""Catches what FFmpeg logs, because its log tells more than its error codes: the cause of a failure, and damage that it
conceals.

FFmpeg has one log for the whole process. PyAV hands each line to the thread that caused it, so what is caught is what
FFmpeg said in the calling thread.

While the log is on, a thread that logs waits for the interpreter's lock, even for lines that nobody will see. PyAV
holds this lock while it frees an encoder, which waits for its threads: if one of them logs, the process hangs. So the
log is on only while FFmpeg reads, decodes or opens something, `encoder_settings` silences the threads of x264, and
`mute` ends all listening before an encoder is freed in the middle of its work.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from ...text import first_line

_log = logging.getLogger(__name__.split(".")[0] + ".ffmpeg")
"""Gets every line that is caught, for -vv."""

_NOWHERE = logging.NullHandler()
"""Takes lines of threads in which nobody listens. Without a handler, Python would print them."""

_UNDERWAY_S = 0.02
"""How long threads that are about to hand over a line get to do so."""

_lock = threading.Lock()
_listeners = 0
_muted = 0


@contextmanager
def mute() -> Iterator[None]:
    """Nobody hears FFmpeg within the block. Enter it before freeing an encoder whose threads may be at work."""
    global _muted
    with _lock:
        _muted += 1
        _switch()
    time.sleep(_UNDERWAY_S)
    try:
        yield
    finally:
        with _lock:
            _muted -= 1
            _switch()


@contextmanager
def _listening() -> Iterator[list[tuple[int, str, str]]]:
    """The lines that FFmpeg logs in this thread within the block, unless `mute` is in force: level, source, text."""
    global _listeners
    from av import logging as log

    lines: list[tuple[int, str, str]] = []
    with _lock:
        _listeners += 1
        _switch()
    try:
        with log.Capture(local=True) as lines:
            yield lines
    finally:
        with _lock:
            _listeners -= 1
            _switch()
        for level, source, text in lines:  # now that the log is off for this thread
            _log.debug("%s: %s (level %d)", source, text.strip(), level)


_before: tuple[int | None, bool] | None = None


def _switch() -> None:
    """Turn the log on or off. Call it with `_lock`."""
    global _before
    from av import logging as log

    wanted = _listeners > 0 and not _muted
    if wanted and _before is None:
        _before = log.get_level(), log.get_skip_repeated()
        logging.getLogger("libav").addHandler(_NOWHERE)
        log.set_skip_repeated(False)  # an error that was logged before counts here too
        log.set_level(log.ERROR)
    elif not wanted and _before is not None:
        (level, skips), _before = _before, None
        log.set_level(level)
        log.set_skip_repeated(skips)


@contextmanager
def ffmpeg_errors() -> Iterator[list[str]]:
    """Collect the errors that FFmpeg logs within the block, instead of writing them to stderr.

    The list is filled when the block ends.
    """
    said: list[str] = []
    with _listening() as lines:
        try:
            yield said
        finally:
            said += _errors(lines)


class Complaints:
    """The errors that FFmpeg logs about one file.

        with complaints.listening():      # around every call that reads or decodes, in any thread
            ...

    count: how many there were so far. first: the first of them, in one line.
    """

    def __init__(self, said: Iterable[str] = ()) -> None:
        """said: errors that were collected before."""
        self.count = 0
        self.first: str | None = None
        self._add(said)

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Count what FFmpeg logs in this thread within the block."""
        with _listening() as lines:
            try:
                yield
            finally:
                self._add(_errors(lines))

    def _add(self, said: Iterable[str]) -> None:
        for message in said:
            self.count += 1
            self.first = self.first or first_line(message)


def _errors(lines: Iterable[tuple[int, str, str]]) -> list[str]:
    from av.logging import ERROR

    return [message.strip() for level, _, message in lines if level <= ERROR and message.strip()]


def first_error(said: list[str], error: BaseException) -> str:
    """Why something did not open, in one line: the first line that FFmpeg logged, or else the message of `error`."""
    return first_line(said[0] if said else getattr(error, "strerror", None) or error)
