"""The entry points: signals are heard from the first instruction on, and loading costs nothing before that."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import pytest

from swiftvr_trt.cli import start

SAID = "error: interrupted; nothing was left half-written\n"
PROGRAMS = {"swiftvr_run": "swiftvr-run", "swiftvr_export": "swiftvr-export", "swiftvr_bench": "swiftvr-bench"}
posix = pytest.mark.skipif(os.name != "posix", reason="sends signals")


def python(code: str, *arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", code, *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.mark.parametrize("entry", PROGRAMS)
def test_an_entry_point_runs_its_command(entry: str) -> None:
    process = python(f"from swiftvr_trt.cli import start\nstart.{entry}()", "--version")
    out, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (0, "")
    assert out.startswith(f"{PROGRAMS[entry]}, version ")


def test_the_way_to_an_entry_point_loads_nothing() -> None:
    """Not even modules of the standard library: until the signals are heard, Ctrl-C is Python's."""
    code = "import sys\nbefore = set(sys.modules)\nimport swiftvr_trt.cli.start\nprint(*set(sys.modules) - before)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert set(loaded) - {"__future__"} == {"swiftvr_trt", "swiftvr_trt.cli", "swiftvr_trt.cli.start"}


@posix
@pytest.mark.parametrize("module", ["swiftvr_trt.leaving", "signal", "threading"])
def test_ctrl_c_while_the_listeners_are_loaded_is_an_interrupt(module: str) -> None:
    """An import that raises what Ctrl-C raises there."""
    code = (
        "import sys\n"
        "class Interrupting:\n"
        "    def find_spec(self, name, *_):\n"
        f"        if name == {module!r}: raise KeyboardInterrupt\n"
        f"sys.modules.pop({module!r}, None)\n"
        "sys.meta_path.insert(0, Interrupting())\n"
        "from swiftvr_trt.cli import start\nstart.swiftvr_run()"
    )
    process = python(code, "--help")
    assert (process.communicate(timeout=60), process.returncode) == (("", SAID), 130)


@posix
@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
@pytest.mark.parametrize("entry", PROGRAMS)
def test_a_signal_during_slow_imports_ends_the_program(entry: str, name: str) -> None:
    code = (
        "import sys, time\n"
        "class Slow:\n"
        "    def find_spec(self, name, *_):\n"
        "        if name == 'click': print('loading', flush=True); time.sleep(60)\n"
        "sys.meta_path.insert(0, Slow())\n"
        f"from swiftvr_trt.cli import start\nstart.{entry}()"
    )
    process = python(code, "--help")
    assert process.stdout is not None
    assert process.stdout.readline() == "loading\n"
    began = time.monotonic()
    process.send_signal(getattr(signal, name))
    assert (process.communicate(timeout=60), process.returncode) == (("", SAID), 130)
    assert time.monotonic() - began < 30


def test_what_is_left_behind_is_named(capfd: pytest.CaptureFixture[str]) -> None:
    start.farewell(["out/.film.1a2b.part.mp4", "\x1b[2Jb\udcff"], "advice")
    assert capfd.readouterr().err == (
        "error: interrupted; this could not be cleaned up: out/.film.1a2b.part.mp4, ?[2Jb?\n"
    )


def test_nothing_is_said_where_standard_error_is_closed(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stderr", None)
    start.farewell([], "")
    assert capfd.readouterr().err == ""
