"""Starts child processes of this package, exchanges messages with them, and ends them.

The parent starts a module and sends it orders:

    with Child("swiftvr_trt.engines.compile.compiler_process", patience_s=5.0) as child:
        answer = child.ask({"onnx": "decode.onnx"}, print)

The module has a function `main`, which carries them out:

    def main(parent: Parent) -> None:
        while (order := parent.receive()) is not None:
            parent.say("half way")
            parent.answer({"seconds": 12})

Messages are JSON objects, one per line. Orders arrive on the child's standard input, answers leave through its standard
output. What anything else prints to standard output, from the first import on, goes to standard error instead, so it
cannot be taken for a message.

A child does not outlive its parent. It leaves at once (`leaving`) when its input ends, which happens when the parent
hangs up or dies; only one that is idle and was dismissed may take its time. It ignores Ctrl-C, which a terminal sends
to every process in it, and leaves the decision to its parent. The parent is told of every temporary file, and removes
those of a child that is killed.
"""

from __future__ import annotations

import json
import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any, NoReturn

from . import leaving
from .text import LineCallback, last_line

Message = dict[str, Any]

_SAY, _DETAIL = "say", "detail"
_GREETING = b"swiftvr\n"
"""A child's first line. Python itself may print before it: `sitecustomize`, for example."""
_DISMISSAL = b"\n"
"""Sent instead of an order: the parent has none left, and is not in a hurry."""
_HOLDS, _RELEASES = b"+", b"-"
"""Before the path of a temporary file. Messages begin with a brace."""
_POLL_S = 0.1
"""The longest wait in one piece: Windows notices Ctrl-C between two waits, not during one."""
_FORCE_S = 0.05
"""How long a process has between a polite signal and the kill."""
_HURRY_S = 0.35
"""How long a child has to leave when its parent is leaving."""
_TERMINAL = ("SIGINT", "SIGHUP", "SIGBREAK")
"""What a terminal sends to all its processes. Windows has no SIGHUP; its SIGBREAK is Ctrl-Break."""
_START = f"import sys; from {__name__} import serve; serve(sys.argv[1])"


class Child:
    """A child process, as its parent sees it.

    One thread may send and receive at a time; any thread may hang up or end the process.
    """

    def __init__(self, module: str, *, patience_s: float, keep_errors: bool = False) -> None:
        """Start `module`. Raises `OSError` if that fails.

        patience_s: how long it may take to exit when a `with` block ends. keep_errors: collect its standard error for
        `errors` instead of passing it on to ours.
        """
        self._patience_s, self._dismissed = patience_s, False
        # Without a standard error, the child would write its own to whichever pipe got that number.
        unkept = subprocess.DEVNULL if sys.stderr is None else None
        self._errors = tempfile.TemporaryFile() if keep_errors else None  # noqa: SIM115 (closed by `end`)
        self._held: dict[str, Callable[[], None]] = {}
        try:
            with leaving.starting():
                self._process = _start(module, self._errors or unkept)
                self._release = leaving.hold(
                    f"process {self._process.pid}",
                    lambda: self.end(time.monotonic() + _HURRY_S),
                    leaving.Turn.PROCESSES,
                )
        except BaseException:
            self._close_errors()
            raise
        self._lines: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self._reader = threading.Thread(target=self._read, name="swiftvr-child", daemon=True)
        try:
            self._reader.start()
        except BaseException:  # nobody would hear the child
            self.end(time.monotonic())
            _stream(self._process.stdout).close()
            raise

    def send(self, message: Message) -> None:
        """Send a message. Raises nothing if the child is gone: `receive` then returns None."""
        self._write(_encode(message))

    def receive(self, patience_s: float | None = None) -> Message | None:
        """Wait for the next message. None if the child has ended; `ValueError` if it wrote something else.

        patience_s: how long to wait before `TimeoutError`; None for ever.
        """
        line = _get(self._lines, patience_s)
        if line is None:
            self._lines.put(None)  # for the next call
            return None
        return _decode(line)

    def ask(
        self, order: Message, say: LineCallback = lambda _line: None, detail: LineCallback = lambda _line: None
    ) -> Message | None:
        """Send an order and wait for the answer; None if the child ended without one.

        say, detail: get the lines that the child sends with the methods of `Parent` of these names. Raises
        `ValueError` as `receive` does.
        """
        lines = {_SAY: say, _DETAIL: detail}
        self.send(order)
        while (message := self.receive()) is not None:
            kind = next(iter(message), "")
            if len(message) != 1 or kind not in lines:
                return message
            lines[kind](str(message[kind]))
        return None

    def exit_code(self, patience_s: float) -> int | None:
        """Wait for the exit code, negative for the number of a signal. None if the child runs on after `patience_s`."""
        with suppress(subprocess.TimeoutExpired):
            return self._process.wait(patience_s)
        return None

    def ending(self, patience_s: float) -> str:
        """How the process ended, for a message. Includes the last line of its standard error if that was kept."""
        code = self.exit_code(patience_s)
        if code is None:
            how = "it no longer answers"
        else:
            how = f"killed by signal {-code}" if code < 0 else f"exit code {code}"
        line = last_line(self.errors())
        return f"{how}: {line}" if line else how

    def errors(self) -> str:
        """What the child has written to standard error so far; empty without `keep_errors`."""
        if self._errors is None:
            return ""
        self._errors.seek(0)
        return self._errors.read().decode(errors="replace")

    def hang_up(self) -> None:
        """Tell the child to leave at once; does not wait."""
        self._close_input()
        if self._dismissed:  # it takes its time
            self._process.terminate()

    def end(self, deadline: float) -> None:
        """Dismiss the child, wait until `deadline` (of `time.monotonic`), then use force.

        The process and its temporary files are gone afterwards.
        """
        self._write(_DISMISSAL)
        self._dismissed = True
        self._close_input()
        for force in (self._process.terminate, self._process.kill):
            try:
                self._process.wait(max(deadline - time.monotonic(), _FORCE_S))
                break
            except subprocess.TimeoutExpired:
                force()
        self._process.wait()
        if self._reader.is_alive():
            self._reader.join(_POLL_S)  # it goes on, and is left behind, only if a grandchild holds the pipe open
        self._remove_held()
        self._release()
        self._close_errors()

    def __enter__(self) -> Child:
        return self

    def __exit__(self, *_: object) -> None:
        self.end(time.monotonic() + self._patience_s)

    def _close_input(self) -> None:
        with suppress(OSError):
            _stream(self._process.stdin).close()

    def _write(self, data: bytes) -> None:
        with suppress(OSError, ValueError):  # ValueError: another thread has hung up
            _stream(self._process.stdin).write(data)
            _stream(self._process.stdin).flush()

    def _read(self) -> None:
        """Collect lines at once, so that the child never waits for a busy parent."""
        with _stream(self._process.stdout) as pipe:
            greeted = False
            for line in pipe:
                if not line.endswith(b"\n"):  # the process died in the middle of a message
                    break
                if not greeted:
                    greeted = line.endswith(_GREETING)  # somebody may have printed without a line break
                elif line[:1] in (_HOLDS, _RELEASES):
                    self._note_path(json.loads(line[1:]), held=line[:1] == _HOLDS)
                else:
                    self._lines.put(line)
        self._lines.put(None)

    def _note_path(self, path: str, *, held: bool) -> None:
        """Hold a temporary file of the child, which may be killed, or release it."""
        if held:
            self._held[path] = leaving.hold_path(Path(path))
        elif release := self._held.pop(path, None):
            release()

    def _remove_held(self) -> None:
        for path, release in list(self._held.items()):
            with suppress(OSError):
                leaving.remove(Path(path))
            release()

    def _close_errors(self) -> None:
        if self._errors is not None:
            self._errors.close()


class Parent:
    """The parent, as its child sees it. Messages may be sent from any thread."""

    def __init__(self) -> None:
        """Call this before anything can print."""
        sys.stdout.flush()
        self._pipe = os.dup(1)
        os.dup2(2, 1)
        self._writing = threading.Lock()
        self._orders: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self._busy, self._gone = threading.Event(), threading.Event()
        self._write(_GREETING)
        leaving.watch_paths(self._note_path)
        threading.Thread(target=self._read, name="swiftvr-parent", daemon=True).start()

    def receive(self) -> Message | None:
        """Wait for the next order. The child is busy with it until `answer`. None if there are no more."""
        order = _get(self._orders)
        if order is None:
            self._orders.put(None)  # for the next call
            return None
        # `_read` sets `_gone` and then looks at `_busy`; here it is the other way round. So one of them notices.
        self._busy.set()
        return None if self._gone.is_set() else _decode(order)

    def send(self, message: Message) -> None:
        """Send a message about the order. Does nothing if the parent is gone."""
        self._write(_encode(message))

    def say(self, line: str) -> None:
        """Send one line for people, which `Child.ask` passes on."""
        self.send({_SAY: line})

    def detail(self, line: str) -> None:
        """Send one line for the log."""
        self.send({_DETAIL: line})

    def answer(self, message: Message) -> None:
        """Send the answer to the order. From now on the child is idle, and may be dismissed."""
        self._busy.clear()  # first: a parent without further orders dismisses the child as soon as it has the answer
        self.send(message)

    def _write(self, data: bytes) -> None:
        with self._writing, suppress(OSError):
            while data:
                data = data[os.write(self._pipe, data) :]

    def _note_path(self, path: str, held: bool) -> None:
        """Tell the parent of a temporary file. The bytes of its name may be no text, so JSON gets them escaped."""
        self._write((_HOLDS if held else _RELEASES) + json.dumps(path).encode() + b"\n")

    def _read(self) -> None:
        dismissed = False
        for line in _lines_of_stdin():
            if line:
                self._orders.put(line)
            else:
                dismissed = True
        self._gone.set()
        if self._busy.is_set() or not dismissed:
            leaving.leave(leaving.INTERRUPTED)
        self._orders.put(None)


def serve(module: str) -> NoReturn:
    """A child's whole life: listen to the parent, then import the module and call its `main`."""
    parent = Parent()
    for number in _terminal_signals():
        signal.signal(number, signal.SIG_IGN)

    def work() -> None:
        from importlib import import_module

        import_module(module).main(parent)

    leaving.run_process(work)


def _start(module: str, errors: Any) -> subprocess.Popen[bytes]:
    """Start a process that serves `module`. errors: its standard error, as for `Popen`."""
    with _deaf_to_the_terminal():
        return subprocess.Popen(
            # -P: nothing is imported from the current directory, such as somebody's queue.py.
            [sys.executable, "-P", "-c", _START, module],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            env={**os.environ, "PYTHONUTF8": "1", "PYTHONIOENCODING": "utf-8"},
            # Windows: without Ctrl-C.
            creationflags=getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0),
        )


@contextmanager
def _deaf_to_the_terminal() -> Iterator[None]:
    """A child that is started in this block never hears what a terminal sends, not even while Python starts in it."""
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _terminal_signals())
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _terminal_signals() -> list[signal.Signals]:
    """Those of the signals of a terminal that this system has."""
    return [getattr(signal, name) for name in _TERMINAL if hasattr(signal, name)]


def _lines_of_stdin() -> Iterator[bytes]:
    """Lines of standard input, as they arrive."""
    rest = b""
    while block := os.read(0, 1 << 16):
        *lines, rest = (rest + block).split(b"\n")
        yield from lines


def _get(lines: queue.SimpleQueue[bytes | None], patience_s: float | None = None) -> bytes | None:
    deadline = None if patience_s is None else time.monotonic() + patience_s
    while True:
        left = _POLL_S if deadline is None else deadline - time.monotonic()
        try:
            return lines.get(timeout=max(min(left, _POLL_S), 0.0))
        except queue.Empty:
            if left <= 0:
                raise TimeoutError from None


def _encode(message: Message) -> bytes:
    return json.dumps(message).encode() + b"\n"


def _decode(line: bytes) -> Message:
    with suppress(ValueError):
        message = json.loads(line)
        if isinstance(message, dict):
            return message
    raise ValueError(f"a child process or its parent wrote {line[:80]!r}, expected a JSON object")


def _stream(pipe: IO[bytes] | None) -> IO[bytes]:
    """A pipe of `Popen` that was asked for, so it exists."""
    if pipe is None:
        raise TypeError("the process has no such pipe")
    return pipe
