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

from . import conftest
from .orphans import wait_for_the_end
from .patience import PATIENCE_S, wait_until
from .shortage import NO_THREAD, refuse_threads

ROOT = Path(__file__).parents[1]
Start = Callable[[], Child]
IMPORTED = "printed while this module is imported\n"
posix = pytest.mark.skipif(os.name != "posix", reason="sends signals")


@pytest.fixture
def start(monkeypatch: pytest.MonkeyPatch) -> Start:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    return lambda: Child("tests.serving", patience_s=PATIENCE_S, keep_errors=True)


def pid(child: Child) -> int:
    return child._process.pid


def wait_for(child: Child, line: str) -> None:
    assert child.receive() == {"say": line}


def test_lines_come_before_the_answer_and_orders_follow_each_other(start: Start) -> None:
    with start() as child:
        for lines in (["a", "two words", "ü \u2028 \n"], []):
            said: list[str] = []
            order = {"call": "echo", "lines": lines, "nested": {"none": None, "numbers": [1, 2.5]}}
            details: list[str] = []
            assert child.ask(order, said.append, details.append) == {"echo": order}
            assert (said, details) == (lines, [f"detail of {line}" for line in lines])


def test_long_messages_arrive_whole(start: Start) -> None:
    order = {"call": "echo", "lines": ["x" * 1_000_000]}
    with start() as child:
        assert child.ask(order) == {"echo": order}


def test_what_a_library_prints_is_not_taken_for_a_message(start: Start) -> None:
    with start() as child:
        assert child.ask({"call": "chatter"}) == {"done": True}
        assert child.errors() == f"{IMPORTED}printed\nwritten\n"


@posix
def test_a_child_of_a_process_without_standard_error_may_print(monkeypatch: pytest.MonkeyPatch) -> None:
    """Such a process gives the number of its standard error to the next file or pipe that it opens."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    code = (
        "from swiftvr_trt.child import Child\n"
        f"with Child('tests.serving', patience_s={PATIENCE_S}) as child:\n"
        "    print(child.ask({'call': 'chatter'}))\n"
    )
    command = ["sh", "-c", 'exec "$@" 2>&-', "sh", sys.executable, "-c", code]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    assert done.stdout == "{'done': True}\n"


def test_a_child_that_writes_something_else_is_an_error(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    for number, written in enumerate(("hello", "[1]", "\\xff")):
        code = f"def main(parent):\n    import os\n    os.write(parent._pipe, b'{written}\\n')\n"
        (tmp_path / f"odd{number}.py").write_text(code)
        with (
            Child(f"odd{number}", patience_s=PATIENCE_S) as child,
            pytest.raises(ValueError, match="expected a JSON object"),
        ):
            child.receive()


def test_half_a_message_is_none(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "half.py").write_text("def main(parent):\n    parent._write(b'{\"echo\": 1}')\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with Child("half", patience_s=PATIENCE_S) as child:
        assert child.receive() is None


def test_a_child_that_dies_gives_no_answer_and_its_code(start: Start) -> None:
    with start() as child:
        assert child.ask({"call": "fall_silent", "code": 7}) is None
        assert child.receive() is None
        assert child.exit_code(PATIENCE_S) == 7
        assert child.errors() == f"{IMPORTED}last words\n"
        child.send({"call": "echo"})  # nobody is there to read it


@posix
def test_a_killed_child_has_the_signal_as_its_code(start: Start) -> None:
    with start() as child:
        child.send({"call": "work"})
        wait_for(child, "working")
        os.kill(pid(child), signal.SIGKILL)
        assert child.receive() is None
        assert child.exit_code(PATIENCE_S) == -signal.SIGKILL


def test_an_idle_child_that_is_dismissed_takes_its_time(start: Start) -> None:
    with start() as child:
        assert child.ask({"call": "finish_slowly", "seconds": 0.5}) == {}
        began = time.monotonic()
        child.end(began + PATIENCE_S)
        assert time.monotonic() - began > 0.5
        assert child.exit_code(0.0) == 0


def test_a_dismissed_child_can_still_be_hurried(start: Start) -> None:
    with start() as child:
        assert child.ask({"call": "finish_slowly", "seconds": 600}) == {}
        ending = threading.Thread(target=child.end, args=(time.monotonic() + 10 * PATIENCE_S,))
        ending.start()
        time.sleep(0.3)
        child.hang_up()
        ending.join(PATIENCE_S)
        assert not ending.is_alive()


def test_a_child_that_is_done_leaves_no_thread_behind(start: Start) -> None:
    child = start()
    assert child.ask({"call": "echo", "lines": []}) is not None
    child._write(b"\n")
    child.hang_up()
    assert child.exit_code(PATIENCE_S) == 0
    assert child.errors() == f"{IMPORTED}left with 2 threads\n"  # its main thread, and the one that works
    child.end(time.monotonic())


@pytest.mark.parametrize("busy", [True, False])
def test_a_child_leaves_at_once_when_its_parent_hangs_up(start: Start, tmp_path: Path, busy: bool) -> None:
    with start() as child:
        if busy:
            child.send({"call": "work", "file": str(tmp_path / "part")})
            wait_for(child, "working")
            assert (tmp_path / "part").exists()
        else:
            assert child.ask({"call": "echo", "lines": []}) is not None
        child.hang_up()
        assert child.exit_code(PATIENCE_S) == 130
        assert child.errors() == IMPORTED
        assert not (tmp_path / "part").exists()


def test_a_child_leaves_even_if_its_modules_are_still_loading(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "slow.py").write_text("print('loading', flush=True)\nimport time\ntime.sleep(600)\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with Child("slow", patience_s=PATIENCE_S, keep_errors=True) as child:
        wait_until(lambda: child.errors() == "loading\n")
        child.hang_up()
        assert child.exit_code(PATIENCE_S) == 130


@posix
@pytest.mark.parametrize("name", ["part", "\udcff\n"])
@pytest.mark.parametrize("hung", [False, True])
def test_the_parent_removes_what_a_killed_child_leaves(start: Start, tmp_path: Path, name: str, hung: bool) -> None:
    child = start()
    child.send({"call": "work", "file": str(tmp_path / name), "hung": hung})
    wait_for(child, "working")
    assert len(list(tmp_path.iterdir())) == 1
    if not hung:
        os.kill(pid(child), signal.SIGKILL)
    child.end(time.monotonic() + 0.1)
    assert list(tmp_path.iterdir()) == []


@posix
def test_a_terminated_child_cleans_up(start: Start, tmp_path: Path) -> None:
    with start() as child:
        child.send({"call": "work", "file": str(tmp_path / "part")})
        wait_for(child, "working")
        os.kill(pid(child), signal.SIGTERM)
        assert child.exit_code(PATIENCE_S) == 130
        assert list(tmp_path.iterdir()) == []


def test_a_stubborn_child_is_ended_by_force(start: Start, tmp_path: Path) -> None:
    child = start()
    child.send({"call": "work", "file": str(tmp_path / "part"), "hung": True})
    wait_for(child, "working")
    began = time.monotonic()
    child.end(began + 0.1)
    assert time.monotonic() - began < PATIENCE_S / 2  # nothing waits for it to remove the file
    assert not psutil.pid_exists(pid(child))
    child.end(time.monotonic())  # again does nothing


def test_leaving_the_block_ends_the_child(start: Start) -> None:
    with pytest.raises(KeyError), start() as child:
        raise KeyError
    assert not psutil.pid_exists(pid(child))
    wait_until(lambda: not [thread for thread in threading.enumerate() if thread.name == "swiftvr-child"])


@posix
def test_a_child_ignores_what_a_terminal_sends(start: Start) -> None:
    with start() as child:
        assert child.ask({"call": "echo", "lines": []}) is not None
        for number in (signal.SIGINT, signal.SIGHUP):
            os.kill(pid(child), number)
        assert child.ask({"call": "echo", "lines": []}) is not None


@posix
def test_a_child_ignores_what_a_terminal_sends_before_it_has_started(start: Start) -> None:
    for _ in range(5):
        with start() as child:
            os.kill(pid(child), signal.SIGINT)
            assert child.ask({"call": "echo", "lines": []}) is not None
            assert child.errors() == IMPORTED


@posix
def test_starting_a_child_leaves_the_signals_of_its_parent_as_they_are(start: Start) -> None:
    before = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    with start():
        assert signal.pthread_sigmask(signal.SIG_BLOCK, ()) == before


def test_on_windows_a_child_is_started_without_ctrl_c(monkeypatch: pytest.MonkeyPatch) -> None:
    given: dict[str, Any] = {}
    monkeypatch.setattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 512, raising=False)
    monkeypatch.setattr(subprocess, "Popen", lambda *_arguments, **options: given.update(options))
    names = {"SIGINT": 2, "SIGTERM": 15, "SIGBREAK": 21}
    monkeypatch.setattr(module, "signal", SimpleNamespace(**names))
    module._start("tests.serving", None)
    assert given["creationflags"] == 512
    assert module._terminal_signals() == [2, 21]


@posix
def test_what_python_prints_when_it_starts_is_not_taken_for_a_message(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "sitecustomize.py").write_text("print('[1]', flush=True)\nprint('no line break', end='')\n")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), str(ROOT)]))
    with Child("tests.serving", patience_s=PATIENCE_S, keep_errors=True) as child:
        assert child.ask({"call": "echo", "lines": []}) is not None


@posix
@pytest.mark.parametrize("call", ["echo", "work"])
def test_a_child_ends_when_its_parent_is_killed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, call: str) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    order = {"call": call, "lines": [], "file": str(tmp_path / "part")}
    code = (
        "from swiftvr_trt.child import Child\n"
        f"child = Child('tests.serving', patience_s={PATIENCE_S})\n"
        f"child.send({order})\n"
        "child.receive()\n"
        "print(child._process.pid, flush=True)\n"
        "child.receive()\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    child = psutil.Process(int(parent.stdout.readline()))
    parent.kill()
    parent.communicate()
    wait_for_the_end([child])
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_imported_from_the_current_directory(
    start: Start, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "queue.py").write_text("raise SystemExit(3)\n")
    monkeypatch.chdir(tmp_path)
    with start() as child:
        assert child.ask({"call": "echo", "lines": []}) is not None


def test_a_child_that_nobody_can_hear_is_ended(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    refuse_threads(monkeypatch, "swiftvr-child")
    before = set(psutil.Process().children())
    with pytest.raises(RuntimeError, match=NO_THREAD):
        start()
    assert set(psutil.Process().children()) <= before


def test_a_module_that_cannot_be_started_is_an_os_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    with pytest.raises(OSError, match="nowhere"):
        Child("tests.serving", patience_s=PATIENCE_S, keep_errors=True)


@pytest.mark.parametrize("streams", [{}, {"capture_output": True}], ids=["wait", "communicate"])
def test_no_test_waits_for_ever_for_a_child(monkeypatch: pytest.MonkeyPatch, streams: dict[str, Any]) -> None:
    monkeypatch.setattr(conftest, "CHILDREN_END_S", 0.2)
    with pytest.raises(subprocess.TimeoutExpired, match=r"timed out after 0\.[12]"):
        subprocess.run([sys.executable, "-c", "import time; time.sleep(60)"], check=True, **streams)
