"""A process that leaves is gone within a second, with everything undone. Real processes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from swiftvr_trt import leaving
from tests.patience import PATIENCE_S

posix = pytest.mark.skipif(os.name != "posix", reason="sends signals")
FAREWELL = "lambda left, _advice: print('left:', *left, flush=True)"
PATIENT = "leaving._ENDS_S = dict.fromkeys(leaving.Turn, 40.0); leaving._FAREWELL_ENDS_S = 50.0"
"""The limits of a process on a machine with other work. The tests marked `alone` measure the real ones."""


def start(code: str, *, before: str = PATIENT) -> subprocess.Popen[str]:
    """A process that works by this code, and has said that it is ready."""
    lines = "\n    ".join(["def work():", *code.splitlines(), "print('ready', flush=True)", "time.sleep(600)"])
    program = (
        "import ctypes, os, signal, sys, threading, time\nfrom pathlib import Path\nfrom swiftvr_trt import leaving\n"
        f"{before}\n{lines}\nleaving.run_process(work, {FAREWELL})\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n", process.communicate()
    return process


def signalled(process: subprocess.Popen[str], number: int = signal.SIGTERM) -> tuple[int, str, str]:
    """Exit code and output after a signal. The time it takes is measured by the tests marked `alone`."""
    process.send_signal(number)
    out, err = process.communicate(timeout=PATIENCE_S)
    return process.returncode, out, err


@posix
@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_a_signal_ends_the_process_and_removes_what_it_holds(tmp_path: Path, name: str) -> None:
    code = (
        f"place = Path({str(tmp_path)!r})\n"
        "with leaving.creating(place / 'file'): (place / 'file').touch()\n"
        "with leaving.creating(place / 'folder'): (place / 'folder' / 'in').mkdir(parents=True)\n"
        "with leaving.creating(place / 'kept') as release: (place / 'kept').touch()\n"
        "release()"
    )
    assert signalled(start(code), getattr(signal, name)) == (130, "left:\n", "")
    assert [path.name for path in tmp_path.iterdir()] == ["kept"]


@posix
def test_a_signal_that_was_ignored_stays_ignored() -> None:
    process = start("", before=f"{PATIENT}; signal.signal(signal.SIGHUP, signal.SIG_IGN)")
    process.send_signal(signal.SIGHUP)
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(0.5)
    assert signalled(process) == (130, "left:\n", "")


@posix
@pytest.mark.parametrize(
    "stuck",
    [
        "threading.Thread(target=ctypes.CDLL(None).pause, daemon=True).start()",
        "threading.Thread(target=lambda: time.sleep(600)).start()",  # no daemon
        "import atexit; atexit.register(time.sleep, 600)",
    ],
    ids=["a library", "a thread", "an exit handler"],
)
def test_nothing_that_is_stuck_delays_the_end(stuck: str) -> None:
    began = time.monotonic()
    assert signalled(start(stuck)) == (130, "left:\n", "")
    assert time.monotonic() - began < PATIENCE_S / 2


@posix
def test_what_cannot_be_undone_is_named_and_the_rest_is_undone(tmp_path: Path) -> None:
    code = (
        "leaving.hold('hangs', lambda: time.sleep(600))\n"
        "leaving.hold('fails', lambda: 1 / 0)\n"
        f"leaving.hold('works', Path({str(tmp_path / 'done')!r}).touch)\n"
        f"leaving.hold('folder', lambda: os.rename({str(tmp_path / 'done')!r}, {str(tmp_path / 'last')!r}), "
        "leaving.Turn.FOLDERS)\n"
        f"leaving.hold('process', lambda: os.mkdir({str(tmp_path / 'first')!r}), leaving.Turn.PROCESSES)"
    )
    limits = f"{PATIENT}; leaving._ENDS_S[leaving.Turn.FILES] = 2.0"
    assert signalled(start(code, before=limits)) == (130, "left: fails hangs\n", "")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["first", "last"]


@posix
def test_nothing_is_created_once_the_process_is_leaving(tmp_path: Path) -> None:
    """Two threads create files, and remove them, as fast as they can."""
    code = (
        "numbers = iter(range(10**9))\n"
        "def create():\n"
        "    for number in numbers:\n"
        f"        path = Path({str(tmp_path)!r}) / str(number)\n"
        "        with leaving.creating(path) as release: path.touch()\n"
        "        path.unlink(); release()\n"
        "for _ in range(2): threading.Thread(target=create, daemon=True).start()\n"
        "while next(numbers) < 100: time.sleep(0.001)"
    )
    for _ in range(3):
        process = start(code)
        assert signalled(process) == (130, "left:\n", "")
        assert list(tmp_path.iterdir()) == []


@posix
def test_a_folder_that_an_abandoned_thread_writes_into_is_removed(tmp_path: Path) -> None:
    place = tmp_path / "folder"
    code = (
        f"place = Path({str(place)!r})\n"
        "def fill():\n"
        "    number = 0\n"
        "    while True:\n"
        "        try: (place / str(number)).touch()\n"
        "        except OSError: pass\n"
        "        number += 1\n"
        "        time.sleep(0.001)\n"  # a thousand files a second; more starve who removes them on a busy machine
        "with leaving.creating(place): place.mkdir()\n"
        "threading.Thread(target=fill, daemon=True).start()"
    )
    assert signalled(start(code)) == (130, "left:\n", "")
    assert not place.exists()


@posix
def test_what_abandoned_threads_raise_is_not_shown() -> None:
    code = (
        "def fail():\n"
        "    while not leaving.begun(): time.sleep(0.001)\n"
        "    raise ValueError('lost')\n"
        "threading.Thread(target=fail, daemon=True).start()\n"
        "leaving.hold('slow', lambda: time.sleep(0.1))"
    )
    assert signalled(start(code)) == (130, "left:\n", "")


@posix
def test_many_signals_are_one() -> None:
    process = start("leaving.hold('slow', lambda: time.sleep(0.1))")
    for _ in range(20):
        process.send_signal(signal.SIGINT)
        process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=PATIENCE_S)
    assert (process.returncode, out, err) == (130, "left:\n", "")


SIGNALLED_TWICE = """
import os, signal, sys
from swiftvr_trt import leaving

def second_signal_after(steps):
    left = steps

    def trace(frame, event, _argument):
        nonlocal left
        frame.f_trace_opcodes = True
        if event == "opcode":
            left -= 1
            if left == 0:
                sys.settrace(None)
                signal.raise_signal(signal.SIGTERM)
        return trace

    sys.settrace(trace)

for steps in range(1, 400, 4):
    child = os.fork()
    if child == 0:
        signal.alarm(10)  # ends what waits for ever
        leaving.listen(lambda: leaving.leave(leaving.INTERRUPTED))
        second_signal_after(steps)
        signal.raise_signal(signal.SIGINT)
        os._exit(1)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if code != leaving.INTERRUPTED:
        sys.exit(f"{code} after {steps} steps")
"""


@posix
def test_a_second_signal_at_any_step_of_leaving_holds_nothing_up() -> None:
    ended = subprocess.run([sys.executable, "-c", SIGNALLED_TWICE], capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stderr) == (0, "")


def end_of(work: str, **options: Any) -> subprocess.CompletedProcess[str]:
    program = f"import sys\nfrom swiftvr_trt import leaving\ndef work(): {work}\nleaving.run_process(work)"
    return subprocess.run([sys.executable, "-c", program], stderr=subprocess.PIPE, text=True, check=False, **options)


@pytest.mark.parametrize(
    ("work", "code"),
    [
        ("return None", 0),
        ("return 3", 3),
        ("sys.exit(4)", 4),
        ("sys.exit()", 0),
        ("sys.exit('why')", 1),
        ("print('x', end='')", 0),
    ],
)
def test_the_exit_code_is_that_of_the_work(work: str, code: int) -> None:
    ended = end_of(work, stdout=subprocess.PIPE)
    assert (ended.returncode, ended.stderr) == (code, "")
    assert ended.stdout == ("x" if "print" in work else "")


def test_an_error_is_shown() -> None:
    ended = end_of("1 / 0")
    assert ended.returncode == 1
    assert ended.stderr.splitlines()[-1] == "ZeroDivisionError: division by zero"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="has no full device")
def test_results_that_are_lost_are_a_failure() -> None:
    with open("/dev/full", "w") as full:  # noqa: PTH123
        assert end_of("print('result')", stdout=full).returncode == 1
    assert end_of("print('result')", stdout=subprocess.DEVNULL).returncode == 0


def test_ctrl_break_of_windows_is_heard_too(monkeypatch: pytest.MonkeyPatch) -> None:
    handlers: dict[int, Any] = {}
    names = {"SIGINT": 2, "SIGTERM": 15, "SIGBREAK": 21}
    windows = SimpleNamespace(**names, SIG_IGN=signal.SIG_IGN, signal=handlers.__setitem__, getsignal=handlers.get)
    monkeypatch.setattr(leaving, "signal", windows)
    heard: list[bool] = []
    leaving.listen(lambda: heard.append(True))
    assert sorted(handlers) == [2, 15, 21]
    for handler in handlers.values():
        handler(0, None)
    assert heard == [True] * 3


Handlers = dict[int, Any]


def listening(monkeypatch: pytest.MonkeyPatch) -> tuple[Handlers, list[str], list[float]]:
    """What handles SIGTERM (15), what was heard, "end" if the process is to end, and the time now, which may be set."""
    handlers: Handlers = {}
    system = SimpleNamespace(SIGTERM=15, SIG_IGN=signal.SIG_IGN, signal=handlers.__setitem__, getsignal=handlers.get)
    monkeypatch.setattr(leaving, "signal", system)
    heard, now = list[str](), [0.0]
    monkeypatch.setattr(leaving, "time", SimpleNamespace(monotonic=lambda: now[0]))
    leaving.listen(lambda: heard.append("end"))
    return handlers, heard, now


@pytest.mark.parametrize("once", [True, False])
def test_a_signal_may_ask_for_an_orderly_end_first(monkeypatch: pytest.MonkeyPatch, once: bool) -> None:
    handlers, heard, now = listening(monkeypatch)
    with leaving.draining(lambda: heard.append("drain"), once=once):
        handlers[15](15, None)
        now[0] += 1
        handlers[15](15, None)
    now[0] += 1
    handlers[15](15, None)
    assert heard == ["drain", "end" if once else "drain", "end"]


def test_a_signal_that_comes_twice_at_once_still_lets_the_end_be_orderly(monkeypatch: pytest.MonkeyPatch) -> None:
    handlers, heard, now = listening(monkeypatch)
    with leaving.draining(lambda: heard.append("drain")):
        for moment in (0.0, 0.01, 0.4, 0.6):
            now[0] = moment
            handlers[15](15, None)
    assert heard == ["drain", "end"]


def test_in_a_program_that_uses_the_package_nothing_is_undone(tmp_path: Path) -> None:
    """Holding has no effect there, and an error in the block releases."""
    held = len(leaving._held.parts)
    with leaving.creating(tmp_path / "file") as release:
        (tmp_path / "file").touch()
    assert len(leaving._held.parts) == held + 1
    release()
    release()
    with pytest.raises(FileExistsError), leaving.creating(tmp_path / "file"):
        (tmp_path / "file").touch(exist_ok=False)
    assert len(leaving._held.parts) == held
    assert (tmp_path / "file").exists()


def test_the_first_of_overlapping_advices_is_given_and_empty_ones_are_not() -> None:
    first, second, third = leaving.advising(""), leaving.advising("second"), leaving.advising(lambda: "third")
    for block in (first, second, third):
        block.__enter__()
    assert leaving._held.advice == "second"
    second.__exit__(None, None, None)  # as in threads, not in the order in which they began
    assert leaving._held.advice == "third"
    first.__exit__(None, None, None)
    third.__exit__(None, None, None)
    assert leaving._held.advice == ""
