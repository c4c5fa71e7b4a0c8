"""Start a child process of this package, talk to it, and end it.

The parent starts a module and gives it orders:

    with Child("swiftvr_trt.engines.compile.compiler_process", patience_s=5.0) as child:
        answer = child.ask({"onnx": "decode.onnx"}, print)

The child serves them:

    parent = Parent(interrupt_main)                 # the first thing in main()
    while (order := parent.receive()) is not None:
        parent.say("half way")
        parent.answer({"seconds": 12})

Messages are JSON objects, one a line. They reach the child on its standard input and come back on what was its
standard output; anything a library prints there goes to standard error instead.

A child lives no longer than the parent wants it. When the parent hangs up or dies, the pipe ends: a child at work is
interrupted, an idle one leaves by itself. One that does not leave in time is ended by force. A child ignores Ctrl-C,
which a terminal sends to every process: the parent decides.
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

from .text import LineCallback

Message = dict[str, Any]

_SAY = "say"
_POLL_S = 0.1
"""Windows notices Ctrl-C between two waits, not during one."""
_FORCE_S = 0.05
"""How long a process that was told to terminate has before it is killed."""


class Child:
    """A child process, as its parent sees it.

    One thread may send and receive at a time; any thread may hang up or end the process.
    """

    def __init__(self, module: str, *, patience_s: float, keep_errors: bool = False) -> None:
        """Start `module`. Raises `OSError` if that fails.

        patience_s: how long it may take to leave when a `with` block ends. keep_errors: collect its standard error for
        `errors` instead of passing it on to ours.
        """
        self._patience_s = patience_s
        self._errors = tempfile.TemporaryFile() if keep_errors else None  # noqa: SIM115 (closed by `end`)
        try:
            self._process = subprocess.Popen(
                # -P: nothing is imported from the current directory, such as somebody's queue.py.
                [sys.executable, "-P", "-m", module],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._errors,
                env={**os.environ, "PYTHONUTF8": "1", "PYTHONIOENCODING": "utf-8"},
            )
        except BaseException:
            self._close_errors()
            raise
        self._lines: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self._reader = threading.Thread(target=self._read, name="swiftvr-child", daemon=True)
        self._reader.start()

    def send(self, message: Message) -> None:
        """Send a message. If the child is gone, `receive` will say so."""
        with suppress(OSError, ValueError):  # ValueError: another thread has hung up
            _stream(self._process.stdin).write(_encode(message))
            _stream(self._process.stdin).flush()

    def receive(self) -> Message | None:
        """The next message; None when no more will come. Raises `ValueError` if the child wrote something else."""
        line = _get(self._lines)
        if line is None:
            self._lines.put(None)  # for the next call
            return None
        return _decode(line)

    def ask(self, order: Message, say: LineCallback = lambda _line: None) -> Message | None:
        """Send an order and wait for its answer; None if the child ended without one. `say` gets each line it says."""
        self.send(order)
        while (message := self.receive()) is not None:
            if message.keys() != {_SAY}:
                return message
            say(str(message[_SAY]))
        return None

    def exit_code(self, patience_s: float) -> int | None:
        """The exit code, minus the number of the signal for a killed process; None if it outlives `patience_s`."""
        with suppress(subprocess.TimeoutExpired):
            return self._process.wait(patience_s)
        return None

    def ending(self, patience_s: float) -> str:
        """How the process ended, with the last line it wrote to standard error if that was kept."""
        code = self.exit_code(patience_s)
        if code is None:
            how = "it no longer answers"
        else:
            how = f"killed by signal {-code}" if code < 0 else f"exit code {code}"
        words = [line.strip() for line in self.errors().splitlines() if line.strip()]
        return f"{how}: {words[-1]}" if words else how

    def errors(self) -> str:
        """What the child has written to standard error so far, with `keep_errors`."""
        if self._errors is None:
            return ""
        self._errors.seek(0)
        return self._errors.read().decode(errors="replace")

    def hang_up(self) -> None:
        """Tell the child to leave; does not wait."""
        with suppress(OSError):
            _stream(self._process.stdin).close()

    def end(self, deadline: float) -> None:
        """Hang up, wait until `deadline` (of `time.monotonic`), then end it by force. It is gone afterwards."""
        self.hang_up()
        for force in (self._process.terminate, self._process.kill):
            try:
                self._process.wait(max(deadline - time.monotonic(), _FORCE_S))
                break
            except subprocess.TimeoutExpired:
                force()
        self._process.wait()
        self._reader.join(_POLL_S)  # longer only if a process of the child has the pipe, too; then it is left behind
        self._close_errors()

    def __enter__(self) -> Child:
        return self

    def __exit__(self, *_: object) -> None:
        self.end(time.monotonic() + self._patience_s)

    def _read(self) -> None:
        """Collect lines, so that the child never waits for a parent that is busy."""
        with _stream(self._process.stdout) as pipe:
            for line in pipe:
                if line.endswith(b"\n"):  # else the process died while it wrote
                    self._lines.put(line)
        self._lines.put(None)

    def _close_errors(self) -> None:
        if self._errors is not None:
            self._errors.close()


class Parent:
    """The parent, as its child sees it. Messages may be sent from any thread."""

    def __init__(self, interrupt: Callable[[], None]) -> None:
        """Call this first, in the main thread.

        interrupt: called in another thread when the parent hangs up while an order is served.
        """
        _ignore_the_terminal()
        sys.stdout.flush()
        self._pipe = os.dup(1)
        os.dup2(2, 1)
        self._interrupt = interrupt
        self._writing = threading.Lock()
        self._orders: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self._serving, self._gone = threading.Event(), threading.Event()
        threading.Thread(target=self._read, name="swiftvr-parent", daemon=True).start()

    def receive(self) -> Message | None:
        """Wait for the next order, which lasts until `answer`. None when the parent has hung up."""
        order = _get(self._orders)
        if order is None:
            return None
        self._serving.set()  # before `_gone` is read; `_read` does it the other way round, so one of them notices
        return None if self._gone.is_set() else _decode(order)

    def send(self, message: Message) -> None:
        """Tell the parent something about the order. A parent that is gone hears nothing."""
        data = _encode(message)
        with self._writing, suppress(OSError):
            while data:
                data = data[os.write(self._pipe, data) :]

    def say(self, line: str) -> None:
        """Send one line for people; `Child.ask` passes it on."""
        self.send({_SAY: line})

    def answer(self, message: Message) -> None:
        """Send the answer to the order. From now on, hanging up interrupts nothing."""
        self._serving.clear()  # first: a parent without further orders hangs up as soon as it has the answer
        self.send(message)

    def _read(self) -> None:
        for line in _lines_of_stdin():
            self._orders.put(line)
        self._gone.set()
        if self._serving.is_set():
            self._interrupt()
        self._orders.put(None)


def interrupt_main() -> None:
    """Raise `KeyboardInterrupt` in the main thread of a child."""
    if sys.platform == "win32":
        _thread.interrupt_main(signal.SIGTERM)
    else:  # a real signal also ends a wait
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGTERM)


def _ignore_the_terminal() -> None:
    """Leave Ctrl-C and a closed terminal to the parent. A polite kill interrupts, so that the child cleans up."""
    for name in ("SIGINT", "SIGHUP", "SIGBREAK"):  # Windows has no SIGHUP; its SIGBREAK is Ctrl-Break
        number = getattr(signal, name, None)
        if number is not None:
            signal.signal(number, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, _raise_interrupt)


def _raise_interrupt(_signal: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _lines_of_stdin() -> Iterator[bytes]:
    """Lines as they come. Past `sys.stdin`, whose lock would be held by this thread when the interpreter ends."""
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
    raise ValueError(f"a process wrote {line[:80]!r}, expected a JSON object")


def _stream(pipe: IO[bytes] | None) -> IO[bytes]:
    """A pipe of `Popen`, which is there because it was asked for."""
    if pipe is None:
        raise TypeError("the process has no such pipe")
    return pipe
