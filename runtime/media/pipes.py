"""Standard input and output, and named pipes: read and written once, from beginning to end.

    ffmpeg -i old.mkv -f nut -c copy - | swiftvr-run - - --bundle b1080 | ffmpeg -i - new.mkv

What is written cannot be taken back, so nothing has a temporary name, and nothing can be resumed.
"""

from __future__ import annotations

import io
import os
import stat
import sys
from contextlib import suppress
from functools import partial
from pathlib import Path

from ...errors import MisuseError, OutputError

_STDIN = frozenset({"-", "/dev/stdin", "/dev/fd/0", "pipe:", "pipe:0"})
_STDOUT = frozenset({"-", "/dev/stdout", "/dev/fd/1", "pipe:", "pipe:1"})

RAW_FORMATS = ("nut", "yuv4mpegpipe")
"""Formats that carry video to another program uncompressed, unless a codec is named."""


def is_standard_input(path: str | Path) -> bool:
    """True for `-` and its other names."""
    return str(path) in _STDIN


def is_standard_output(path: str | Path) -> bool:
    """True for `-` and its other names."""
    return str(path) in _STDOUT


def is_input_pipe(path: str | Path) -> bool:
    """True for standard input and named pipes."""
    return is_standard_input(path) or _is_fifo(path)


def is_output_pipe(path: str | Path) -> bool:
    """True for standard output, named pipes, and devices such as /dev/null."""
    return is_standard_output(path) or _is_fifo(path) or _is_device(path)


def _is_fifo(path: str | Path) -> bool:
    return Path(path).is_fifo()


def _is_device(path: str | Path) -> bool:
    return Path(path).is_char_device()


def input_name(path: str | Path) -> str:
    """What messages call an input."""
    return "standard input" if is_standard_input(path) else str(path)


def output_name(path: str | Path) -> str:
    """What messages call an output."""
    return "standard output" if is_standard_output(path) else str(path)


def _check_standard_input() -> None:
    """Raise `MisuseError` if nobody can send anything."""
    if sys.__stdin__ is None:
        raise MisuseError("the input is standard input (-), which is closed: name a file, or pipe a video into it")
    if os.isatty(0):
        raise MisuseError(
            "the input is standard input (-), which is a terminal: pipe a video into it, e.g. "
            "ffmpeg -i old.mkv -f nut -c copy - | swiftvr-run - new.mkv"
        )


class PipeReader:
    """Standard input or a named pipe, as FFmpeg's Python interface reads it. count: bytes that came so far.

    Opening a named pipe waits until somebody writes into it. Raises `MisuseError` for standard input without a sender.
    """

    def __init__(self, path: Path) -> None:
        self.count = 0
        self._number = 0
        if is_standard_input(path):
            _check_standard_input()
        else:
            self._number = os.open(path, os.O_RDONLY)
        if stat.S_ISREG(os.fstat(self._number).st_mode):  # swiftvr-run - < old.mp4
            self.seek, self.tell = self._seek, partial(os.lseek, self._number, 0, os.SEEK_CUR)

    def _seek(self, offset: int, whence: int = 0) -> int:
        return os.lseek(self._number, offset, whence)

    def read(self, size: int) -> bytes:
        """Up to so many bytes, as soon as there are some. None are left at the end only."""
        data = os.read(self._number, size)
        self.count += len(data)
        return data

    def close(self) -> None:
        """Stop reading. Standard input stays open."""
        number, self._number = self._number, 0
        if number:
            os.close(number)


def check_output_pipe(path: str | Path) -> None:
    """Raise `MisuseError` if nobody could receive the output."""
    if is_standard_output(path):
        if sys.__stdout__ is None:
            raise MisuseError("the output is standard output (-), which is closed: name a file, or pipe it into one")
        if os.isatty(1):
            raise MisuseError(
                "the output is standard output (-), which is a terminal: name a file, or pipe it into a program, e.g. "
                "swiftvr-run old.mkv - | ffmpeg -i - new.mkv"
            )


class TrialPipe(io.BytesIO):
    """Stands in for a `PipeFile` when nothing may be written: makes its checks, and keeps a header in memory."""

    error: OSError | None = None

    def __init__(self, path: Path) -> None:
        super().__init__()
        check_output_pipe(path)

    def commit(self) -> None:
        raise MisuseError("the output was opened for a trial, expected SinkOptions(trial=False) to write it")

    def discard(self) -> None:
        self.close()


class PipeFile:
    """Writes into standard output or a named pipe.

    Takes standard output for itself: what libraries print there meanwhile goes to standard error. `error` is the first
    error of a write; None if there was none.
    """

    def __init__(self, path: Path) -> None:
        """Opening a named pipe waits until somebody reads it."""
        check_output_pipe(path)
        self.target, self.error = path, None
        self._standard = is_standard_output(path)
        if self._standard:
            self._number = os.dup(1)
            with suppress(OSError):  # standard error is closed
                os.dup2(2, 1)
        else:
            try:
                self._number = os.open(path, os.O_WRONLY)
            except OSError as error:
                raise pipe_error(path, error) from error
        self.closed = False

    error: OSError | None

    def write(self, data: bytes) -> int:
        """Write all of it. Waits while the reader is busy."""
        rest = memoryview(data)
        try:
            while rest:
                rest = rest[os.write(self._number, rest) :]
        except OSError as error:
            self.error = self.error or error
            raise
        return len(data)

    def commit(self) -> None:
        """Tell the reader that this was all."""
        self._close()

    def discard(self) -> None:
        """Stop writing. What was written stays with the reader."""
        self._close()

    def _close(self) -> None:
        if self.closed:
            return
        self.closed = True  # PyAV asks this, and writes no trailer into a closed file
        with suppress(OSError):
            if self._standard:
                os.dup2(self._number, 1)
            os.close(self._number)


def pipe_error(path: Path, error: OSError) -> OutputError:
    """The error for an output pipe."""
    if isinstance(error, BrokenPipeError):
        return OutputError(
            f"{output_name(path)} was closed by the program that reads it before the end: see what that program says"
        )
    return OutputError(f"cannot write {output_name(path)}: {(error.strerror or str(error)).lower()}")
