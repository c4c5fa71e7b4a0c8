"""Starts child processes of this package, exchanges messages with them, and ends them.

The parent starts a module and sends it orders:

    with Child("swiftvr_trt.engines.compile.compiler_process", patience_s=5.0) as child:
        answer = child.ask({"onnx": "decode.onnx"}, print)

The child carries them out:

    parent = Parent(interrupt_main)                 # the first thing in main()
    while (order := parent.receive()) is not None:
        parent.say("half way")
        parent.answer({"seconds": 12})

Messages are JSON objects, one per line. Orders arrive on the child's standard input, answers leave through its standard
output. What libraries print to standard output goes to standard error instead, so it cannot be taken for a message.

A child does not outlive its parent. When the parent hangs up or dies, the child's input ends: if it is busy, it is
interrupted; if it is idle, it exits. One that does not exit in time is killed by `Child.end`, or, if the parent is no
longer there to do that, ends itself. A child ignores Ctrl-C, which a terminal sends to every process in it, and leaves
the decision to its parent.
"""

from __future__ import annotations

import _thread
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
from contextlib import suppress
from types import FrameType
from typing import IO, Any

from .text import LineCallback, last_line

Message = dict[str, Any]

_SAY = "say"
_POLL_S = 0.1
"""The longest wait in one piece: Windows notices Ctrl-C between two waits, not during one."""
_FORCE_S = 0.05
"""How long a process has between a polite signal and the kill."""
_ABANDONED_S = 30.0
"""How long a busy child has to exit once its parent has hung up or died; a call of a C library defers interrupts."""


class Child:
    """A child process, as its parent sees it.

    One thread may send and receive at a time; any thread may hang up or end the process.
    """

    def __init__(self, module: str, *, patience_s: float, keep_errors: bool = False) -> None:
        """Start `module`. Raises `OSError` if that fails.

        patience_s: how long it may take to exit when a `with` block ends. keep_errors: collect its standard error for
        `errors` instead of passing it on to ours.
        """
        self._patience_s = patience_s
        # Without a standard error, the child would write its own to whichever pipe got that number.
        unkept = subprocess.DEVNULL if sys.stderr is None else None
        self._errors = tempfile.TemporaryFile() if keep_errors else None  # noqa: SIM115 (closed by `end`)
        try:
            self._process = subprocess.Popen(
                # -P: nothing is imported from the current directory, such as somebody's queue.py.
                [sys.executable, "-P", "-m", module],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._errors or unkept,
                env={**os.environ, "PYTHONUTF8": "1", "PYTHONIOENCODING": "utf-8"},
            )
        except BaseException:
            self._close_errors()
            raise
        self._lines: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self._reader = threading.Thread(target=self._read, name="swiftvr-child", daemon=True)
        self._reader.start()

    def send(self, message: Message) -> None:
        """Send a message. Raises nothing if the child is gone: `receive` then returns None."""
        with suppress(OSError, ValueError):  # ValueError: another thread has hung up
            _stream(self._process.stdin).write(_encode(message))
            _stream(self._process.stdin).flush()

    def receive(self) -> Message | None:
        """Wait for the next message. None if the child has ended; `ValueError` if it wrote something else."""
        line = _get(self._lines)
        if line is None:
            self._lines.put(None)  # for the next call
            return None
        return _decode(line)

    def ask(self, order: Message, say: LineCallback = lambda _line: None) -> Message | None:
        """Send an order and wait for the answer; None if the child ended without one.

        say: gets the lines that the child sends with `Parent.say`. Raises `ValueError` as `receive` does.
        """
        self.send(order)
        while (message := self.receive()) is not None:
            if message.keys() != {_SAY}:
                return message
            say(str(message[_SAY]))
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
        """Tell the child to exit; does not wait."""
        with suppress(OSError):
            _stream(self._process.stdin).close()

    def end(self, deadline: float) -> None:
        """Hang up, wait until `deadline` (of `time.monotonic`), then use force. The process is gone afterwards."""
        self.hang_up()
        for force in (self._process.terminate, self._process.kill):
            try:
                self._process.wait(max(deadline - time.monotonic(), _FORCE_S))
                break
            except subprocess.TimeoutExpired:
                force()
        self._process.wait()
        self._reader.join(_POLL_S)  # it goes on, and is left behind, only if a grandchild holds the pipe open
        self._close_errors()

    def __enter__(self) -> Child:
        return self

    def __exit__(self, *_: object) -> None:
        self.end(time.monotonic() + self._patience_s)

    def _read(self) -> None:
        """Collect lines at once, so that the child never waits for a busy parent."""
        with _stream(self._process.stdout) as pipe:
            for line in pipe:
                if line.endswith(b"\n"):  # else the process died in the middle of a message
                    self._lines.put(line)
        self._lines.put(None)

    def _close_errors(self) -> None:
        if self._errors is not None:
            self._errors.close()


class Parent:
    """The parent, as its child sees it. Messages may be sent from any thread."""

    def __init__(self, interrupt: Callable[[], None]) -> None:
        """Call this first, in the main thread.

        interrupt: called in another thread if the parent hangs up while the child is busy with an order.
        """
        _ignore_the_terminal()
        sys.stdout.flush()
        self._pipe = os.dup(1)
        os.dup2(2, 1)
        self._interrupt = interrupt
        self._writing = threading.Lock()
        self._orders: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self._busy, self._gone = threading.Event(), threading.Event()
        threading.Thread(target=self._read, name="swiftvr-parent", daemon=True).start()

    def receive(self) -> Message | None:
        """Wait for the next order. The child is busy with it until `answer`. None if the parent has hung up."""
        order = _get(self._orders)
        if order is None:
            return None
        # `_read` sets `_gone` and then looks at `_busy`; here it is the other way round. So one of them notices.
        self._busy.set()
        return None if self._gone.is_set() else _decode(order)

    def send(self, message: Message) -> None:
        """Send a message about the order. Does nothing if the parent is gone."""
        data = _encode(message)
        with self._writing, suppress(OSError):
            while data:
                data = data[os.write(self._pipe, data) :]

    def say(self, line: str) -> None:
        """Send one line for people, which `Child.ask` passes on."""
        self.send({_SAY: line})

    def answer(self, message: Message) -> None:
        """Send the answer to the order. From now on the child is idle, and hanging up interrupts nothing."""
        self._busy.clear()  # first: a parent without further orders hangs up as soon as it has the answer
        self.send(message)

    def _read(self) -> None:
        for line in _lines_of_stdin():
            self._orders.put(line)
        self._gone.set()
        self._orders.put(None)
        if self._busy.is_set():
            self._interrupt()
            time.sleep(_ABANDONED_S)
            os._exit(1)


def interrupt_main() -> None:
    """Raise `KeyboardInterrupt` in the main thread of a child."""
    if sys.platform == "win32":
        _thread.interrupt_main(signal.SIGTERM)
    else:  # a real signal also ends a wait
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGTERM)


def _ignore_the_terminal() -> None:
    """Ignore Ctrl-C and a closed terminal. SIGTERM becomes an interrupt, so that the child cleans up."""
    for name in ("SIGINT", "SIGHUP", "SIGBREAK"):  # Windows has no SIGHUP; its SIGBREAK is Ctrl-Break
        number = getattr(signal, name, None)
        if number is not None:
            signal.signal(number, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, _raise_interrupt)


def _raise_interrupt(_signal: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _lines_of_stdin() -> Iterator[bytes]:
    """Lines of standard input, as they arrive.

    Not from `sys.stdin`: this thread would hold its lock when the interpreter exits, which is fatal.
    """
    rest = b""
    while block := os.read(0, 1 << 16):
        *lines, rest = (rest + block).split(b"\n")
        yield from lines


def _get(lines: queue.SimpleQueue[bytes | None]) -> bytes | None:
    while True:
        with suppress(queue.Empty):
            return lines.get(timeout=_POLL_S)


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
