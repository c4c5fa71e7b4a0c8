"""One protocol for all child processes, and one way to end them. Real processes; `serving.py` is the child."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest

from swiftvr_trt import child as module
from swiftvr_trt.child import Child

ROOT = Path(__file__).parents[1]
Start = Callable[[], Child]
posix = pytest.mark.skipif(os.name != "posix", reason="sends signals")


@pytest.fixture
def start(monkeypatch: pytest.MonkeyPatch) -> Start:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    return lambda: Child("tests.serving", patience_s=5.0, keep_errors=True)


def pid(child: Child) -> int:
    return child._process.pid


def wait_for(child: Child, line: str) -> None:
    assert child.receive() == {"say": line}


def test_lines_come_before_the_answer_and_orders_follow_each_other(start: Start) -> None:
    with start() as child:
        for lines in (["a", "two words", "ü \u2028 \n"], []):
            said: list[str] = []
            order = {"call": "echo", "lines": lines, "nested": {"none": None, "numbers": [1, 2.5]}}
            assert child.ask(order, said.append) == {"echo": order}
            assert said == lines


def test_long_messages_arrive_whole(start: Start) -> None:
    order = {"call": "echo", "lines": ["x" * 1_000_000]}
    with start() as child:
        assert child.ask(order) == {"echo": order}


def test_what_a_library_prints_is_not_taken_for_a_message(start: Start) -> None:
    with start() as child:
        assert child.ask({"call": "chatter"}) == {"done": True}
        assert child.errors() == "printed\nwritten\n"


@posix
def test_a_child_of_a_process_without_standard_error_may_print(monkeypatch: pytest.MonkeyPatch) -> None:
    """Such a process gives the number of its standard error to the next file or pipe that it opens."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    code = (
        "from swiftvr_trt.child import Child\n"
        "with Child('tests.serving', patience_s=5.0) as child:\n"
        "    print(child.ask({'call': 'chatter'}))\n"
    )
    command = ["sh", "-c", 'exec "$@" 2>&-', "sh", sys.executable, "-c", code]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    assert done.stdout == "{'done': True}\n"


def test_a_child_that_writes_something_else_is_an_error(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    for number, written in enumerate(("hello", "[1]", "\\xff")):
        (tmp_path / f"odd{number}.py").write_text(f"import os\nos.write(1, b'{written}\\n')\n")
        with Child(f"odd{number}", patience_s=5.0) as child, pytest.raises(ValueError, match="expected a JSON object"):
            child.receive()


def test_half_a_message_is_none(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "half.py").write_text("import os\nos.write(1, b'{\"echo\": 1}')\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with Child("half", patience_s=5.0) as child:
        assert child.receive() is None


def test_a_child_that_dies_gives_no_answer_and_its_code(start: Start) -> None:
    with start() as child:
        assert child.ask({"call": "fall_silent", "code": 7}) is None
        assert child.receive() is None
        assert child.exit_code(5.0) == 7
        assert child.errors() == "last words\n"
        child.send({"call": "echo"})  # nobody is there to read it


@posix
def test_a_killed_child_has_the_signal_as_its_code(start: Start) -> None:
    with start() as child:
        child.send({"call": "work"})
        wait_for(child, "working")
        os.kill(pid(child), signal.SIGKILL)
        assert child.receive() is None
        assert child.exit_code(5.0) == -signal.SIGKILL


def test_an_idle_child_leaves_when_its_parent_hangs_up(start: Start) -> None:
    with start() as child:
        assert child.ask({"call": "echo", "lines": []}) is not None
        child.hang_up()
        assert child.exit_code(5.0) == 0
        assert child.errors() == "left with 1 threads\n"


@posix
def test_a_child_at_work_is_interrupted_when_its_parent_hangs_up(start: Start) -> None:
    with start() as child:
        child.send({"call": "work"})
        wait_for(child, "working")
        child.hang_up()
        assert child.exit_code(5.0) == 3
        assert child.errors() == "cleaned up\n"


def test_a_stubborn_child_is_ended_by_force(start: Start) -> None:
    child = start()
    child.send({"call": "work", "stubborn": True})
    wait_for(child, "working")
    began = time.monotonic()
    child.end(began + 0.3)
    assert time.monotonic() - began < 5.0
    assert not psutil.pid_exists(pid(child))
    child.end(time.monotonic())  # again does nothing


def test_a_stubborn_child_that_nobody_ends_ends_itself(start: Start) -> None:
    with start() as child:
        child.send({"call": "work", "stubborn": True, "abandoned_s": 0.2})
        wait_for(child, "working")
        child.hang_up()
        assert child.exit_code(5.0) == 1


def test_leaving_the_block_ends_the_child(start: Start) -> None:
    with pytest.raises(KeyError), start() as child:
        raise KeyError
    assert not psutil.pid_exists(pid(child))
    assert not [thread for thread in threading.enumerate() if thread.name == "swiftvr-child"]


@posix
def test_a_child_ignores_what_a_terminal_sends(start: Start) -> None:
    with start() as child:
        assert child.ask({"call": "echo", "lines": []}) is not None
        for number in (signal.SIGINT, signal.SIGHUP):
            os.kill(pid(child), number)
        assert child.ask({"call": "echo", "lines": []}) is not None


def test_on_windows_a_child_ignores_ctrl_c_and_ctrl_break(monkeypatch: pytest.MonkeyPatch) -> None:
    handlers: dict[int, Any] = {}
    names = {"SIGINT": 2, "SIGTERM": 15, "SIGBREAK": 21}
    windows = SimpleNamespace(**names, SIG_IGN=signal.SIG_IGN, signal=handlers.__setitem__)
    monkeypatch.setattr(module, "signal", windows)
    module._ignore_the_terminal()
    assert handlers.keys() == set(names.values())
    assert handlers[2] is handlers[21] is signal.SIG_IGN
    with pytest.raises(KeyboardInterrupt):
        handlers[15](15, None)


@posix
def test_a_child_ends_when_its_parent_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    code = (
        "from swiftvr_trt.child import Child\n"
        "child = Child('tests.serving', patience_s=5.0)\n"
        "child.send({'call': 'echo', 'lines': []})\n"
        "child.receive()\n"
        "print(child._process.pid, flush=True)\n"
        "child.receive()\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    child = psutil.Process(int(parent.stdout.readline()))
    parent.kill()
    parent.communicate()
    gone, _ = psutil.wait_procs([child], timeout=10)
    assert gone


def test_nothing_is_imported_from_the_current_directory(
    start: Start, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "queue.py").write_text("raise SystemExit(3)\n")
    monkeypatch.chdir(tmp_path)
    with start() as child:
        assert child.ask({"call": "echo", "lines": []}) is not None


def test_a_module_that_cannot_be_started_is_an_os_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    with pytest.raises(OSError, match="nowhere"):
        Child("tests.serving", patience_s=5.0, keep_errors=True)
