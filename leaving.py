"""Ends a process at once, whatever its threads are doing, and leaves nothing behind.

    leaving.run_process(work, farewell)

runs `work` in another thread, while the main thread only listens for signals. Python handles a signal in the main
thread and between two of its own instructions, so a main thread that opens a file on a dead mount would hear none.

A signal does not unwind the work: a thread inside a library cannot be unwound. The work is abandoned where it is, and
what it would leave behind is undone from here:

    with leaving.creating(path) as release:     # nothing new is created once the process is leaving
        file = path.open("xb")
    ...
    release()                                   # the file has its final name, or is gone

Elsewhere, for example in a program that uses this package as a library, holding something has no effect, and an
interrupt is an exception as usual.
"""

from __future__ import annotations

import math
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from enum import IntEnum
from functools import partial
from itertools import count
from pathlib import Path
from typing import NoReturn

INTERRUPTED = 130
"""The exit code after any of the `SIGNALS`."""
SIGNALS = ("SIGINT", "SIGTERM", "SIGHUP", "SIGBREAK")
"""The signals that end a program. Windows lacks SIGHUP; only Windows has SIGBREAK, which is Ctrl-Break."""

Farewell = Callable[[Sequence[str], str], None]
"""Called last, with the names of what could not be undone, and with the advice for an interrupted user, if any."""

_POLL_S = 0.1
"""The longest wait in one piece: Windows notices Ctrl-C between two waits, not during one."""
_STACK_BYTES = 16 << 20
"""The stack of the working thread; some systems give a thread less than tracing needs, which recurses deeply."""


class Turn(IntEnum):
    """What is undone before what. Things with the same turn are undone at the same time."""

    PROCESSES = 0
    """Child processes, which write files, and displays."""
    FILES = 1
    FOLDERS = 2
    """Folders that are removed only if they are empty."""


_ENDS_S = {Turn.PROCESSES: 0.5, Turn.FILES: 0.7, Turn.FOLDERS: 0.75}
"""When each turn ends, at the latest. What takes longer, for example on a dead mount, is left behind. A turn also has
what those before it did not need: threads of a busy machine wait.
"""
_FAREWELL_ENDS_S = 0.85
"""When the last words end, at the latest: nobody may be reading them."""
_REMOVING_S = 0.2
"""How long one folder is removed again and again, because somebody still writes into it."""
_SAME_SIGNAL_S = 0.5
"""Within this time, a second signal is the first one: `timeout` and others send it to a process and to its group."""
_STARTING_S = 0.1
"""How long something that is just being started can delay everything else."""


@dataclass(frozen=True)
class _Part:
    name: str
    turn: Turn
    undo: Callable[[], None]


class _Held:
    """Everything that this process would have to undo."""

    def __init__(self) -> None:
        self.starting = threading.RLock()
        self.is_leaving = False  # no Event: a second signal, while the first is setting it, would wait for its lock
        self.watcher: Callable[[str, bool], None] = lambda _path, _held: None
        self.parts: dict[int, _Part] = {}
        self.advices: list[list[str | Callable[[], str]]] = []
        self.drain: Callable[[], None] | None = None
        self.drains_once = True
        self.drained = -math.inf
        self._numbers = count()

    @property
    def advice(self) -> str:
        """The first of the advices that is not empty."""
        given = (each if isinstance(each, str) else each() for (each,) in list(self.advices))
        return next(filter(None, given), "")

    def add(self, part: _Part) -> int:
        number = next(self._numbers)
        self.parts[number] = part
        return number

    def of(self, turn: Turn) -> list[_Part]:
        """The parts of a turn, the newest first."""
        return [part for part in reversed(list(self.parts.values())) if part.turn is turn]


_held = _Held()


@contextmanager
def starting() -> Iterator[None]:
    """A block that creates something and holds it. `leave` waits for it, and no other begins after that."""
    with _held.starting:
        if _held.is_leaving:
            _wait_for_the_end()
        yield


def hold(name: str, undo: Callable[[], None], turn: Turn = Turn.FILES) -> Callable[[], None]:
    """Have `undo` called, in a thread of its own, if the process has to leave. Returns what releases it again.

    name: for people, in case it cannot be undone.
    """
    number = _held.add(_Part(name, turn, undo))
    return lambda: _release(number)


@contextmanager
def creating(path: Path, undo: Callable[[], None] | None = None) -> Iterator[Callable[[], None]]:
    """A block that creates a temporary file or folder, and holds it as `hold_path` does. Yields what releases it."""
    with starting():
        release = hold_path(path, undo)  # first, so that there is no gap
        try:
            yield release
        except BaseException:
            release()
            raise


def hold_path(path: Path, undo: Callable[[], None] | None = None) -> Callable[[], None]:
    """Have a temporary file or folder removed if the process has to leave, or dies. Returns what releases it again.

    undo: removes it in another way than `remove`.
    """
    release = hold(str(path), undo or (lambda: remove(path)))
    _held.watcher(str(path), True)

    def release_path() -> None:
        release()
        _held.watcher(str(path), False)

    return release_path


@contextmanager
def advising(advice: str | Callable[[], str]) -> Iterator[None]:
    """Tell a user who interrupts this block what to do next. advice: or what gives it then; empty for none.

    Blocks may overlap, in several threads: the one that began first and has an advice gives it.
    """
    given = [advice]  # in a list, to be told apart from others with the same words
    _held.advices.append(given)
    try:
        yield
    finally:
        _held.advices[:] = [other for other in _held.advices if other is not given]


@contextmanager
def draining(drain: Callable[[], None], *, once: bool = True) -> Iterator[None]:
    """Have the first signal call `drain` instead of ending the process, which then ends by itself.

    once: a second signal, half a second later or more, ends it at once. Blocks are not nested.
    """
    _held.drain, _held.drains_once = drain, once
    try:
        yield
    finally:
        _held.drain = None


def watch_paths(watcher: Callable[[str, bool], None]) -> None:
    """Have `watcher` called with every path, and True when it is held, False when it is released."""
    _held.watcher = watcher


def remove(path: Path) -> None:
    """Remove a file or a folder while an abandoned thread may still be writing into it. Raises `OSError`."""
    import shutil

    deadline = time.monotonic() + _REMOVING_S
    while os.path.lexists(path):
        try:
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.005)


def begun() -> bool:
    """True once the process is leaving. What the abandoned threads report from then on is of no interest."""
    return _held.is_leaving


def leave(code: int, farewell: Farewell = lambda _left, _advice: None) -> NoReturn:
    """Undo everything that is held, and end the process within a second. Any thread may call this."""
    if begun():  # another thread is at it
        _wait_for_the_end()
    _held.is_leaving = True
    threading.excepthook = sys.unraisablehook = _ignore  # threads lose what they work with
    if _held.starting.acquire(timeout=_STARTING_S):
        _held.starting.release()
    left: list[str] = []
    began = time.monotonic()
    for turn in Turn:
        left += _undo(_held.of(turn), began + _ENDS_S[turn])
    _in_threads([lambda: farewell(left, _held.advice)], began + _FAREWELL_ENDS_S)
    os._exit(code)


def run_process(work: Callable[[], int | None], farewell: Farewell = lambda _left, _advice: None) -> NoReturn:
    """Do the work of this process and end it: with the code that `work` returns, or as `leave` does after a signal.

    Call it in the main thread. The interpreter is not shut down: that would wait for threads in libraries, and run the
    destructors of libraries that other threads are still using.
    """
    listen(lambda: leave(INTERRUPTED, farewell))
    codes: list[int] = []
    threading.stack_size(_STACK_BYTES)
    worker = threading.Thread(target=lambda: codes.append(_code_of(work)), name="swiftvr-work", daemon=True)
    worker.start()
    threading.stack_size(0)
    while worker.is_alive():
        worker.join(_POLL_S)
    if begun():
        _wait_for_the_end()
    code = codes[0] if codes else 1
    os._exit(code or _flush())


def listen(heard: Callable[[], None]) -> None:
    """Have `heard` called at the first of the `SIGNALS`. Signals that are ignored stay ignored, as `nohup` wants it."""

    def handle(_number: int, _frame: object) -> None:
        if begun():
            return
        drain, now = _held.drain, time.monotonic()
        if drain is not None:
            _held.drained = now
            _held.drain = None if _held.drains_once else drain
        elif now - _held.drained < _SAME_SIGNAL_S:
            return
        (drain or heard)()

    for name in SIGNALS:
        number = getattr(signal, name, None)
        if number is not None and signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, handle)


def _code_of(work: Callable[[], int | None]) -> int:
    """The exit code of `work`. A traceback is printed for what it raises, unless the process is leaving already."""
    try:
        return work() or 0
    except SystemExit as ended:
        return ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    except BaseException:  # noqa: BLE001 (nobody is left who could handle it)
        if not begun():
            sys.excepthook(*sys.exc_info())
        return 1


def _flush() -> int:
    """Write out what is buffered. Returns 1 if results on standard output are lost, else 0."""
    lost = 0
    for stream in (sys.stderr, sys.stdout):
        try:
            if stream is not None:  # a closed stream
                stream.flush()
        except (OSError, ValueError):
            lost = int(stream is sys.stdout)
    return lost


def _ignore(_error: object) -> None: ...


def _release(number: int) -> None:
    _held.parts.pop(number, None)


def _undo(parts: Sequence[_Part], deadline: float) -> list[str]:
    """Undo all parts at the same time. Returns the names of those that failed or took too long."""
    undone: set[int] = set()

    def undo(number: int, part: _Part) -> None:
        part.undo()
        undone.add(number)

    _in_threads([partial(undo, number, part) for number, part in enumerate(parts)], deadline)
    return [part.name for number, part in enumerate(parts) if number not in undone]


def _in_threads(calls: Sequence[Callable[[], None]], deadline: float) -> None:
    """Make all calls, each in a thread of its own, and wait for them until this time."""
    threads = [threading.Thread(target=call, daemon=True) for call in calls]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(max(deadline - time.monotonic(), 0.0))


def _wait_for_the_end() -> NoReturn:
    while True:
        time.sleep(60)
