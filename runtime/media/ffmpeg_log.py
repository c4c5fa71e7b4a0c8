"""Catches what FFmpeg logs, because its log tells more than its error codes: the cause of a failure, and damage that it
conceals.

FFmpeg has one log for the whole process. PyAV hands each line to the thread that caused it, so what is caught is what
FFmpeg said in the calling thread.

While the log is on, a thread that logs waits for the interpreter's lock, even for lines that nobody will see. PyAV
holds this lock while it frees an encoder, which waits for its threads: if one of them logs, the process hangs. So the
log is on only while FFmpeg reads, decodes or opens something, `encoder_settings` silences the threads of x264, and
`mute` turns the log off before an encoder is freed in the middle of its work. It waits for threads that listen, and
threads that want to listen wait for it: damage in an input is heard, whatever is freed meanwhile.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from ...text import first_line

_log = logging.getLogger(__name__.split(".")[0] + ".ffmpeg")
"""Gets every line that is caught, for -vv."""

_NOWHERE = logging.NullHandler()
"""Takes lines of threads in which nobody listens. Without a handler, Python would print them."""

_UNDERWAY_S = 0.02
"""How long threads that are about to hand over a line get to do so."""

_STUCK_S = 2.0
"""Decoding a picture takes less. Whoever has been listening for so long waits for its input: it is not waited for."""

_FREEING_S = 30.0
"""Freeing an encoder takes less, unless it hangs."""

_state = threading.Condition()
"""Guards what follows, and tells when it changes."""

_listening_in: Counter[int] = Counter()
_muting_in: Counter[int] = Counter()
"""How many blocks each thread is in. A thread is counted as muting while it waits for those who listen."""

_since: dict[int, float] = {}
"""When each thread that listens began to, by `time.monotonic`."""

_muted = 0
"""How many blocks are muted by now."""


@contextmanager
def mute() -> Iterator[None]:
    """Nobody hears FFmpeg within the block. Enter it before freeing an encoder whose threads may be at work.

    Waits while other threads listen, and they wait before they listen again.
    """
    global _muted
    me, counted = threading.get_ident(), 0
    with _in_block(_muting_in, me):
        try:
            with _state:
                _state.wait_for(lambda: not _others(_listening_in, me), timeout=_patience_s(me))
                _muted, counted = _muted + 1, 1
                _switch()
            time.sleep(_UNDERWAY_S)
            yield
        finally:
            with _state:
                _muted -= counted
                _switch()


@contextmanager
def _listening() -> Iterator[list[tuple[int, str, str]]]:
    """The lines that FFmpeg logs in this thread within the block, unless it mutes them itself: level, source, text."""
    from av import logging as log

    lines: list[tuple[int, str, str]] = []
    try:
        with _in_block(_listening_in, threading.get_ident(), after=_muting_in), log.Capture(local=True) as lines:
            yield lines
    finally:
        for level, source, text in lines:  # now that the log is off for this thread
            _log.debug("%s: %s (level %d)", source, text.strip(), level)


@contextmanager
def _in_block(blocks: Counter[int], me: int, after: Counter[int] | None = None) -> Iterator[None]:
    """Count this thread in `blocks`, once the other threads have left theirs in `after`.

    A thread that is in a block already does not wait: others may wait for it.
    """
    counted = 0
    try:
        with _state:
            if after is not None and not (_listening_in[me] or _muting_in[me]):
                _state.wait_for(lambda: not _others(after, me), timeout=_FREEING_S)
            blocks[me], counted = blocks[me] + 1, 1
            if blocks is _listening_in:
                _since.setdefault(me, time.monotonic())
            _switch()
        yield
    finally:  # also of an interrupt in between
        with _state:
            blocks[me] -= counted
            if not blocks[me]:
                del blocks[me]
                if blocks is _listening_in:
                    _since.pop(me, None)
            _switch()
            _state.notify_all()


def _others(blocks: Counter[int], thread: int) -> bool:
    """Whether another thread than this one is in such a block."""
    return bool(blocks.keys() - {thread})


def _patience_s(thread: int) -> float:
    """How long to wait for the other threads that listen: nobody begins to while others wait."""
    others = [began for other, began in _since.items() if other != thread]
    return max(max(others) + _STUCK_S - time.monotonic(), 0.0) if others else 0.0


_before: tuple[int | None, bool] | None = None


def _switch() -> None:
    """Turn the log on or off. Call it with `_state`."""
    global _before
    from av import logging as log

    wanted = bool(_listening_in) and not _muted
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
