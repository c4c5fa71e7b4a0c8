"""`--against CMD`: any program that restores a file, timed from its start to its end. It runs without a shell.

`swiftvr-run` is timed in the same way beside it, so that start and load count on both sides.
"""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import psutil

from ... import leaving
from ...errors import MachineError, MisuseError
from ...text import last_line
from .clips import count_frames
from .metrics import figure, sampled
from .record import Figure, How
from .whole_files import SUFFIX, frame_notes
from .work import CaseOrder, Findings

_SELDOM_S = 0.5
"""Between two looks at the memory: each takes milliseconds of a processor."""
_SOON_S = 0.02


def arguments_of(command: str, source: str, output: str, *, windows: bool = os.name == "nt") -> list[str]:
    """The arguments of a command, with the names of files in their places. Raises `MisuseError` for unclosed quotes.

    windows: a backslash stands between folders and escapes nothing.
    """
    words = shlex.shlex(command, posix=True, punctuation_chars=False)
    words.whitespace_split, words.commenters = True, ""
    words.escape = "" if windows else words.escape
    try:
        parts = list(words)
    except ValueError as error:
        raise MisuseError(f"--against is {command!r}, which has unclosed quotes ({error}); close them") from error
    return [part.replace("{input}", source).replace("{output}", output) for part in parts]


def measure_command(order: CaseOrder, limit_s: float) -> Findings:
    """Run the command as often as the protocol says. Raises `MachineError` if it fails or writes no video."""
    out = Path(order.folder) / f"against{SUFFIX}"
    figures = _measured(order, arguments_of(order.subject.side, order.clip, str(out)), out, limit_s)
    return Findings("", figures, frame_notes(figures))


def measure_our_program(order: CaseOrder, limit_s: float, how: How) -> tuple[Figure, ...]:
    """`swiftvr-run` with the bundle of an order, in the same way as any other command."""
    out = Path(order.folder) / f"ours{SUFFIX}"
    arguments = [
        sys.executable,
        "-m",
        "swiftvr_trt.cli.run",
        order.clip,
        str(out),
        "-y",
        "-q",
        "--bundle",
        order.bundle,
    ]
    arguments += ["--device", order.subject.device]
    arguments += ["--threads", str(order.threads)] if order.threads else []
    arguments += order.subject.options.split()
    figures = _measured(order, arguments, out, limit_s)
    return tuple(replace(one, how=how) for one in figures if one.name.startswith("program_"))


def _measured(order: CaseOrder, arguments: list[str], out: Path, limit_s: float) -> tuple[Figure, ...]:
    """The whole clip, also where the protocol takes its first frames only: a program gets a file, not frames."""
    seconds, peak, name = [], 0, order.protocol.name
    for _ in range(order.protocol.requests):
        out.unlink(missing_ok=True)
        taken, most = _run(arguments, limit_s)
        seconds.append(taken)
        peak = max(peak, most)
    if not out.exists():
        raise MachineError(f"{arguments[0]} ended without an output, expected a video at {{output}}")
    counted, given, made = seconds[1:] or seconds, count_frames(Path(order.clip)), count_frames(out)
    found = [
        sampled("program_s", counted, How.MEASURED, name),
        sampled("program_fps", [made / one for one in counted], How.MEASURED, name),
        figure("frames_in", given, How.MEASURED, name),
        figure("frames_out", made, How.MEASURED, name),
    ]
    if peak:
        note = "with all processes that it started"
        found.append(figure("program_rss_bytes", peak, How.MEASURED, name, note))
    return tuple(found)


def _run(arguments: list[str], limit_s: float) -> tuple[float, int]:
    """Run a program to its end. Returns its seconds, and the peak of the RAM of it and its children, sampled."""
    began = time.perf_counter()
    try:
        with leaving.starting():
            process = subprocess.Popen(
                arguments, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
            )
            release = leaving.hold(f"process {process.pid}", lambda: _kill(process), leaving.Turn.PROCESSES)
    except (OSError, ValueError) as error:
        raise MachineError(f"{arguments[0]} cannot be started ({error}); name a program with its path") from error
    said: list[bytes] = []
    reader = threading.Thread(target=lambda: said.extend(process.stdout or ()), daemon=True)
    reader.start()
    try:
        taken, peak = _await(process, began, limit_s)
    finally:
        _kill(process)
        release()
        reader.join(1)
        if process.stdout is not None and not reader.is_alive():  # something that it left running may hold it open
            process.stdout.close()
    if taken is None:
        raise MachineError(f"{arguments[0]} took more than {limit_s:.0f} s; give it more time with --limit")
    if process.returncode:
        line = last_line(b"".join(said).decode(errors="replace")) or "it printed nothing"
        raise MachineError(f"{arguments[0]} failed with exit code {process.returncode}: {line}")
    return taken, peak


def _await(process: subprocess.Popen[bytes], began: float, limit_s: float) -> tuple[float | None, int]:
    """Seconds from `began` to the end, None if that is too long, and the peak of the memory.

    A thread of its own notes the end, so that it is not rounded up to the next look at the memory.
    """
    ends: list[float] = []
    ended = threading.Event()

    def wait() -> None:
        process.wait()
        ends.append(time.perf_counter())
        ended.set()

    threading.Thread(target=wait, name="swiftvr-await", daemon=True).start()
    peak, pause = 0, _SOON_S
    while not ended.wait(pause):
        peak, pause = max(peak, sum(_resident(process.pid))), min(2 * pause, _SELDOM_S)
        if time.perf_counter() - began > limit_s:
            return None, peak
    return ends[0] - began, peak


def _family(pid: int) -> list[psutil.Process]:
    with suppress(psutil.Error):
        process = psutil.Process(pid)
        return [process, *process.children(recursive=True)]
    return []


def _resident(pid: int) -> Iterator[int]:
    for process in _family(pid):
        with suppress(psutil.Error):
            yield int(process.memory_info().rss)


def _kill(process: subprocess.Popen[bytes]) -> None:
    """End the program and what it has started, if it runs."""
    if process.poll() is None:
        for one in reversed(_family(process.pid)):
            with suppress(psutil.Error):
                one.kill()
        process.wait()
